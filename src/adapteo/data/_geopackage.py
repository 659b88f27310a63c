"""Polygons as a GeoPackage that opens in QGIS with the colours of its classes.

The style lies where QGIS keeps styles in a GeoPackage, the table ``layer_styles`` (columns as QGIS 3 makes them); the
style itself is QGIS's own XML ("QML") of a categorised renderer, with its properties written both as QGIS reads them
since 3.20 (``Option``) and before (``prop``).
"""

import errno
import shutil
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import shapely

from adapteo.errors import DataError
from adapteo.files import replacing, unwritable

_GEOMETRY = "geom"
_NOWHERE = 'LOCAL_CS["Undefined Cartesian SRS",UNIT["Meter",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
    styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30),
    ui TEXT(30), update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
)
"""


Batch = tuple[Sequence[shapely.Geometry] | np.ndarray, Mapping[str, Sequence[object] | np.ndarray]]
"""Geometries, and values by column, one for each of them."""


@dataclass(frozen=True)
class Style:
    """How polygons are drawn.

    Attributes:
        column: its values choose the colour.
        colours: red, green, blue (0..255) by value, in the order of the legend.
    """

    column: str
    colours: Mapping[str | int, tuple[int, int, int]]


def write_polygons(
    path: str | Path,
    geometries: Sequence[shapely.Geometry] | np.ndarray,
    attributes: Mapping[str, Sequence[object] | np.ndarray],
    crs: str | None,
    layer: str,
    style: Style | None = None,
) -> None:
    """Write a GeoPackage at once; see `write_batches`."""
    write_batches(path, [(geometries, attributes)], crs, layer, style)


def check_geopackage_name(path: Path) -> None:
    """Refuse what is not the name of a GeoPackage.

    Raises:
        DataError: it is not.
    """
    if path.suffix.lower() != ".gpkg":
        raise DataError(
            f"polygons are written as GeoPackage, '{path.name}' is not named like one", fix=f"write {path.stem}.gpkg"
        )


def write_batches(
    path: str | Path, batches: Iterable[Batch], crs: str | None, layer: str, style: Style | None = None
) -> None:
    """Write a GeoPackage; the file appears, complete, when all is written, and replaces one of the same name.

    Args:
        path: a name that ends in ``.gpkg``.
        batches: one or more: Polygons or MultiPolygons, stored as MultiPolygons, and values by column, one for each
            geometry; columns are the same in all.
        crs: WKT or an authority's code; None when the map has no place.
        layer: name of the layer.
        style: colours; it becomes the style that QGIS opens the layer with.

    Raises:
        DataError: not the name of a GeoPackage, a folder that cannot be written, a full disk.
        ValueError: a column that is not as long as the geometries, or a style of a column that is not written.
    """
    from pyogrio.errors import DataLayerError, DataSourceError

    path = Path(path)
    check_geopackage_name(path)
    with replacing(path) as temporary:
        scratch = temporary.with_suffix(".gpkg")  # GDAL wants this ending
        try:
            count = 0
            for geometries, attributes in batches:
                count += len(geometries)
                written = shapely.to_wkb(np.asarray(geometries, object))
                del geometries  # one polygon may be most of a map
                _write(scratch, written, attributes, crs, layer, style)
            _finish(scratch, layer, count, style)
            scratch.replace(temporary)
        except (DataSourceError, DataLayerError, sqlite3.Error) as error:
            raise _unwritable(path, error) from error
        finally:
            for ending in ("", "-journal", "-wal", "-shm"):
                scratch.with_name(scratch.name + ending).unlink(missing_ok=True)


def _write(
    path: Path,
    geometries: np.ndarray,
    attributes: Mapping[str, Sequence[object] | np.ndarray],
    crs: str | None,
    layer: str,
    style: Style | None,
) -> None:
    """Write a batch of WKB to a new file, or add it to one."""
    import pyogrio.raw

    if style is not None and style.column not in attributes:
        raise ValueError(f"the style is of column '{style.column}', which is not written")
    values = [np.asarray(column) for column in attributes.values()]
    if any(len(column) != len(geometries) for column in values):
        raise ValueError("attributes are not as long as geometries")
    values = [column.astype(object) if column.dtype.kind == "U" else column for column in values]
    made = {"layer_options": {"GEOMETRY_NAME": _GEOMETRY}, "dataset_options": {"VERSION": "1.2"}}
    more = {"append": True} if path.exists() else made
    pyogrio.raw.write(
        path, geometries, values, list(attributes), driver="GPKG", layer=layer,
        geometry_type="MultiPolygon", promote_to_multi=True, crs=crs or _NOWHERE, **more,
    )  # fmt: skip


def _finish(path: Path, layer: str, count: int, style: Style | None) -> None:
    """Check that all was written (GDAL does not say when closing fails on a full disk), and add the style."""
    with closing(sqlite3.connect(path)) as file, file:
        quoted = layer.replace('"', '""')
        (written,) = file.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()
        if written != count:
            raise sqlite3.OperationalError(f"{written} of {count} polygons were written")
        if style is None:
            return
        file.execute(_STYLES)
        file.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName,"
            " styleQML, styleSLD, useAsDefault, description, owner) VALUES ('', '', ?, ?, ?, ?, '', 1, ?, '')",
            (layer, _GEOMETRY, "classes", qml(style), "colours of the classes, by adapteo"),
        )
        # QGIS asks GDAL for the table, and GDAL shows tables that the contents list.
        file.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, srs_id)"
            " VALUES ('layer_styles', 'attributes', 'layer_styles', 0)"
        )


def qml(style: Style) -> str:
    """QGIS's XML of a renderer with one colour for each value of a column."""
    root = ElementTree.Element("qgis", version="3.22.0", styleCategories="Symbology")
    renderer = ElementTree.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=style.column, symbollevels="0", enableorderby="0",
        forceraster="0",
    )  # fmt: skip
    categories = ElementTree.SubElement(renderer, "categories")
    symbols = ElementTree.SubElement(renderer, "symbols")
    for number, (value, colour) in enumerate(style.colours.items()):
        ElementTree.SubElement(
            categories, "category", value=str(value), label=str(value), symbol=str(number), render="true",
            type="string" if isinstance(value, str) else "long",
        )  # fmt: skip
        symbol = ElementTree.SubElement(
            symbols, "symbol", type="fill", name=str(number), alpha="1", clip_to_extent="1", force_rhr="0"
        )
        fill = ElementTree.SubElement(
            symbol, "layer", {"class": "SimpleFill"}, enabled="1", locked="0", **{"pass": "0"}
        )
        properties = {
            "color": _rgba(colour), "style": "solid", "joinstyle": "bevel",
            "outline_color": _rgba((35, 35, 35)), "outline_style": "solid", "outline_width": "0.1",
            "outline_width_unit": "MM",
        }  # fmt: skip
        options = ElementTree.SubElement(fill, "Option", type="Map")
        for name, text in properties.items():
            ElementTree.SubElement(options, "Option", type="QString", name=name, value=text)
        for name, text in properties.items():
            ElementTree.SubElement(fill, "prop", k=name, v=text)
    ElementTree.SubElement(root, "layerGeometryType").text = "2"
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + ElementTree.tostring(root, "unicode")


def _rgba(colour: tuple[int, int, int]) -> str:
    return ",".join(str(int(part)) for part in (*colour, 255))


def _unwritable(path: Path, error: Exception) -> DataError:
    """Neither GDAL nor SQLite gives an error number; a disk with almost nothing free is taken to be full."""
    full = path.parent.is_dir() and shutil.disk_usage(path.parent).free < 16 * 2**20
    return unwritable(path, OSError(errno.ENOSPC if full else 0, str(error).splitlines()[0]))

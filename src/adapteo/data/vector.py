"""Labels that somebody drew: polygons, lines and points of a vector file, with a class each.

Everything that has to do with vector files goes through here; shapely is used in `_shapes.py`, pyproj in
`_projection.py`, GDAL's vector side and geopandas in `_tables.py` and `_geopackage.py`. No torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely

from adapteo.data._class_column import encode
from adapteo.data._geopackage import Batch, Style, check_geopackage_name, write_batches, write_polygons
from adapteo.data._projection import WGS84, crs_name, is_geographic, parse_crs, reproject, same_crs, widen
from adapteo.data._shapes import clean, in_order, kinds
from adapteo.data._tables import layers as _layers
from adapteo.data._tables import read_table, write_parquet
from adapteo.errors import DataError

__all__ = [
    "Batch", "Bounds", "Labels", "Style", "check_geopackage_name", "layers", "list_columns", "read_labels",
    "write_batches", "write_footprints", "write_polygons",
]  # fmt: skip

Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Features with a class. Multi-part features and collections are taken apart: each geometry is a simple part.

    Attributes:
        path: the file.
        geometry: ``(n,)`` shapely Point, LineString or Polygon; valid, two-dimensional; in the order of the file.
        codes: ``(n,)`` int64, index into `classes`.
        classes: names, in the order of the class index.
        crs: WKT.
        rows: ``(n,)`` int64, number of the feature in the file, from 0; parts of one feature share it.
        columns: text of further columns, ``(n,)`` each, empty where there is no value; dates as ISO 8601.
        repaired: features whose geometry was invalid and was repaired.
        dropped: what was left out and why, with counts, e.g. "3 features without a class".
        doubts: what was kept and may be wrong, with counts.
    """

    path: Path
    geometry: np.ndarray
    codes: np.ndarray
    classes: tuple[str, ...]
    crs: str
    rows: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    repaired: int = 0
    dropped: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    _seen: dict[tuple[object, ...], "Labels"] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.geometry)

    @cached_property
    def kinds(self) -> np.ndarray:
        """``(n,)`` "polygon", "line" or "point"."""
        return kinds(self.geometry)

    @property
    def kind(self) -> str:
        """What all of them are: "polygon", "line", "point"; or "mixed"."""
        found = np.unique(self.kinds)
        return str(found[0]) if len(found) == 1 else "mixed"

    @property
    def bounds(self) -> Bounds:
        """Box around everything, in the units of `crs`; NaN when there is nothing."""
        left, bottom, right, top = shapely.total_bounds(self.geometry).tolist()
        return left, bottom, right, top

    def to_crs(self, crs: str) -> "Labels":
        """Move to another coordinate system, once: what was moved is kept.

        Edges are straight in the system of the file, and curved in the other one (within 5 mm x tan(latitude)). What
        lies where the other system is not defined is left out.

        Args:
            crs: WKT, or an authority's code.

        Raises:
            DataError: it is no coordinate system, or there is no way to it.
        """
        key = ("crs", crs)
        if key not in self._seen:
            wkt = parse_crs(crs, self.path)
            if same_crs(self.crs, wkt):
                self._seen[key] = self
            else:
                parts, index = reproject(self.geometry, self.crs, wkt)
                self._seen[key] = self._take(index, parts, wkt)
        return self._seen[key]

    def widened(self, metres: float) -> "Labels":
        """Turn lines into polygons of this width on the ground (with flat ends), once; the rest stays what it is."""
        key = ("width", metres)
        if key not in self._seen:
            lines = np.flatnonzero(self.kinds == "line")
            bands, index = widen(self.geometry[lines], self.crs, metres)
            others = np.flatnonzero(self.kinds != "line")
            parts, index = in_order([self.geometry[others], bands], [others, lines[index]])
            self._seen[key] = self._take(index, parts, self.crs)
        return self._seen[key]

    def touching(self, outline: Sequence[tuple[float, float]]) -> np.ndarray:
        """Indices, ascending, of what touches a polygon with these corners, in the units of `crs`."""
        return np.sort(self._tree.query(shapely.Polygon(outline), predicate="intersects"))

    def within(self, bounds: Bounds) -> "Labels":
        """What touches a box; geometries are not cut."""
        left, bottom, right, top = bounds
        index = self.touching([(left, bottom), (right, bottom), (right, top), (left, top)])
        return self._take(index, self.geometry[index], self.crs)

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self.geometry)

    def _take(self, index: np.ndarray, geometry: np.ndarray, crs: str) -> "Labels":
        columns = {name: values[index] for name, values in self.columns.items()}
        return replace(
            self, geometry=geometry, codes=self.codes[index], crs=crs, rows=self.rows[index], columns=columns
        )


def layers(path: str | Path) -> tuple[str, ...]:
    """Names of the layers with geometries.

    Raises:
        DataError: the file is missing, empty, broken, or no vector file.
    """
    return _layers(Path(path))


def list_columns(path: str | Path, layer: str | None = None, limit: int = 30) -> dict[str, tuple[str, ...]]:
    """The columns of a layer with their distinct values as text, sorted, at most ``limit`` of each.

    A CSV's columns of coordinates are its geometry, and not among them.

    Raises:
        DataError: as `layers`; several layers, and none is named.
    """
    table = read_table(Path(path), layer)
    return {name: tuple(sorted({v for v in values if v})[:limit]) for name, values in table.columns.items()}


def read_labels(
    path: str | Path,
    class_column: str,
    *,
    layer: str | None = None,
    classes: Sequence[str] | Mapping[object, str] | None = None,
    columns: Sequence[str] = (),
    line_width: float | None = None,
    crs: str | None = None,
) -> Labels:
    """Read labels from GeoPackage, GeoJSON, Shapefile (also zipped), GeoParquet, or a CSV with coordinates.

    What cannot be used is left out and counted: features without a class or a geometry, geometries that cover nothing,
    and those that are in the file twice with the same class. Invalid polygons are repaired and counted.

    Args:
        path: the file.
        class_column: its column with the class, text or numbers.
        layer: needed where there are several.
        classes: names of the classes in order, as they are in the column; or a mapping of what is in the column to
            names, in this order, where several values may share a name. By default all values, sorted.
        columns: further columns to keep, e.g. of region and date.
        line_width: metres on the ground; lines become polygons of this width. None leaves them lines.
        crs: coordinate system (EPSG code or WKT), for files that do not say theirs, or say a wrong one.

    Raises:
        DataError: the file, the layer, a column or a class is missing or wrong, nothing is left, there is no
            coordinate system, or coordinates do not fit it.
    """
    path = Path(path)
    table = read_table(path, layer, (class_column, *columns))
    if table.geometry is None:
        raise DataError(f"{path} holds no geometries", fix="write it with geometries, or give a CSV with coordinates")
    system = _system(path, table.crs, crs)
    doubts = _check_place(path, table.geometry, system)
    codes, names, more = encode(path, class_column, table.columns[class_column], classes)
    labelled = np.flatnonzero(codes >= 0)
    dropped = {"without a class": len(table) - len(labelled)}
    cleaned = clean(table.geometry[labelled], is_geographic(system))
    rows = labelled[cleaned.index]
    once, again, conflicts = _unlike(cleaned.parts, codes[rows])
    dropped |= {**cleaned.dropped, "that are in the file twice": np.setdiff1d(rows[again], rows[once]).size}
    said = tuple(f"{_count(number)} {reason}" for reason, number in dropped.items() if number)
    rows = rows[once]
    if not len(rows):
        raise DataError(
            f"{path} holds no labels" + (f": {'; '.join(said)}" if said else ""), fix="draw or fill them in"
        )
    doubts += more
    if cleaned.wrapped:
        doubts += (f"{_count(cleaned.wrapped)} with an edge of more than 180 degrees: taken to cross the antimeridian",)
    if conflicts:
        doubts += (f"{_count(conflicts)} with the geometry of an earlier one and another class: the later one holds",)
    labels = Labels(
        path, cleaned.parts[once], codes[rows], names, system, rows,
        {name: table.columns[name][rows] for name in columns}, cleaned.repaired, said, doubts,
    )  # fmt: skip
    return labels if line_width is None else labels.widened(line_width)


# ------------------------------------------------------------------------------------------- details


def _system(path: Path, stored: str | None, given: str | None) -> str:
    if given is not None:
        return parse_crs(given, path)
    wkt = None if stored is None else parse_crs(stored, path)
    if wkt is None or crs_name(wkt).lower().startswith(("undefined", "unknown", "unnamed")):
        raise DataError(
            f"{path} does not say its coordinate system",
            fix="save it with one (QGIS: Export > Save Features As > CRS), or set `labels_crs: EPSG:…`",
        )
    return wkt


def _check_place(path: Path, geometry: np.ndarray, crs: str) -> tuple[str, ...]:
    """Refuse coordinates that cannot be degrees where they should be; doubt those that look like degrees elsewhere."""
    xy = shapely.get_coordinates(geometry)
    xy = xy[np.isfinite(xy).all(axis=1)]
    if not len(xy):
        return ()
    x, y = np.abs(xy).max(axis=0)
    if not is_geographic(crs):
        looks = x <= 180 and y <= 90
        return (f"coordinates look like degrees, but the file says '{crs_name(crs)}'",) if looks else ()
    if y > 90 and x <= 90:
        raise DataError(
            f"{path}: latitudes reach {y:g} degrees: longitude and latitude are exchanged",
            fix="exchange them (CSV: the names of the two columns; GeoJSON: longitude comes first)",
        )
    if y > 90 or x > 540:
        raise DataError(
            f"{path}: coordinates reach {x:g}, {y:g}, which are no degrees, but its system is '{crs_name(crs)}'",
            fix="set the one they are in with `labels_crs: EPSG:…`",
        )
    return ()


def _unlike(parts: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Indices of parts that differ in shape or class, of the later copies, and how many shapes change their class."""
    seen: dict[bytes, set[int]] = {}
    once: list[int] = []
    again: list[int] = []
    conflicts = 0
    for i, (shape, code) in enumerate(zip(shapely.to_wkb(shapely.normalize(parts)), codes.tolist(), strict=True)):
        before = seen.setdefault(shape, set())
        (again if code in before else once).append(i)
        conflicts += bool(before) and code not in before
        before.add(code)
    return np.array(once, np.int64), np.array(again, np.int64), conflicts


def _count(number: int) -> str:
    return f"{number:,} feature{'s' if number != 1 else ''}"


def write_footprints(
    path: str | Path, columns: Mapping[str, Sequence[object]], corners: np.ndarray, systems: Sequence[str]
) -> None:
    """Write a GeoParquet with the outline of images in WGS 84; the file appears when it is complete.

    Args:
        path: a name that ends in ``.parquet``.
        columns: values by column.
        corners: ``(n, 4, 2)`` x and y of each outline in its own coordinate system.
        systems: of each outline, WKT.

    Raises:
        DataError: pyarrow is not installed, a folder that cannot be written, or a full disk.
    """
    outlines = np.asarray(shapely.polygons(corners), object)
    out = np.empty(len(outlines), object)
    names = np.asarray(systems, object)
    for system in dict.fromkeys(systems):
        chosen = np.flatnonzero(names == system)
        parts, index = reproject(outlines[chosen], system, WGS84)
        for number, row in enumerate(chosen):
            pieces = parts[index == number]
            out[row] = pieces[0] if len(pieces) == 1 else shapely.multipolygons(pieces)
    write_parquet(Path(path), columns, out, WGS84)

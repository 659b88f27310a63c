"""Tables with shapes: what a vector file, a GeoParquet or a CSV with coordinates holds, as text and geometries.

pyogrio (GDAL), geopandas and pyarrow are imported here only, when a file is read: they need half a second.
"""

import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import shapely

from adapteo.data._points_csv import read_points
from adapteo.errors import DataError, closest
from adapteo.files import replacing

PARQUET = (".parquet", ".geoparquet")
_CSV = (".csv", ".tsv")
_INSIDE = (".shp", ".gpkg", ".geojson", ".json", ".fgb")
_FORMATS = ("GeoPackage", "GeoJSON", "Shapefile (also zipped)", "GeoParquet", "CSV with coordinates")


@dataclass(frozen=True)
class Table:
    """What a file holds, row by row.

    Attributes:
        columns: text of each column, empty where there is no value; whole numbers without a point, dates as ISO 8601.
        geometry: ``(n,)`` shapely geometries as they are stored, None where there is none or it cannot be read; or
            None when the file has no place for them.
        crs: WKT or an authority's code, None when the file does not say.
    """

    columns: dict[str, np.ndarray]
    geometry: np.ndarray | None = None
    crs: str | None = None

    def __len__(self) -> int:
        if self.geometry is not None:
            return len(self.geometry)
        return len(next(iter(self.columns.values()), ()))


def read_table(path: Path, layer: str | None = None, wanted: Sequence[str] | None = None) -> Table:
    """Read a layer of a file.

    Args:
        path: a file of one of the formats, or another one that GDAL reads.
        layer: needed where there are several.
        wanted: columns to read; None for all.

    Raises:
        DataError: missing, empty, broken, no such layer, no such column.
    """
    _check_there(path)
    if path.suffix.lower() in PARQUET:
        table = _read_parquet(path)
    elif path.suffix.lower() in _CSV:
        columns, geometry, crs = read_points(path)
        table = Table(columns, geometry, crs)
    else:
        return _read_gdal(path, layer, wanted)
    if layer is not None and layer != path.stem:
        raise _no_layer(path, layer, [path.stem])
    if wanted is None:
        return table
    _check_columns(path, table.columns, wanted)
    return Table({name: table.columns[name] for name in wanted}, table.geometry, table.crs)


def layers(path: Path) -> tuple[str, ...]:
    """Names of the layers that have geometries.

    Raises:
        DataError: as `read_table`.
    """
    _check_there(path)
    if path.suffix.lower() in (*PARQUET, *_CSV):
        return (path.stem,)
    return tuple(_layers(path))


# --------------------------------------------------------------------------------------------- GDAL


def _read_gdal(path: Path, layer: str | None, wanted: Sequence[str] | None) -> Table:
    import pyogrio
    import pyogrio.raw

    found = _layers(path)
    if not found:
        raise DataError(f"{path} holds no geometries", fix="export a layer with polygons, lines or points")
    if layer is None and len(found) > 1:
        raise DataError(f"{path} has {len(found)} layers", allowed=found, fix="say which one with `layer`")
    if layer is not None and layer not in found:
        raise _no_layer(path, layer, found)
    source, name = found[layer or next(iter(found))]
    with _explained(path):
        if wanted is not None:
            _check_columns(path, pyogrio.read_info(source, layer=name)["fields"].tolist(), wanted)
        about, _, stored, values = pyogrio.raw.read(source, layer=name, columns=wanted, force_2d=True)
    fields = {str(key): as_text(column) for key, column in zip(about["fields"], values, strict=True)}
    # A ring that does not close makes no geometry; it is counted with the others that have none.
    return Table(fields, shapely.from_wkb(stored, on_invalid="ignore"), about["crs"])


def _layers(path: Path) -> dict[str, tuple[str, str]]:
    """What GDAL opens, and the name of the layer in it, by name."""
    import pyogrio

    out = {}
    sources = _members(path) if path.suffix.lower() == ".zip" else [str(path)]
    for source in sources:
        with _explained(path):
            for name, kind in pyogrio.list_layers(source):
                if kind is not None:
                    out[str(name)] = (source, str(name))
    return out


def _members(path: Path) -> list[str]:
    """GDAL's names of the vector files in an archive, in whatever folder they are."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if Path(name).suffix.lower() in _INSIDE]
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is no zip file, or is damaged", fix="copy or download it again") from error
    names = [name for name in names if not name.startswith("__MACOSX/")]
    if not names:
        raise DataError(f"{path} holds no vector file", allowed=_INSIDE, fix="zip the .shp with its .shx, .dbf, .prj")
    return [f"/vsizip/{path.absolute()}/{name}" for name in names]


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what GDAL says into one error, and leave out what it warns of: geometries are checked afterwards."""
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            warnings.simplefilter("ignore", UserWarning)
            yield
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: its text is not in the encoding that it says ({error.encoding})", fix="save it as a GeoPackage"
        ) from error
    except (DataSourceError, DataLayerError) as error:
        text = str(error).splitlines()[0]
        if "SHAPE_RESTORE_SHX" in text:
            raise DataError(
                f"{path} lacks its .shx file", fix="a Shapefile is several files: copy .shx, .dbf and .prj as well"
            ) from error
        if "not recognized" in text:
            raise DataError(
                f"{path} is no vector file that can be read", allowed=_FORMATS, fix="save it as a GeoPackage"
            ) from error
        raise DataError(
            f"cannot read {path}: {text[:200]}", fix="if it is damaged or half written, copy or export it again"
        ) from error


# ---------------------------------------------------------------------------------------- GeoParquet


def _read_parquet(path: Path) -> Table:
    try:
        import geopandas
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f"reading {path.name} needs geopandas and pyarrow", fix="run: pip install 'adapteo[parquet]'"
        ) from error
    try:
        if b"geo" not in (pyarrow.parquet.read_schema(path).metadata or {}):
            frame, geometry, crs = pyarrow.parquet.read_table(path).to_pandas(), None, None
        else:
            shapes = geopandas.read_parquet(path)
            geometry, crs = shapes.geometry.to_numpy(), shapes.crs and shapes.crs.to_wkt()
            frame = shapes.drop(columns=shapes.geometry.name)
    except (pyarrow.ArrowInvalid, OSError, ValueError, shapely.errors.ShapelyError) as error:
        raise DataError(f"cannot read {path}: {str(error).splitlines()[0]}", fix="write it again") from error
    columns = {}
    for name in frame.columns:
        values = frame[name].to_numpy(dtype=object, na_value=None)
        columns[str(name)] = as_text(np.where(frame[name].isna().to_numpy(), None, values))
    return Table(columns, geometry, crs)


def write_parquet(path: Path, columns: Mapping[str, Sequence[object]], geometry: np.ndarray, crs: str) -> None:
    """Write a GeoParquet; the file appears when it is complete.

    Raises:
        DataError: pyarrow is not installed, a folder that cannot be written, or a full disk.
    """
    try:
        import geopandas
        import pyarrow
    except ImportError as error:
        raise DataError(
            f"writing {path.name} needs geopandas and pyarrow", fix="run: pip install 'adapteo[parquet]'"
        ) from error
    table = geopandas.GeoDataFrame(dict(columns), geometry=geometry, crs=crs)
    with replacing(path) as beside:
        try:
            table.to_parquet(beside, index=False)
        except pyarrow.ArrowException as error:
            raise DataError(f"cannot write {path}: {error}", fix="check the values of its columns") from error


# ------------------------------------------------------------------------------------------- details


def as_text(values: Iterable[object]) -> np.ndarray:
    """Text of each value; empty for None, NaN and NaT; 3.0 is "3", a day without a time has none."""
    return np.array([_text(value) for value in values], dtype=object)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else str(value).removesuffix(".0")
    if isinstance(value, np.datetime64):
        return "" if np.isnat(value) else str(value.astype("datetime64[s]")).removesuffix("T00:00:00")
    if isinstance(value, date):
        return value.isoformat().removesuffix("T00:00:00")
    return str(value).strip()


def _check_there(path: Path) -> None:
    if not path.exists():
        raise DataError(f"there is no file {path}", fix="check the path")
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a vector file", fix="name a file in it")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes)", fix="copy or export it again")


def _check_columns(path: Path, available: Iterable[str], wanted: Sequence[str]) -> None:
    available = list(available)
    for name in wanted:
        if name in available:
            continue
        if not available and path.suffix.lower() == ".shp":
            raise DataError(f"{path} has no columns: its .dbf file is missing", fix="copy the .dbf as well")
        raise DataError(f"{path} has no column '{name}'{closest(name, available)}", allowed=available)


def _no_layer(path: Path, layer: str, found: Iterable[str]) -> DataError:
    found = list(found)
    return DataError(f"{path} has no layer '{layer}'{closest(layer, found)}", allowed=found)

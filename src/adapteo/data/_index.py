"""Read an index of chips, CSV or GeoParquet, as rows of text."""

import csv
from pathlib import Path

from adapteo.errors import DataError


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read all rows; empty cells become empty text.

    A GeoParquet's geometry becomes the columns ``latitude`` and ``longitude`` (centre, WGS84) unless it has them.

    Raises:
        DataError: the file is missing or broken, or GeoParquet support is not installed.
    """
    if not path.is_file():
        raise DataError(f"there is no index {path}", fix="set `index` relative to `root`")
    if path.suffix.lower() in (".parquet", ".geoparquet"):
        return _read_parquet(path)
    return _read_csv(path)


def _read_csv(path: Path) -> list[dict[str, str]]:
    rows = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.DictReader(file, restval=""), start=2):
                if None in row:
                    raise DataError(
                        f"{path}, row {number} has more cells than the header", fix="quote cells that hold a comma"
                    )
                rows.append({name.strip(): cell.strip() for name, cell in row.items()})
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file: {error}", fix="save it as CSV in UTF-8") from error
    return rows


def _read_parquet(path: Path) -> list[dict[str, str]]:
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
            table = pyarrow.parquet.read_table(path).to_pandas()
        else:
            frame = geopandas.read_parquet(path)
            table = frame.drop(columns=frame.geometry.name)
            if frame.crs is not None and not {"latitude", "lat"} & set(table.columns):
                # Centres in the file's own projection: a centre in degrees is only right for small chips.
                centres = frame.geometry.centroid.to_crs(4326) if frame.crs.is_projected else frame.geometry
                bounds = centres.bounds
                table["latitude"] = (bounds.miny + bounds.maxy) / 2
                table["longitude"] = (bounds.minx + bounds.maxx) / 2
    except (pyarrow.ArrowInvalid, OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {str(error).splitlines()[0]}", fix="write it again") from error
    table = table.reset_index(drop=True)
    missing = table.isna()
    return [
        {str(name): "" if missing.at[i, name] else str(value) for name, value in row.items()}
        for i, row in zip(table.index, table.to_dict("records"), strict=True)
    ]

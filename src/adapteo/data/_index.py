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
    from adapteo.data._projection import centres  # these bring shapely and pyproj, which a CSV does without
    from adapteo.data._tables import as_text, read_table

    table = read_table(path)
    columns = dict(table.columns)
    if table.geometry is not None and table.crs is not None and not {"latitude", "lat"} & set(columns):
        latlon = centres(table.geometry, table.crs)
        columns["latitude"], columns["longitude"] = as_text(latlon[:, 0]), as_text(latlon[:, 1])
    return [{name: values[i] for name, values in columns.items()} for i in range(len(table))]

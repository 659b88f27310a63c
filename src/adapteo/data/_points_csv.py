"""Points in a CSV: columns of latitude and longitude, or of x and y with a column that names the coordinate system."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely

from adapteo.data._projection import WGS84
from adapteo.errors import DataError

_PAIRS = (
    (("lon", "longitude", "long", "lng"), ("lat", "latitude"), WGS84),
    (("x", "easting", "utm_x", "utm_e"), ("y", "northing", "utm_y", "utm_n"), None),
)
_SYSTEMS = ("crs", "epsg", "srid")


def read_points(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray, str | None]:
    """Read other columns as text, points (None where a row has no coordinates), and the coordinate system.

    Separated by comma, semicolon or tab; with the last two, numbers may have a decimal comma, as spreadsheets write.

    Raises:
        DataError: no such columns, a coordinate that is no number, no text in UTF-8.
    """
    header, rows = _read(path)
    folded = [name.lower() for name in header]
    east, north, system = _coordinates(path, folded)
    place = next((folded.index(name) for name in _SYSTEMS if name in folded), None)
    if place is not None:
        system = _one_system(path, sorted({row[place] for row in rows if row[place]})) or system
    points = np.full(len(rows), None, dtype=object)
    for i, row in enumerate(rows):
        if row[east] or row[north]:
            points[i] = shapely.Point(
                _number(path, i, header[east], row[east]), _number(path, i, header[north], row[north])
            )
    others = [i for i in range(len(header)) if i not in (east, north, place)]
    return {header[i]: np.array([row[i] for row in rows], dtype=object) for i in others}, points, system


def _coordinates(path: Path, header: Sequence[str]) -> tuple[int, int, str | None]:
    """Numbers of the columns to the east and to the north, and the system that their names mean."""
    for easts, norths, system in _PAIRS:
        east = next((header.index(name) for name in easts if name in header), None)
        north = next((header.index(name) for name in norths if name in header), None)
        if east is not None and north is not None:
            return east, north, system
    raise DataError(
        f"{path} has no columns of coordinates; it has: {', '.join(header[:8])}",
        fix="name them latitude and longitude (degrees), or x and y with a column epsg",
    )


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            lines = csv.reader(file, delimiter=max(",;\t", key=first.count))
            table = [[cell.strip() for cell in line] for line in lines if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file: {error}", fix="save it as CSV in UTF-8") from error
    header, rows = (table[0], table[1:]) if table else ([], [])
    if len(set(header)) < len(header):
        raise DataError(f"{path}: a column is named twice", fix="give each column a name of its own")
    for number, row in enumerate(rows, start=2):
        if len(row) > len(header):
            raise DataError(
                f"{path}, row {number} has more cells than the header", fix="quote cells that hold the separator"
            )
    return header, [row + [""] * (len(header) - len(row)) for row in rows]


def _number(path: Path, row: int, column: str, text: str) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}, row {row + 2}: {column} '{text}' is not a number", fix="correct or empty the cell")
    return value


def _one_system(path: Path, given: Sequence[str]) -> str | None:
    if len(given) > 1:
        raise DataError(f"{path} mixes coordinate systems: {', '.join(given[:5])}", fix="write one file for each")
    return f"EPSG:{given[0]}" if given and given[0].isdigit() else next(iter(given), None)

"""Reference samples: what a map says where somebody knows better."""

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import shapely

from adapteo.data._shapes import to_grid
from adapteo.data.class_map import ClassMap
from adapteo.data.vector import Labels, read_labels
from adapteo.errors import DataError, closest


def sample_map(
    given: ClassMap, path: Path, class_column: str, names: Mapping[int, str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Compare samples with the map: error matrix ``(k, k)`` in the order of ``names``, and what weakens it.

    A point counts for the pixel that it lies in, a polygon for the class of most of its pixels' centres (of the lower
    code when two are equal; of the pixel of a point inside, when it has no centre).

    Raises:
        DataError: the file cannot be read, a class is unknown, there are lines, nothing lies on the map, or the map has
            no place on Earth.
    """
    labels = read_labels(path, class_column)
    if "line" in labels.kinds:
        raise DataError(f"{path} holds lines, which are no samples", fix="give points or polygons")
    codes = list(names)
    truth = np.array([codes.index(_code(name, names, path)) for name in labels.classes])[labels.codes]
    sample = dict(zip(labels.rows.tolist(), truth.tolist(), strict=True))
    mapped = _classes_at(given, *_on_grid(labels, given))
    matrix = np.zeros((len(codes), len(codes)), np.int64)
    position = {code: i for i, code in enumerate(codes)}
    outside = 0
    for row, true in sample.items():
        code = mapped.get(row, -1)
        if code < 0:
            outside += 1
        else:
            matrix[position[code], true] += 1
    if not matrix.sum():
        raise DataError(f"none of the {len(sample):,} samples in {path} lies on the map {given.path}",
                        fix="check the coordinate systems of both")  # fmt: skip
    warnings = [*labels.doubts, *(f"{path.name}: {reason}" for reason in labels.dropped)]
    if outside:
        warnings.append(f"{outside:,} of {len(sample):,} samples lie outside the map or on missing pixels: not used")
    return matrix, tuple(warnings)


def training_overlap(given: ClassMap, path: Path, class_column: str, training: Path) -> tuple[str, ...]:
    """Say how many samples lie on labels that the model was trained on, or within a pixel of them."""
    samples, labels = read_labels(path, class_column), read_labels(training, class_column)
    shapes, rows = _on_grid(samples, given)
    near, _ = shapely.STRtree(_on_grid(labels, given)[0]).query(shapes, predicate="dwithin", distance=1.0)
    count, total = np.unique(rows[near]).size, np.unique(samples.rows).size
    if not count:
        return ()
    return (f"{count:,} of {total:,} samples lie on training labels or beside them: accuracies are too high",)


def read_matrix(path: Path, names: Mapping[int, str]) -> np.ndarray:
    """Read an error matrix from a CSV file: ``(k, k)`` in the order of ``names``, map classes in rows.

    Raises:
        DataError: it cannot be read, is no table of counts, or names a class that the map does not have.
    """
    try:
        lines = [line for line in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()) if any(line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}", fix="give a CSV file with an error matrix") from error
    if len(lines) < 2 or any(len(line) != len(lines[0]) for line in lines):
        raise DataError(f"{path} is no error matrix", fix="a line of reference classes, then one line per map class")
    codes = list(names)
    columns = [codes.index(_code(name.strip(), names, path)) for name in lines[0][1:]]
    matrix = np.zeros((len(codes), len(codes)), np.int64)
    for name, *cells in lines[1:]:
        row = codes.index(_code(name.strip(), names, path))
        for column, cell in zip(columns, cells, strict=True):
            if not cell.strip().isdecimal():
                raise DataError(f"{path}: '{cell}' in the row of {name} is no count of samples",
                                fix="write numbers of samples, not shares")  # fmt: skip
            matrix[row, column] += int(cell)
    return matrix


# ------------------------------------------------------------------------------------------- details


def _code(name: str, names: Mapping[int, str], path: Path) -> int:
    """Code of a class that is given by name (in any case) or code."""
    table = {text.casefold(): code for code, text in names.items()}
    if name.casefold() in table:
        return table[name.casefold()]
    if name.isdecimal() and int(name) in names:
        return int(name)
    raise DataError(
        f"{path}: the map has no class '{name}'{closest(name, names.values())}", allowed=names.values(),
        fix="name the classes of the reference as the map does",
    )  # fmt: skip


def _on_grid(labels: Labels, given: ClassMap) -> tuple[np.ndarray, np.ndarray]:
    """Geometries in pixel coordinates of the map, and the number of the feature that each came from."""
    crs, transform = given.legend.crs, given.legend.transform
    if crs is None or transform is None:
        raise DataError(f"{given.path} has no place on Earth: samples cannot be found on it",
                        fix="give the map its coordinate system, or the error matrix as a CSV file")  # fmt: skip
    moved = labels.to_crs(crs)
    return to_grid(moved.geometry, transform), moved.rows


def _classes_at(given: ClassMap, shapes: np.ndarray, rows: np.ndarray) -> dict[int, int]:
    """Class of the map of each feature, by its number in the file; the map is read once, strip by strip."""
    seen: dict[int, Counter[int]] = {}
    bounds = shapely.bounds(shapes).reshape(-1, 4)
    flat = shapely.get_type_id(shapes) == 0
    inner = np.asarray(shapely.point_on_surface(shapes), object)
    at = np.stack([shapely.get_x(inner), shapely.get_y(inner)], 1)
    covered = np.zeros(len(shapes), bool)
    spare: dict[int, int] = {}  # by part: the class at a point inside
    top, width = 0, given.legend.shape[1]
    for strip in given.strips():
        bottom = top + len(strip)
        for i in np.flatnonzero((bounds[:, 3] >= top) & (bounds[:, 1] < bottom)).tolist():
            x, y = int(np.floor(at[i, 0])), int(np.floor(at[i, 1]))
            if 0 <= x < width and top <= y < bottom:
                spare[i] = int(strip[y - top, x])
            if flat[i]:
                continue
            first, last = max(int(bounds[i, 0]), 0), min(int(np.ceil(bounds[i, 2])), width)
            upper, lower = max(int(bounds[i, 1]), top), min(int(np.ceil(bounds[i, 3])), bottom)
            if first < last and upper < lower:
                col, row = np.meshgrid(np.arange(first, last) + 0.5, np.arange(upper, lower) + 0.5)
                inside = shapely.contains_xy(shapes[i], col, row)
                here = strip[upper - top : lower - top, first:last][inside]
                covered[i] |= bool(inside.any())
                seen.setdefault(int(rows[i]), Counter()).update(here[here >= 0].tolist())
        top = bottom
    for i, code in spare.items():
        if not covered[i] and code >= 0:
            seen.setdefault(int(rows[i]), Counter())[code] += 1
    return {row: max(sorted(count), key=count.__getitem__) for row, count in seen.items() if count}

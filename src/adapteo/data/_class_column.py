"""From a column of text to class indices."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from adapteo.errors import DataError, closest

_MOST = 255
"""Classes that a map in bytes has room for, beside the value of missing pixels."""
_WHOLE = re.compile(r"(-?\d+)\.0+")


def encode(
    path: Path, column: str, values: np.ndarray, classes: Sequence[str] | Mapping[object, str] | None
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Turn a column into class indices.

    Args:
        path: file, for messages.
        column: its name, for messages.
        values: text, empty where there is no class; "1.0" is the class "1".
        classes: names in order, a mapping of values to names in order, or None for all values, sorted.

    Returns:
        Indices ``(n,)`` int64, -1 where there is no class; the names; and what may be wrong with them.

    Raises:
        DataError: a value that is no class, no value at all, measurements instead of classes, too many classes.
    """
    values = np.array([_WHOLE.sub(r"\1", value) if _WHOLE.fullmatch(value) else value for value in values], object)
    distinct = sorted(set(values.tolist()) - {""}, key=_order)
    if not distinct:
        raise DataError(f"{path}: column '{column}' is empty", fix="fill in the classes, or name another column")
    if not classes:
        _check_classes(path, column, distinct, int((values != "").sum()))
        table = {value: i for i, value in enumerate(distinct)}
        names = tuple(distinct)
    else:
        pairs = {str(key): str(name) for key, name in (
            classes.items() if isinstance(classes, Mapping) else zip(classes, classes, strict=True)
        )}  # fmt: skip
        names = tuple(dict.fromkeys(pairs.values()))
        table = {key: names.index(name) for key, name in pairs.items()}
        _check_known(path, column, values, distinct, tuple(table))
    return np.array([table.get(value, -1) for value in values], np.int64), names, _alike(names)


def _order(value: str) -> tuple[bool, float, str]:
    """Numbers by value, before text."""
    number = _as_number(value)
    return (number is None, number or 0.0, value)


def _as_number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _check_classes(path: Path, column: str, distinct: list[str], filled: int) -> None:
    numbers = [_as_number(value) for value in distinct]
    fractions = [value for value, number in zip(distinct, numbers, strict=True) if number is not None and number % 1]
    measured = bool(fractions) and None not in numbers and len(distinct) > max(20, filled // 10)
    if measured or len(distinct) > _MOST:
        what = f"measurements, e.g. {fractions[0]}" if measured else f"{len(distinct):,} different values"
        raise DataError(
            f"{path}: column '{column}' holds {what}, no classes",
            fix=f"name the column that holds the class; a map has at most {_MOST} classes",
        )


def _check_known(path: Path, column: str, values: np.ndarray, distinct: list[str], known: tuple[str, ...]) -> None:
    wrong = [value for value in distinct if value not in known]
    if wrong:
        count = int((values == wrong[0]).sum())
        raise DataError(
            f"{path}: '{wrong[0]}' in column '{column}' ({count:,} features) is no class{closest(wrong[0], known)}",
            allowed=known,
            fix="correct it, add it to `class_names`, or empty the cells to leave these features out",
        )
    if not set(distinct) & set(known):
        raise DataError(f"{path}: column '{column}' holds none of the classes", allowed=known)


def _alike(names: tuple[str, ...]) -> tuple[str, ...]:
    by_case: dict[str, list[str]] = {}
    for name in names:
        by_case.setdefault(name.casefold(), []).append(name)
    return tuple(
        f"classes that differ only in upper and lower case: {', '.join(group)}"
        for group in by_case.values() if len(group) > 1
    )  # fmt: skip

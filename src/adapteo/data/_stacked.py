"""Files that stack several dates, all bands of the first date first: which they are, and of which days. No torch.

Multi-temporal chips of HLS are stored so (18 bands are 3 dates of 6 bands), and so are exports of image collections.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from itertools import pairwise

from adapteo.bands import SENSORS, resolve
from adapteo.data._dates import days_in_name
from adapteo.data._source import Source
from adapteo.errors import ConfigError, DataError

_DAY = r"(?:\d{4}[-_]?\d\d[-_]?\d\d(?:T\d{6})?|T?\d{1,3})"
_BEFORE = re.compile(rf"^(?:{_DAY}[_.-])+(?:T?\d\d[A-Z]{{3}}_)?", re.IGNORECASE)
_AFTER = re.compile(rf"(?:[_.-]{_DAY})+$", re.IGNORECASE)
"""What tools write before or after the name of a band to tell the dates apart: a day, or a number."""


def stack_of(names: Sequence[str | None], path: str) -> tuple[int, tuple[str, ...]] | None:
    """See by the names of the bands whether a file stacks several dates.

    Returns:
        The number of dates and the names of the bands of one, without what tells the dates apart; None where the file
        has one date, or does not say.

    Raises:
        DataError: all dates of the first band come first.
    """
    given = [name or "" for name in names]
    for short in (given, [_BEFORE.sub("", name) for name in given], [_AFTER.sub("", name) for name in given]):
        one = tuple(dict.fromkeys(short))
        dates, rest = divmod(len(short), len(one) or 1)
        if dates < 2 or rest or not all(map(_known, one)):
            if all(map(_known, given)):  # SWIR_1 and SWIR_2 are names, not dates
                return None
            continue
        if short == list(one) * dates:
            return dates, one
        if short == [name for name in one for _ in range(dates)]:
            order = " ".join(f"-b {band * dates + day + 1}" for day in range(dates) for band in range(len(one)))
            raise DataError(
                f"{path} has all {dates} dates of {one[0]} first, then of {', '.join(one[1:])}",
                allowed=["all bands of the first date, then all of the second"],
                fix=f"reorder it: gdal_translate {order} {path} ordered.tif",
            )
    return None


def _known(name: str) -> bool:
    """Whether any sensor has a band of this name."""
    for sensor in SENSORS:
        try:
            resolve(name, sensor)
        except ConfigError:
            continue
        return True
    return False


def in_dates(source: Source, count: int, days: Sequence[date] = ()) -> tuple[Source, ...]:
    """The dates of a file that stacks them, each as a scene of its own.

    When they were taken is said by `days`; else by the file's name, if it has one day for each date; else by the names
    of its bands, if those of each date name one day.

    Args:
        source: one file.
        count: dates in it.
        days: of all files.

    Raises:
        DataError: it is a product of one date, or its bands are not `count` times as many as those of a date.
    """
    if source.kind != "file":
        raise DataError(
            f"{source.path} is a scene of one date, and `dates_per_file` is {count}",
            fix=f"leave `dates_per_file` out; `frames: {count}` makes series of scenes",
        )
    per_date, rest = divmod(len(source.bands), count)
    if rest or not per_date:
        raise DataError(
            f"{source.path} has {len(source.bands)} bands, which is not {count} dates of equally many",
            fix="correct `dates_per_file` in the dataset section (--dates-per-file of init)",
        )
    stack = stack_of(source.names, source.path)
    if stack and stack[0] != count:
        raise DataError(
            f"{source.path} names {', '.join(stack[1])} {stack[0]} times, and `dates_per_file` is {count}",
            fix=f"set `dates_per_file: {stack[0]}` in the dataset section (--dates-per-file of init)",
        )
    names = stack[1] if stack else source.names[:per_date]
    parts = [source.bands[i * per_date : (i + 1) * per_date] for i in range(count)]
    if days and len(days) != count:
        raise ConfigError(f"{len(days)} days are named of files with {count} dates")
    known: Sequence[date | None] = days or stacked_days(source.name, source.names, count) or [None] * count
    return tuple(
        replace(
            source,
            name=source.name if number == 0 else f"{source.name} ({day or f'date {number + 1}'})",
            bands=tuple(replace(band, name=name) for band, name in zip(part, names, strict=True)),
            date=day.isoformat() if day else None,
        )
        for number, (part, day) in enumerate(zip(parts, known, strict=True))
    )


def stacked_days(name: str, bands: Sequence[str | None], count: int) -> list[date]:
    """The days of a file that stacks dates: those of its name, if there is one for each date; else of its bands' names.

    Args:
        name: of the file.
        bands: of all dates.
        count: dates in the file.

    Returns:
        One day for each date; none where they are not known.
    """
    in_name = days_in_name(name)
    if len(in_name) == count:
        return in_name
    per_date = len(bands) // count
    found: list[date] = []
    for number in range(count):
        days = {tuple(days_in_name(band or "")[:1]) for band in bands[number * per_date : (number + 1) * per_date]}
        if len(days) != 1 or () in days:
            return []
        found += days.pop()
    return found if all(one < other for one, other in pairwise(found)) else []

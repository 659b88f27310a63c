"""Day of acquisition from the tags of a file, or from its name."""

import re
from collections.abc import Iterator, Mapping
from datetime import date

_TAGS = (
    "ACQUISITION_DATE", "DATE_ACQUIRED", "ACQUISITIONDATETIME", "SENSING_TIME", "DATATAKE_1_DATATAKE_SENSING_START",
    "PRODUCT_START_TIME", "DATETIME", "TIFFTAG_DATETIME",
)  # fmt: skip
"""Names that products use; TIFF's own comes last, as it may be the day of processing."""


def acquired(tags: Mapping[str, str]) -> date | None:
    """Day of acquisition, or None when no tag holds one; names of tags in any case."""
    upper = {key.upper(): value for key, value in tags.items()}
    for key in _TAGS:
        found = re.match(r"\s*(\d{4})[:/-]?(\d\d)[:/-]?(\d\d)", upper.get(key, ""))
        try:
            if found:
                return date(*map(int, found.groups()))
        except ValueError:  # 0000:00:00
            continue
    return None


_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_]?)(\d\d)\2(\d\d)(?!\d)")


def day_in_name(name: str) -> date | None:
    """The first date in a name, written as 20210731, 2021-07-31 or 2021_07_31."""
    return next(iter(days_in_name(name)), None)


def days_in_name(name: str) -> list[date]:
    """All dates in a name; see `day_in_name`."""
    return [day for day, _, _ in _find(name)]


def without_day(name: str) -> str:
    """A name without its first date: alike for the dates of one place."""
    for _, start, end in _find(name):
        return name[:start] + "*" + name[end:]
    return name


def _find(name: str) -> Iterator[tuple[date, int, int]]:
    for match in _DAY.finditer(name):
        year, _, month, day = match.groups()
        try:
            yield date(int(year), int(month), int(day)), match.start(), match.end()
        except ValueError:  # some other number
            continue

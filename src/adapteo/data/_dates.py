"""Day of acquisition from the tags of a file."""

import re
from collections.abc import Mapping
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

"""Sizes and days that a survey cannot have. No torch."""

from collections.abc import Sequence
from datetime import date
from itertools import pairwise

from adapteo.errors import ConfigError

_MOST_OVERLAPS = 8
"""Of windows along one side: 64 windows for each place; more takes hours and teaches nothing new."""


def check_sizes(chip: int, stride: int | None, point_radius: float, line_width: float | None) -> None:
    """Refuse sizes that make no windows; see the fields of `adapteo.data.survey.Survey`.

    Raises:
        ConfigError: names the key.
    """
    if chip < 1:
        raise ConfigError(f"chip is {chip}", allowed=["1 or more"])
    if stride is not None and (stride < 1 or chip % stride):
        raise ConfigError(f"stride is {stride}, which does not divide chip ({chip})", fix="e.g. chip / 2")
    if stride is not None and chip // stride > _MOST_OVERLAPS:
        raise ConfigError(
            f"stride is {stride} and chip {chip}: each place would be in {(chip // stride) ** 2:,} windows",
            fix=f"set stride to {-(-chip // 2)} (half of chip), or leave it out",
        )
    for key, size in (("point_radius", point_radius), ("line_width", line_width)):
        if size is not None and (size < 0 or (key == "line_width" and size == 0)):
            raise ConfigError(f"{key} is {size:g}", allowed=["a positive number"])


def check_frames(frames: int, dates_per_file: int, dates: Sequence[str]) -> None:
    """Refuse numbers of dates, and days, that no file can have.

    Raises:
        ConfigError: names the key.
    """
    for key, value in (("frames", frames), ("dates_per_file", dates_per_file)):
        if value < 1:
            raise ConfigError(f"{key} is {value}", allowed=["1 or more"])
    if dates_per_file > 1 and frames not in (1, dates_per_file):
        raise ConfigError(
            f"frames is {frames} and dates_per_file {dates_per_file}: a sample has the dates of a file",
            fix="leave `frames` out",
        )
    if not dates:
        return
    try:
        days = [date.fromisoformat(text) for text in dates]
    except ValueError:
        raise ConfigError(f"dates is {list(dates)}", allowed=["days such as 2023-04-15"]) from None
    if dates_per_file == 1:
        raise ConfigError("dates is of files that stack several", fix="set `dates_per_file`, or leave `dates` out")
    if len(days) != dates_per_file or not all(one < other for one, other in pairwise(days)):
        raise ConfigError(
            f"dates names {', '.join(dates)}", allowed=[f"{dates_per_file} days (`dates_per_file`), the earliest first"]
        )

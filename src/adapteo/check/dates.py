"""Dates of the scenes: missing, impossible, or with gaps."""

from collections.abc import Iterator
from datetime import date
from itertools import pairwise

from adapteo.check._findings import Check, Finding, number, some
from adapteo.check._view import View

_NAME = "dates"
_FIRST = date(1972, 7, 23)
"""Launch of Landsat 1."""
_GAP = 5.0
"""Times the usual time between dates."""


def _run(view: View) -> Iterator[Finding]:
    scenes = view.scenes
    dated = {scene.name: scene.date for scene in scenes if scene.date is not None}
    without = [scene.path.name for scene in scenes if scene.date is None]
    wrong = [f"{name} ({day})" for name, day in dated.items() if not _FIRST <= day <= date.today()]
    if wrong:
        yield Finding(
            "WARN", _NAME, some(wrong), f"{number(len(wrong), 'scene')} with a date before 1972 or in the future",
            "a model that knows the date is told a wrong one", "correct the date in the file's name or tags",
        )  # fmt: skip
    if dated and without:
        yield Finding(
            "WARN", _NAME, some(without), f"{number(len(without), 'scene')} of {len(scenes)} without a date",
            "a model that knows the date sees some scenes with it and some without",
            "write the date into the file's name, e.g. T20210731.tif",
        )  # fmt: skip
    days = sorted({*dated.values()})
    gaps = [((b - a).days, a, b) for a, b in pairwise(days)]
    if len(gaps) >= 3:
        usual = sorted(gap for gap, _, _ in gaps)[len(gaps) // 2]
        longest, start, end = max(gaps)
        if longest > _GAP * max(usual, 1):
            yield Finding(
                "WARN", _NAME, "", f"no scene between {start} and {end} ({longest} days; usually {usual})",
                "what looks that way in this time of the year was never seen in training",
                "add scenes of that time, or map only scenes of the dates that there are",
            )  # fmt: skip
            return
    if not wrong and not (dated and without):
        said = f"{days[0]} to {days[-1]}" if len(days) > 1 else str(days[0]) if days else "no scene has a date"
        yield Finding("OK", _NAME, "", said)


CHECK = Check(_run, survey=True)

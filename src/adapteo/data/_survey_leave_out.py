"""A survey once for each region, scene or date, which it tests and does not train on. No torch."""

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from adapteo.data._mask_labels import MaskLabels
from adapteo.data._survey_splits import SurveySplits
from adapteo.errors import ConfigError

if TYPE_CHECKING:
    from adapteo.data.survey import Survey

_ALLOWED = ("scene", "date", "region", "a column of the label file")
_FEWEST = 3


def leaving_out(survey: "Survey", by: str) -> dict[str, "Survey"]:
    """Make the surveys; validation windows are taken from the rest, in the proportion of the splits' fractions.

    Scenes that show the same labels are left out together.

    Args:
        survey: with all labels.
        by: "scene", "date", "region" (the column that its splits name), or a column of the label file.

    Raises:
        ConfigError: no such column, or fewer than three values: one to test, one to validate, one to train.
    """
    how = survey.splits or SurveySplits()
    train, val, _ = how.fractions
    if not train or not val:
        raise ConfigError("splits.fractions leaves nothing to train or validate on", fix="e.g. [0.7, 0.15, 0.15]")
    kind = cast(Literal["scene", "date", "region"], by if by in ("scene", "date") else "region")
    column = "" if kind != "region" else how.column if by == "region" else by
    if kind == "region" and not column:
        raise ConfigError(
            "splits name no column with the region",
            allowed=_ALLOWED,
            fix="name the column itself, or set `splits: {by: region, column: …}`",
        )
    share = (train / (train + val), val / (train + val), 0.0)
    buffer = None if kind == "date" else how.buffer
    base = SurveySplits(kind, column=column, fractions=share, buffer=buffer, seed=how.seed)
    found: dict[str, Survey] = {}
    seen: set[tuple[str, ...]] = set()
    for name in _values(replace(survey, splits=base), kind, column):
        made = replace(survey, splits=replace(base, test=(name,)))
        keys = made.plan.parts["test"]
        if keys and keys not in seen:
            seen.add(keys)
            found[name] = made
    if len(found) < _FEWEST:
        raise ConfigError(
            f"leaving one out needs labels in {_FEWEST} values of '{by}', there are {len(found)}", allowed=_ALLOWED,
            fix="leave something else out, or test on blocks",
        )  # fmt: skip
    return found


def _values(survey: "Survey", kind: str, column: str) -> list[str]:
    scenes = survey.scenes_found
    if kind == "scene":
        return [scene.name for scene in scenes]
    if kind == "date":
        return sorted({scene.date.isoformat() for scene in scenes if scene.date})
    labels = survey.labels_read
    if isinstance(labels, MaskLabels):
        raise ConfigError("masks have no column with the region", allowed=_ALLOWED[:2], fix="leave scenes or dates out")
    return [str(name) for name in np.unique(labels.columns[column].astype(str)) if name]

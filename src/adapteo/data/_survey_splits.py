"""Which labels of a survey train and which test: whole blocks, scenes, regions or dates, or windows by chance.

No torch.
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from adapteo.data._blocks import deal
from adapteo.errors import ConfigError, DataError, closest

By = Literal["block", "scene", "region", "date", "random"]
PARTS = ("train", "val", "test")
_USES: dict[str, set[str]] = {
    "block": {"size", "unit", "buffer", "holdout", "fractions"},
    "scene": {"train", "val", "test", "buffer", "holdout", "fractions"},
    "region": {"column", "train", "val", "test", "buffer", "holdout", "fractions"},
    "date": {"train", "val", "test", "holdout", "fractions"},
    "random": {"fractions", "buffer"},
}
_TRIES = 200  # ways to deal, of which the one is taken that gives each part its share of each class
_DAY = re.compile(r"\d{4}(-\d\d){0,2}")
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class SurveySplits:
    """How labels are divided. Which keys count depends on `by`; another one is refused.

    - ``block``: squares on the ground go to one part as a whole, by `fractions`; each `holdout` is a box.
    - ``scene``: `train`, `val`, `test` and each `holdout` list names of scenes (file names without ending). Scenes that
      show the same labels stay together.
    - ``region``: they list values of `column` of the label file.
    - ``date``: they list days (``2021-07-31``), months (``2021-07``) or years of scenes, or say
      ``before 2021-07-31`` or ``from 2021-07-31``. A place may then train on one date and test on another one.
    - ``random``: windows by chance. Neighbours look alike, so that such a test is too good.

    With ``scene``, ``region`` and ``date``, `train` is all that is not listed; a part without a list is taken out of
    it by `fractions`.

    Attributes:
        by: what decides.
        train, val, test: see above.
        holdout: name of a further test split to scenes, values, dates, or a box in degrees,
            ``[west, south, east, north]``.
        column: of the label file, with the region.
        fractions: of train, val and test; the sum is 1.
        size: side of a block in `unit`, rounded up to whole windows; null for the distance within which labels
            resemble each other, which is measured.
        unit: "metres" or "pixels".
        buffer: metres; training labels closer to a validation or test block are ignored. Null for a third of the
            measured distance with blocks whose `size` is null, else 0.
        seed: of all that is random here.
    """

    by: By = "block"
    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    holdout: Mapping[str, str | tuple[str, ...] | Box] = field(default_factory=dict)
    column: str = ""
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    size: float | None = None
    unit: Literal["metres", "pixels"] = "metres"
    buffer: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse keys that mean nothing together.

        Raises:
            ConfigError: names the key.
        """
        if self.by not in _USES:
            raise ConfigError(f"splits.by is '{self.by}'{closest(self.by, _USES)}", allowed=get_args(By))
        fields = type(self).__dataclass_fields__
        for key in sorted(set().union(*_USES.values()) - _USES[self.by]):
            unset = {} if key == "holdout" else fields[key].default
            if vars(self)[key] != unset:
                raise ConfigError(
                    f"splits.{key} means nothing with `by: {self.by}`", allowed=(*sorted(_USES[self.by]), "seed")
                )
        if len(self.fractions) != 3 or min(self.fractions) < 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise ConfigError(f"splits.fractions is {list(self.fractions)}", allowed=["three numbers with the sum 1"])
        if self.by == "region" and not self.column:
            raise ConfigError("splits.column is missing", fix="name the column of the label file with the region")
        for key in ("size", "buffer"):
            value = vars(self)[key]
            if value is not None and (value < 0 or (key == "size" and value == 0)):
                raise ConfigError(f"splits.{key} is {value:g}", fix="give a positive number, or leave it out")
        for name in self.holdout:
            if name in PARTS:
                raise ConfigError(f"a hold-out cannot be called '{name}'", fix="choose another name")


def listed(splits: SurveySplits, known: Sequence[str], what: str) -> dict[str, str]:
    """Part of each scene or region that the user named.

    Raises:
        DataError: there is no such scene or region, or it is in two parts.
    """
    home: dict[str, str] = {}
    given = {"train": splits.train, "val": splits.val, "test": splits.test, **splits.holdout}
    for part, values in given.items():
        for value in (values,) if isinstance(values, str) else values:
            text = str(value)
            if text not in known:
                raise DataError(f"splits.{part}: there is no {what} '{text}'{closest(text, known)}", allowed=known)
            if home.setdefault(text, part) != part:
                raise DataError(f"the {what} '{text}' is in both '{home[text]}' and '{part}'", fix="list it once")
    return home


def dated(splits: SurveySplits, days: Sequence[str]) -> dict[str, str]:
    """Part of each day that the user named.

    Args:
        splits: how.
        days: of the scenes, as 2021-07-31.

    Raises:
        DataError: what is written is no date, fits no scene, or two parts claim a day.
    """
    home: dict[str, str] = {}
    given = {"train": splits.train, "val": splits.val, "test": splits.test, **splits.holdout}
    for part, values in given.items():
        for text in map(str, (values,) if isinstance(values, str) else values):
            word, _, when = text.strip().rpartition(" ")
            if word not in ("", "before", "from") or not _DAY.fullmatch(when):
                raise DataError(
                    f"splits.{part}: '{text}' is no date",
                    allowed=["2021-07-31", "2021-07", "2021", "before 2021-07-31", "from 2021-07-31"],
                )
            found = [day for day in days if _fits(day, word, when)]
            if not found:
                raise DataError(f"splits.{part}: no scene is of '{text}'", allowed=days)
            for day in found:
                if home.setdefault(day, part) != part:
                    raise DataError(f"the date {day} is in both '{home[day]}' and '{part}'", fix="list it once")
    return home


def _fits(day: str, word: str, when: str) -> bool:
    if word:
        return day < when if word == "before" else day >= when
    return f"{day}-".startswith(f"{when}-")


def deal_units(
    units: Mapping[Hashable, np.ndarray], splits: SurveySplits, home: Mapping[Hashable, str]
) -> dict[Hashable, str]:
    """Give each unit to a part.

    Among many random ways to deal, the one is taken that comes nearest to the fractions in every class; a part that has
    none of a class cannot be judged on it.

    Args:
        units: labelled pixels by class ``(k,)`` of each block, scene, region or window.
        splits: how.
        home: parts of the units that the user named.
    """
    explicit = [bool(part) for part in (splits.train, splits.val, splits.test)]
    free = {unit: counts for unit, counts in units.items() if unit not in home}
    taken = explicit if explicit[0] else [False, *explicit[1:]]
    shares = [0.0 if there else share for there, share in zip(taken, splits.fractions, strict=True)]
    if not free or not sum(shares):
        return {**dict.fromkeys(free, "train"), **home}
    shares = [share / sum(shares) for share in shares]
    names = sorted(free, key=repr)
    counts = np.array([free[name] for name in names], float)
    weights = counts / np.maximum(counts.sum(axis=0), 1)
    sizes = {(i, 0): max(1, round(1000 * float(weights[i].mean()))) for i in range(len(names))}
    best: tuple[float, dict[tuple[int, int], int]] | None = None
    for turn in range(_TRIES):
        dealt = deal(sizes, shares, splits.seed * _TRIES + turn)
        part = np.array([dealt[i, 0] for i in range(len(names))])
        got = np.stack([weights[part == p].sum(axis=0) for p in range(3)])
        want = np.array(shares)[:, None]
        lacking = ((got == 0) & (want > 0) & (counts.sum(axis=0) > 0)).sum()
        away = float(lacking + np.abs(got - want).mean())
        if best is None or away < best[0]:
            best = away, dealt
    assert best is not None
    return {**{name: PARTS[best[1][i, 0]] for i, name in enumerate(names)}, **home}

"""The windows of a survey divided by chance, to show how much easier such a test is. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from adapteo.contracts import Dataset, Sample
from adapteo.data._survey_splits import PARTS
from adapteo.errors import DataError

if TYPE_CHECKING:
    from adapteo.data.survey import Survey


@dataclass(frozen=True)
class ByChance(Dataset):
    """As many windows in each part as the survey has, drawn by chance, with all of their labels.

    Windows of the same ground (other dates) stay together: the figure is to show what neighbours do, not copies.

    Attributes:
        survey: with windows that do not overlap.
        seed: of the draw.
    """

    survey: "Survey"
    seed: int = 0

    @property
    def bands(self) -> tuple[str, ...]:
        """Those of the survey."""
        return self.survey.bands

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the survey."""
        return self.survey.classes

    @property
    def task(self) -> str:
        """That of the survey."""
        return self.survey.task

    @property
    def frames(self) -> int:
        """Those of the survey."""
        return self.survey.frames

    @property
    def gsd(self) -> float:
        """That of the survey."""
        return self.survey.gsd

    def split(self, name: str) -> Sequence[str]:
        """Keys of train, val or test."""
        keys = self._parts.get(name)
        if not keys:
            raise DataError(f"a split by chance has no part '{name}'", allowed=PARTS)
        return keys

    def read(self, key: str, bands: Sequence[str] | None = None) -> Sample:
        """Read a window with all of its labels."""
        sample = self.survey.read(key, bands)
        plan = self.survey.plan
        window = plan.windows[key]
        labelling = plan.labelling
        scene = labelling.scenes[window.scene]
        sample.target = labelling.drawing.window(scene, window.row, window.col, labelling.chip)
        return sample

    def group(self, key: str) -> str | None:
        """That of the survey."""
        return self.survey.group(key)

    def fingerprint(self) -> str:
        """That of the survey, as a split by chance."""
        return f"{self.survey.fingerprint()}-{self.seed}"

    @cached_property
    def _parts(self) -> Mapping[str, tuple[str, ...]]:
        plan = self.survey.plan
        places: dict[tuple[int, int, int], list[str]] = {}
        for key, window in plan.windows.items():
            scene = plan.labelling.scenes[window.scene]
            place = scene.grid, window.row + scene.origin[0], window.col + scene.origin[1]
            places.setdefault(place, []).append(key)
        names = sorted(places)
        mixed = [places[names[i]] for i in np.random.default_rng(self.seed).permutation(len(names))]
        parts: dict[str, tuple[str, ...]] = {}
        for part in ("test", "val", "train"):
            wanted, drawn = len(plan.parts[part]), list[str]()
            while mixed and len(drawn) < wanted:
                drawn += mixed.pop()
            parts[part] = tuple(sorted(drawn))
        return parts

"""What the checks look at: everything is read once, when it is first asked for, in bounded memory and time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from adapteo._ignore import IGNORE
from adapteo._pretraining import Pretraining, pretraining_of
from adapteo.bands import BY_NAME
from adapteo.check._pixels import Pixels, read_chip, read_scene
from adapteo.check._reading import Source, line_of
from adapteo.contracts import Dataset
from adapteo.data._mask_labels import MaskLabels
from adapteo.data._survey_plan import Plan
from adapteo.data._survey_scenes import SceneFile
from adapteo.data.radiometry import baseline_offset
from adapteo.data.survey import Survey
from adapteo.data.vector import Labels
from adapteo.errors import AdaptEOError, DataError

_Value = TypeVar("_Value")
_FEW_PIXELS = 64
_PIXELS = 12_000_000
"""Sampled values of all scenes and bands together that are kept: 48 MB."""
_WINDOWS = 1000
"""Windows whose labels are drawn, at most; of more, every n-th is."""
_CHIPS = 200
"""Chips that are read, at most, where there are no scenes."""
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Window:
    """Labels of one sample.

    Attributes:
        key: of the sample.
        part: "train", "val", "test" or a hold-out.
        counts: ``(k,)`` labelled pixels by class.
        size: pixels of the sample that lie in its image.
    """

    key: str
    part: str
    counts: np.ndarray
    size: int


class View:
    """A dataset as the checks see it.

    Everything that reads files raises `DataError` when they are wrong; it is raised again each time that it is asked
    for, without reading again.

    Args:
        source: the dataset and the lines that it was written on.
    """

    def __init__(self, source: Source) -> None:
        self.name, self.dataset, self.backbone = source.name, source.dataset, source.backbone
        self._document = source.document
        self._known: dict[str, object] = {}

    # ------------------------------------------------------------------------------------- what there is

    @property
    def survey(self) -> Survey | None:
        """The dataset, when it is one of scenes and drawn labels."""
        return self.dataset if isinstance(self.dataset, Survey) else None

    @property
    def scenes(self) -> tuple[SceneFile, ...]:
        """Of a survey."""
        survey = self._survey
        return self._once("scenes", lambda: survey.scenes_found)

    @property
    def labels(self) -> Labels | MaskLabels:
        """Of a survey."""
        survey = self._survey
        return self._once("labels", lambda: survey.labels_read)

    @property
    def drawn(self) -> Labels | None:
        """Labels of a vector file; None for masks."""
        return self.labels if isinstance(self.labels, Labels) else None

    @property
    def plan(self) -> Plan:
        """Of a survey."""
        survey = self._survey
        return self._once("plan", lambda: survey.plan)

    @property
    def bands(self) -> tuple[str, ...]:
        """Canonical names of the bands."""
        return self._once("bands", lambda: self.dataset.bands)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self._once("classes", lambda: self.dataset.classes)

    @property
    def pixels(self) -> tuple[Pixels, ...]:
        """Sampled pixels of each scene, or of some chips."""
        return self._once("pixels", lambda: tuple(self._read_pixels()))

    @property
    def windows(self) -> tuple[Window, ...]:
        """Labels of each sample, or of every n-th."""
        return self._once("windows", lambda: tuple(self._count_windows()))

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """Keys of the samples of train, val, test and the hold-outs; without those that have none."""
        return self._once("parts", self._read_parts)

    @cached_property
    def pretraining(self) -> Pretraining | None:
        """What is known of the imagery that the backbone was pre-trained on."""
        name = self.backbone.get("name")
        return pretraining_of(name, self.backbone) if isinstance(name, str) else None

    @property
    def optical(self) -> list[int]:
        """Positions of the bands that are reflectance."""
        return [i for i, name in enumerate(self.bands) if BY_NAME[name].kind == "optical" and name[:4] != "lwir"]

    @property
    def scale(self) -> float:
        """What stored numbers are multiplied with: as configured, or as the first scene says."""
        given = vars(self.dataset).get("scale")
        return self.pixels[0].scale if given is None and self.pixels else float(given or 1.0)

    @property
    def finds_offset(self) -> bool:
        """Whether the Sentinel-2 offset is looked for in each scene, and taken out."""
        return bool(vars(self.dataset).get("offset") == "auto")

    def shows_offset(self, pixels: Pixels, factor: float = 1.0) -> bool:
        """Whether the reflectance of a scene, times a factor, carries the Sentinel-2 baseline offset."""
        chosen = pixels.values[self.optical]
        known = chosen[~np.isnan(chosen)]
        if known.size < _FEW_PIXELS or known.min() == known.max():
            return False  # too little to tell
        return baseline_offset(chosen * np.float32(factor)) != 0

    def physical(self, pixels: Pixels) -> np.ndarray:
        """Values of a scene ``(c, h, w)`` as the model gets them: with the offset."""
        looked_at = self.finds_offset and not pixels.settled
        return pixels.values + np.float32(baseline_offset(pixels.values) if looked_at else pixels.offset)

    # --------------------------------------------------------------------------------------- what to change

    def change(self, key: str, value: str) -> str:
        """Say which line of the configuration to change into what; ``key`` of the dataset section, dotted."""
        trail = ("dataset", *key.split("."))
        written = f"`{trail[-1]}: {value}`"
        if len(trail) > 2:
            written = f"`{trail[-2]}: {{{trail[-1]}: {value}}}`"
        if (origin := line_of(self._document, trail)) is not None:
            return f"{origin.place}: `{trail[-1]}: {value}`"
        above = line_of(self._document, ("dataset",))
        return f"{above.place}, below `dataset:`, add {written}" if above else f"set {written} in the dataset section"

    @cached_property
    def root(self) -> Path:
        """Folder of the data, or the current one."""
        return Path(str(vars(self.dataset).get("root", "."))).expanduser()

    # ------------------------------------------------------------------------------------------- details

    @property
    def _survey(self) -> Survey:
        if self.survey is None:
            raise DataError("there are no scenes: this dataset is no `survey`")
        return self.survey

    def _once(self, name: str, make: Callable[[], _Value]) -> _Value:
        """Make a value once; an error that the user can act on is kept as well."""
        if name not in self._known:
            try:
                self._known[name] = make()
            except AdaptEOError as error:
                self._known[name] = error
        found = self._known[name]
        if isinstance(found, AdaptEOError):
            raise found
        return found  # type: ignore[return-value]

    def _read_pixels(self) -> Iterator[Pixels]:
        if self.survey is not None:
            values = len(self.scenes) * len(self.bands) * self.survey.frames
            most = max(64**2, min(512**2, _PIXELS // max(1, values)))
            for number, scene in enumerate(self.scenes):
                yield from read_scene(number, scene, most)
            return
        every = [(part, key) for part, keys in self.parts.items() for key in keys]
        for part, key in every[:: -(-len(every) // _CHIPS) or 1]:
            yield read_chip(self.dataset, part, key)

    def _read_parts(self) -> dict[str, tuple[str, ...]]:
        if self.survey is not None:
            return {name: keys for name, keys in self.plan.parts.items() if keys}
        found = {}
        for name in (*PARTS, *self.dataset.holdouts):
            try:
                found[name] = tuple(self.dataset.split(name))
            except DataError:  # empty, which the check of the balance says; what else is wrong, reading says
                if name == "train":
                    raise
        return found

    def _count_windows(self) -> Iterator[Window]:
        count = len(self.classes)
        if self.survey is None:
            for chip in self.pixels:
                if chip.target is not None and chip.target.ndim == 2:
                    yield _window(chip.name, chip.part, chip.target, count, chip.target.size)
            return
        windows, chip_side = self.plan.windows, self.survey.chip
        for key in list(windows)[:: -(-len(windows) // _WINDOWS) or 1]:
            window = windows[key]
            height, width = self.scenes[window.scene].shape
            rows = min(window.row + chip_side, height) - max(window.row, 0)
            cols = min(window.col + chip_side, width) - max(window.col, 0)
            yield _window(key, window.part, self.plan.labelling.target(window), count, rows * cols)


def _window(key: str, part: str, target: np.ndarray, count: int, size: int) -> Window:
    known = target[target != IGNORE]
    return Window(key, part, np.bincount(known.astype(np.int64), minlength=count), size)


def dataset_name(dataset: Dataset) -> str:
    """What a configuration calls a dataset."""
    return type(dataset).__module__.rpartition(".")[2]

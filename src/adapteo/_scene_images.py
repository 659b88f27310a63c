"""Files as the images of a model: which bands, what their numbers mean, and on which pixels they lie."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from adapteo.bands import SENSORS, resolve
from adapteo.data.raster import Scene, open_scene
from adapteo.errors import ConfigError, DataError

__all__ = ["Inputs", "SceneImages", "match_bands", "open_dates", "taken_in_order"]
_NAME_BANDS = "name the bands of the file in its order with --bands (in Python: bands=…), e.g. blue,green,red"
Numbers = float | tuple[float, ...] | tuple[tuple[float, ...], ...]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Inputs:
    """How the numbers in the files become images ``(t, c, h, w)`` in physical units: ``number * scale + offset``.

    Attributes:
        indexes: bands of one date in the order of the model, numbered from 1; None for all (see `match_bands`).
        frames: dates in all files together, None for one per file. A file with several dates holds all bands of the
            first date, then all of the second.
        scale, offset: a number, one per band, or a row of one per band for each date.
    """

    indexes: tuple[int, ...] | None = None
    frames: int | None = None
    scale: Numbers = 1.0
    offset: Numbers = 0.0


class Banded(Protocol):
    """What has bands with names: a `adapteo.data.raster.Scene`, or an array."""

    @property
    def path(self) -> object:
        """Its name, for messages."""

    @property
    def count(self) -> int:
        """Bands of all dates."""

    @property
    def descriptions(self) -> tuple[str | None, ...]:
        """Name of each band, None where it has none."""


def match_bands(
    scene: Banded,
    wanted: Sequence[str],
    sensor: str | None = None,
    dataset_order: Sequence[str] | None = None,
    frames: int = 1,
) -> tuple[int, ...]:
    """Find the bands of a model in a file; the result is `Inputs.indexes`.

    Names in the file count when any of them is known. Without a sensor, the sensors that explain most of the names are
    considered, and must agree. A file without known names must have exactly the bands of the dataset.

    Args:
        scene: the file, or what has bands like one.
        wanted: canonical names in the order of the model.
        sensor: one of `adapteo.bands.SENSORS`, for names like B5 that differ between sensors.
        dataset_order: canonical names of all bands of the files that the model was trained on, in their order.
        frames: dates in the file.

    Raises:
        DataError: the bands are not there or cannot be told apart; says what is in the file.
    """
    per_date, rest = divmod(scene.count, frames)
    if rest:
        raise DataError(f"{scene.path} has {scene.count} bands, which is not {frames} dates of equally many")
    names = scene.descriptions[:per_date]
    meanings = [m for key in ((sensor,) if sensor else SENSORS) if (m := _meanings(names, key))]
    most = max(map(len, meanings), default=0)
    found = {tuple(m[w] for w in wanted) for m in meanings if len(m) == most and all(w in m for w in wanted)}
    if len(found) == 1:
        return found.pop()
    if len(found) > 1:
        problem = f"the band names of {scene.path} mean different bands on different sensors"
        raise DataError(problem, allowed=SENSORS, fix=_NAME_BANDS)
    if not meanings and dataset_order is not None and per_date == len(dataset_order):
        return tuple(list(dataset_order).index(name) + 1 for name in wanted)
    known = {name for m in meanings if len(m) == most for name in m}
    lacking = ", ".join(name for name in wanted if name not in known) or "bands"
    present = ", ".join(name or "unnamed" for name in names)
    raise DataError(
        f"cannot find {lacking} in {scene.path}, which has {per_date} bands per date: {present}",
        allowed=wanted,
        fix=_NAME_BANDS,
    )


def taken_in_order(scene: Banded, sensor: str | None = None, frames: int = 1) -> bool:
    """Whether a file does not say which bands it has, so that `match_bands` takes them in the dataset's order."""
    names = scene.descriptions[: scene.count // frames]
    return not any(_meanings(names, key) for key in ((sensor,) if sensor else SENSORS))


def _meanings(names: Sequence[str | None], sensor: str) -> dict[str, int]:
    """Map canonical name to band number as a sensor would have it; empty when two names mean the same band."""
    found: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        try:
            meaning = resolve(name or "", sensor)
        except ConfigError:
            continue
        if meaning in found:
            return {}
        found[meaning] = number
    return found


class SceneImages:
    """The dates of one place as ``(t, c, h, w)`` (`adapteo.windows.Images`).

    Args:
        scenes: one, or one per date on the same grid.
        inputs: bands, dates and scale.
        extent: row, column, height and width beyond which nothing is; None for everywhere.
    """

    def __init__(self, scenes: Sequence[Scene], inputs: Inputs, extent: Box | None = None) -> None:
        self.scenes = scenes
        frames = inputs.frames or len(scenes)
        self._dates = frames // len(scenes)
        for scene in scenes:
            if self._dates * len(scenes) != frames or scene.count % self._dates:
                raise DataError(f"{scene.path} has {scene.count} bands: {len(scenes)} files do not hold {frames} dates")
        per_date = scenes[0].count // self._dates
        one = inputs.indexes or tuple(range(1, per_date + 1))
        self._indexes = [[date * (scene.count // self._dates) + i for date in range(self._dates) for i in one]
                         for scene in scenes]  # fmt: skip
        self.shape = (frames, len(one), scenes[0].height, scenes[0].width)
        self.extent: Box = extent or (0, 0, *self.shape[2:])
        self._scale, self._offset = (_per_band(given, self.shape[:2]) for given in (inputs.scale, inputs.offset))

    def read(self, row: int, col: int, out: np.ndarray) -> None:
        """Fill ``(t, c, h, w)`` with a window in physical units."""
        height, width = out.shape[2:]
        parts = out.reshape(len(self.scenes), -1, height, width)
        for scene, indexes, part in zip(self.scenes, self._indexes, parts, strict=True):
            scene.read(row, col, height, width, indexes, part)
        out *= self._scale
        out += self._offset

    def block_bytes(self, height: int, width: int) -> int:
        """Memory of the decoded blocks of the files in which a window lies."""
        return sum(s.block_bytes(height, width, i) for s, i in zip(self.scenes, self._indexes, strict=True))


def _per_band(given: Numbers, shape: tuple[int, int]) -> np.ndarray:
    numbers = np.asarray(given, dtype=np.float32)
    if numbers.ndim > 2 or any(n not in (1, m) for n, m in zip(numbers.shape[::-1], shape[::-1], strict=False)):
        raise ConfigError(f"scale or offset has shape {numbers.shape}, the image {shape} dates and bands")
    return np.broadcast_to(numbers, shape)[:, :, None, None]


@contextmanager
def open_dates(paths: Sequence[Path], inputs: Inputs) -> Iterator[SceneImages]:
    """Open the files of one place, one or one per date, which must lie on one grid."""
    if not paths:
        raise DataError("there is no scene to predict", fix="name at least one file")
    with ExitStack() as stack:
        scenes = [stack.enter_context(open_scene(path)) for path in paths]
        for scene in scenes[1:]:
            if reason := scenes[0].mismatch(scene):
                raise DataError(
                    f"{scene.path} does not lie on the pixels of {scenes[0].path}: {reason}",
                    fix="warp all dates to one grid first, e.g. with gdalwarp",
                )
        yield SceneImages(scenes, inputs)

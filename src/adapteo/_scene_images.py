"""Files as the images of a model: which bands, what their numbers mean, and on which pixels they lie."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from adapteo.bands import SENSORS, resolve
from adapteo.data._layout import Grid
from adapteo.data._stacked import stack_of
from adapteo.data.mosaic import on_grid
from adapteo.data.raster import Scene, open_scene
from adapteo.data.scene_files import open_images
from adapteo.errors import ConfigError, DataError

__all__ = ["Inputs", "Opener", "SceneImages", "Share", "match_bands", "open_dates", "open_place", "taken_in_order"]
_NAME_BANDS = "name the bands of the file in its order with --bands (in Python: bands=…), e.g. blue,green,red"
Numbers = float | tuple[float, ...] | tuple[tuple[float, ...], ...]
Box = tuple[int, int, int, int]
_WARP = 0.3
"""What resampling to a pixel costs, measured in pixels decoded from JPEG 2000 (Sentinel-2, bands of 20 m on 10 m)."""


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
    names = _of_one_date(scene, frames)
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
    names = _of_one_date(scene, frames)
    return not any(_meanings(names, key) for key in ((sensor,) if sensor else SENSORS))


def _of_one_date(scene: Banded, frames: int) -> tuple[str | None, ...]:
    """Names of the bands of a date, without what tells the dates apart."""
    stack = stack_of(scene.descriptions, str(scene.path)) if frames > 1 else None
    return stack[1] if stack and stack[0] == frames else scene.descriptions[: scene.count // frames]


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


@dataclass(frozen=True)
class Share:
    """What one of several readers reads of each window.

    Attributes:
        channels: those of all dates, one after the other, as runs of them: (first, one after the last).
        number: of the reader, where they divide columns; else 0.
        of: how many readers divide columns; 1 for all columns.
        block: columns at whose multiples they are divided.
    """

    channels: tuple[tuple[int, int], ...]
    number: int = 0
    of: int = 1
    block: int = 1

    def columns(self, left: int, width: int) -> tuple[int, int]:
        """First column, and the one after the last, within a window that is ``width`` wide and begins at ``left``."""
        first, last = (self._cut(k, left, width) for k in (self.number, self.number + 1))
        return first, last

    def _cut(self, k: int, left: int, width: int) -> int:
        if k in (0, self.of):
            return k // self.of * width
        ideal = left + width * k / self.of
        at = round(ideal / self.block) * self.block if width > self.of * self.block else int(ideal)
        return min(max(at - left, 0), width)


class SceneImages:
    """The dates of one place as ``(t, c, h, w)`` (`adapteo.windows.Images`).

    Args:
        scenes: one, or one per date on the same grid.
        inputs: bands, dates and scale.
        extent: row, column, height and width beyond which nothing is; None for everywhere.
        opener: opens the same in another process; None where that is not possible.
    """

    def __init__(
        self, scenes: Sequence[Scene], inputs: Inputs, extent: Box | None = None, opener: "Opener | None" = None
    ) -> None:
        self.scenes, self.opener = scenes, opener
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
        self._scale, self._offset = (
            _per_band(given, self.shape[:2]).reshape(-1, 1, 1) for given in (inputs.scale, inputs.offset)
        )

    def read(self, row: int, col: int, out: np.ndarray) -> None:
        """Fill ``(t, c, h, w)`` with a window in physical units."""
        self.read_channels((0, out.shape[0] * out.shape[1]), row, col, out.reshape(-1, *out.shape[2:]))

    def read_channels(self, channels: tuple[int, int], row: int, col: int, out: np.ndarray) -> None:
        """Fill ``(n, h, w)`` with some of the channels of all dates: those from the first up to the last."""
        first, last = channels
        start = 0
        for scene, indexes in zip(self.scenes, self._indexes, strict=True):
            chosen = indexes[max(first - start, 0) : max(last - start, 0)]
            if chosen:
                at = max(start, first) - first
                scene.read(row, col, out.shape[1], out.shape[2], chosen, out[at : at + len(chosen)])
            start += len(indexes)
        out *= self._scale[first:last]
        out += self._offset[first:last]

    def block_bytes(self, height: int, width: int, channels: Sequence[tuple[int, int]] = ()) -> int:
        """Memory of the decoded blocks of the files in which a window lies; with ``channels`` of those (`Share`)."""
        total = start = 0
        for scene, indexes in zip(self.scenes, self._indexes, strict=True):
            runs = channels or ((start, start + len(indexes)),)
            chosen = [i for a, b in runs for i in indexes[max(a - start, 0) : max(b - start, 0)]]
            total += scene.block_bytes(height, width, chosen) if chosen else 0
            start += len(indexes)
        return total

    @property
    def slow(self) -> bool:
        """Whether reading takes so long that several readers pay: see `adapteo.data.raster.Scene.slow`."""
        return any(scene.slow for scene in self.scenes)

    def shares(self, count: int) -> list[Share]:
        """Divide what is to be read of each window, so that the numbers are those of one reader to the last bit.

        Channels are divided, by what they cost. Columns are where channels lie in the same blocks of a file, or are
        fewer than readers; unless bands are resampled, where a part of a window may differ in rounding.
        """
        each = [scene.effort(i) for scene, indexes in zip(self.scenes, self._indexes, strict=True) for i in indexes]
        whole = ((0, len(each)),)
        together = len(self.scenes) == 1 and self.scenes[0].interleaved
        if (together or len(each) < count) and not any(resampled for _, resampled in each):
            block = int(self.scenes[0].file.block_shapes[0][1])
            return [Share(whole, number, count, block) for number in range(count)]
        costs = np.array([pixels + _WARP * resampled for pixels, resampled in each])
        loads, owners = np.zeros(min(count, len(each))), np.empty(len(each), np.int64)
        for channel in np.argsort(-costs, kind="stable"):  # the dearest first, each to whom has least to do
            owners[channel] = np.argmin(loads)
            loads[owners[channel]] += costs[channel]
        return [Share(_runs(np.flatnonzero(owners == number))) for number in range(len(loads))]


Opener = Callable[[], AbstractContextManager[SceneImages]]
"""Opens images; can be pickled."""


def _runs(numbers: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Ascending numbers as runs: (first, one after the last)."""
    parts = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return tuple((int(part[0]), int(part[-1]) + 1) for part in parts)


def _per_band(given: Numbers, shape: tuple[int, int]) -> np.ndarray:
    numbers = np.asarray(given, dtype=np.float32)
    if numbers.ndim > 2 or any(n not in (1, m) for n, m in zip(numbers.shape[::-1], shape[::-1], strict=False)):
        raise ConfigError(f"scale or offset has shape {numbers.shape}, the image {shape} dates and bands")
    return np.broadcast_to(numbers, shape)


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
        yield SceneImages(scenes, inputs, opener=partial(open_dates, tuple(paths), inputs))


@contextmanager
def open_place(
    files: Sequence[str | Path],
    bands: tuple[str, ...],
    sensor: str | None,
    inputs: Inputs,
    place: tuple[Grid, Box] | None = None,
) -> Iterator[SceneImages]:
    """Open what a person names as a scene, or one scene per date; see `adapteo.data.scene_files.open_images`.

    Args:
        files: one, or one per date.
        bands: canonical names of those that are needed.
        sensor: for names that differ between sensors.
        inputs: bands, dates and scale.
        place: pixels of a mosaic, and where in it they lie.
    """
    with open_images(files[0] if len(files) == 1 else list(files), bands, sensor=sensor) as scene:
        yield SceneImages([on_grid(scene, place[0])] if place else [scene], inputs, place[1] if place else None)

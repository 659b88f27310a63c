"""From a scene of any size to a map with its place: files in, `adapteo.windows`, files out."""

import colorsys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from adapteo.bands import SENSORS, resolve
from adapteo.data.raster import Layout, Scene, block_cache, open_map, open_scene
from adapteo.errors import ConfigError, DataError
from adapteo.windows import Forward, Progress, Windows, sweep

__all__ = ["Inputs", "MapLegend", "Windows", "match_bands", "predict_scene"]
PROBABILITY_STEPS = 10_000
"""Probabilities are stored as integers of 1/10,000."""
_CACHE = (8 * 2**20, 128 * 2**20)  # bytes of decoded blocks: those of the map alone, and the most there is room for
_NAME_BANDS = "name the bands of the file in its order with --bands (in Python: bands=…), e.g. blue,green,red"
Numbers = float | tuple[float, ...] | tuple[tuple[float, ...], ...]


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


@dataclass(frozen=True)
class MapLegend:
    """What the map shows.

    Attributes:
        classes: names of the classes; for regression the name of the one quantity.
        colours: RGB (0..255) by class index; None for evenly spread hues.
        kind: "segmentation" (a map of class indices) or "regression" (a map of values).
    """

    classes: tuple[str, ...]
    colours: Mapping[int, tuple[int, int, int]] | None = None
    kind: str = "segmentation"

    def __post_init__(self) -> None:
        if self.kind not in ("segmentation", "regression"):
            raise ConfigError(f"a map cannot show '{self.kind}'", allowed=("segmentation", "regression"))
        most = 1 if self.kind == "regression" else 65535
        if not 1 <= len(self.classes) <= most:
            raise ConfigError(f"a {self.kind} map shows 1 to {most} classes or quantities, not {len(self.classes)}")


def predict_scene(
    forward: Forward,
    scene: str | Path | Sequence[str | Path],
    out: str | Path,
    legend: MapLegend,
    *,
    inputs: Inputs | None = None,
    windows: Windows | None = None,
    probabilities: bool = False,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Predict a map with the place, size and coordinate system of a scene.

    A pixel is missing in the map when all its bands are missing at all dates; with some of them missing the model fills
    them as its normalisation does. A constant prediction stays exactly constant, and a model that returns its input
    gives the input back exactly. How windows are cut, filled up and blended: `adapteo.windows`.

    Args:
        forward: the model: images in physical units, NaN where missing, to probabilities; it normalises.
        scene: one file, or one per date on the same grid.
        out: the GeoTIFF to write. Classes are uint8 (nodata 255), or uint16 (65535) for more than 255; values float32
            (NaN). An existing file is replaced when, and only when, the new one is complete.
        legend: what the map shows.
        inputs: bands, dates and scale; None takes every band as it is.
        windows: how the scene is cut.
        probabilities: also write ``<out>_probabilities.tif``: one uint16 band per class in units of 1/10,000, which the
            file's scale says, nodata 65535.
        progress: called with the number of windows that are done and of all windows.

    Returns:
        The files that were written.

    Raises:
        DataError: a file is unreadable, dates do not lie on one grid, the disk is full.
        ConfigError: the model's output does not fit the legend.
    """
    paths = [Path(scene)] if isinstance(scene, str | Path) else [Path(path) for path in scene]
    maps = _maps(Path(out), legend, probabilities)
    for path in (path for path in maps if path.exists()):
        if any(file.exists() and path.samefile(file) for file in paths):
            raise DataError(f"the map would replace the scene {path}", fix="give the map another name")
    with ExitStack() as stack:
        windows = windows or Windows()
        images = stack.enter_context(_open_images(paths, inputs or Inputs()))
        stack.enter_context(block_cache(min(_CACHE[0] + images.block_bytes(windows.size, windows.reach), _CACHE[1])))
        writers = [stack.enter_context(open_map(path, images.scenes[0], m.layout)) for path, m in maps.items()]
        parts = sweep(forward, images, len(legend.classes), windows, progress)
        for part in stack.enter_context(closing(parts)):  # closed first: no thread reads from a closed file
            for writer, kind in zip(writers, maps.values(), strict=True):
                pixels = kind.encode(part.values)
                pixels[:, ~part.seen] = kind.layout.nodata
                writer.write(pixels, part.row, part.col)
    return tuple(maps)


def match_bands(
    scene: Scene,
    wanted: Sequence[str],
    sensor: str | None = None,
    dataset_order: Sequence[str] | None = None,
    frames: int = 1,
) -> tuple[int, ...]:
    """Find the bands of a model in a file; the result is `Inputs.indexes`.

    Names in the file count when any of them is known. Without a sensor, the sensors that explain most of the names are
    considered, and must agree. A file without known names must have exactly the bands of the dataset.

    Args:
        scene: the file.
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


# --------------------------------------------------------------------------------------------- images


class _Images:
    """The dates of one place as ``(t, c, h, w)`` (`adapteo.windows.Images`)."""

    def __init__(self, scenes: Sequence[Scene], inputs: Inputs) -> None:
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
def _open_images(paths: Sequence[Path], inputs: Inputs) -> Iterator[_Images]:
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
        yield _Images(scenes, inputs)


# ----------------------------------------------------------------------------------------------- maps


@dataclass(frozen=True)
class _Map:
    """A file to write: its layout, and how values ``(k, h, w)`` become its pixels ``(c, h, w)``."""

    layout: Layout
    encode: Callable[[Tensor], np.ndarray]


def _maps(out: Path, legend: MapLegend, probabilities: bool) -> dict[Path, _Map]:
    if legend.kind == "regression":
        if probabilities:
            raise ConfigError("a regression has no probabilities", fix="leave them out")
        layout = Layout("float32", float("nan"), legend.classes)
        return {out: _Map(layout, lambda values: values.cpu().numpy())}
    n = len(legend.classes)
    dtype, nodata = ("uint8", 255) if n <= 255 else ("uint16", 65535)
    colours = _hues(n) if legend.colours is None else legend.colours
    layout = Layout(dtype, nodata, ("class",), legend.classes, colours)
    maps = {out: _Map(layout, lambda values: _most_likely(values).astype(dtype))}
    if probabilities:
        layout = Layout("uint16", 65535, legend.classes, scale=1 / PROBABILITY_STEPS)
        maps[out.with_name(f"{out.stem}_probabilities{out.suffix}")] = _Map(layout, _as_steps)
    return maps


def _most_likely(values: Tensor) -> np.ndarray:
    # `max` over the first axis is ten times as fast as `argmax` on CPU (torch 2.13) and also takes the first of equals.
    return values.max(0, keepdim=True).indices.cpu().numpy()


def _as_steps(values: Tensor) -> np.ndarray:
    return (values.clamp(0, 1) * PROBABILITY_STEPS).round().cpu().numpy().astype(np.uint16)


def _hues(n: int) -> dict[int, tuple[int, int, int]]:
    """Colours that differ between neighbours: hues a golden angle apart."""
    rgb = (colorsys.hsv_to_rgb(i * 0.618034 % 1, 0.65, 0.9 - 0.25 * (i % 2)) for i in range(n))
    return {i: (round(255 * r), round(255 * g), round(255 * b)) for i, (r, g, b) in enumerate(rgb)}

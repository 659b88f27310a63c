"""From a scene of any size to a map with its place: files in, `adapteo.windows`, files out."""

import colorsys
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from adapteo._reader_process import CACHE
from adapteo._scene_images import Inputs, SceneImages, match_bands, open_dates, taken_in_order
from adapteo.data.gdal import block_cache
from adapteo.data.map_file import Grid, Layout, fingerprint_of, grid_of, open_maps
from adapteo.errors import ConfigError, DataError
from adapteo.styles import classes_style, values_style
from adapteo.windows import Forward, Layer, Progress, Windows, sweep

__all__ = [
    "Inputs",
    "MapLegend",
    "SceneImages",
    "Target",
    "Windows",
    "keep_scenes",
    "match_bands",
    "predict_layers",
    "predict_scene",
    "taken_in_order",
]
PROBABILITY_STEPS = 10_000
"""Probabilities are stored as integers of 1/10,000."""
_WHITE = (255, 255, 255)


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


@dataclass(frozen=True)
class Target:
    """The files to write.

    Attributes:
        out: the map, a Cloud-Optimised GeoTIFF. Classes are uint8 (nodata 255), or uint16 (65535) for more than 255;
            values float32 (NaN). An existing file is replaced when, and only when, the new one is complete. The names
            of classes are in ``<out>.aux.xml``, a style for QGIS beside it in a ``.qml``.
        legend: what the map shows.
        probabilities: also write ``<out>_probabilities.tif``: one uint16 band per class in units of 1/10,000, which the
            file's scale says, nodata 65535.
        fingerprint: of the models and the scenes, so that a prediction that was stopped can be gone on with; None when
            they are not known: then nothing is kept.
        tell: called with what a person should know about pieces of a stopped prediction.
        again: False to leave maps with this fingerprint as they are.
    """

    out: Path
    legend: MapLegend
    probabilities: bool = False
    fingerprint: str | None = None
    tell: Callable[[str], None] | None = None
    again: bool = True


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
        out: the GeoTIFF to write, see `Target`.
        legend: what the map shows.
        inputs: bands, dates and scale; None takes every band as it is.
        windows: how the scene is cut.
        probabilities: see `Target`.
        progress: called with the number of windows that are done and of all windows.

    Returns:
        The files that were written.

    Raises:
        DataError: a file is unreadable, dates do not lie on one grid, the disk is full.
        ConfigError: the model's output does not fit the legend.
    """
    paths = [Path(scene)] if isinstance(scene, str | Path) else [Path(path) for path in scene]
    target = Target(Path(out), legend, probabilities)
    keep_scenes(paths, target)
    with open_dates(paths, inputs or Inputs()) as images:
        layers = [Layer(forward, images)]
        return predict_layers(layers, grid_of(images.scenes[0]), target, windows=windows, progress=progress)


def keep_scenes(scenes: Sequence[Path], target: Target) -> None:
    """Refuse to write a map over a scene."""
    for path in (path for path in _maps(target) if path.exists()):
        if any(file.exists() and path.samefile(file) for file in scenes):
            raise DataError(f"the map would replace the scene {path}", fix="give the map another name")


def predict_layers(
    layers: Sequence[Layer],
    grid: Grid,
    target: Target,
    *,
    windows: Windows | None = None,
    overlap: str = "mean",
    progress: Progress | None = None,
    readers: int = 1,
) -> tuple[Path, ...]:
    """Predict one map from images of the same grid; see `predict_scene`.

    Args:
        layers: images and the model for each; several of them have their say where they saw something.
        grid: their pixels.
        target: the files to write.
        windows: how the images are cut.
        overlap: one of `adapteo.windows.OVERLAPS`.
        progress: called with the number of windows that are done and of all windows.
        readers: processes that read; 1 for a thread of this one. The maps are the same.

    Raises:
        DataError, ConfigError: as `predict_scene`.
    """
    windows = windows or Windows()
    maps = _maps(target)
    boxes = windows.pieces(grid.height, grid.width)
    fingerprint = _fingerprint(target, grid, windows, overlap)
    if fingerprint and not target.again and all(fingerprint_of(path) == fingerprint for path in maps):
        if target.tell:
            target.tell(f"{target.out.name} is there already")
        return tuple(maps)
    layouts = {path: each.layout for path, each in maps.items()}
    needed = max(layer.images.block_bytes(windows.size, windows.reach) for layer in layers)
    with ExitStack() as stack:
        stack.enter_context(block_cache(min(CACHE[0] + needed, CACHE[1])))
        pieces = stack.enter_context(open_maps(layouts, grid, boxes, fingerprint))
        if target.tell and pieces.note:
            target.tell(pieces.note)
        parts = sweep(layers, len(target.legend.classes), windows, progress, pieces.finished, overlap, readers)
        for part in stack.enter_context(closing(parts)):  # closed first: no thread reads from a closed file
            encoded = []
            for kind in maps.values():
                pixels = kind.encode(part.values)
                pixels[:, ~part.seen] = kind.layout.nodata
                encoded.append(pixels)
            pieces.write(encoded, part.row, part.col)
    return tuple(maps)


def _fingerprint(target: Target, grid: Grid, windows: Windows, overlap: str) -> str | None:
    """Of all that decides about the pixels of a map."""
    if target.fingerprint is None:
        return None
    legend = {**asdict(target.legend), "colours": sorted((target.legend.colours or {}).items())}
    facts = [target.fingerprint, legend, target.probabilities, asdict(grid), asdict(windows), overlap]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


# ----------------------------------------------------------------------------------------------- maps


@dataclass(frozen=True)
class _Map:
    """A file to write: its layout, and how values ``(k, h, w)`` become its pixels ``(c, h, w)``."""

    layout: Layout
    encode: Callable[[Tensor], np.ndarray]


def _maps(target: Target) -> dict[Path, _Map]:
    out, legend, probabilities = target.out, target.legend, target.probabilities
    if legend.kind == "regression":
        if probabilities:
            raise ConfigError("a regression has no probabilities", fix="leave them out")
        layout = Layout("float32", float("nan"), legend.classes, style=_range_style)
        return {out: _Map(layout, lambda values: values.cpu().numpy())}
    n = len(legend.classes)
    dtype, nodata = ("uint8", 255) if n <= 255 else ("uint16", 65535)
    colours = _hues(n) if legend.colours is None else legend.colours
    style = classes_style(legend.classes, colours)
    layout = Layout(dtype, nodata, ("class",), legend.classes, colours, style=lambda _: style)
    maps = {out: _Map(layout, lambda values: _most_likely(values).astype(dtype))}
    if probabilities:
        # One band can be shown: that of the last class, which of two classes is the one that is looked for.
        ramp = values_style(0.0, 1.0, n, (_WHITE, colours.get(n - 1, (0, 0, 0))))
        layout = Layout("uint16", 65535, legend.classes, scale=1 / PROBABILITY_STEPS, style=lambda _: ramp)
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


def _range_style(picture: np.ndarray) -> str:
    """From the 2nd to the 98th percentile of what the map holds."""
    values = picture[0][np.isfinite(picture[0])]
    low, high = np.percentile(values, (2, 98)) if values.size else (0.0, 1.0)
    return values_style(float(low), float(high))

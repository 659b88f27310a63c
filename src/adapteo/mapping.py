"""Between a trained model and `adapteo.predict`: which files become which map, and in which bands, units and dates."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from adapteo import config
from adapteo._scene_images import open_place
from adapteo._taken import Fitted, Reading, find_inputs, place_and_dates
from adapteo.data.map_file import Grid, check_map_name, grid_of
from adapteo.data.mosaic import common_grid, on_grid
from adapteo.data.raster import Scene
from adapteo.data.scene_files import open_images
from adapteo.errors import ConfigError, DataError
from adapteo.figures import colours_of
from adapteo.files import sha256
from adapteo.predict import MapLegend, SceneImages, Target, keep_scenes, predict_layers
from adapteo.windows import Forward, Layer, Progress, Windows

__all__ = ["Fitted", "Mosaic", "Reading", "Watch", "map_scenes"]
_READERS = 4
_LARGE = 2_000**2  # pixels that take longer to read than readers take to start


@dataclass(frozen=True)
class Mosaic:
    """All scenes in one map.

    Attributes:
        crs: e.g. "EPSG:32633"; None for that of the first scene.
        resolution: side of a pixel in units of the coordinate system; None for that of the first scene.
        overlap: what counts where several scenes saw a pixel: the "mean" of the probabilities or values, or those of
            the "first" or "last" scene alone; by date where all scenes have one, else in the order given.
    """

    crs: str | None = None
    resolution: float | None = None
    overlap: str = "mean"


@dataclass(frozen=True)
class Watch:
    """Who wants to know how it goes.

    Attributes:
        progress: called with the number of finished windows and of all windows of a map.
        tell: called with what a person should know, e.g. that a stopped prediction is gone on with.
    """

    progress: Progress | None = None
    tell: Callable[[str], None] | None = None


def map_scenes(
    fitted: Fitted,
    scenes: Sequence[str | Path],
    out: Path,
    reading: Reading,
    *,
    probabilities: bool = False,
    mosaic: Mosaic | None = None,
    watch: Watch | None = None,
) -> Path:
    """Map scenes of any size; see `adapteo.fitted.FittedRun.predict`."""
    watch = watch or Watch()
    if not fitted.run.task.dense:
        raise ConfigError(
            f"a {config.name_of(fitted.run.task)} model labels whole images, it draws no map",
            fix="train a segmentation or regression model for maps",
        )
    if not scenes:
        raise DataError("there is no scene to predict", fix="name at least one file")
    frames = fitted.imagery.frames
    if mosaic or len(scenes) == 1 or len(scenes) != frames:
        places: list[list[str | Path]] = [[scene] for scene in scenes]
    else:
        places = [list(scenes)]
    if mosaic or len(places) == 1:
        check_map_name(out)  # before scenes are read, which may take long
        jobs = [(places, out)]
    else:
        out.mkdir(parents=True, exist_ok=True)
        jobs = [([place], path) for place, path in zip(places, _names(scenes, out), strict=True)]
    for files, path in jobs:
        target = Target(
            path,
            _legend(fitted),
            probabilities,
            _fingerprint(fitted, files, reading),
            watch.tell,
            again=len(jobs) == 1,
        )
        _map(fitted, files, target, reading, mosaic=mosaic, progress=watch.progress)
    return out


def _names(scenes: Sequence[str | Path], out: Path) -> list[Path]:
    """A map for each scene; scenes of one name in different folders are numbered."""
    taken: dict[str, int] = {}
    names = []
    for stem in (Path(scene).stem for scene in scenes):
        taken[stem] = taken.get(stem, 0) + 1
        names.append(out / (f"{stem}_map.tif" if taken[stem] == 1 else f"{stem}_{taken[stem]}_map.tif"))
    return names


def _map(
    fitted: Fitted,
    places: Sequence[Sequence[str | Path]],
    target: Target,
    reading: Reading,
    *,
    mosaic: Mosaic | None,
    progress: Progress | None,
) -> None:
    """Draw one map of one place, or of several that are put together."""
    keep_scenes([Path(file) for files in places for file in files], target)
    with ExitStack() as stack:
        opened = [(files, stack.enter_context(_open(fitted, files, reading))) for files in places]
        if mosaic and all(scene.date for _, scene in opened):
            opened.sort(key=lambda pair: pair[1].date or date.min)
        layers, grid = _layers(fitted, opened, reading, mosaic, target.tell or _silent)
        predict_layers(
            layers,
            grid,
            target,
            windows=_windows(fitted),
            overlap=mosaic.overlap if mosaic else "mean",
            progress=progress,
            readers=_readers(fitted, layers, reading),
        )


def _layers(
    fitted: Fitted,
    opened: Sequence[tuple[Sequence[str | Path], Scene]],
    reading: Reading,
    mosaic: Mosaic | None,
    tell: Callable[[str], None],
) -> tuple[list[Layer], Grid]:
    scenes = [scene for _, scene in opened]
    inputs = [find_inputs(fitted, scene, reading, tell) for scene in scenes]
    grid, boxes = common_grid(scenes, mosaic.crs, mosaic.resolution) if mosaic else (grid_of(scenes[0]), (None,))
    layers = []
    for (files, scene), each, box in zip(opened, inputs, boxes, strict=True):
        place = None if box is None else (grid, box)
        again = partial(open_place, tuple(files), _wanted(fitted, reading), reading.sensor, each, place)
        images = SceneImages([on_grid(scene, grid) if place else scene], each, box, again)
        layers.append(Layer(_forward(fitted, scene), images))
    return layers, grid


def _forward(fitted: Fitted, scene: Scene) -> Forward:
    latlon, dates = place_and_dates(scene, fitted.imagery.frames)

    def forward(images: Tensor) -> Tensor:
        return fitted.run.task.probabilities(fitted.logits(images, dates=dates, latlon=latlon))

    return forward


@contextmanager
def _open(fitted: Fitted, files: Sequence[str | Path], reading: Reading) -> Iterator[Scene]:
    """Open a place, with the bands of the model where it is a product that knows them."""
    named = files[0] if len(files) == 1 else list(files)
    with open_images(named, _wanted(fitted, reading), sensor=reading.sensor) as scene:
        yield scene


def _wanted(fitted: Fitted, reading: Reading) -> tuple[str, ...]:
    return () if reading.bands else tuple(fitted.bands)


def _readers(fitted: Fitted, layers: Sequence[Layer], reading: Reading) -> int:
    """Processes that read: several where a GPU would wait for slow files, while this machine's cores have no model.

    `python -m benchmarks predict_reading` measures what they gain, that they gain nothing with plain GeoTIFF, and that
    starting one takes as long as reading a million pixels of JPEG 2000 with six bands.
    """
    if reading.readers is not None:
        return reading.readers
    slow = any(isinstance(layer.images, SceneImages) and layer.images.slow for layer in layers)
    large = sum(layer.images.extent[2] * layer.images.extent[3] for layer in layers) >= _LARGE
    on_cpu = next(fitted.model.parameters()).device.type == "cpu"
    return min(_READERS, os.cpu_count() or 1) if slow and large and not on_cpu else 1


def _silent(_: str) -> None:
    """For those who do not want to know."""


def _legend(fitted: Fitted) -> MapLegend:
    imagery = fitted.imagery
    colours = dict(enumerate(colours_of(imagery.classes, imagery.colours))) or None
    return MapLegend(imagery.classes or ("value",), colours, config.name_of(fitted.run.task))


def _windows(fitted: Fitted) -> Windows:
    multiple = fitted.model.backbone.multiple
    return Windows(size=-(-max(fitted.card["image_size"]) // multiple) * multiple, multiple=multiple)


def _fingerprint(fitted: Fitted, places: Sequence[Sequence[str | Path]], reading: Reading) -> str:
    """Of the model, the scenes and how they are read: a map with the same fingerprint has the same pixels."""
    weights = [(p.name, sha256(p)) for p in sorted((fitted.folder / "adapter").glob("*")) if p.is_file()]
    device = next(fitted.model.parameters()).device.type
    facts = [weights, device, torch.__version__, [[_facts(file) for file in files] for files in places]]
    said = [reading.bands, reading.sensor, reading.scaling]
    return hashlib.sha256(json.dumps([facts, said]).encode()).hexdigest()


def _facts(scene: str | Path) -> list[object]:
    """Path, size and time of the files of a scene."""
    path = Path(scene)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    found = [(str(file), file.stat()) for file in files if file.exists()]
    return [str(scene), [(name, status.st_size, status.st_mtime_ns) for name, status in found]]

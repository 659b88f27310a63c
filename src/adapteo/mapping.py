"""Between a trained model and `adapteo.predict`: which files become which map, and in which bands, units and dates."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from adapteo import config
from adapteo._scene_values import check_values, overview
from adapteo.assembly import Imagery
from adapteo.bands import SENSORS, resolve_all
from adapteo.config import Run
from adapteo.data.map_file import Grid, grid_of
from adapteo.data.mosaic import common_grid, on_grid
from adapteo.data.raster import Scene
from adapteo.data.scene_files import Assembled, open_images
from adapteo.errors import ConfigError, DataError, closest
from adapteo.figures import colours_of
from adapteo.files import sha256
from adapteo.model import Model
from adapteo.predict import (
    Inputs,
    MapLegend,
    SceneImages,
    Target,
    keep_scenes,
    match_bands,
    predict_layers,
    taken_in_order,
)
from adapteo.windows import Forward, Layer, Progress, Windows

__all__ = ["Fitted", "Mosaic", "Reading", "Watch", "map_scenes"]


class Fitted(Protocol):
    """What is asked of a trained model; `adapteo.fitted.FittedRun` is one."""

    @property
    def folder(self) -> Path:
        """Of the run."""

    @property
    def run(self) -> Run:
        """Its configuration."""

    @property
    def model(self) -> Model:
        """In evaluation mode."""

    @property
    def bands(self) -> tuple[str, ...]:
        """That the model takes."""

    @property
    def imagery(self) -> Imagery:
        """What it was trained on."""

    @property
    def card(self) -> Mapping[str, Any]:
        """What the adapter's card says."""

    def logits(self, images: Tensor, *, dates: np.ndarray | None = None, latlon: np.ndarray | None = None) -> Tensor:
        """Logits of images ``(b, t, c, h, w)`` in physical units."""


@dataclass(frozen=True)
class Reading:
    """How the numbers in the files are to be taken.

    Attributes:
        bands: names of the files' bands in order, for files that do not tell; of one date.
        sensor: one of `adapteo.bands.SENSORS`, where names such as B5 are not clear without.
        scaling: (scale, offset): physical value = stored value * scale + offset; None as in the dataset, and as the
            product says where there is one.
    """

    bands: tuple[str, ...] = ()
    sensor: str | None = None
    scaling: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.sensor is not None and self.sensor not in SENSORS:
            raise ConfigError(f"there is no sensor '{self.sensor}'{closest(self.sensor, SENSORS)}", allowed=SENSORS)


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
        opened = [stack.enter_context(_open(fitted, files, reading)) for files in places]
        if mosaic and all(scene.date for scene in opened):
            opened.sort(key=lambda scene: scene.date or date.min)
        inputs = [_inputs(fitted, scene, reading, target.tell or _silent) for scene in opened]
        layers, grid = _layers(fitted, opened, inputs, mosaic)
        predict_layers(
            layers,
            grid,
            target,
            windows=_windows(fitted),
            overlap=mosaic.overlap if mosaic else "mean",
            progress=progress,
        )


def _layers(
    fitted: Fitted, scenes: Sequence[Scene], inputs: Sequence[Inputs], mosaic: Mosaic | None
) -> tuple[list[Layer], Grid]:
    forwards = [_forward(fitted, scene) for scene in scenes]
    if not mosaic:
        return [Layer(forwards[0], SceneImages(scenes, inputs[0]))], grid_of(scenes[0])
    grid, boxes = common_grid(scenes, mosaic.crs, mosaic.resolution)
    images = [
        SceneImages([on_grid(scene, grid)], each, box) for scene, each, box in zip(scenes, inputs, boxes, strict=True)
    ]
    return [Layer(*pair) for pair in zip(forwards, images, strict=True)], grid


def _forward(fitted: Fitted, scene: Scene) -> Forward:
    latlon, dates = _place_and_dates(scene, fitted.imagery.frames)

    def forward(images: Tensor) -> Tensor:
        return fitted.run.task.probabilities(fitted.logits(images, dates=dates, latlon=latlon))

    return forward


@contextmanager
def _open(fitted: Fitted, files: Sequence[str | Path], reading: Reading) -> Iterator[Scene]:
    """Open a place, with the bands of the model where it is a product that knows them."""
    named = files[0] if len(files) == 1 else list(files)
    wanted = () if reading.bands else fitted.bands
    with open_images(named, wanted, sensor=reading.sensor) as scene:
        yield scene


def _silent(_: str) -> None:
    """For those who do not want to know."""


def _inputs(fitted: Fitted, scene: Scene, reading: Reading, tell: Callable[[str], None]) -> Inputs:
    """Find the model's bands in a scene, and what its numbers mean; tell what is doubtful."""
    frames, wanted = fitted.imagery.frames, fitted.bands
    if reading.bands:
        names = resolve_all(reading.bands, reading.sensor)
        lacking = [band for band in wanted if band not in names]
        if lacking or len(names) * frames != scene.count:
            raise DataError(
                f"{scene.path} has {scene.count // frames} bands per date, {len(names)} are named"
                + (f"; the model needs {lacking[0]} too" if lacking else ""),
                allowed=wanted,
                fix="name every band of the file in its order",
            )
        indexes = tuple(names.index(band) + 1 for band in wanted)
    else:
        indexes = _matched(fitted, scene, reading.sensor)
        if taken_in_order(scene, reading.sensor, frames):
            order = ",".join(fitted.imagery.bands)
            tell(f"{scene.path} does not say which bands it has: taken as --bands {order}, the order of training")
    values = overview(scene, indexes)
    if reading.scaling:
        scale, offset = reading.scaling
    elif isinstance(scene, Assembled) and scene.scaled:
        scale, offset = 1.0, 0.0
    else:
        scale, offset = fitted.run.dataset.radiometry(values)
    check_values(values * scale + offset, wanted, scale, scene.path, tell)
    return Inputs(indexes, frames, scale, offset)


def _matched(fitted: Fitted, scene: Scene, sensor: str | None) -> tuple[int, ...]:
    """Find the model's bands by name; names that are not clear mean what they meant in training, at that pixel size."""
    frames, order = fitted.imagery.frames, fitted.imagery.bands
    try:
        return match_bands(scene, fitted.bands, sensor, order, frames=frames)
    except DataError:
        trained = vars(fitted.run.dataset).get("sensor")
        alike = scene.gsd is not None and 0.75 < scene.gsd / fitted.imagery.gsd < 1.33
        if sensor or trained is None or not alike:
            raise
        return match_bands(scene, fitted.bands, trained, order, frames=frames)


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


def _place_and_dates(scene: Scene, frames: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Location of a scene, and the date of each frame, where its files tell them."""
    latlon = None if scene.latlon is None else np.array(scene.latlon, np.float32)
    days = scene.dates if isinstance(scene, Assembled) else (scene.date,)
    known = [day for day in days if day is not None]
    if len(known) != frames:
        return latlon, None
    return latlon, np.array([[day.year, day.timetuple().tm_yday] for day in known], np.float32)

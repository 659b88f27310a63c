"""What a trained model takes of a scene: its bands, what their numbers mean, dates and place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from adapteo._scene_images import Inputs, match_bands, taken_in_order
from adapteo._scene_values import check_values, overview
from adapteo.assembly import Imagery
from adapteo.bands import SENSORS, resolve_all
from adapteo.config import Run
from adapteo.data._stacked import stacked_days
from adapteo.data.raster import Scene
from adapteo.data.scene_files import Assembled
from adapteo.errors import ConfigError, DataError, closest
from adapteo.model import Model


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
    """How the files are to be read.

    Attributes:
        bands: names of the files' bands in order, for files that do not tell; of one date.
        sensor: one of `adapteo.bands.SENSORS`, where names such as B5 are not clear without.
        scaling: (scale, offset): physical value = stored value * scale + offset; None as in the dataset, and as the
            product says where there is one.
        readers: processes that read; None to choose. They decide about the time only.
    """

    bands: tuple[str, ...] = ()
    sensor: str | None = None
    scaling: tuple[float, float] | None = None
    readers: int | None = None

    def __post_init__(self) -> None:
        if self.readers is not None and self.readers < 1:
            raise ConfigError(f"{self.readers} readers cannot read", fix="give 1 or more, or auto")
        if self.sensor is not None and self.sensor not in SENSORS:
            raise ConfigError(f"there is no sensor '{self.sensor}'{closest(self.sensor, SENSORS)}", allowed=SENSORS)


def find_inputs(fitted: Fitted, scene: Scene, reading: Reading, tell: Callable[[str], None]) -> Inputs:
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


def place_and_dates(scene: Scene, frames: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Location of a scene, and the date of each frame, where its files tell them."""
    latlon = None if scene.latlon is None else np.array(scene.latlon, np.float32)
    days: Sequence[date | None] = scene.dates if isinstance(scene, Assembled) else (scene.date,)
    if frames > 1 and len(days) == 1:  # one file with all of them
        days = stacked_days(scene.path.stem, scene.descriptions, frames)
    known = [day for day in days if day is not None]
    if len(known) != frames:
        return latlon, None
    return latlon, np.array([[day.year, day.timetuple().tm_yday] for day in known], np.float32)

"""What the files of the scenes say, and a look at their values."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from adapteo.data._source import Source
from adapteo.data._survey_scenes import SceneFile, Wanted, find_scenes, overview
from adapteo.init._dates import Dates

_NAMES = ("wavelength", "central_wavelength_um", "central_wavelength", "centralwavelength", "wavelength_um")


@dataclass(frozen=True, eq=False)
class Found:
    """A scene with what tells its bands and its scale.

    Attributes:
        scene: place, size, date, names of bands, what products and files say of their numbers.
        dtype: of the stored numbers.
        nodata: that the file declares.
        tags: of the file, names in upper case.
        wavelengths: micrometres of each band, None where the file does not say.
        values: pieces of the scene, ``(c, h, w)``, stored numbers, NaN where missing.
    """

    scene: SceneFile
    dtype: str
    nodata: float | None
    tags: dict[str, str]
    wavelengths: tuple[float | None, ...]
    values: np.ndarray

    @property
    def source(self) -> Source:
        """The first date."""
        return self.scene.sources[0]

    @property
    def declared(self) -> bool:
        """Whether product or file say what the numbers of all bands mean."""
        return all(band.scale is not None for band in self.source.bands)


def look_at(root: Path, patterns: Sequence[str], dates: Dates | None = None) -> tuple[Found, ...]:
    """Find the scenes and look at them; of several dates, at the first.

    Raises:
        DataError: as `find_scenes`.
    """
    dates = dates or Dates()
    days = tuple(map(date.fromisoformat, dates.days))
    wanted = Wanted(frames=dates.frames, dates_per_file=dates.per_file, dates=days)
    return tuple(_look(scene) for scene in find_scenes(root, patterns, wanted))


def _look(scene: SceneFile) -> Found:
    with scene.open_stored() as file:
        indexes = range(1, file.count + 1)
        raster = file.file
        tags = {**raster.tags(), **raster.tags(ns="IMAGERY")}
        first = scene.sources[0]
        own = len(first.files) == 1  # else every band has a file of its own
        numbers = [band.index for band in first.bands] if own else []
        bands = [{**raster.tags(i), **raster.tags(i, ns="IMAGERY")} for i in numbers] or [{} for _ in indexes]
        return Found(
            scene,
            str(raster.dtypes[0]),
            raster.nodata,
            {key.upper(): str(value) for key, value in tags.items()},
            tuple(_wavelength(band) for band in bands),
            overview(file, indexes),
        )


def _wavelength(tags: dict[str, str]) -> float | None:
    """Micrometres; without a unit, numbers from 100 on are nanometres."""
    lower = {key.lower(): value for key, value in tags.items()}
    for name in _NAMES:
        try:
            value = float(lower[name])
        except (KeyError, ValueError):
            continue
        return value / 1000 if value >= 100 else value
    return None

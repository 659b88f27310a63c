"""What the files of the scenes say, and a look at their values."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapteo.data._survey_scenes import SceneFile, find_scenes, overview
from adapteo.data.raster import open_scene

_NAMES = ("wavelength", "central_wavelength_um", "central_wavelength", "centralwavelength", "wavelength_um")


@dataclass(frozen=True, eq=False)
class Found:
    """A scene with what tells its bands and its scale.

    Attributes:
        scene: place, size, date, names of bands.
        dtype: of the stored numbers.
        nodata: that the file declares.
        scales, offsets: that the file declares, of each band.
        tags: of the file, names in upper case.
        wavelengths: micrometres of each band, None where the file does not say.
        values: pieces of the scene, ``(c, h, w)``, stored numbers, NaN where missing.
    """

    scene: SceneFile
    dtype: str
    nodata: float | None
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    tags: dict[str, str]
    wavelengths: tuple[float | None, ...]
    values: np.ndarray


def look_at(root: Path, patterns: Sequence[str]) -> tuple[Found, ...]:
    """Find the scenes and look at them.

    Raises:
        DataError: as `find_scenes`.
    """
    return tuple(_look(scene) for scene in find_scenes(root, patterns))


def _look(scene: SceneFile) -> Found:
    with open_scene(scene.path) as file:
        indexes = range(1, file.count + 1)
        tags = {**file.file.tags(), **file.file.tags(ns="IMAGERY")}
        bands = [{**file.file.tags(i), **file.file.tags(i, ns="IMAGERY")} for i in indexes]
        return Found(
            scene,
            file.dtype,
            file.nodata,
            tuple(file.file.scales),
            tuple(file.file.offsets),
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

"""Windows of a survey, read: pixels in physical units, days, and what the numbers of each scene lack. No torch."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal

import numpy as np

from adapteo.data._mask_labels import MaskLabels
from adapteo.data._survey_plan import Window
from adapteo.data._survey_scenes import SceneFile, overview
from adapteo.data.radiometry import baseline_offset, check_range
from adapteo.data.vector import Labels


def window_image(
    scene: SceneFile, window: Window, chip: int, positions: Sequence[int], added: np.ndarray
) -> np.ndarray:
    """Read a window ``(t, c, chip, chip)``, NaN outside the scene.

    Args:
        scene: that it lies in.
        window: row and column of its upper left pixel may lie outside.
        chip: side in pixels.
        positions: of the bands wanted, from 0.
        added: what the scene's numbers lack, by date; see `corrections`.
    """
    frames = len(scene.sources)
    top, left = max(window.row, 0), max(window.col, 0)
    height = min(window.row + chip, scene.shape[0]) - top
    width = min(window.col + chip, scene.shape[1]) - left
    with scene.open(positions) as file:
        found = file.read(top, left, height, width).reshape(frames, len(positions), height, width)
    image = np.full((frames, len(positions), chip, chip), np.nan, np.float32)
    down, right = top - window.row, left - window.col
    image[:, :, down : down + height, right : right + width] = found + added
    return image


def days_of(scene: SceneFile) -> np.ndarray:
    """Year and day of year of each date ``(t, 2)``, NaN where not known."""
    days = [(day.year, day.timetuple().tm_yday) if day else (np.nan, np.nan) for day in scene.dates]
    return np.array(days, np.float32)


def corrections(
    scenes: Sequence[SceneFile], offset: float | Literal["auto"] | None, bands: Sequence[str]
) -> tuple[np.ndarray, ...]:
    """What is to be added to each scene, by date ``(t, 1, 1, 1)``; its scale is checked on the way.

    Raises:
        DataError: values that no reflectance has, or a damaged file.
    """
    out = []
    for scene in scenes:
        with scene.open() as file:
            dates = np.split(overview(file, range(1, file.count + 1)), len(scene.sources))
        added = []
        for pieces, source in zip(dates, scene.sources, strict=True):
            looked_at = offset == "auto" and not (source.product and source.kind != "stac")
            added.append(baseline_offset(pieces) if looked_at else 0.0)
            check_range(pieces + added[-1], bands, source.scale, source.path)
        out.append(np.array(added, np.float32).reshape(-1, 1, 1, 1))
    return tuple(out)


def fingerprint_of(said: str, scenes: Sequence[SceneFile], labels: Labels | MaskLabels) -> str:
    """Hash of what is said, and of every file's name, size and time."""
    files = labels.paths if isinstance(labels, MaskLabels) else (labels.path,)
    digest = blake2b(said.encode(), digest_size=16)
    for address in (address for scene in scenes for address in scene.addresses):
        digest.update(address.encode())
    for path in (*(file for scene in scenes for file in scene.local_files), *files):
        stat = path.stat()
        digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()

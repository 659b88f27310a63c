"""Pixels of scenes for judging them: all of a small one, some of a large one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from adapteo.contracts import Dataset
from adapteo.data._survey_scenes import SceneFile
from adapteo.data.raster import Scene, open_scene
from adapteo.data.survey import Survey

_WHOLE = 60_000_000
"""Values (pixels times bands) up to which a scene is read from end to end."""
_STRIP = 4_000_000
"""Values that are in memory at a time."""
_PIECES, _PIECE = 12, 32
"""Of a larger scene, 12 x 12 pieces of 32 x 32 pixels are read, from edge to edge."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """Sampled pixels of a scene or chip.

    Attributes:
        name: of the scene or chip.
        path: its file, where there is one.
        values: ``(c, h, w)`` float32, stored number times scale, before any offset; NaN where missing.
        whole: whether every pixel is there; else they are a regular sample, see `step`.
        step: pixels from one sampled pixel to the next; 0 where pieces lie side by side.
        dtypes: of the file's bands; empty where it is not known.
        nodata: the value that the file says is missing.
        infinite: values among those sampled that are infinite; they are NaN in `values`.
        tags: metadata of the file.
        part: of a chip.
        target: labels of a chip.
    """

    name: str
    path: Path | None
    values: np.ndarray
    whole: bool = True
    step: int = 1
    dtypes: tuple[str, ...] = ()
    nodata: float | None = None
    infinite: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    part: str = ""
    target: np.ndarray | None = None


def read_scene(survey: Survey, number: int, scene: SceneFile, most: int) -> Pixels:
    """Sample a scene.

    Args:
        survey: that it belongs to; says scale and nodata.
        number: of the scene.
        scene: what is known of it.
        most: pixels to keep.

    Raises:
        DataError: the file is damaged.
    """
    with open_scene(scene.path) as file:
        count = len(survey.bands)
        stored, step = _sample(file, range(1, count + 1), most)
        dtypes = tuple(str(kind) for kind in file.file.dtypes[:count])
        nodata, tags = file.nodata, {str(key): str(value) for key, value in file.file.tags().items()}
        infinite = _infinite(file, step) if any("float" in kind for kind in dtypes) else 0
    if survey.nodata is not None:
        stored[stored == survey.nodata] = np.nan
    stored *= survey.scale
    return Pixels(scene.name, scene.path, stored, step == 1, step, dtypes, nodata, infinite, tags)


def read_chip(dataset: Dataset, part: str, key: str, offset: float) -> Pixels:
    """Read a chip of a dataset that has no scenes, without its offset; of several dates the last."""
    sample = dataset.read(key)
    return Pixels(key, None, sample.image[-1] - np.float32(offset), part=part, target=sample.target)


def _sample(file: Scene, indexes: Sequence[int], most: int) -> tuple[np.ndarray, int]:
    height, width, count = file.height, file.width, len(indexes)
    if height * width * count > _WHOLE:
        tall, wide = min(_PIECE, height), min(_PIECE, width)
        rows = np.unique(np.linspace(0, height - tall, _PIECES, dtype=int)).tolist()
        cols = np.unique(np.linspace(0, width - wide, _PIECES, dtype=int)).tolist()
        pieces = [[file.read(row, col, tall, wide, indexes) for col in cols] for row in rows]
        return np.concatenate([np.concatenate(line, axis=2) for line in pieces], axis=1), 0
    step = max(1, int(np.ceil(np.sqrt(height * width / most))))
    tall = max(1, _STRIP // (width * count * step)) * step
    strips = [
        file.read(row, 0, min(tall, height - row), width, indexes)[:, ::step, ::step] for row in range(0, height, tall)
    ]
    return np.concatenate(strips, axis=1), step


def _infinite(file: Scene, step: int) -> int:
    """Infinite values of a small scene; where it is sampled, of its middle."""
    side = 512
    top, left = (max(0, (whole - side) // 2) if step != 1 else 0 for whole in (file.height, file.width))
    bottom, right = (
        min(whole, start + side) if step != 1 else whole for whole, start in ((file.height, top), (file.width, left))
    )
    return int(np.isinf(file.file.read(window=((top, bottom), (left, right)))).sum())

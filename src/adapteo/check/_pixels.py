"""Pixels of scenes for judging them: all of a small one, some of a large one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from adapteo.contracts import Dataset
from adapteo.data._opening import open_file
from adapteo.data._survey_scenes import SceneFile
from adapteo.data.raster import Scene

_WHOLE = 60_000_000
"""Values (pixels times bands) up to which a scene is read from end to end."""
_STRIP = 4_000_000
"""Values that are in memory at a time."""
_PIECES, _PIECE = 12, 32
"""Of a larger scene, 12 x 12 pieces of 32 x 32 pixels are read, from edge to edge."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """Sampled pixels of a scene at one date, or of a chip.

    Attributes:
        name: of the scene or chip.
        path: its file or folder, where there is one.
        values: ``(c, h, w)`` float32, stored number times scale, before any offset; NaN where missing.
        scale, offset: that are applied to stored numbers; `offset` is not in `values` yet.
        settled: whether nobody has to look for an offset, as the product's own metadata say it.
        scene: position of the scene; -1 of a chip.
        step: pixels from one sampled pixel to the next; 1 when every pixel is there, 0 where pieces lie side by side.
        dtypes: of the file's bands; empty where it is not known.
        nodata: whether a value is declared to be missing.
        infinite: values among those sampled that are infinite; they are NaN in `values`.
        tags: metadata of the file.
        part: of a chip.
        target: labels of a chip.
    """

    name: str
    path: Path | None
    values: np.ndarray
    scale: float = 1.0
    offset: float = 0.0
    settled: bool = False
    scene: int = -1
    step: int = 1
    dtypes: tuple[str, ...] = ()
    nodata: bool = False
    infinite: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    part: str = ""
    target: np.ndarray | None = None


def read_scene(number: int, scene: SceneFile, most: int) -> Iterator[Pixels]:
    """Sample a scene, each of its dates.

    Args:
        number: of the scene.
        scene: what is known of it.
        most: pixels to keep.

    Raises:
        DataError: a file is damaged.
    """
    with scene.open() as file:
        every, step = _sample(file, most)
    for source, values in zip(scene.sources, np.split(every, len(scene.sources)), strict=True):
        offsets = [band.offset or 0.0 for band in source.bands]
        values -= np.array(offsets, np.float32)[:, None, None]
        with open_file(source.files[0]) as first:
            dtypes = tuple(str(first.file.dtypes[band.index - 1]) for band in source.bands if len(source.files) == 1)
            declared = first.file.nodata is not None or source.nodata is not None
            tags = {str(key): str(value) for key, value in first.file.tags().items()}
            infinite = _infinite(first) if step == 1 and "float" in first.dtype else 0
        settled = source.product and source.kind != "stac"
        yield Pixels(
            source.name, Path(source.path), values, source.scale, source.offset, settled, number, step,
            dtypes or (str(first.dtype),), declared, infinite, tags,
        )  # fmt: skip


def read_chip(dataset: Dataset, part: str, key: str) -> Pixels:
    """Read a chip of a dataset that has no scenes, without its offset; of several dates the last."""
    sample = dataset.read(key)
    fields = vars(dataset)
    given = fields.get("offset", 0.0)
    offset = 0.0 if given == "auto" else float(given)  # what was found is out of the image already
    values = sample.image[-1] - np.float32(offset)
    scale = float(fields.get("scale", 1.0))
    return Pixels(key, None, values, scale, offset, given == "auto", part=part, target=sample.target)


def _sample(file: Scene, most: int) -> tuple[np.ndarray, int]:
    height, width, count = file.height, file.width, file.count
    if height * width * count > _WHOLE:
        tall, wide = min(_PIECE, height), min(_PIECE, width)
        rows = np.unique(np.linspace(0, height - tall, _PIECES, dtype=int)).tolist()
        cols = np.unique(np.linspace(0, width - wide, _PIECES, dtype=int)).tolist()
        pieces = [[file.read(row, col, tall, wide) for col in cols] for row in rows]
        return np.concatenate([np.concatenate(line, axis=2) for line in pieces], axis=1), 0
    step = max(1, int(np.ceil(np.sqrt(height * width / most))))
    tall = max(1, _STRIP // (width * count * step)) * step
    strips = [file.read(row, 0, min(tall, height - row), width)[:, ::step, ::step] for row in range(0, height, tall)]
    return np.concatenate(strips, axis=1), step


def _infinite(file: Scene) -> int:
    """Infinite values of a small file."""
    return int(np.isinf(file.file.read()).sum())

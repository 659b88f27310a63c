"""Overlapping windows over an image of any size, blended into one, in bounded memory.

The image is cut into vertical bands of fixed width, and each band is swept from top to bottom. Only the rows that
later windows still touch are kept, so memory depends neither on the height of the image nor on its width. Windows that
cross from one band into the next are computed for both (5 % more of them at the default sizes); every pixel is the mean
of the same windows in the same order, whatever the width of the bands.
"""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from adapteo._read_ahead import Box, Images, Reading, Row, read_ahead
from adapteo._strip import TILE, Part, Strip
from adapteo.errors import ConfigError

__all__ = ["OVERLAPS", "PIECE", "TILE", "Box", "Forward", "Images", "Layer", "Part", "Progress", "Windows", "sweep"]
PIECE = 4 * TILE
"""Rows of a piece, after which a sweep can go on later: what is lost when it is stopped."""
Forward = Callable[[Tensor], Tensor]
"""Images ``(b, t, c, h, w)``, NaN where missing, to probabilities or values ``(b, k, h, w)`` on any device.

The memory of the images is used again after the call.
"""
Progress = Callable[[int, int], None]
"""Called with the number of windows that are done and of all windows."""


@dataclass(frozen=True)
class Windows:
    """How an image is cut.

    Attributes:
        size: side of a window in pixels; what the model was trained on.
        overlap: share of a window that it shares with the next one, below 1. A quarter hides seams.
        batch: windows per call of the model.
        multiple: the size must be a multiple of this: the patch size of the backbone.
        band: width in pixels of the vertical bands; less needs less memory and a few more windows.
    """

    size: int = 256
    overlap: float = 0.25
    batch: int = 8
    multiple: int = 1
    band: int = 4096

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % self.multiple:
            nearest = max(1, round(self.size / self.multiple)) * self.multiple
            raise ConfigError(
                f"windows of {self.size} pixels do not fit patches of {self.multiple}", fix=f"use size {nearest}"
            )
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"an overlap of {self.overlap} is not a share of a window", fix="use 0.25; below 1")
        if self.batch < 1 or self.band < 1:
            raise ConfigError(f"batch {self.batch} and band {self.band} must be at least 1")

    @property
    def step(self) -> int:
        """Pixels from one window to the next."""
        return max(1, self.size - round(self.size * self.overlap))

    def starts(self, length: int) -> list[int]:
        """First pixel of each window along an axis; the last window ends with the image."""
        last = max(0, length - self.size)
        return [*range(0, last, self.step), last]

    def bands(self, width: int) -> list[tuple[int, int]]:
        """First column of each vertical band and the one after its last; bands are whole tiles."""
        band = self._whole_band
        return [(x, min(x + band, width)) for x in range(0, width, band)]

    def pieces(self, height: int, width: int) -> list[Box]:
        """Row, column, height and width of what is finished one after the other: `PIECE` rows of a band."""
        return [
            (y, x, min(PIECE, height - y), right - x) for x, right in self.bands(width) for y in range(0, height, PIECE)
        ]

    @property
    def reach(self) -> int:
        """Columns that are read at a time, at most: a band and the windows that stand out from it."""
        return self._whole_band + 2 * (self.size - 1)

    @property
    def _whole_band(self) -> int:
        return math.ceil(max(self.band, self.size) / TILE) * TILE

    def taper(self) -> Tensor:
        """Weight of each pixel of a window ``(size, size)``: Hann ramps over the overlap, 1 between, never 0."""
        ramp = min(self.size - self.step, self.size // 2)
        pixel = torch.arange(self.size, dtype=torch.float64)
        edge = torch.minimum(pixel, self.size - 1 - pixel) + 0.5
        profile = torch.sin(math.pi / 2 * (edge / max(ramp, 1)).clamp(max=1.0)) ** 2
        return torch.outer(profile, profile).float()


@dataclass(frozen=True)
class Layer:
    """One of the images that lie on the same pixels, and the model for it, which may know its date and place."""

    forward: Forward
    images: Images


OVERLAPS = ("mean", "first", "last")
"""Where several images saw a pixel: the mean of what the model says, or the first or the last of them alone."""


def sweep(
    layers: Sequence[Layer],
    outputs: int,
    windows: Windows,
    progress: Progress | None = None,
    skip: int = 0,
    overlap: str = "mean",
    readers: int = 1,
) -> Generator[Part, None, None]:
    """Run a model over images and yield the blended result: every pixel once, piece by piece (`Windows.pieces`).

    Close the generator before what it reads from, unless it has come to its end: a thread may be reading.
    Windows without anything seen are not given to the model. An image smaller than a window is filled up by reflection
    at its lower and right edge. A sweep that goes on after some pieces gives exactly what a whole one would.

    Args:
        layers: images of the same shape. Several of them have their say only where they saw something.
        outputs: k.
        windows: how they are cut.
        progress: see `Progress`.
        skip: pieces that are there already.
        overlap: one of `OVERLAPS`.
        readers: processes that read; 1 for a thread of this one. The result is the same.

    Raises:
        ConfigError: the output of a model is not ``(b, outputs, h, w)``.
    """
    frames, channels, height, width = layers[0].images.shape
    if overlap not in OVERLAPS:
        raise ConfigError(f"overlap '{overlap}' is not known", allowed=OVERLAPS)
    layers = layers[::-1] if overlap == "last" else layers
    pieces = windows.pieces(height, width)[skip:]
    bands = [piece for i, piece in enumerate(pieces) if not i or piece[1] != pieces[i - 1][1]]
    plan = [_plan(layers, windows, band) for band in bands]
    whole = [(0, first, height, last - first) for first, last in windows.bands(width)]
    total = sum(len(row.lefts) for band in whole for row in _plan(layers, windows, band))
    done = total - sum(len(row.lefts) for rows in plan for row in rows)
    batch = np.empty((windows.batch, frames, channels, windows.size, windows.size), dtype=np.float32)
    strip = Strip(outputs, height, max((box[3] for box in bands), default=0), windows.taper())
    claims = _Claims(windows, width) if len(layers) > 1 else None
    images, rows_of_all = [layer.images for layer in layers], [row for rows in plan for row in rows]
    with closing(read_ahead(images, rows_of_all, windows.size, windows.reach, readers)) as reading:
        for (top, left, _, columns), rows in zip(bands, plan, strict=True):
            strip.enter(left, left + columns, top)
            for row in islice(reading, len(rows)):
                while strip.top + TILE <= row.top:
                    yield from strip.pop()
                if claims:
                    claims.claim(row, overlap == "mean")
                for first in range(0, len(row.lefts), windows.batch):
                    chosen = row.lefts[first : first + windows.batch]
                    _predict(layers[row.layer].forward, row, chosen, batch, strip)
                    done += len(chosen)
                    if progress:
                        progress(done, total)
            while strip.top < height:
                yield from strip.pop()


def _plan(layers: Sequence[Layer], windows: Windows, band: Box) -> list[Reading]:
    """What is to be read for a band from a row on: windows of each layer where it lies."""
    start, left, _, columns = band
    height, width = layers[0].images.shape[2:]
    plan = []
    for top in windows.starts(height):
        for number, layer in enumerate(layers):
            y, x, h, w = layer.images.extent
            if top + windows.size <= max(start, y) or top >= y + h:
                continue
            first, last = max(left, x), min(left + columns, x + w)
            lefts = [at for at in windows.starts(width) if at < last and at + windows.size > first]
            if lefts and first < last:
                plan.append(Reading(number, top, lefts))
    return plan


class _Claims:
    """Which pixels of a row of windows belong to a layer before: of several that saw a pixel only the first counts."""

    def __init__(self, windows: Windows, width: int) -> None:
        self._taken = np.zeros((windows.size, width), bool)
        self._last = (-1, -1)

    def claim(self, row: Row, shared: bool) -> None:
        """Leave in ``row.seen`` what belongs to its layer."""
        if shared:
            return
        if row.top != self._last[0] or row.layer <= self._last[1]:  # another row, or another band
            self._taken[:] = False
        self._last = (row.top, row.layer)
        height, width = row.seen.shape
        taken = self._taken[:height, row.left : row.left + width]
        seen = row.seen
        np.logical_and(seen, ~taken, out=seen)
        np.logical_or(taken, seen, out=taken)


def _predict(forward: Forward, row: Row, lefts: list[int], batch: np.ndarray, strip: Strip) -> None:
    """Give the windows in which anything was seen to the model, and blend in what it says."""
    size = batch.shape[-1]
    places = [slice(x - row.left, x - row.left + size) for x in lefts]
    useful = [i for i, place in enumerate(places) if row.seen[:, place].any()]
    if not useful:
        return
    for k, i in enumerate(useful):
        batch[k] = _filled_up(row.pixels[..., places[i]], size)
    with torch.inference_mode():
        values = forward(torch.from_numpy(batch[: len(useful)])).float()
    expected = (len(useful), strip.outputs, size, size)
    if tuple(values.shape) != expected:
        raise ConfigError(f"the model gives {tuple(values.shape)} for these windows, the map needs {expected}")
    for k, i in enumerate(useful):
        strip.add(values[k], row.seen[:, places[i]], row.top, lefts[i], row.alone)


def _filled_up(window: np.ndarray, size: int) -> np.ndarray:
    """Reflect a window ``(t, c, h, w)`` of an image that is smaller than a window."""
    lacking = [size - length for length in window.shape[2:]]
    return np.pad(window, [(0, 0), (0, 0), *((0, n) for n in lacking)], mode="reflect") if any(lacking) else window

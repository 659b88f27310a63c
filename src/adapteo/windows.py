"""Overlapping windows over an image of any size, blended into one, in bounded memory.

The image is cut into vertical bands of fixed width, and each band is swept from top to bottom. Only the rows that
later windows still touch are kept, so memory depends neither on the height of the image nor on its width. Windows that
cross from one band into the next are computed for both (5 % more of them at the default sizes); every pixel is the mean
of the same windows in the same order, whatever the width of the bands.
"""

import math
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from adapteo.errors import ConfigError

TILE = 256
"""Rows that are given out at a time, and the unit of the width of bands: the side of a tile of a map file."""
Forward = Callable[[Tensor], Tensor]
"""Images ``(b, t, c, h, w)``, NaN where missing, to probabilities or values ``(b, k, h, w)`` on any device."""
Progress = Callable[[int, int], None]
"""Called with the number of windows that are done and of all windows."""


class Images(Protocol):
    """An image that is read window by window."""

    height: int
    width: int

    def read(self, row: int, col: int, height: int, width: int) -> np.ndarray:
        """Read a window that lies in the image: ``(t, c, height, width)`` float32, NaN where missing."""


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
        band = math.ceil(max(self.band, self.size) / TILE) * TILE
        return [(x, min(x + band, width)) for x in range(0, width, band)]

    def taper(self) -> Tensor:
        """Weight of each pixel of a window ``(size, size)``: Hann ramps over the overlap, 1 between, never 0."""
        ramp = min(self.size - self.step, self.size // 2)
        pixel = torch.arange(self.size, dtype=torch.float64)
        edge = torch.minimum(pixel, self.size - 1 - pixel) + 0.5
        profile = torch.sin(math.pi / 2 * (edge / max(ramp, 1)).clamp(max=1.0)) ** 2
        return torch.outer(profile, profile).float()


@dataclass
class Rows:
    """Finished rows of one band.

    Attributes:
        row, col: upper left pixel.
        values: ``(k, h, w)`` float32, blended; 0 where nothing was seen.
        seen: ``(h, w)`` bool, False where every channel is missing at every date.
    """

    row: int
    col: int
    values: Tensor
    seen: np.ndarray


def sweep(
    forward: Forward, images: Images, outputs: int, windows: Windows, progress: Progress | None = None
) -> Generator[Rows, None, None]:
    """Run a model over an image and yield the blended result: every pixel once, band by band, from top to bottom.

    Close the generator before what it reads from, unless it has come to its end: a thread may be reading.
    Windows without anything seen are not given to the model. An image smaller than a window is filled up by reflection
    at its lower and right edge.

    Args:
        forward: the model.
        images: the image.
        outputs: k.
        windows: how it is cut.
        progress: see `Progress`.

    Raises:
        ConfigError: the output of the model is not ``(b, outputs, h, w)``.
    """
    tops, lefts, bands = windows.starts(images.height), windows.starts(images.width), windows.bands(images.width)
    columns = [[x for x in lefts if x < right and x + windows.size > left] for left, right in bands]
    total = len(tops) * sum(map(len, columns))
    done = 0
    with closing(_read_ahead(images, [(top, starts) for starts in columns for top in tops], windows.size)) as reading:
        for (left, right), starts in zip(bands, columns, strict=True):
            strip = _Strip(outputs, left, right, images.height, windows)
            for top, row in islice(reading, len(tops)):
                while strip.top + TILE <= top:
                    yield strip.pop()
                for first in range(0, len(starts), windows.batch):
                    batch = starts[first : first + windows.batch]
                    _predict(forward, _cut(row, [x - starts[0] for x in batch], windows.size), strip, top, batch)
                    done += len(batch)
                    if progress:
                        progress(done, total)
            while strip.top < images.height:
                yield strip.pop()
            del strip, row  # before the next ones are made


def _read_ahead(
    images: Images, rows: list[tuple[int, list[int]]], size: int
) -> Generator[tuple[int, np.ndarray], None, None]:
    """Read each row of windows ``(top, lefts)`` in a thread while the model works on the one before."""
    with ThreadPoolExecutor(1, thread_name_prefix="adapteo-read") as pool:
        pending: deque[tuple[int, Future[np.ndarray]]] = deque()
        for top, lefts in rows:
            width = min(lefts[-1] + size, images.width) - lefts[0]
            pending.append((top, pool.submit(images.read, top, lefts[0], min(size, images.height - top), width)))
            if len(pending) > 1:
                yield _arrived(pending)
        while pending:
            yield _arrived(pending)


def _arrived(pending: deque[tuple[int, Future[np.ndarray]]]) -> tuple[int, np.ndarray]:
    """Wait for the first; a function, so that nothing here holds the array afterwards."""
    top, future = pending.popleft()
    return top, future.result()


def _cut(row: np.ndarray, offsets: list[int], size: int) -> np.ndarray:
    """Cut windows ``(b, t, c, size, size)`` out of a row of them ``(t, c, h, w)``; reflect what is smaller."""
    missing = [(0, 0), (0, 0), *((0, max(0, size - length)) for length in row.shape[2:])]
    filled = np.pad(row, missing, mode="reflect") if row.shape[2] < size or row.shape[3] < size else row
    return np.stack([filled[..., x : x + size] for x in offsets])


def _predict(forward: Forward, images: np.ndarray, strip: "_Strip", top: int, lefts: list[int]) -> None:
    """Give the windows in which anything was seen to the model, and add what it says."""
    seen = ~np.isnan(images).all(axis=(1, 2))
    useful = seen.any(axis=(1, 2))
    if not useful.any():
        return
    with torch.inference_mode():
        values = forward(torch.from_numpy(images if useful.all() else images[useful])).float()
    expected = (int(useful.sum()), strip.outputs, *images.shape[-2:])
    if tuple(values.shape) != expected:
        raise ConfigError(f"the model gives {tuple(values.shape)} for these windows, the map needs {expected}")
    for k, i in enumerate(np.flatnonzero(useful)):
        strip.add(values[k], seen[i], top, lefts[i])


class _Strip:
    """Running weighted mean of windows over the rows of a band that are not finished.

    mean += (value - mean) * weight / (sum of weights so far)          (West 1979, doi:10.1145/359146.359153)

    Unlike a sum that is divided at the end, this gives a constant back without any rounding.
    """

    def __init__(self, outputs: int, left: int, right: int, height: int, windows: Windows) -> None:
        self.outputs, self.left, self.right, self.height, self.top = outputs, left, right, height, 0
        shape = (TILE + windows.size, right - left)
        self.taper = windows.taper()
        self.mean, self.weight = torch.zeros(outputs, *shape), torch.zeros(shape)
        self.seen = np.zeros(shape, dtype=bool)

    def add(self, values: Tensor, seen: np.ndarray, top: int, left: int) -> None:
        """Blend a window ``(k, size, size)`` in, as far as it lies in the band."""
        if values.device != self.mean.device:
            self.mean, self.weight = self.mean.to(values.device), self.weight.to(values.device)
            self.taper = self.taper.to(values.device)
        first, last = max(left, self.left), min(left + values.shape[2], self.right)
        rows, cols = slice(0, self.height - top), slice(first - left, last - left)
        part, taper, seen = values[:, rows, cols], self.taper[rows, cols], seen[rows, cols]
        y = top - self.top
        here = (slice(y, y + part.shape[1]), slice(first - self.left, last - self.left))
        self.weight[here] += taper
        self.mean[(slice(None), *here)].lerp_(part, taper / self.weight[here])
        self.seen[here] |= seen

    def pop(self) -> Rows:
        """Give out the next `TILE` rows, or those up to the end of the image, and make room."""
        n = min(TILE, self.height - self.top)
        rows = Rows(self.top, self.left, self.mean[:, :n].clone(), self.seen[:n].copy())
        for buffer in (self.mean, self.weight.unsqueeze(0)):
            buffer[:, :-TILE] = buffer[:, TILE:].clone()
            buffer[:, -TILE:] = 0
        self.seen[:-TILE], self.seen[-TILE:] = self.seen[TILE:].copy(), False
        self.top += TILE
        return rows

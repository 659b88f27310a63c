"""Overlapping windows over an image of any size, blended into one, in bounded memory.

The image is cut into vertical bands of fixed width, and each band is swept from top to bottom. Only the rows that
later windows still touch are kept, so memory depends neither on the height of the image nor on its width. Windows that
cross from one band into the next are computed for both (5 % more of them at the default sizes); every pixel is the mean
of the same windows in the same order, whatever the width of the bands.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
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
"""Side of what is given out at a time, and the unit of the width of bands: the side of a tile of a map file."""
Forward = Callable[[Tensor], Tensor]
"""Images ``(b, t, c, h, w)``, NaN where missing, to probabilities or values ``(b, k, h, w)`` on any device.

The memory of the images is used again after the call.
"""
Progress = Callable[[int, int], None]
"""Called with the number of windows that are done and of all windows."""


class Images(Protocol):
    """An image that is read window by window; ``shape`` is ``(t, c, height, width)``."""

    shape: tuple[int, int, int, int]

    def read(self, row: int, col: int, out: np.ndarray) -> None:
        """Fill ``(t, c, h, w)`` float32 with the window that has its upper left pixel there, NaN where missing."""


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


@dataclass
class Part:
    """A finished part of the image: `TILE` x `TILE` pixels, or less at its right and lower edge.

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
) -> Generator[Part, None, None]:
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
    frames, channels, height, width = images.shape
    tops, lefts, bands = windows.starts(height), windows.starts(width), windows.bands(width)
    columns = [[x for x in lefts if x < right and x + windows.size > left] for left, right in bands]
    total = len(tops) * sum(map(len, columns))
    done = 0
    batch = np.empty((windows.batch, frames, channels, windows.size, windows.size), dtype=np.float32)
    strip = _Strip(outputs, height, max(right - left for left, right in bands), windows)
    with closing(_read_ahead(images, [(top, starts) for starts in columns for top in tops], windows)) as reading:
        for band, starts in zip(bands, columns, strict=True):
            strip.enter(*band)
            for row in islice(reading, len(tops)):
                while strip.top + TILE <= row.top:
                    yield from strip.pop()
                for first in range(0, len(starts), windows.batch):
                    chosen = starts[first : first + windows.batch]
                    _predict(forward, row, chosen, batch, strip)
                    done += len(chosen)
                    if progress:
                        progress(done, total)
            while strip.top < height:
                yield from strip.pop()


@dataclass(frozen=True)
class _Row:
    """A row of windows: its upper left pixel, its pixels ``(t, c, h, w)``, and where anything was seen ``(h, w)``."""

    top: int
    left: int
    pixels: np.ndarray
    seen: np.ndarray


def _read_ahead(images: Images, rows: list[tuple[int, list[int]]], windows: Windows) -> Generator[_Row, None, None]:
    """Read each row of windows ``(top, lefts)`` in a thread while the model works on the one before.

    A row is there until the next one is asked for. The two take turns in the same memory: arrays of this size, made
    anew for each row, leave holes in the heap, of which the allocator gives back less and less.
    """
    frames, channels, height, width = images.shape
    height = min(windows.size, height)
    room = height * min(windows.reach, width)
    turns = [(np.empty(frames * channels * room, np.float32), np.empty(room, bool)) for _ in range(2)]

    def read(number: int) -> _Row:
        top, lefts = rows[number]
        shape = (height, min(lefts[-1] + windows.size, width) - lefts[0])
        numbers, marks = turns[number % 2]
        seen = marks[: math.prod(shape)].reshape(shape)
        pixels = numbers[: frames * channels * seen.size].reshape(frames, channels, *shape)
        images.read(top, lefts[0], pixels)
        _see(pixels, seen)
        return _Row(top, lefts[0], pixels, seen)

    with ThreadPoolExecutor(1, thread_name_prefix="adapteo-read") as pool:
        pending: deque[Future[_Row]] = deque()
        for number in range(len(rows)):
            pending.append(pool.submit(read, number))
            if len(pending) > 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _see(pixels: np.ndarray, seen: np.ndarray) -> None:
    """Mark where any channel is there at any date; as a rule all are where the first is."""
    seen[:] = False
    for channel in pixels.reshape(-1, *seen.shape):
        seen |= ~np.isnan(channel)
        if seen.all():
            return


def _predict(forward: Forward, row: _Row, lefts: list[int], batch: np.ndarray, strip: "_Strip") -> None:
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
        strip.add(values[k], row.seen[:, places[i]], row.top, lefts[i])


def _filled_up(window: np.ndarray, size: int) -> np.ndarray:
    """Reflect a window ``(t, c, h, w)`` of an image that is smaller than a window."""
    lacking = [size - length for length in window.shape[2:]]
    return np.pad(window, [(0, 0), (0, 0), *((0, n) for n in lacking)], mode="reflect") if any(lacking) else window


class _Strip:
    """Running weighted mean of windows over the rows of a band that are not finished.

    mean += (value - mean) * weight / (sum of weights so far)          (West 1979, doi:10.1145/359146.359153)

    Unlike a sum that is divided at the end, this gives a constant back without any rounding. One band after the other
    uses it, so that its memory is taken once.

    Args:
        outputs: k.
        height: rows of the image.
        width: columns of the widest band.
        windows: how the image is cut.
    """

    def __init__(self, outputs: int, height: int, width: int, windows: Windows) -> None:
        self.outputs, self.height, self.size = outputs, height, windows.size
        shape = (TILE + windows.size, width)
        self.taper = windows.taper()
        self.mean, self.weight = torch.zeros(outputs, *shape), torch.zeros(shape)
        self.seen = np.zeros(shape, dtype=bool)
        self.enter(0, width)

    def enter(self, left: int, right: int) -> None:
        """Begin at the top of a band; the one before has been given out to its last row, so everything is 0."""
        self.left, self.right, self.top = left, right, 0

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

    def pop(self) -> Iterator[Part]:
        """Give out the next `TILE` rows, or those up to the end of the image, and make room."""
        rows, width = slice(0, min(TILE, self.height - self.top)), self.right - self.left
        for x in range(0, width, TILE):
            cols = slice(x, min(x + TILE, width))
            yield Part(self.top, self.left + x, self.mean[:, rows, cols].clone(), self.seen[rows, cols].copy())
        for y in range(0, self.size, TILE):  # no more at a time than what source and target do not share
            to, source = slice(y, min(y + TILE, self.size)), slice(y + TILE, min(y + TILE, self.size) + TILE)
            self.mean[:, to] = self.mean[:, source]
            self.weight[to] = self.weight[source]
            self.seen[to] = self.seen[source]
        self.mean[:, self.size :] = 0
        self.weight[self.size :] = 0
        self.seen[self.size :] = False
        self.top += TILE

"""Rows of windows, each read while the model works on the one before."""

import math
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from adapteo._readers import Readers, divisible

Box = tuple[int, int, int, int]
"""Row and column of the upper left pixel, height and width."""


class Images(Protocol):
    """An image that is read window by window.

    Attributes:
        shape: ``(t, c, height, width)``.
    """

    shape: tuple[int, int, int, int]

    @property
    def extent(self) -> Box:
        """Row, column, height and width of what may hold pixels; nothing is read beyond by itself."""

    def read(self, row: int, col: int, out: np.ndarray) -> None:
        """Fill ``(t, c, h, w)`` float32 with the window that has its upper left pixel there, NaN where missing."""

    def block_bytes(self, height: int, width: int) -> int:
        """Memory of the decoded blocks of files in which a window of this size lies; 0 without files."""


@dataclass(frozen=True)
class Reading:
    """A row of windows of one of several images that is to be read: the first row, and the first column of each."""

    layer: int
    top: int
    lefts: list[int]


@dataclass(frozen=True)
class Row:
    """A row of windows: where it is, its pixels ``(t, c, h, w)``, and where anything was seen ``(h, w)``."""

    layer: int
    top: int
    lefts: list[int]
    pixels: np.ndarray
    seen: np.ndarray
    alone: bool

    @property
    def left(self) -> int:
        return self.lefts[0]


def read_ahead(
    images: Sequence[Images], rows: Sequence[Reading], size: int, reach: int, readers: int = 1
) -> Generator[Row, None, None]:
    """Read each row of windows in a thread, or in processes, while the model works on the one before.

    A row is there until the next one is asked for. The two take turns in the same memory: arrays of this size, made
    anew for each row, leave holes in the heap, of which the allocator gives back less and less.

    Args:
        images: of one shape.
        rows: what is to be read, in this order.
        size: of a window.
        reach: columns of a row of windows, at most.
        readers: processes; 1 for this one. Images that other processes cannot open are read in this one.
    """
    frames, channels, height, width = images[0].shape
    height = min(size, height)
    room = height * min(reach, width)
    marks = np.empty((2, room), bool)
    with ThreadPoolExecutor(1, thread_name_prefix="adapteo-read") as pool, ExitStack() as stack:
        shared = divisible(images) if readers > 1 and rows else []
        if shared:
            # Ended before the thread, which may be waiting for them.
            processes = stack.enter_context(
                Readers(shared, readers, (height, min(reach, width)), 2 * frames * channels * room)
            )
            numbers = processes.memory.reshape(2, -1)

            def fill(row: Reading, turn: int, pixels: np.ndarray) -> None:
                shape = (frames * channels, *pixels.shape[2:])
                processes.read(row.layer, row.top, row.lefts[0], turn * numbers.shape[1], shape)
        else:
            numbers = np.empty((2, frames * channels * room), np.float32)

            def fill(row: Reading, turn: int, pixels: np.ndarray) -> None:
                images[row.layer].read(row.top, row.lefts[0], pixels)

        def read(number: int) -> Row:
            row, turn = rows[number], number % 2
            shape = (height, min(row.lefts[-1] + size, width) - row.lefts[0])
            seen = marks[turn, : math.prod(shape)].reshape(shape)
            pixels = numbers[turn, : frames * channels * seen.size].reshape(frames, channels, *shape)
            fill(row, turn, pixels)
            _see(pixels, seen)
            return Row(row.layer, row.top, row.lefts, pixels, seen, len(images) == 1)

        pending: deque[Future[Row]] = deque()
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

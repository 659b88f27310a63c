"""The rows of a band of an image that windows still touch, as a running mean of what the windows say."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TILE = 256
"""Side of what is given out at a time, and the unit of the width of bands: the side of a tile of a map file."""


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


class Strip:
    """Running weighted mean of windows over the rows of a band that are not finished.

    mean += (value - mean) * weight / (sum of weights so far)          (West 1979, doi:10.1145/359146.359153)

    Unlike a sum that is divided at the end, this gives a constant back without any rounding. One band after the other
    uses it, so that its memory is taken once.

    Args:
        outputs: k.
        height: rows of the image.
        width: columns of the widest band.
        taper: weight of each pixel of a window ``(size, size)``.
    """

    def __init__(self, outputs: int, height: int, width: int, taper: Tensor) -> None:
        self.outputs, self.height, self.size, self.taper = outputs, height, len(taper), taper
        shape = (TILE + self.size, width)
        self.mean, self.weight = torch.zeros(outputs, *shape), torch.zeros(shape)
        self.seen = np.zeros(shape, dtype=bool)
        self.enter(0, width)

    def enter(self, left: int, right: int, top: int = 0) -> None:
        """Begin a band at a row; the band before has been given out to its last row, so everything is 0."""
        self.left, self.right, self.top = left, right, top

    def add(self, values: Tensor, seen: np.ndarray, top: int, left: int, everywhere: bool = True) -> None:
        """Blend a window ``(k, size, size)`` in, as far as it lies in the band and below what was given out.

        Args:
            values: of the window.
            seen: where they say something, ``(h, w)``.
            top: row of the window's upper left pixel.
            left: column of it.
            everywhere: False when other images have a say about the pixels: values count where ``seen`` only.
        """
        if values.device != self.mean.device:
            self.mean, self.weight = self.mean.to(values.device), self.weight.to(values.device)
            self.taper = self.taper.to(values.device)
        first, last = max(left, self.left), min(left + values.shape[2], self.right)
        rows, cols = slice(max(0, self.top - top), self.height - top), slice(first - left, last - left)
        part, taper, seen = values[:, rows, cols], self.taper[rows, cols], seen[rows, cols]
        y = max(top, self.top) - self.top
        here = (slice(y, y + part.shape[1]), slice(first - self.left, last - self.left))
        mean = self.mean[(slice(None), *here)]
        if everywhere:
            self.weight[here] += taper
            mean.lerp_(part, taper / self.weight[here])
        else:
            valid = torch.from_numpy(seen).to(taper.device)
            taper = taper * valid
            self.weight[here] += taper
            mean.lerp_(torch.where(valid, part, mean), taper / self.weight[here].clamp(min=torch.finfo().tiny))
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

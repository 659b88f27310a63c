"""A class map on disk: its legend, its pixels strip by strip, the size of its pixels on the ground. No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from adapteo.data._outlines import draw
from adapteo.data._pixel_area import Areas, pixel_areas
from adapteo.data._polygonise import Legend, read_legend, read_strips
from adapteo.data.patches import Patches, find
from adapteo.errors import DataError, closest

_PIXELS = 2**21
"""Of a strip, about: what is worked on at a time, some 20 bytes for each."""


@dataclass(frozen=True)
class ClassMap:
    """A GeoTIFF (or what else GDAL reads) with one band of class codes.

    Attributes:
        path: the file.
        legend: its size, place, names and colours.
        rows: of a strip; None for as many as make two million pixels.
    """

    path: Path
    legend: Legend
    rows: int | None = None

    @classmethod
    def open(cls, path: str | Path) -> "ClassMap":
        """Look at a map.

        Raises:
            DataError: it cannot be read, has several bands, or holds no whole numbers.
        """
        return cls(Path(path), read_legend(Path(path)))

    def strips(self) -> Iterator[np.ndarray]:
        """Codes ``(h, width)`` int32 from top to bottom, -1 where nothing was mapped.

        Raises:
            DataError: the file is damaged, or has a code below 0.
        """
        yield from read_strips(self.path, self._rows)

    @property
    def _rows(self) -> int:
        return self.rows or max(1, _PIXELS // self.legend.shape[1])

    @cached_property
    def areas(self) -> Areas | None:
        """Area of pixels on the ground; None when the map has no place on Earth."""
        if self.legend.crs is None or self.legend.transform is None:
            return None
        return pixel_areas(self.legend.crs, self.legend.transform, self.legend.shape)

    def weights(self) -> Iterator[np.ndarray]:
        """Whole numbers ``(h, width)`` that are proportional to the area of pixels: times `weight_unit` it is m².

        Whole numbers, because their sums do not depend on the order.
        """
        height, width = self.legend.shape
        for top in range(0, height, self._rows):
            count = min(self._rows, height - top)
            if self.areas is None or self.areas.uniform:
                yield np.ones((count, width))
            else:
                yield np.rint(self.areas.at(top, count) / self.weight_unit)

    @property
    def weight_unit(self) -> float:
        """Square metres that a weight of 1 stands for; 1 (a pixel) when the map has no place on Earth."""
        if self.areas is None:
            return 1.0
        return self.areas.nominal if self.areas.uniform else self.areas.nominal * 2.0**-20

    def sizes(self) -> dict[int, tuple[int, float]]:
        """Pixels and square metres (pixels again, without a place) of each code, ascending; -1 for what is missing."""
        pixels: dict[int, int] = {}
        units: dict[int, int] = {}
        for strip, weight in zip(self.strips(), self.weights(), strict=True):
            found, index, count = np.unique(strip, return_inverse=True, return_counts=True)
            sums = np.bincount(index.ravel(), weight.ravel()).astype(np.int64)
            for code, number, total in zip(found.tolist(), count.tolist(), sums.tolist(), strict=True):
                pixels[code] = pixels.get(code, 0) + number
                units[code] = units.get(code, 0) + total
        return {code: (pixels[code], units[code] * self.weight_unit) for code in sorted(pixels)}

    def outlines(self, patches: Patches, drawn: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Polygons around the patches in pixel coordinates (x = column, y = row of corners), and their patches.

        They come some at a time, in the order of the patches. A patch whose pixels touch at corners has several, all of
        them together; what is missing has none.

        Args:
            patches: of this map.
            drawn: ``(n,)`` bool, which patches; None for all.
        """
        wanted = patches.codes >= 0 if drawn is None else drawn & (patches.codes >= 0)

        def numbered() -> Iterator[np.ndarray]:
            for strip in patches.number(self.strips):
                yield np.where(wanted[strip], strip, -1)

        if patches.connectivity == 4:
            yield from draw(numbered(), np.arange(len(patches.codes)))
            return
        parts = find(numbered, 4)
        order = np.argsort(parts.codes, kind="stable")
        position = np.empty(len(order), np.int64)
        position[order] = np.arange(len(order))
        hidden = int(np.searchsorted(parts.codes[order], 0))  # parts of what is not drawn come first
        strips = (position[strip] - hidden for strip in parts.number(numbered))
        yield from draw((np.maximum(strip, -1) for strip in strips), parts.codes[order][hidden:])


def check_codes(wanted: Sequence[str], names: dict[int, str], path: Path) -> set[int]:
    """Codes of classes that are given by name or code.

    Raises:
        DataError: there is no such class.
    """
    known = {name: code for code, name in names.items()} | {str(code): code for code in names}
    for name in wanted:
        if name not in known:
            raise DataError(f"{path} has no class '{name}'{closest(name, names.values())}", allowed=names.values())
    return {known[name] for name in wanted}

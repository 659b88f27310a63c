"""Bands of several files, dates, pixel sizes and coordinate systems, read window by window on one grid.

A band that lies on the grid is read as it is, one that is shifted by whole pixels is moved, any other is resampled by
GDAL's warper, bilinearly. Only the part of a file that a window needs is read, so that memory depends on the window.
What is missing is no part of any mean: it is NaN before the warper sees it, and the warper leaves NaN out.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject
from rasterio.warp import transform as transform_points

from adapteo.data._opening import open_file
from adapteo.data._projection import same_crs
from adapteo.data._source import BandFile, Grid
from adapteo.data.raster import Scene, Transform
from adapteo.errors import DataError

_MARGIN = 3  # source pixels around what a window covers: the kernel reaches one, rounding another
_EDGE = 17  # points per side of a window whose place in the source is computed
_FINER = 1.05  # pixels of a file along one of the grid from which on several are averaged
_SAME = 0.01  # of a pixel: grids that differ by less are one


class Assembled(Scene):
    """Bands of several files, and of several dates, as if they were one file; made by `open_bands`.

    It has what a `Scene` has. What it reads is in physical units where the bands say what their numbers mean.

    Attributes:
        bands: of all dates, all of the first date, then all of the second.
        dates: day of acquisition of each date, where known.
        scaled: True when what is read is in physical units, and no scale is to be applied.
    """

    def __init__(self, path: str, pieces: Sequence["Piece"], grid: Grid, days: Sequence[date | None]) -> None:
        # The place of a map that is drawn on this grid is that of the file whose grid it is.
        leader = next((piece for piece in pieces if piece.band.grid == grid), pieces[0])
        super().__init__(Path(path), leader.scene.file)
        self._pieces, self._grid = tuple(pieces), grid
        self.count = len(pieces)
        self.height, self.width = grid.shape
        self.descriptions = tuple(piece.band.name for piece in pieces)
        self.crs, self.transform = grid.crs, grid.transform
        self.dtype, self.nodata = "float32", math.nan
        self.dates = tuple(days)
        self.date = days[0] if len(days) == 1 else None
        self.scaled = all(piece.band.scale is not None for piece in pieces)

    def read(
        self,
        row: int,
        col: int,
        height: int,
        width: int,
        indexes: Sequence[int] | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Read a window as `Scene.read` does, in physical units where they are known."""
        chosen = [self._pieces[i - 1] for i in (indexes or range(1, self.count + 1))]
        if out is None:
            out = np.empty((len(chosen), height, width), np.float32)
        window = (row, col, height, width)
        start = 0
        while start < len(chosen):  # neighbours in one file are read together
            first = chosen[start]
            stop = start + 1
            while stop < len(chosen) and chosen[stop].scene is first.scene:
                stop += 1
            run = chosen[start:stop]
            first.fill(window, [piece.band for piece in run], out[start:stop])
            start = stop
        return out

    @property
    def interleaved(self) -> bool:
        """Whether all bands lie in the same blocks of one file."""
        first = self._pieces[0].scene
        return first.interleaved and all(piece.scene is first for piece in self._pieces)

    @property
    def slow(self) -> bool:
        """Whether a file is slow, or a band is resampled."""
        return any(piece.scene.slow or piece.resampled for piece in self._pieces)

    def effort(self, index: int) -> tuple[float, bool]:
        """Pixels that are decoded for a pixel of a window of a band, and whether it is resampled."""
        piece = self._pieces[index - 1]
        return piece.ratio() ** 2, piece.resampled

    def block_bytes(self, height: int, width: int, indexes: Sequence[int]) -> int:
        """Memory of the decoded blocks of all files in which a window of this size lies."""
        files: dict[int, list[Piece]] = {}
        for i in indexes:
            files.setdefault(id(self._pieces[i - 1].scene), []).append(self._pieces[i - 1])
        total = 0
        for pieces in files.values():
            ratio = pieces[0].ratio()
            rows, cols = (math.ceil(n * ratio) + 2 * _MARGIN for n in (height, width))
            total += pieces[0].scene.block_bytes(rows, cols, [piece.band.index for piece in pieces])
        return total


@dataclass(frozen=True)
class Piece:
    """A band, its open file, and the grid that it is to lie on."""

    band: BandFile
    scene: Scene
    grid: Grid

    def ratio(self) -> float:
        """Pixels of the file along a pixel of the grid."""
        own = self.band.grid
        return 1.0 if own is None or not own.gsd or not self.grid.gsd else self.grid.gsd / own.gsd

    @property
    def resampled(self) -> bool:
        """Whether the grid's pixels are not pixels of the file."""
        return self._shift() is None

    def fill(self, window: tuple[int, int, int, int], bands: Sequence[BandFile], out: np.ndarray) -> None:
        """Fill ``(n, h, w)`` with bands of this file."""
        indexes = [band.index for band in bands]
        shift, own = self._shift(), self.band.grid
        if shift == (0, 0) and (own is None or own.shape == self.grid.shape):
            self.scene.read(*window, indexes, out)
            self._without_missing(bands, out)
        elif shift is not None:
            self._moved((window[0] - shift[0], window[1] - shift[1], *window[2:]), bands, out)
        else:
            self._warped(window, bands, out)
        for band, values in zip(bands, out, strict=True):
            values *= np.float32(1.0 if band.scale is None else band.scale)
            values += np.float32(band.offset or 0.0)

    def _shift(self) -> tuple[int, int] | None:
        """Rows and columns from the grid's first pixel to the file's; None when it lies on other pixels."""
        own = self.band.grid
        if own is None or own == self.grid:
            return 0, 0
        if own.transform is None or self.grid.transform is None:
            if own.shape == self.grid.shape:
                return 0, 0
            raise DataError(
                f"{self.band.path} has {own.shape[0]} x {own.shape[1]} pixels, other bands {self.grid.shape[0]} x "
                f"{self.grid.shape[1]}, and they do not say where they lie",
                fix="give the files a coordinate system, e.g. `gdal_edit.py -a_srs EPSG:32632 -a_ullr …`",
            )
        if own.crs != self.grid.crs and not (own.crs and self.grid.crs and same_crs(own.crs, self.grid.crs)):
            return None
        ours = np.linalg.inv(_matrix(self.grid.transform)) @ _matrix(own.transform)
        height, width = own.shape
        moved = (ours @ np.array([(0, 0, 1), (width, 0, 1), (0, height, 1)]).T)[:2].T
        col, row = np.round(moved[0])
        expected = np.array([(col, row), (col + width, row), (col, row + height)])
        return (int(row), int(col)) if np.abs(moved - expected).max() < _SAME else None

    def _moved(self, window: tuple[int, int, int, int], bands: Sequence[BandFile], out: np.ndarray) -> None:
        """Read what lies in the file, in its own rows and columns, and leave NaN around it."""
        row, col, height, width = window
        top, left = max(row, 0), max(col, 0)
        bottom, right = min(row + height, self.scene.height), min(col + width, self.scene.width)
        out[:] = np.nan
        if top < bottom and left < right:
            part = self.scene.read(top, left, bottom - top, right - left, [band.index for band in bands])
            self._without_missing(bands, part)
            out[:, top - row : bottom - row, left - col : right - col] = part

    def _warped(self, window: tuple[int, int, int, int], bands: Sequence[BandFile], out: np.ndarray) -> None:
        own = self.band.grid
        assert own is not None
        assert own.transform is not None
        assert self.grid.transform is not None
        row, col = window[:2]
        there = self._covered(window)
        out[:] = np.nan
        if there is None:
            return
        top, left, bottom, right = there
        stored = self.scene.read(top, left, bottom - top, right - left, [band.index for band in bands])
        self._without_missing(bands, stored)
        place, target = _corner(own.transform, top, left), _corner(self.grid.transform, row, col)
        # Given, since the warper else derives it from each window anew, and neighbours would not fit.
        across, down = self._fractions()
        for source, values in zip(stored, out, strict=True):
            if np.isnan(source).all():
                continue
            reproject(
                source, values, src_transform=place, src_crs=CRS.from_wkt(own.crs), src_nodata=np.nan,
                dst_transform=target, dst_crs=CRS.from_wkt(self.grid.crs), dst_nodata=np.nan,
                resampling=Resampling.bilinear, tolerance=0, XSCALE=across, YSCALE=down,
            )  # fmt: skip

    def _covered(self, window: tuple[int, int, int, int]) -> tuple[int, int, int, int] | None:
        """Rows and columns of the file (top, left, bottom, right) that a window needs, or None when there are none."""
        own = self.band.grid
        assert own is not None
        row, col, height, width = window
        rows, cols = np.meshgrid(np.linspace(row, row + height, _EDGE), np.linspace(col, col + width, _EDGE))
        at_col, at_row = self._pixels_of(cols.ravel(), rows.ravel())
        if not at_col.size:
            return None
        margin = _MARGIN + math.ceil(self.ratio())
        top, left = (max(0, math.floor(axis.min()) - margin) for axis in (at_row, at_col))
        bottom = min(self.scene.height, math.ceil(at_row.max()) + margin)
        right = min(self.scene.width, math.ceil(at_col.max()) + margin)
        return (top, left, bottom, right) if top < bottom and left < right else None

    def _pixels_of(self, cols: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns and rows of the file at columns and rows of the grid; without those that have none."""
        own = self.band.grid
        assert own is not None
        assert own.transform is not None
        assert self.grid.transform is not None
        x, y, _ = _matrix(self.grid.transform) @ np.stack([cols, rows, np.ones(len(rows))])
        if own.crs != self.grid.crs:
            systems = CRS.from_wkt(self.grid.crs), CRS.from_wkt(own.crs)
            x, y = map(np.array, transform_points(*systems, x.tolist(), y.tolist())[:2])
        known = np.isfinite(x) & np.isfinite(y)
        there = np.stack([x[known], y[known], np.ones(int(known.sum()))])
        at_col, at_row, _ = np.linalg.inv(_matrix(own.transform)) @ there
        return at_col, at_row

    def _fractions(self) -> tuple[float, float]:
        """Pixels of the grid along a column and a row of the file, in the middle of the grid; at most 1."""
        row, col = (n / 2 for n in self.grid.shape)
        at_col, at_row = self._pixels_of(np.array([col, col + 1, col]), np.array([row, row, row + 1]))
        if at_col.size < 3:
            return 1.0, 1.0
        steps = (math.hypot(axis[1] - axis[0], axis[2] - axis[0]) for axis in (at_col, at_row))
        across, down = (1.0 if step < _FINER else 1 / step for step in steps)
        return across, down

    def _without_missing(self, bands: Sequence[BandFile], stored: np.ndarray) -> None:
        for band, values in zip(bands, stored, strict=True):
            for value in band.missing:
                values[values == np.float32(value)] = np.nan


def _matrix(transform: Transform) -> np.ndarray:
    """From (column, row, 1) to (x, y, 1)."""
    return np.array([transform[:3], transform[3:], (0.0, 0.0, 1.0)])


def _corner(transform: Transform, row: int, col: int) -> Affine:
    """Transform of a window whose upper left pixel is (row, col)."""
    a, b, c, d, e, f = transform
    return Affine(a, b, a * col + b * row + c, d, e, d * col + e * row + f)


@contextmanager
def open_bands(
    path: str, bands: Sequence[BandFile], grid: Grid, days: Sequence[date | None] = (None,)
) -> Iterator[Assembled]:
    """Open bands of any files on one grid.

    Args:
        path: name for messages.
        bands: all of the first date, then all of the second.
        grid: to read on.
        days: day of acquisition of each date.

    Raises:
        DataError: a file cannot be opened.
    """
    with ExitStack() as stack:
        scenes = {file: stack.enter_context(open_file(file)) for file in dict.fromkeys(band.path for band in bands)}
        yield Assembled(path, [Piece(band, scenes[band.path], grid) for band in bands], grid, days)

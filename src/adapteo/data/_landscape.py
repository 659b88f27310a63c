"""Synthetic landscapes: terrain, a meandering river, parcels, and the cover of every pixel.

Everything here is geometry; `_spectra` gives it reflectance. All fields are stationary with lengths in pixels, so a
64-pixel chip and a 1000-pixel scene show the same kind of ground.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from adapteo.data._regions import BARE, COVERS, CROP, GRASS, URBAN, WATER, WETLAND, Region

Field = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Parcels:
    """A cellular partition of the plane.

    Attributes:
        ids: number of the parcel of each pixel, ``(h, w)``.
        edge: distance to the nearest border in pixels, ``(h, w)``.
        count: ids are below this.
    """

    ids: Labels
    edge: Field
    count: int


@dataclass(frozen=True)
class Landscape:
    """The ground, as it is before seasons, events and the atmosphere.

    Attributes:
        cover: index into `COVERS`, ``(h, w)``.
        fields, blocks: agricultural parcels and urban blocks.
        ground: height above the river in units of a typical flood depth, ``(h, w)``.
        relief: terrain height that casts light and shade, same unit, ``(h, w)``.
        grain: two independent fine textures, crowns (about 1 pixel) and patches (about 4), ``(2, h, w)``.
    """

    cover: Labels
    fields: Parcels
    blocks: Parcels
    ground: Field
    relief: Field
    grain: Field


def landscape(rng: np.random.Generator, shape: tuple[int, int], region: Region) -> Landscape:
    """Draw a landscape of ``(h, w)`` pixels."""
    terrain = fractal(rng, 1, shape, scale=120.0, beta=5.0)[0]
    distance = _river_distance(rng, shape)
    valley = np.tanh(np.maximum(distance - region.river / 2, 0.0) / 30.0)
    relief = (region.relief * (terrain + 2.0 * valley)).astype(np.float32)
    ground = (0.8 * terrain * np.sqrt(region.relief) + 2.5 * valley).astype(np.float32)
    fields = parcels(rng, shape, region.field, region.aspect)
    blocks = parcels(rng, shape, 5.0, 1.5)
    cover = _cover(rng, region, fields, terrain, ground)
    ponds = terrain + 0.04 * fractal(rng, 1, shape, scale=8.0, beta=2.0)[0]
    cover[(distance < region.river / 2) | (ponds < _normal_quantile(region.lakes))] = WATER
    grain = np.stack([fractal(rng, 1, shape, s, 2.2)[0] for s in (4.0, 24.0)])
    return Landscape(cover, fields, blocks, ground, relief, grain)


def fractal(rng: np.random.Generator, count: int, shape: tuple[int, int], scale: float, beta: float) -> Field:
    """Gaussian random fields of zero mean and unit variance by spectral synthesis: ``(count, h, w)``.

    The power spectrum is ``(1/scale^2 + k^2)^(-beta/2)``: correlated up to about ``scale`` pixels.
    """
    size = 1 << (max(shape) + int(min(scale, 32)) - 1).bit_length()
    amplitude = _amplitude(size, scale, beta)
    noise = rng.standard_normal((count, *amplitude.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    waves = np.fft.irfft2(noise * amplitude, s=(size, size), axes=(-2, -1))
    return waves[:, : shape[0], : shape[1]].astype(np.float32)


@lru_cache(maxsize=64)
def _amplitude(size: int, scale: float, beta: float) -> Field:
    ky, kx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    power = (scale**-2 + ky**2 + kx**2) ** (-beta / 2)
    both_sides = np.where((kx > 0) & (kx < 0.5), 2.0, 1.0)
    unit = np.sqrt(power / (power * both_sides).sum() / 2)
    return np.asarray(unit * size * size, dtype=np.float32)


def parcels(rng: np.random.Generator, shape: tuple[int, int], size: float, aspect: float) -> Parcels:
    """Divide the plane into roughly rectangular cells of one random orientation, ``size`` by ``size * aspect`` pixels.

    Voronoi cells of a jittered lattice in the maximum norm; each pixel looks at the nine nearest lattice points only.
    """
    angle = rng.uniform(0, np.pi)
    y, x = _coordinates(shape)
    u = (x * np.cos(angle) + y * np.sin(angle)) / size
    v = (y * np.cos(angle) - x * np.sin(angle)) / (size * aspect)
    u, v = (a - a.min() + np.float32(1 + rng.uniform()) for a in (u, v))
    i, j = u.astype(np.int64), v.astype(np.int64)
    rows, columns = int(i.max()) + 2, int(j.max()) + 2
    jitter = rng.uniform(0.2, 0.8, (2, rows * columns)).astype(np.float32)
    nearest = np.full(shape, np.inf, dtype=np.float32)
    second = nearest.copy()
    ids = np.zeros(shape, dtype=np.int64)
    for di in (-1, 0, 1):
        for dj in (-1, 0, 1):
            cell = (i + di) * columns + (j + dj)
            d = np.maximum(np.abs(i + di + jitter[0][cell] - u), np.abs(j + dj + jitter[1][cell] - v))
            closer = d < nearest
            second = np.where(closer, nearest, np.minimum(second, d))
            ids = np.where(closer, cell, ids)
            nearest = np.where(closer, d, nearest)
    return Parcels(ids, (second - nearest) * np.float32(size / 2), rows * columns)


def _river_distance(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Distance in pixels to a meandering centre line that crosses, or passes by, the landscape."""
    y, x = _coordinates(shape)
    angle = rng.uniform(0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    across = across - across.mean() - rng.uniform(-0.7, 0.7) * max(shape)
    slope = np.zeros_like(along)
    for wavelength in rng.uniform((25, 60, 140), (50, 120, 300)):
        phase = 2 * np.pi * (along / wavelength + rng.uniform())
        swing = rng.uniform(0.03, 0.10) * wavelength
        across = across - swing * np.sin(phase)
        slope = slope + swing * 2 * np.pi / wavelength * np.cos(phase)
    return np.asarray(np.abs(across) / np.sqrt(1 + slope**2), dtype=np.float32)


def _cover(rng: np.random.Generator, region: Region, fields: Parcels, terrain: Field, ground: Field) -> Labels:
    """Let the covers compete: share in the region, a random field each, and what the ground suits."""
    shape = terrain.shape
    score = np.log(np.array([1e-6, *region.shares], dtype=np.float32))[:, None, None]
    score = score + 1.3 * fractal(rng, len(COVERS), (shape[0], shape[1]), scale=100.0, beta=5.0)
    score[WETLAND] += 1.5 - 1.2 * ground
    score[CROP] -= 0.4 * np.abs(terrain)
    score[URBAN] -= 0.5 * np.abs(terrain)
    cover = score[1:].argmax(0) + 1
    farmed = [BARE, GRASS, CROP]
    size = np.maximum(np.bincount(fields.ids.ravel(), minlength=fields.count), 1)
    means = np.stack([np.bincount(fields.ids.ravel(), score[c].ravel(), fields.count) / size for c in farmed])
    choice = np.array(farmed)[(means + 0.8 * rng.standard_normal(means.shape)).argmax(0)]
    return np.where(np.isin(cover, farmed), choice[fields.ids], cover)


def _coordinates(shape: tuple[int, int]) -> tuple[Field, Field]:
    y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij")
    return y, x


def _normal_quantile(p: float) -> float:
    """Quantile of the standard normal for small p (Abramowitz and Stegun 26.2.23, error below 5e-4)."""
    t = np.sqrt(-2 * np.log(np.clip(p, 1e-6, 0.5)))
    top = 2.515517 + 0.802853 * t + 0.010328 * t * t
    return -float(t - top / (1 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t**3))

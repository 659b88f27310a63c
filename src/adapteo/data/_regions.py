"""Regions of the synthetic world: what makes one place look different from another.

A region is a handful of numbers (which covers, what soil, how large the fields, how hazy the air). The values are
plausible orders of magnitude from general knowledge of spectra and landscapes; they describe no real place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np

COVERS = ("water", "bare", "grass", "crop", "broadleaf", "conifer", "urban", "wetland")
WATER, BARE, GRASS, CROP, BROADLEAF, CONIFER, URBAN, WETLAND = range(len(COVERS))
CROPS = ("cereal", "summer crop", "paddy", "orchard")


@dataclass(frozen=True)
class Region:
    """One kind of place.

    Attributes:
        latitude, longitude: range in degrees.
        days: first and last day of year with imagery, as if in the northern hemisphere.
        shares: weights of `COVERS` without water, which follows from rivers and lakes.
        crops: weights of `CROPS`.
        soil: brightness (0 dark, 1 bright) and redness (0 grey, 1 red).
        field: side of a parcel in pixels.
        aspect: length by width of a parcel.
        relief: height differences in units of a typical flood depth.
        river: width in pixels.
        lakes: share of the ground under standing water.
        turbidity: of permanent water, 0 clear to 1 muddy.
        aerosol: mean residual optical depth at 0.55 um.
        season: how much greenness varies in a year, 0 to 1.
        peak: day of year of the greenest vegetation, as if in the northern hemisphere.
        gains: factor on the surface reflectance per HLS band (leaf chemistry, calibration).
    """

    latitude: tuple[float, float]
    longitude: tuple[float, float]
    days: tuple[float, float]
    shares: tuple[float, ...]
    crops: tuple[float, ...]
    soil: tuple[float, float]
    field: float
    aspect: float
    relief: float
    river: float
    lakes: float
    turbidity: float
    aerosol: float
    season: float
    peak: float
    gains: tuple[float, ...]


REGIONS = MappingProxyType(
    {
        "temperate": Region(
            (46, 54), (0, 18), (60, 310), (0.4, 2.0, 3.0, 1.6, 0.8, 0.7, 0.5), (3, 2, 0, 0.5), (0.40, 0.35),
            20, 1.8, 1.5, 9, 0.03, 0.35, 0.08, 0.7, 175, (1.00, 1.00, 1.00, 1.00, 1.00, 1.00),
        ),
        "mediterranean": Region(
            (36, 42), (-6, 24), (30, 330), (1.2, 1.8, 2.4, 0.7, 0.8, 0.8, 0.2), (3, 1, 0.2, 3), (0.65, 0.70),
            15, 1.4, 3.0, 7, 0.01, 0.30, 0.10, 0.8, 115, (1.05, 1.04, 1.06, 0.94, 1.06, 1.08),
        ),
        "boreal": Region(
            (58, 66), (14, 40), (130, 275), (0.3, 1.0, 0.7, 1.2, 3.5, 0.3, 1.6), (2, 0.5, 0, 0), (0.25, 0.20),
            17, 1.5, 1.2, 9, 0.10, 0.15, 0.05, 0.6, 195, (0.94, 0.96, 0.95, 0.92, 0.94, 0.93),
        ),
        "tropical": Region(
            (-14, 6), (-62, -44), (1, 365), (0.5, 1.8, 1.6, 3.2, 0.3, 0.5, 0.9), (0.5, 3, 1, 1), (0.45, 0.95),
            26, 1.3, 1.2, 14, 0.03, 0.60, 0.16, 0.35, 60, (1.02, 1.04, 0.98, 1.08, 1.00, 0.97),
        ),
        "delta": Region(
            (9, 24), (88, 107), (1, 365), (0.4, 1.0, 4.0, 0.7, 0.1, 0.9, 1.1), (0.3, 1, 4, 0.5), (0.35, 0.40),
            12, 2.4, 0.6, 15, 0.06, 0.75, 0.22, 0.5, 220, (1.06, 1.05, 1.04, 1.06, 0.95, 0.94),
        ),
        "arid": Region(
            (24, 32), (44, 70), (1, 365), (4.0, 0.8, 1.6, 0.3, 0.1, 0.7, 0.2), (2, 1, 0.3, 1.5), (0.90, 0.60),
            22, 1.2, 1.8, 8, 0.01, 0.55, 0.18, 0.5, 90, (1.08, 1.06, 1.08, 1.03, 1.08, 1.10),
        ),
    }
)  # fmt: skip


def blend(regions: Sequence[Region], rng: np.random.Generator, spread: float = 0.2) -> Region:
    """Draw a region between the given ones: a random convex mixture of every number, each then varied a little.

    Args:
        regions: the corners.
        rng: source of randomness.
        spread: standard deviation of the logarithm of the factor on each number; the dates, places and gains keep
            their meaning and are varied by none.
    """
    weights = rng.dirichlet(np.full(len(regions), 0.5))
    values: dict[str, float | tuple[float, ...]] = {}
    for f in fields(Region):
        corners = np.array([vars(region)[f.name] for region in regions], dtype=np.float64)
        value = weights @ corners
        if f.name in ("shares", "crops", "field", "relief", "river", "lakes", "turbidity", "aerosol"):
            value = value * np.exp(spread * rng.standard_normal(np.shape(value)))
        values[f.name] = tuple(float(v) for v in value) if np.ndim(value) else float(value)
    return Region(**values)  # type: ignore[arg-type]

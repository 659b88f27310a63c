"""One synthetic scene, put together: the ground, its events and what the sensor saw of it on each date."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapteo.contracts import IGNORE
from adapteo.data._landscape import Field, Labels, landscape
from adapteo.data._regions import WATER, Region
from adapteo.data._spectra import Events, burn, flood, observe, reflect, surface

KINDS = ("landcover", "flood", "burn")
_CHANCE = {"landcover": (0.0, 0.0), "flood": (0.9, 0.25), "burn": (0.2, 0.9)}
"""Of a flood and of a burn: each is a distractor in the other's scenes."""
_SEVERE = 0.35
_CLOUD = 0.4


@dataclass(frozen=True)
class Scene:
    """What was seen and what is true.

    Attributes:
        image: reflectance of HLS6 ``(t, 6, h, w)``, dates ascending.
        truth: by kind (`KINDS`), ``(h, w)`` with `IGNORE` under clouds; of the last date.
        dates: year and day of year ``(t, 2)``.
        latlon: degrees ``(2,)``.
    """

    image: Field
    truth: dict[str, Labels]
    dates: Field
    latlon: Field


def make_scene(entropy: Sequence[int], region: Region, shape: tuple[int, int], kind: str, frames: int = 1) -> Scene:
    """Draw a scene; a pure function of its arguments.

    Args:
        entropy: non-negative integers that name the scene.
        region: kind of place.
        shape: height and width in pixels.
        kind: one of `KINDS`; decides which events are likely.
        frames: dates; events happen before the last one only.
    """
    rng = np.random.default_rng(list(entropy))
    latlon = np.array([rng.uniform(*region.latitude), rng.uniform(*region.longitude)], dtype=np.float32)
    year, last = rng.integers(2016, 2025), rng.uniform(*region.days)
    days = last - np.cumsum(np.append(0.0, rng.uniform(8, 40, frames - 1)))[::-1]
    ground = surface(rng, landscape(rng, shape, region), region)
    flood_chance, burn_chance = _CHANCE[kind]
    water, mud = flood(rng, ground, rng.uniform(0.4, 2.2) * (rng.uniform() < flood_chance))
    scar = burn(rng, ground, rng.uniform(0.4, 1.4) * (rng.uniform() < burn_chance))
    calm = Events(np.zeros_like(water), mud, np.zeros_like(scar))
    images = []
    for day in days:
        events = Events(water, mud, scar) if day == days[-1] else calm
        spectrum = reflect(rng, ground, region, day, events)
        image, cloud = observe(rng, spectrum, ground.land, region, day)
        images.append(image)
    cover = ground.land.cover
    truth = {
        "landcover": cover.copy(),
        "flood": np.where(cover == WATER, 1, np.where(water > 0.5, 2, 0)),
        "burn": (scar * (1 - water) > _SEVERE).astype(np.int64),
    }
    for target in truth.values():
        target[cloud > _CLOUD] = IGNORE
    return Scene(np.stack(images), truth, _dates(days, int(year), float(latlon[0])), latlon)


def _dates(days: NDArray[np.float64], year: int, latitude: float) -> Field:
    """Calendar of the days of the northern-hemisphere season: south of the equator half a year later."""
    actual = days + (182.6 if latitude < 0 else 0.0)
    years = year + np.floor((actual - 1) / 365)
    return np.stack([years, np.floor((actual - 1) % 365) + 1], axis=1).astype(np.float32)

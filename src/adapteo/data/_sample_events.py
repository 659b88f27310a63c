"""Floods and burns for small stand-ins of published datasets; see `adapteo.data._sample_scenes` for land cover."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adapteo.contracts import IGNORE
from adapteo.data._regions import REGIONS
from adapteo.data._sample_scenes import backscatter, interpolate
from adapteo.data._scene import make_scene

_EVENTS = 4
"""First word of every seed sequence here; no scene is shared with other samples, `scenes` or pre-training."""
_SHARE = (0.05, 0.8)  # of the event in a chip, so that few chips are enough to learn and to score both classes
_ATTEMPTS = 100


@dataclass(frozen=True)
class Event:
    """A chip of a flood or a burn.

    Attributes:
        image: reflectance, decibel for radar bands, ``(c, side, side)`` float32, NaN in a corner outside the swath.
        target: 1 for the event (all water, or burnt), 0 otherwise, `IGNORE` under clouds and outside.
    """

    image: np.ndarray
    target: np.ndarray


def event(entropy: Sequence[int], kind: str, region: str, side: int, bands: Sequence[str]) -> Event:
    """Make a chip; a pure function of its arguments.

    Args:
        entropy: non-negative integers that name the chip.
        kind: "flood" or "burn".
        region: name of a region of `adapteo.data._regions`.
        side: pixels.
        bands: canonical names.
    """
    for attempt in range(_ATTEMPTS):
        scene = make_scene((_EVENTS, *entropy, attempt), REGIONS[region], (side, side), kind)
        truth = scene.truth[kind]
        if _SHARE[0] <= (truth > 0).mean() <= _SHARE[1]:
            break
    target = np.where(truth == IGNORE, IGNORE, (truth > 0).astype(np.int64))
    rng = np.random.default_rng((_EVENTS, *entropy))
    image = np.stack([_band(rng, scene.image[0], name) for name in bands]).astype(np.float32)
    y, x = np.mgrid[:side, :side]
    outside = x + y < rng.uniform(0.1, 0.3) * side
    image[:, outside] = np.nan
    target[outside] = IGNORE
    return Event(image, target)


def _band(rng: np.random.Generator, seen: np.ndarray, name: str) -> np.ndarray:
    if name in ("vv", "vh"):
        return 10 * np.log10(backscatter(rng, seen, name))
    return interpolate(seen, name)

"""How far labels resemble their neighbours, and from that the side of blocks for a spatial split.

Two pixels at a distance h differ in class with the probability gamma(h); it is the sum over the classes of the
indicator variograms (Journel 1983, doi:10.1007/BF01031292), and is 1 - sum p_k^2 where places are independent. The
model is exponential with a nugget,

    gamma(h) = nugget + partial sill x (1 - exp(-3 h / range)),

so that at the practical range 95 % of the sill is reached. A mosaic of cells cut by random lines, each of a random
class, has exactly this variogram without a nugget. The block side follows the range (Roberts et al. 2017,
doi:10.1111/ecog.02881; Valavi et al. 2019, doi:10.1111/2041-210X.13107).
"""

from dataclasses import dataclass

import numpy as np

MOST = 1500
"""Pixels of which all pairs are looked at: a million pairs."""
_BINS = 24
_LEAST_PAIRS = 30  # in a bin of distances (Journel and Huijbregts 1978)
_LEAST_FIT = 0.3  # share of the variogram's variance that the model must explain, or else there is no structure


@dataclass(frozen=True)
class Range:
    """Outcome of `autocorrelation_range`.

    Attributes:
        distance: practical range in the units of the coordinates; 0 where labels do not resemble their neighbours.
        reached: False when the sill lies beyond the longest distance that was looked at, half of the extent; the range
            is then that distance, and the true one is longer.
        pairs: how many were looked at.
    """

    distance: float
    reached: bool
    pairs: int


def autocorrelation_range(xy: np.ndarray, codes: np.ndarray, least: float, seed: int = 0) -> Range:
    """Fit the variogram model to labelled pixels.

    Distances are put into bins that grow geometrically, so that a short range is found in a large extent; each bin
    with 30 pairs or more counts alike.

    Args:
        xy: ``(n, 2)`` coordinates in one unit; at most `MOST` of them, drawn at random, are used.
        codes: ``(n,)`` class indices.
        least: the shortest distance that matters, one pixel.
        seed: of the draw.
    """
    if len(codes) > MOST:
        drawn = np.random.default_rng(seed).choice(len(codes), MOST, replace=False)
        xy, codes = xy[drawn], codes[drawn]
    longest = float(np.ptp(xy, axis=0).max()) / 2 if len(codes) else 0.0
    if longest <= 2 * least or len(np.unique(codes)) < 2:
        return Range(0.0, True, 0)
    first, second = np.triu_indices(len(codes), 1)
    distance = np.hypot(*(xy[first] - xy[second]).T)
    differ = codes[first] != codes[second]
    number = np.digitize(distance, np.geomspace(least, longest, _BINS + 1)) - 1
    inside = (number >= 0) & (number < _BINS)
    number, distance, differ = number[inside], distance[inside], differ[inside]
    pairs = np.bincount(number, minlength=_BINS)
    kept = pairs >= _LEAST_PAIRS
    if kept.sum() < 4:
        return Range(0.0, True, len(distance))
    lags = np.bincount(number, distance, _BINS)[kept] / pairs[kept]
    gamma = np.bincount(number, differ, _BINS)[kept] / pairs[kept]
    fitted = _fit(lags, gamma)
    return Range(min(fitted, longest), fitted < longest, len(distance))


def _fit(lags: np.ndarray, gamma: np.ndarray) -> float:
    """Range with the smallest sum of squares; 0 when no range explains the rise of the variogram."""
    total = float(((gamma - gamma.mean()) ** 2).sum())
    best, error = 0.0, (1 - _LEAST_FIT) * total
    for candidate in np.geomspace(lags[0], 3 * lags[-1], 200):
        rise = 1 - np.exp(-3 * lags / candidate)
        centred = rise - rise.mean()
        sill = float(centred @ gamma / (centred @ centred)) if centred.any() else 0.0
        nugget = float(gamma.mean() - sill * rise.mean())
        if nugget < 0:  # the best allowed fit lies on the edge
            nugget, sill = 0.0, float(rise @ gamma / (rise @ rise))
        if sill > 0 and (left := float(((nugget + sill * rise - gamma) ** 2).sum())) < error:
            best, error = float(candidate), left
    return best

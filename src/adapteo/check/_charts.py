"""Histograms of the bands and bars of the classes, as numbers that the page draws."""

from dataclasses import dataclass

import numpy as np

from adapteo.check._maps import css
from adapteo.check._view import View
from adapteo.figures import colours_of

_BINS = 48
_WIDTH, _HEIGHT = 240.0, 80.0
_MOST = 400_000
"""Values of a band that are counted, at most."""


@dataclass(frozen=True)
class Histogram:
    """How the values of a band are distributed; lengths are in units of the drawing, `width` by `height`.

    Attributes:
        band: canonical name.
        low, high: of the horizontal axis, in physical units.
        outline: SVG path of the filled histogram.
        mean: of the data, in physical units.
        known: mean and standard deviation of the pre-training, or None.
        left, right: where mean minus and plus one standard deviation of the pre-training lie.
        at: where its mean lies.
        here: where the mean of the data lies.
    """

    band: str
    low: float
    high: float
    outline: str
    mean: float
    known: tuple[float, float] | None
    left: float
    right: float
    at: float
    here: float
    width: float = _WIDTH
    height: float = _HEIGHT


@dataclass(frozen=True)
class Bar:
    """Classes of one split.

    Attributes:
        part: its name.
        samples: in it.
        pixels: labelled ones, of the samples that were looked at.
        shares: name, colour and per cent of each class.
    """

    part: str
    samples: int
    pixels: int
    shares: tuple[tuple[str, str, float], ...]


def histograms(view: View) -> tuple[Histogram, ...]:
    """Of each band, over all scenes.

    Raises:
        DataError: the scenes cannot be read.
    """
    found = (_histogram(view, i, band) for i, band in enumerate(view.bands))
    return tuple(histogram for histogram in found if histogram is not None)


def bars(view: View) -> tuple[Bar, ...]:
    """Of each split.

    Raises:
        DataError: the labels cannot be read.
    """
    colours = [css(colour) for colour in colours_of(view.classes, view.dataset.colours)]
    out = []
    for part, keys in view.parts.items():
        counts = np.zeros(len(view.classes))
        for window in view.windows:
            if window.part == part:
                counts += window.counts
        total = max(counts.sum(), 1.0)
        shares = zip(view.classes, colours, (100 * counts / total).tolist(), strict=True)
        out.append(Bar(part, len(keys), int(counts.sum()), tuple(shares)))
    return tuple(out)


def _histogram(view: View, index: int, band: str) -> Histogram | None:
    pieces = [view.physical(pixels)[index].ravel() for pixels in view.pixels]
    values = np.concatenate(pieces) if pieces else np.empty(0, np.float32)
    values = values[~np.isnan(values)][:: max(1, sum(map(len, pieces)) // _MOST)]
    if not values.size:
        return None
    known = view.pretraining.bands.get(band) if view.pretraining else None
    low, high = (float(limit) for limit in np.percentile(values, (0.5, 99.5)))
    if known is not None and high < 20 * (known[0] + known[1]):  # else they would be one line at the edge
        low, high = min(low, known[0] - known[1]), max(high, known[0] + known[1])
    if view.bands[index] not in ("vv", "vh", "ndvi", "elevation"):
        low = max(low, min(0.0, float(values.min())))
    if high <= low:
        low, high = low - 0.5, high + 0.5
    counts = np.histogram(values, _BINS, (low, high))[0].astype(float)
    tops = _HEIGHT * (1 - counts / max(counts.max(), 1.0))
    step = _WIDTH / _BINS
    steps = "".join(f"V{top:.1f}h{step:.2f}" for top in tops)
    mean = float(values.mean(dtype=np.float64))

    def place(value: float) -> float:
        return round(float(np.clip((value - low) / (high - low), 0, 1)) * _WIDTH, 1)

    left, right, at = (place(known[0] + k * known[1]) for k in (-1, 1, 0)) if known else (0.0, 0.0, 0.0)
    outline = f"M0 {_HEIGHT:g}{steps}V{_HEIGHT:g}Z"
    return Histogram(band, low, high, outline, mean, known, left, right, at, place(mean))

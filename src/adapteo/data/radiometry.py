"""From stored numbers to physical units, and the two mistakes that nobody notices: scale and the Sentinel-2 offset.

    reflectance = stored x scale + offset

Since processing baseline 04.00 (January 2022) Sentinel-2 products are stored with 1000 added; some archives take it
out again, some do not, and the file date does not tell (torchgeo issue 3224). `baseline_offset` therefore looks at
the image: a dark target (water, shadow, vegetation in the blue or short-wave infrared, anything in the cirrus band)
is near 0 in at least one band, so when the first percentile of *every* band is 0.095 or more, the offset is there.

Checked on the five TerraMind sites against evidence that the rule does not use. Level 1C: the minimum of the cirrus
band says that three sites carry it (1004, 1011, 1036 against 54 and 8), and the rule finds these three. Level 2A: in
the SWIR bands, where the atmosphere does little, regression on level 1C says that only 433D_629L_3_1 still carries
it (the two others are L1C minus 1000), and the rule finds that one.
Limits: a chip that is cloud, bright sand or snow from edge to edge in every band looks the same as one with the
offset; the cirrus band, or SWIR over snow, prevents this. Where products are mixed and chips small, write the offset
of each chip into the index (column ``offset``).
"""

from collections.abc import Sequence

import numpy as np

from adapteo.bands import BY_NAME
from adapteo.errors import DataError

OFFSET = -0.1
"""What is to be added to the reflectance of a product with the offset."""
DARKEST = 0.095
"""First percentile of the darkest band from which the offset is assumed (a little below 0.1: noise goes negative)."""
BRIGHTEST = 2.0
"""Median reflectance that no surface has."""

_SHORT = {"coastal", "blue", "red", "cirrus"}


def check_auto_offset(bands: Sequence[str]) -> None:
    """Refuse to judge the offset from bands that may all be bright.

    Raises:
        DataError: when the files have no coastal, blue, red or cirrus band, or hold something else than reflectance.
    """
    if not _SHORT & set(bands) or any(BY_NAME[name].kind != "optical" for name in bands):
        raise DataError(
            "`offset: auto` needs files of optical bands with at least one of coastal, blue, red, cirrus",
            fix="write a number, or the offset of each chip into a column `offset` of the index",
        )


def baseline_offset(image: np.ndarray) -> float:
    """Offset that takes an image ``(c, h, w)``, scaled to reflectance, back to 0: `OFFSET` or 0."""
    darkest = np.inf
    for band in _sampled(image, 4096):
        valid = band[~np.isnan(band)]
        if valid.size:
            rank = valid.size // 100
            darkest = min(darkest, float(np.partition(valid, rank)[rank]))
    return OFFSET if DARKEST <= darkest < np.inf else 0.0


def check_range(image: np.ndarray, bands: Sequence[str], scale: float, source: object) -> None:
    """Refuse optical bands ``(c, h, w)`` that cannot be reflectance, because the wrong scale trains without a word.

    Raises:
        DataError: the median of a file's optical bands is above `BRIGHTEST`; the fix names a scale.
    """
    optical = [i for i, name in enumerate(bands) if BY_NAME[name].kind == "optical" and name[:4] != "lwir"]
    values = _sampled(image, 512)[optical]
    values = values[~np.isnan(values)]
    if not values.size or (median := float(np.median(values))) <= BRIGHTEST:
        return
    stored = median / scale
    likely = "0.00392, which is 1/255 (8-bit pictures)" if stored < 256 else "0.0001 (Sentinel-2, HLS)"
    raise DataError(
        f"{source} is not reflectance: its median is {median:.4g} with `scale: {scale:g}`, and reflectance is 0 to 1",
        fix=f"set `scale` in the dataset section, e.g. {likely}",
    )


def _sampled(image: np.ndarray, count: int) -> np.ndarray:
    """Every n-th pixel, about ``count`` per band: ``(c, pixels)``."""
    pixels = image.reshape(len(image), -1)
    step = max(1, pixels.shape[1] // count) | 1  # odd, so that it does not walk down one column of a 512 x 512 chip
    return pixels[:, ::step]

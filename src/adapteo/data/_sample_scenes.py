"""What small stand-ins for published datasets are filled with: synthetic scenes in any band of the vocabulary.

Made from a seed (`adapteo.data.scenes` says how); good for trying out a whole experiment, never for its numbers.
"""

from collections.abc import Sequence

import numpy as np

from adapteo.bands import BY_NAME, HLS6, wavelengths
from adapteo.data._regions import COVERS, REGIONS
from adapteo.data._scene import make_scene

_SAMPLES = 3
"""First word of every seed sequence here; no scene is shared with `scenes` or with pre-training."""
_RADAR = {"vv": (0.045, 0.32), "vh": (0.008, 0.08)}  # intensity over water and over dense cover; orders of magnitude


def land(
    entropy: Sequence[int], region: str, side: int, bands: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Make a scene of land cover.

    Args:
        entropy: non-negative integers that name the scene.
        region: name of a region of `adapteo.data._regions`.
        side: pixels.
        bands: canonical names; optical ones are interpolated in wavelength, radar ones follow the near infrared.

    Returns:
        Reflectance, or intensity of radar bands, ``(c, side, side)`` float32; cover index ``(side, side)`` int64, its
        clouds filled with the most common cover; year and day of year.
    """
    scene = make_scene((_SAMPLES, *entropy), REGIONS[region], (side, side), "landcover")
    seen, truth = scene.image[0], scene.truth["landcover"]
    common = np.bincount(truth[truth >= 0].ravel(), minlength=len(COVERS)).argmax() if (truth >= 0).any() else 0
    rng = np.random.default_rng((_SAMPLES, *entropy))
    image = np.stack([backscatter(rng, seen, band) if band in _RADAR else interpolate(seen, band) for band in bands])
    year, day = (int(value) for value in scene.dates[0])
    return image.astype(np.float32), np.where(truth < 0, common, truth), (year, day)


def interpolate(seen: np.ndarray, band: str) -> np.ndarray:
    """One band ``(h, w)`` by linear interpolation between the six that a scene has."""
    known, at = wavelengths(HLS6), BY_NAME[band].wavelength or 0.0
    right = int(np.clip(np.searchsorted(known, at), 1, len(known) - 1))
    share = float(np.clip((at - known[right - 1]) / (known[right] - known[right - 1]), 0, 1))
    dark = 0.02 if band == "cirrus" else 1.0  # the air above the clouds lets almost nothing through
    return dark * ((1 - share) * seen[right - 1] + share * seen[right])


def backscatter(rng: np.random.Generator, seen: np.ndarray, band: str) -> np.ndarray:
    """Intensity ``(h, w)`` that grows with what shines in the near infrared, with speckle of four looks."""
    low, high = _RADAR[band]
    return (low + (high - low) * np.clip(seen[3] / 0.5, 0, 1)) * rng.gamma(4, 0.25, seen[3].shape)

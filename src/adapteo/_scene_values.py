"""A look at the numbers of a scene before it is mapped: what cannot be reflectance is refused, not mapped."""

from collections.abc import Callable, Sequence

import numpy as np

from adapteo.bands import BY_NAME
from adapteo.data.radiometry import check_range
from adapteo.data.raster import Scene
from adapteo.errors import DataError

_OVERVIEW = 512
_BLACK = 0.003
"""Reflectance that even deep water has in some pixels."""


def overview(scene: Scene, indexes: Sequence[int]) -> np.ndarray:
    """Five windows of a scene, corners and centre, side by side: ``(c, h, w)`` in stored numbers."""
    height, width = min(_OVERVIEW, scene.height), min(_OVERVIEW, scene.width)
    bottom, right = scene.height - height, scene.width - width
    places = {(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)}
    return np.concatenate([scene.read(row, col, height, width, indexes) for row, col in sorted(places)], axis=-1)


def check_values(
    values: np.ndarray, bands: Sequence[str], scale: float, source: object, tell: Callable[[str], None]
) -> None:
    """Refuse what cannot be reflectance: too bright as in training, or as good as black."""
    try:
        check_range(values, bands, scale, source)
    except DataError as error:
        raise DataError(error.problem, fix="say with --scale (and --offset) what the numbers mean") from error
    if np.isnan(values).all():
        tell(f"{source}: every pixel that was looked at is missing; correct the file's nodata if it should not be")
        return
    optical = values[[i for i, band in enumerate(bands) if BY_NAME[band].kind == "optical" and band[:4] != "lwir"]]
    brightest = float(np.nanpercentile(optical, 99)) if np.isfinite(optical).any() else 0.0
    if 0 < brightest < _BLACK:
        raise DataError(
            f"{source} is as good as black: 99 % of its values are below {brightest:.3g} with `scale: {scale:g}`",
            fix=f"its numbers reach {brightest / scale:.3g}: say with --scale what they mean, e.g. --scale 1",
        )

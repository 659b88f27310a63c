"""From stored numbers to reflectance: scale, offset and nodata of the scenes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from adapteo.bands import BY_NAME, L8, S2
from adapteo.data.radiometry import DARKEST, OFFSET, baseline_offset, check_auto_offset
from adapteo.errors import ConfigError, DataError
from adapteo.init._bands import Bands
from adapteo.init._imagery import Found

_REFLECTANCE = 2.0
_LANDSAT = (2.75e-5, -0.2)  # USGS, Landsat 8-9 Collection 2 Level 2 science product guide
_FILLS = (0.0, -9999.0, -32768.0, 65535.0)
_FILLED = 0.001  # of the pixels, from which a value in all bands at once is no coincidence


@dataclass(frozen=True)
class Values:
    """How the numbers are stored: physical value = stored value x scale + offset.

    Attributes:
        scale, offset, nodata: as the keys of the dataset `survey`; None for what the products or files say.
        why: how each was found out, by key.
        doubts: what may be wrong, one line each.
    """

    scale: float | None
    offset: float | Literal["auto"] | None
    nodata: float | None
    why: dict[str, str]
    doubts: tuple[str, ...] = ()


def tell_values(
    scenes: Sequence[Found],
    bands: Bands,
    scale: float | None = None,
    offset: float | Literal["auto"] | None = None,
    nodata: float | None = None,
) -> Values:
    """Find out how the scenes store their values; what is given is taken.

    Raises:
        ConfigError: it cannot be told; says what to add to the command.
    """
    why: dict[str, str] = {}
    doubts: list[str] = []
    if nodata is None:
        nodata = _fill(scenes)
        if nodata is not None:
            why["nodata"] = "all bands have it at once, and no file says that it is missing"
    if scale is None and offset is None and all(found.declared for found in scenes):
        why["scale"] = f"the {'products' if scenes[0].source.product else 'files'} say it"
        return Values(None, None, nodata, why)
    optical = [i for i, name in enumerate(bands.names) if BY_NAME[name].kind == "optical" and name[:4] != "lwir"]
    if not optical:
        return Values(scale, offset, nodata, why)
    pieces = np.concatenate([_valid(found.values[optical], nodata) for found in scenes])
    if not pieces.size:
        raise DataError(f"{scenes[0].scene.path} holds no valid pixels", fix="leave it out of --images")
    known: float | Literal["auto"] = 0.0
    if scale is None:
        scale, known, why["scale"] = _scale(scenes, pieces, bands, doubts)
    why.setdefault("scale", "--scale")
    if offset is None:
        offset = known or _auto(scenes, bands, scale, optical, doubts)
        if offset == "auto":
            why["offset"] = "finds in each scene whether 1000 was added (Sentinel-2 since 2022)"
        elif offset:
            why["offset"] = why["scale"]
    median = float(np.median(pieces)) * scale + (0.0 if offset == "auto" else offset)
    if not -0.2 <= median <= _REFLECTANCE:
        raise ConfigError(
            f"--scale {scale:g} makes the median of {scenes[0].scene.path.name} {median:.4g}; reflectance is 0 to 1",
            fix=f"the stored median is {np.median(pieces):.4g}: give another --scale, or leave it out",
        )
    return Values(None if (scale, offset) == (1, 0) else scale, offset or None, nodata, why, tuple(doubts))


def _scale(scenes: Sequence[Found], pieces: np.ndarray, bands: Bands, doubts: list[str]) -> tuple[float, float, str]:
    """Scale, offset and the reason."""
    low, median, high = np.percentile(pieces, (1, 50, 99)).tolist()
    whole = all("float" not in found.dtype for found in scenes)
    if high <= _REFLECTANCE and not whole:
        return 1.0, 0.0, "values are reflectance already"
    if all(found.dtype == "uint8" for found in scenes):
        doubts.append("8-bit pictures are no reflectance: models know less about them than about the original product")
        return 1 / 255, 0.0, "8-bit values"
    span = f"values of {low:.0f} to {high:.0f}"
    if low > 5000 and high < 65535 and (bands.sensor == L8 or scenes[0].scene.gsd > 25):
        return (*_LANDSAT, f"{span}, as in Landsat Collection 2 Level 2")
    if 20 < median <= 12000 and high <= 30000:
        return 1e-4, 0.0, f"{span}"
    raise ConfigError(
        f"{scenes[0].scene.path} holds {span} (median {median:.4g}): their scale cannot be told",
        fix="add --scale (and --offset): reflectance = stored value x scale + offset, e.g. --scale 1e-4",
    )


def _auto(
    scenes: Sequence[Found], bands: Bands, scale: float, optical: Sequence[int], doubts: list[str]
) -> float | Literal["auto"]:
    """Whether the offset of Sentinel-2 is to be looked for."""
    if scale != 1e-4:
        return 0.0
    whole = all("float" not in found.dtype for found in scenes)
    if bands.sensor == S2 and whole:
        try:
            check_auto_offset(bands.names)
        except DataError:
            pass
        else:
            return "auto"
    if bands.sensor in (S2, None):
        doubts.extend(
            f"{found.scene.path.name}: no band is darker than {DARKEST:g}: was 1000 added to it? (--offset {OFFSET})"
            for found in scenes
            if baseline_offset(found.values[list(optical)] * scale)
        )
    return 0.0


def _fill(scenes: Sequence[Found]) -> float | None:
    """A value that stands for missing without a word of the files."""
    for fill in _FILLS:
        shares = [float((found.values == fill).all(axis=0).mean()) for found in scenes]
        if max(shares) > _FILLED:
            return fill
    return None


def _valid(values: np.ndarray, nodata: float | None) -> np.ndarray:
    flat = values[~np.isnan(values)]
    return flat if nodata is None else flat[flat != nodata]

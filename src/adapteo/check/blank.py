"""Scenes with nothing in them: all missing, constant, or saturated."""

from collections.abc import Iterator

import numpy as np

from adapteo.check._findings import Check, Finding, number, share, some
from adapteo.check._pixels import Pixels
from adapteo.check._view import View

_NAME = "blank"
_SATURATED = 0.01


def _run(view: View) -> Iterator[Finding]:
    well = True
    what = "scene" if view.survey else "chip"
    empty = [p for p in view.pixels if np.isnan(p.values).all()]
    if empty:
        well = False
        yield Finding(
            "FAIL", _NAME, some([p.name for p in empty]),
            f"{number(len(empty), what)} with no pixel that is not missing",
            "its labels teach that nothing looks like something",
            view.change("scenes", "…") + " without it, or correct the file's nodata",
        )  # fmt: skip
    flat: dict[str, list[str]] = {}
    for p in view.pixels:
        bands = [band for band, values in zip(view.bands, p.values, strict=True) if _is_constant(values)]
        if bands:
            flat[p.name] = bands
    whole = [name for name, bands in flat.items() if len(bands) == len(view.bands)]
    for level, names in (("FAIL", whole), ("WARN", [name for name in flat if name not in whole])):
        if names:
            well = False
            bands = flat[names[0]]
            yield Finding(
                "FAIL" if level == "FAIL" else "WARN", _NAME, some(names),
                f"{number(len(names), what)} with the same value everywhere" + (
                    "" if level == "FAIL" else f" in {number(len(bands), 'band')} ({some(bands)})"
                ),
                "there is nothing to learn from; usually a failed download or an empty band",
                "get the file again, or leave it out of `scenes`",
                tuple(f"{name}: {', '.join(flat[name])}" for name in names),
            )  # fmt: skip
    full = {p.name: value for p in view.pixels if (value := _saturated(p)) > _SATURATED}
    if full:
        well = False
        worst = max(full, key=lambda name: full[name])
        yield Finding(
            "WARN", _NAME, some([*full]),
            f"{number(len(full), what)} with saturated pixels (worst {worst}: {share(full[worst], 1)} at the limit)",
            "clouds, or the file was stretched for display: contrast above is lost",
            "use the product's own numbers, not a picture; or mask clouds as nodata",
            tuple(f"{name}: {share(value, 1)} of the values" for name, value in full.items()),
        )  # fmt: skip
    if well:
        yield Finding("OK", _NAME, "", f"no empty, constant or saturated one among {number(len(view.pixels), what)}")


def _is_constant(band: np.ndarray) -> bool:
    known = band[~np.isnan(band)]
    return known.size > 1 and bool(known.min() == known.max())


def _saturated(pixels: Pixels) -> float:
    """Share of values at the largest number that the file's type holds."""
    kinds = {kind for kind in pixels.dtypes if np.dtype(kind).kind in "ui"}
    if len(kinds) != 1 or not pixels.values.size:
        return 0.0
    largest = np.iinfo(kinds.pop()).max * pixels.scale
    return float(np.isclose(pixels.values, largest, rtol=1e-6, atol=0).mean())


CHECK = Check(_run)

"""Values that the quantity cannot have: reflectance above 1.6, an index outside -1 to 1, and the like."""

from collections.abc import Iterator

import numpy as np

from adapteo.bands import BY_NAME
from adapteo.check._findings import Check, Finding, share, some
from adapteo.check._view import View
from adapteo.data.radiometry import BRIGHTEST

_NAME = "plausible"
_OPTICAL = (-0.1, 1.6)  # snow and clouds on slopes towards the sun exceed 1; correction overshoots below 0
_RADAR = (-60.0, 40.0)  # dB
_OTHER = {"ndvi": (-1.001, 1.001), "elevation": (-500.0, 9000.0), "slope": (0.0, 90.0)}
_SOME, _MANY = 0.005, 0.2
_FLAT = 0.02
"""Largest index by amount, from which on an index was scaled like reflectance."""


def _run(view: View) -> Iterator[Finding]:
    outside: dict[str, float] = {}
    details = []
    for i, band in enumerate(view.bands):
        low, high = _range(band)
        found = [_outside(view, i, low, high)] if high else []
        for value in found:
            details.append(f"{band}: {share(value, 1)} outside {low:g} to {high:g}")
            if value > _SOME:
                outside[band] = value
    squeezed = [band for i, band in enumerate(view.bands) if band == "ndvi" and view.scale < 0.1 and _flat(view, i)]
    if squeezed:
        yield Finding(
            "WARN", _NAME, "",
            f"{some(squeezed)} is an index that `scale: {view.scale:g}` has made smaller than {_FLAT}",
            "the model sees the same number everywhere in this band",
            "leave it out: " + _without(view, squeezed), tuple(details),
        )  # fmt: skip
    scaled = [band for band in outside if BY_NAME[band].kind == "optical"]
    if scaled and _unscaled(view):  # the check of the scale says so
        outside = {band: value for band, value in outside.items() if band not in scaled}
    if outside:
        worst = max(outside, key=lambda band: outside[band])
        low, high = _range(worst)
        yield Finding(
            "FAIL" if outside[worst] > _MANY else "WARN", _NAME, "",
            f"{some([*outside])}: {share(outside[worst], 1)} of the values of {worst} lie outside {low:g} to {high:g}",
            "a few such values outweigh all others when the image is normalised",
            view.change("nodata", "…") + " if it is one value; else mask them in the files", tuple(details),
        )  # fmt: skip
    elif not squeezed:
        said = "judged when `scale` is right" if scaled else f"{len(view.bands)} bands, within what is possible"
        yield Finding("OK", _NAME, "", said, details=tuple(details))


def _range(band: str) -> tuple[float, float]:
    kind = BY_NAME[band].kind
    if kind == "optical":
        return (0.0, 0.0) if band.startswith("lwir") else _OPTICAL
    return _RADAR if kind == "radar" else _OTHER.get(band, (0.0, 0.0))


def _outside(view: View, band: int, low: float, high: float) -> float:
    wrong = known = 0
    for pixels in view.pixels:
        values = view.physical(pixels)[band]
        known += int((~np.isnan(values)).sum())
        wrong += int(((values < low) | (values > high)).sum())
    return wrong / known if known else 0.0


def _flat(view: View, band: int) -> bool:
    largest = [float(np.nanmax(np.abs(p.values[band]))) for p in view.pixels if not np.isnan(p.values[band]).all()]
    return bool(largest) and max(largest) < _FLAT


def _unscaled(view: View) -> bool:
    medians = [float(np.nanmedian(v)) for p in view.pixels if not np.isnan(v := p.values[view.optical]).all()]
    return bool(medians) and float(np.median(medians)) > BRIGHTEST


def _without(view: View, left_out: list[str]) -> str:
    return f"`train.bands: [{', '.join(band for band in view.bands if band not in left_out)}]`"


CHECK = Check(_run)

"""The offset of 1000 in Sentinel-2 products since processing baseline 04.00, seen in the pixels of each scene."""

import re
from collections.abc import Iterator

import numpy as np

from adapteo.bands import HLS_L30, HLS_S30, L8
from adapteo.check._findings import Check, Finding, number, some
from adapteo.check._pixels import Pixels
from adapteo.check._view import View
from adapteo.data.radiometry import BRIGHTEST, OFFSET

_NAME = "offset"
_SHORT = {"coastal", "blue", "red", "cirrus"}
_OTHERS = {HLS_S30, HLS_L30, L8}
_IN_NAME = re.compile(r"_N(\d{4})[_.]")
_TAGS = ("processing_baseline", "processing:baseline", "s2:processing_baseline")
_FIRST = 4.0
_NEAR = 0.01


def _run(view: View) -> Iterator[Finding]:
    sensor = vars(view.dataset).get("sensor")
    if sensor in _OTHERS or not _SHORT & {view.bands[i] for i in view.optical}:
        why = f"{sensor} has none" if sensor in _OTHERS else "no coastal, blue, red or cirrus band to see it in"
        yield Finding("OK", _NAME, "", f"not looked for: {why}")
        return
    shows = {p.name: view.shows_offset(p, _to_reflectance(view, p)) for p in view.pixels}
    says = {p.name: _baseline(p) for p in view.pixels}
    having, without = ([name for name in shows if shows[name] is found] for found in (True, False))
    kept = [p.name for p in view.pixels if shows[p.name] and abs(p.offset - OFFSET) > _NEAR and not p.settled]
    removed = [p.name for p in view.pixels if not shows[p.name] and abs(p.offset - OFFSET) < _NEAR and not p.settled]
    details = tuple(
        f"{name}: {'offset of 1000' if shows[name] else 'no offset'} in the pixels{_metadata(says[name])}"
        for name in shows
    )
    what = "scene" if view.survey else "chip"
    older = [name for name in having if says[name] is not None and (says[name] or 0) < _FIRST]
    if older:
        yield Finding(
            "WARN", _NAME, some(older),
            f"{number(len(older), what)} bright in every band as with the offset, but made before it (baseline < 4)",
            "with `offset: auto` 0.1 is taken away from snow, cloud or sand that is really bright",
            view.change("offset", "0.0"), details,
        )  # fmt: skip
    elif view.finds_offset:
        yield Finding(
            "OK",
            _NAME,
            "",
            f"found in {len(having)} of {number(len(shows), what)}, where it is taken out",
            details=details,
        )
    elif kept:
        sure = bool(without) or any((says[name] or 0) >= _FIRST for name in kept)
        yield Finding(
            "FAIL" if sure else "WARN", _NAME, some(kept),
            f"{len(kept)} of {number(len(shows), what)} carry the offset of 1000 (Sentinel-2 baseline 04.00)",
            "their reflectance is 0.1 too high; what is learned on some is wrong on the others" if without
            else "reflectance is 0.1 too high: not what the backbone knows, and not like scenes without it",
            view.change("offset", "auto"), details,
        )  # fmt: skip
    elif removed:
        yield Finding(
            "FAIL", _NAME, some(removed),
            f"{len(removed)} of {number(len(shows), what)} do not carry the offset that is taken out of all",
            "their reflectance is 0.1 too low, dark ground negative", view.change("offset", "auto"), details,
        )  # fmt: skip
    else:
        said = f"none in {number(len(shows), what)}"
        if having:
            said = f"in {len(having)} of {number(len(shows), what)}, where it is taken out"
        yield Finding("OK", _NAME, "", said, details=details)


def _to_reflectance(view: View, pixels: Pixels) -> float:
    """1, or 1e-4 where the configured scale was forgotten, which another check says."""
    known = pixels.values[view.optical]
    known = known[~np.isnan(known)]
    return 1e-4 if known.size and np.median(known) > 50 * BRIGHTEST else 1.0


def _baseline(pixels: Pixels) -> float | None:
    """Processing baseline that the file's name or tags tell, e.g. 5.09."""
    if found := _IN_NAME.search(pixels.path.as_posix() if pixels.path else ""):
        return int(found[1]) / 100
    tags = {key.lower(): value for key, value in pixels.tags.items()}
    text = next((tags[key] for key in _TAGS if key in tags), "")
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def _metadata(baseline: float | None) -> str:
    if baseline is None:
        return "; the metadata do not say"
    return f"; baseline {baseline:05.2f}" + (" (with it when it was made)" if baseline >= _FIRST else " (made without)")


CHECK = Check(_run)

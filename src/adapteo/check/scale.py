"""Scale of the values against what the backbone was pre-trained on: off by 10,000, 255, or in other units."""

from collections.abc import Iterator

import numpy as np

from adapteo.bands import BY_NAME
from adapteo.check._findings import Check, Finding, some
from adapteo.check._view import View

_NAME = "scale"
_APART = 6.0
"""Ratio to the usual mean from which a scale is wrong; snow against the mean of all land is below it."""
_TYPICAL = 0.15
"""Mean reflectance of land over the optical bands, where nothing is known of the backbone's images."""
_DEVIATIONS = 2.0
_FACTORS = (1e-4, 1e4, 1 / 255, 255.0, 1e-3, 1e3, 1e-2, 1e2, 0.1, 10.0, 1 / 65535, 65535.0)


def _run(view: View) -> Iterator[Finding]:
    means = _means(view)
    known = dict(view.pretraining.bands) if view.pretraining else {}
    shared = [band for band in view.bands if band in known and np.isfinite(means[band])]
    said = view.pretraining.title if view.pretraining else "usual reflectance"
    details = tuple(
        f"{band}: mean {means[band]:.4g}, {said} {known[band][0]:.4g} ± {known[band][1]:.4g}" for band in shared
    )
    optical = [view.bands[i] for i in view.optical if np.isfinite(means[view.bands[i]])]
    ratios = [means[band] / (known[band][0] if band in known else _TYPICAL) for band in optical]
    middle = float(np.median(ratios)) if ratios else 1.0
    if middle <= 0 or not 1 / _APART < middle < _APART:
        yield _wrong(view, middle, {band: means[band] for band in optical}, said, details)
        return
    linear = [band for band in shared if BY_NAME[band].kind == "radar" and means[band] > 0 > known[band][0]]
    if linear:
        band = linear[0]
        yield Finding(
            "FAIL", _NAME, "",
            f"{some(linear)}: mean {means[band]:.3g}, {said} has {known[band][0]:.3g} dB: is it linear power?",
            "the model sees radar as brighter than anything it knows",
            "write the files in decibel, 10 x log10(value), e.g. with gdal_calc.py", details,
        )  # fmt: skip
        return
    far = [band for band in shared if abs(means[band] - known[band][0]) > _DEVIATIONS * known[band][1]]
    if far:
        band = far[0]
        yield Finding(
            "WARN", _NAME, "",
            f"{some(far)}: the mean is more than {_DEVIATIONS:g} standard deviations away from {said} ({band}: "
            f"{means[band]:.3g}, there {known[band][0]:.3g} ± {known[band][1]:.3g})",
            "the backbone gets inputs that it has rarely seen; the head start makes up for some of it",
            "train.normalise: dataset" if len(far) > len(shared) / 2 else "check the band names and units", details,
        )  # fmt: skip
        return
    if not optical and not shared:
        yield Finding("OK", _NAME, "", "no band that could be compared")
        return
    compared = f"{len(shared)} bands within {_DEVIATIONS:g} standard deviations of {said}"
    yield Finding("OK", _NAME, "", compared if shared else f"{len(optical)} bands are reflectance", details=details)


def _means(view: View) -> dict[str, float]:
    """Mean of each band over all scenes, each of them with the same weight."""
    each = []
    for pixels in view.pixels:
        values = view.physical(pixels).reshape(len(view.bands), -1)
        known = ~np.isnan(values)
        count = known.sum(axis=1)
        total = np.where(known, values, 0).sum(axis=1, dtype=np.float64)
        each.append(np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0))
    if not each:
        return dict.fromkeys(view.bands, float("nan"))
    table = np.array(each)
    count = (~np.isnan(table)).sum(axis=0)
    means = np.divide(np.nansum(table, axis=0), count, out=np.full(table.shape[1], np.nan), where=count > 0)
    return dict(zip(view.bands, means.tolist(), strict=True))


def _wrong(view: View, ratio: float, means: dict[str, float], said: str, details: tuple[str, ...]) -> Finding:
    band, mean = next(iter(means.items()))
    factor = min(_FACTORS, key=lambda f: abs(np.log10(max(ratio, 1e-12) * f)))
    fits = ratio > 0 and abs(np.log10(ratio * factor)) < np.log10(_APART)
    times = f"{ratio:,.0f} times larger than" if ratio > 1 else f"{1 / max(ratio, 1e-12):,.0f} times smaller than"
    times = times if ratio > 0 else "negative, unlike"
    right = view.scale * factor
    change = view.change("scale", f"{right:.3g}") if fits else "set `scale` and `offset` so that reflectance is 0 to 1"
    return Finding(
        "FAIL", _NAME, "", f"values are {times} {said} (mean of {band}: {mean:.4g}), with `scale: {view.scale:g}`",
        "the backbone sees every image as black or white; it trains without an error and learns little", change,
        details or tuple(f"{name}: mean {value:.4g}" for name, value in means.items()),
    )  # fmt: skip


CHECK = Check(_run)

"""Missing pixels: nodata, NaN, infinite values, masked or transparent areas."""

from collections.abc import Iterator

import numpy as np

from adapteo.check._findings import Check, Finding, number, share, some
from adapteo.check._view import View

_NAME = "missing"
_MUCH = 0.5
"""Share of missing pixels from which a scene is worth a look."""


def _run(view: View) -> Iterator[Finding]:
    shares = {p.name: float(np.isnan(p.values).any(axis=0).mean()) for p in view.pixels}
    each = tuple(f"{name}: {share(value, 1)} missing" for name, value in shares.items())
    infinite = {p.name: p.infinite for p in view.pixels if p.infinite}
    if infinite:
        yield Finding(
            "WARN", _NAME, some([*infinite]),
            f"{sum(infinite.values()):,} infinite values in {number(len(infinite), 'scene')}",
            "they are taken as missing; often a division by 0 that also made wrong values beside them",
            "write the file again where the index or ratio in it was computed",
            tuple(f"{name}: {count:,} infinite values" for name, count in infinite.items()),
        )  # fmt: skip
    partly = [
        p.name for p in view.pixels
        if (np.isnan(p.values).any(axis=0) & ~np.isnan(p.values).all(axis=0)).mean() > 0.01
    ]  # fmt: skip
    if partly:
        yield Finding(
            "WARN", _NAME, some(partly),
            f"{number(len(partly), 'scene')} with pixels that are missing in some bands only (more than 1 %)",
            "the missing bands are set to their mean, so the model sees a spectrum that does not exist",
            "mask such pixels in all bands, or leave the band out with `train.bands`",
        )  # fmt: skip
    much = [name for name, value in shares.items() if _MUCH <= value < 1]
    if much:
        worst = max(much, key=lambda name: shares[name])
        yield Finding(
            "WARN", _NAME, some(much),
            f"{number(len(much), 'scene')} of {len(shares)} with half or more missing (worst {worst}: "
            f"{share(shares[worst], 1)})",
            "missing pixels carry nothing; windows are padded with them",
            view.change("scenes", "…") + " without them, if other scenes show the place",
            each,
        )  # fmt: skip
    elif not infinite and not partly:
        mean = float(np.mean([*shares.values()])) if shares else 0.0
        what = "scene" if view.survey else "chip"
        yield Finding("OK", _NAME, "", f"{share(mean, 1)} missing over {number(len(shares), what)}", details=each)


CHECK = Check(_run)

"""Scenes that store their values in different ways, so that one scale cannot fit all."""

from collections.abc import Iterator

import numpy as np

from adapteo.check._findings import Check, Finding, number, some
from adapteo.check._view import View

_NAME = "dtypes"
_APART = 20.0
"""Ratio of median values from which two scenes cannot have the same scale."""


def _run(view: View) -> Iterator[Finding]:
    kinds: dict[str, list[str]] = {}
    medians: dict[str, float] = {}
    for p in view.pixels:
        if p.dtypes:
            kinds.setdefault("/".join(sorted(set(p.dtypes))), []).append(p.name)
        known = np.abs(p.values[~np.isnan(p.values)])
        if known.size and (middle := float(np.median(known))) > 0:
            medians[p.name] = middle
    typical = float(np.median([*medians.values()])) if medians else 1.0
    odd = [name for name, value in medians.items() if not 1 / _APART < value / typical < _APART]
    told = tuple(f"{kind}: {some(names, 20)}" for kind, names in kinds.items())
    if odd and len(odd) < len(medians):
        first = odd[0]
        write = "`gdal_translate -ot Int16 -scale 0 1 0 10000`"
        yield Finding(
            "FAIL", _NAME, some(odd),
            f"{number(len(odd), 'scene')} of {len(medians)} with values of another size: median {medians[first]:.3g} "
            f"in {first}, {typical:.3g} in most",
            "one `scale` cannot fit both; the model sees these scenes as black or white",
            f"write them like the others, e.g. {write}, or leave them out of `scenes`",
            (*told, *(f"{name}: median {value:.4g}" for name, value in medians.items())),
        )  # fmt: skip
    elif len(kinds) > 1:
        rare = min(kinds, key=lambda kind: len(kinds[kind]))
        yield Finding(
            "WARN", _NAME, some(kinds[rare]), f"different types of values: {some([*kinds])}",
            "their values have the same size, so one `scale` fits; a nodata of one may be a value of the other",
            "see that nodata is the same in all (`gdalinfo`), or write them alike with `gdal_translate -ot`", told,
        )  # fmt: skip
    else:
        said = f"all of one type ({next(iter(kinds))})" if kinds else "all of one size"
        yield Finding("OK", _NAME, "", said)


CHECK = Check(_run)

"""Polygons of different classes that cover the same ground."""

from collections.abc import Iterator

import numpy as np
import shapely

from adapteo.check._findings import Check, Finding, number
from adapteo.check._view import View

_NAME = "overlapping"
_MOST = 50_000
"""Pairs whose common area is computed, at most."""
_EDGE = 1.0
"""Pixels of common area up to which two polygons are neighbours that were drawn a little too far."""


def _run(view: View) -> Iterator[Finding]:
    labels = view.drawn
    chosen = np.flatnonzero(labels.kinds == "polygon") if labels is not None else np.empty(0, np.int64)
    if labels is None or not chosen.size:
        yield Finding("OK", _NAME, "", "no polygons")
        return
    scene = view.scenes[0]
    here = labels.to_crs(scene.crs)
    chosen = np.flatnonzero(here.kinds == "polygon")
    shapes, codes, rows = here.geometry[chosen], here.codes[chosen], here.rows[chosen]
    one, other = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    kept = (one < other) & (codes[one] != codes[other])
    one, other = one[kept][:_MOST], other[kept][:_MOST]
    areas = shapely.area(shapely.intersection(shapes[one], shapes[other]))
    a, b, _, d, e, _ = scene.transform
    pixel = abs(a * e - b * d)
    clear = np.flatnonzero(areas > _EDGE * pixel)
    if not clear.size:
        yield Finding(
            "OK", _NAME, labels.path.name, f"{len(np.unique(rows)):,} polygons, none over one of another class"
        )
        return
    order = clear[np.argsort(-areas[clear])]
    told = tuple(
        f"rows {rows[one[i]] + 1} ({here.classes[codes[one[i]]]}) and {rows[other[i]] + 1} "
        f"({here.classes[codes[other[i]]]}): {areas[i] / pixel:,.0f} pixels"
        for i in order[:100].tolist()
    )
    yield Finding(
        "WARN", _NAME, labels.path.name,
        f"{number(clear.size, 'pair')} of polygons of different classes overlap, on "
        f"{areas[clear].sum() / pixel:,.0f} pixels: {told[0]}",
        "the later row in the file is seen; the earlier one is not learned there",
        "cut one from the other (QGIS: Difference), or put the right one later in the file", told,
    )  # fmt: skip


CHECK = Check(_run, survey=True)

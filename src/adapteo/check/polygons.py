"""Geometries: repaired, left out, doubtful, or smaller than a pixel."""

from collections.abc import Iterator

import numpy as np
import shapely

from adapteo.check._findings import Check, Finding, number, some
from adapteo.check._view import View
from adapteo.data._projection import is_geographic
from adapteo.data.vector import Labels

_NAME = "polygons"


def _run(view: View) -> Iterator[Finding]:
    labels = view.drawn
    if labels is None:
        yield Finding("OK", _NAME, "", "labels are masks, no geometries")
        return
    file, well = labels.path.name, True
    if labels.repaired:
        well = False
        yield Finding(
            "WARN", _NAME, file, f"{number(labels.repaired, 'invalid geometry', 'invalid geometries')} repaired",
            "an edge that crosses itself encloses something else than what was meant, where it crosses",
            "look at them in QGIS: Vector > Geometry Tools > Check Validity",
        )  # fmt: skip
    dropped = [reason for reason in labels.dropped if "without a class" not in reason]
    doubts = [doubt for doubt in labels.doubts if "look like degrees" not in doubt]
    for told, effect in ((dropped, "they are not used"), (doubts, "they are used as said")):
        if told:
            well = False
            yield Finding("WARN", _NAME, file, "; ".join(told), effect, "correct them in a GIS, or leave it")
    tiny = _tiny(view, labels)
    if tiny.size:
        well = False
        yield Finding(
            "WARN", _NAME, file, f"{number(tiny.size, 'polygon')} smaller than a pixel ({view.scenes[0].gsd:.4g} m)",
            "most of them cover no pixel's centre, and are then not used",
            "draw them larger, use finer scenes, or save their centres as points",
            (f"rows {some((tiny + 1).tolist(), 100)}, counted from 1",),
        )  # fmt: skip
    if well:
        kinds = ", ".join(
            f"{count:,} {kind}s" for kind, count in zip(*np.unique(labels.kinds, return_counts=True), strict=True)
        )
        yield Finding("OK", _NAME, file, f"{kinds}, all valid")


def _tiny(view: View, labels: Labels) -> np.ndarray:
    """Rows of the file whose polygons together are smaller than a pixel of the first scene, in its system."""
    scene = view.scenes[0]
    here = labels.to_crs(scene.crs)
    chosen = here.kinds == "polygon"
    a, b, _, d, e, _ = scene.transform
    rows, part = np.unique(here.rows[chosen], return_inverse=True)
    if not rows.size:
        return rows
    areas = np.bincount(part, shapely.area(here.geometry[chosen]))
    pixel = abs(a * e - b * d)
    assert not is_geographic(scene.crs) or pixel < 1, "degrees against degrees"
    found: np.ndarray = rows[areas < pixel]
    return found


CHECK = Check(_run, survey=True)

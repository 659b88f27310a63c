"""Training and test that share ground: windows that overlap, labels in two scenes, blocks that are too close."""

from collections.abc import Iterator

import numpy as np
import shapely

from adapteo.check._findings import Check, Finding, number
from adapteo.check._view import View
from adapteo.data._projection import WGS84, reproject

_NAME = "leakage"
_MOST = 20_000
_SHARE = 0.01
"""Of a window that must be common ground; less is what reprojection makes of neighbours."""


def _run(view: View) -> Iterator[Finding]:
    plan, survey = view.plan, view.survey
    assert survey is not None, "the check needs one"
    by = survey.splits.by if survey.splits else "block"
    pairs = _common_ground(view)
    if pairs:
        first = pairs[0]
        yield Finding(
            "FAIL", _NAME, "",
            f"{number(len(pairs), 'pair')} of windows of different splits show the same ground, e.g. {first}",
            "the test sees what the training saw: its scores are too good for any other place",
            view.change("splits.by", "block") + ", or put scenes of one place into one split", tuple(pairs[:100]),
        )  # fmt: skip
    if by == "random":
        yield Finding(
            "WARN", _NAME, "", "`splits.by` is random: test windows lie beside training windows",
            "scores are too good for any other place", view.change("splits.by", "block"),
        )  # fmt: skip
        return
    gsd = view.scenes[0].gsd
    alike, block = (plan.range.distance * gsd if plan.range else 0.0), plan.block * gsd
    apart = plan.labelling.buffer * gsd
    if block and alike > block:
        yield Finding(
            "WARN", _NAME, "",
            f"labels resemble each other within {alike:,.0f} m, but blocks are {block:,.0f} m, "
            f"the buffer {apart:,.0f} m",
            "neighbouring blocks are alike, so that scores are somewhat too good for a place farther away",
            "label more places, or keep one scene or region for the test (`splits: {by: scene}`)", plan.notes,
        )  # fmt: skip
    elif not pairs:
        how = {"block": f"blocks of {block:,.0f} m, {apart:,.0f} m apart"}.get(by, f"split by {by}")
        yield Finding("OK", _NAME, "", f"no window of one split shows ground of another; {how}", details=plan.notes)


def _common_ground(view: View) -> list[str]:
    """Pairs of windows of different splits that show the same ground."""
    plan, survey = view.plan, view.survey
    assert survey is not None, "the check needs one"
    keys = list(plan.windows)[:_MOST]
    boxes, index = [], []
    for number_, scene in enumerate(view.scenes):
        own = [i for i, key in enumerate(keys) if plan.windows[key].scene == number_]
        shapes = np.array([_outline(view, keys[i]) for i in own], object)
        if own:
            moved, source = reproject(shapes, scene.crs, WGS84)
            boxes.append(moved)
            index.append(np.array(own)[source])
    if not boxes:
        return []
    ground, at = np.concatenate(boxes), np.concatenate(index)
    parts = np.array([plan.windows[key].part for key in keys])[at]
    one, other = shapely.STRtree(ground).query(ground, predicate="intersects")
    kept = (one < other) & (parts[one] != parts[other])
    one, other = one[kept], other[kept]
    common = shapely.area(shapely.intersection(ground[one], ground[other])) / shapely.area(ground[one])
    found = np.flatnonzero(common > _SHARE)
    return [
        f"{keys[at[one[i]]]} ({parts[one[i]]}) and {keys[at[other[i]]]} ({parts[other[i]]})" for i in found.tolist()
    ]


def _outline(view: View, key: str) -> shapely.Polygon:
    """A window within its scene, in map coordinates."""
    window, survey = view.plan.windows[key], view.survey
    assert survey is not None, "the check needs one"
    scene = view.scenes[window.scene]
    top, left = max(window.row, 0), max(window.col, 0)
    bottom, right = min(window.row + survey.chip, scene.shape[0]), min(window.col + survey.chip, scene.shape[1])
    corners = [scene.place(row, col)[2::3] for row, col in ((top, left), (top, right), (bottom, right), (bottom, left))]
    return shapely.Polygon(corners)


CHECK = Check(_run, survey=True)

"""The same pixels twice: one file under two names, or one scene in two."""

import hashlib
from collections.abc import Iterator

import numpy as np

from adapteo.check._findings import Check, Finding, number, some
from adapteo.check._view import View
from adapteo.data._survey_scenes import SceneFile

_NAME = "duplicates"
_SIDE = 64
_PAIRS = 300
"""Pairs of overlapping scenes that are compared, at most."""


def _run(view: View) -> Iterator[Finding]:
    groups: dict[str, list[int]] = {}
    for i, p in enumerate(view.pixels):
        if not np.isnan(p.values).all():
            digest = hashlib.blake2b(p.values.tobytes(), digest_size=16).hexdigest() + str(p.values.shape)
            groups.setdefault(digest, []).append(i)
    same = [[view.pixels[i] for i in found] for found in groups.values() if len(found) > 1]
    what = "scene" if view.survey else "chip"
    for found in same:
        names = [p.name for p in found]
        parts = sorted({p.part for p in found} - {""})
        leaks = len(parts) > 1
        where = f", in {' and '.join(parts)}" if leaks else ""
        yield Finding(
            "FAIL" if leaks or _one_place(view, names) else "WARN", _NAME, some(names),
            f"the same pixels in {number(len(names), what)}: {some(names)}{where}",
            "the test sees what the training saw: its scores mean nothing" if leaks
            else "they count twice, and one may train while the other tests",
            view.change("scenes", "…") + " with one of them only" if view.survey else "delete all but one of them",
        )  # fmt: skip
    pairs = _overlaps(view, {p.name for found in same for p in found}) if view.survey else []
    if pairs:
        yield Finding(
            "WARN", _NAME, some([one for one, _ in pairs]),
            f"{number(len(pairs), 'pair')} of scenes with equal pixels where they overlap: {some(pairs[0], 2)}",
            "labels there are used twice, and weigh twice",
            view.change("scenes", "…") + " without one of each pair, or a mosaic of them",
            tuple(f"{one} and {other}" for one, other in pairs),
        )  # fmt: skip
    if not same and not pairs:
        yield Finding("OK", _NAME, "", f"{number(len(view.pixels), what)}, no two with the same pixels")


def _one_place(view: View, names: list[str]) -> bool:
    """Whether scenes with the same pixels also lie in the same place, so that every label is used twice."""
    if view.survey is None:
        return False
    places = {(scene.grid, scene.origin) for scene in view.scenes if scene.name in names}
    return len(places) == 1


def _overlaps(view: View, known: set[str]) -> list[tuple[str, str]]:
    """Scenes on one grid of pixels that are equal in the middle of what they share."""
    found: list[tuple[str, str]] = []
    looked = 0
    for i, one in enumerate(view.scenes):
        for other in view.scenes[i + 1 :]:
            box = _shared(one, other)
            if box is None or {one.name, other.name} <= known:
                continue
            looked += 1
            if looked > _PAIRS:
                return found
            first, second = (_piece(scene, box) for scene in (one, other))
            if np.array_equal(first, second, equal_nan=True) and np.nanmin(first) < np.nanmax(first):
                found.append((one.name, other.name))
    return found


def _shared(one: SceneFile, other: SceneFile) -> tuple[int, int, int, int] | None:
    """Top, left, height, width, on the common grid, of the middle of what two scenes share."""
    if one.grid != other.grid:
        return None
    sides = []
    for axis in (0, 1):
        low = max(one.origin[axis], other.origin[axis])
        high = min(one.origin[axis] + one.shape[axis], other.origin[axis] + other.shape[axis])
        if high - low < 2:
            return None
        size = min(_SIDE, high - low)
        sides.append((low + (high - low - size) // 2, size))
    return sides[0][0], sides[1][0], sides[0][1], sides[1][1]


def _piece(scene: SceneFile, box: tuple[int, int, int, int]) -> np.ndarray:
    top, left, height, width = box
    with scene.open_stored() as file:
        return file.read(top - scene.origin[0], left - scene.origin[1], height, width)


CHECK = Check(_run)

"""Values that mean "nothing here" without anybody saying so: 0, -9999, 65535 in images; 0 or 255 in masks."""

from collections.abc import Iterator

import numpy as np

from adapteo.check._findings import Check, Finding, number, share, some
from adapteo.check._pixels import Pixels
from adapteo.check._view import View
from adapteo.data._mask_labels import HIDDEN, MaskLabels

_NAME = "hidden_nodata"
_MARKS = (0.0, -9999.0, -32768.0, 32767.0, 65535.0, 255.0, -999.0, -1.0, 1e20)
_SOME, _MANY = 0.005, 0.1
_MOST_CLASSES = 2


def _run(view: View) -> Iterator[Finding]:
    found: dict[str, tuple[float, float]] = {}
    for p in view.pixels:
        for mark in _MARKS:
            covered = _share(p, mark * p.scale)
            if covered > _SOME:
                found[p.name] = mark, covered
                break
    if found:
        mark, _ = next(iter(found.values()))
        names = [name for name, (value, _) in found.items() if value == mark]
        worst = max(names, key=lambda name: found[name][1])
        what = "scene" if view.survey else "chip"
        yield Finding(
            "FAIL" if found[worst][1] > _MANY else "WARN", _NAME, some(names),
            f"{number(len(names), what)} with exactly {mark:g} in every band on {share(found[worst][1], 1)} of the "
            f"area ({worst}), and nodata is not {mark:g}",
            "missing ground is learned and mapped as if it were dark ground" if mark <= 0
            else "missing ground is learned and mapped as if it were bright ground",
            view.change("nodata", f"{mark:g}"),
            tuple(f"{name}: {value:g} on {share(part, 1)}" for name, (value, part) in found.items()),
        )  # fmt: skip
    masks = _masks(view.labels) if view.survey is not None and isinstance(view.labels, MaskLabels) else []
    yield from masks
    if not found and not masks:
        yield Finding("OK", _NAME, "", "no value that stands for missing pixels without being declared")


def _share(pixels: Pixels, mark: float) -> float:
    """Share of pixels that have a value in every band, next to others that have it as well."""
    same = np.isclose(pixels.values, mark, rtol=1e-6, atol=0).all(axis=0)
    if len(pixels.values) == 1 and mark == 0:  # a band of its own may be 0 here and there: radar, an index
        same = _solid(same)
    return float(same.mean()) if same.size else 0.0


def _solid(same: np.ndarray) -> np.ndarray:
    """Where the pixels above, below, left and right are the same as well."""
    inner = same.copy()
    inner[1:] &= same[:-1]
    inner[:-1] &= same[1:]
    inner[:, 1:] &= same[:, :-1]
    inner[:, :-1] &= same[:, 1:]
    return inner


def _masks(labels: MaskLabels) -> list[Finding]:
    """What 0 and 255 are in masks."""
    counts: dict[int, int] = {}
    for mask in labels.masks:
        for value, count in mask.counts.items():
            counts[value] = counts.get(value, 0) + count
    total = sum(counts.values())
    out = []
    if HIDDEN in counts and HIDDEN not in labels.values and not all(mask.nodata == HIDDEN for mask in labels.masks):
        files = [mask.path.name for mask in labels.masks if HIDDEN in mask.counts]
        only = len(labels.values) < _MOST_CLASSES
        out.append(
            Finding(
                "FAIL" if only else "WARN",
                _NAME,
                some(files),
                f"{HIDDEN} on {share(counts[HIDDEN], total)} of {number(len(files), 'mask')}, and it is no class",
                "it is ignored; if it means a class (0 and 255 as black and white), that class is not learned",
                f"`class_names: {{0: background, {HIDDEN}: …}}` if it is a class, `ignore_values: [{HIDDEN}]` if not",
            )
        )
    unnamed = labels.values and 0 in labels.values and labels.classes[labels.values.index(0)] == "0"
    if unnamed and len(labels.values) > _MOST_CLASSES and counts.get(0, 0) > total / 2:
        out.append(
            Finding(
                "WARN",
                _NAME,
                labels.masks[0].path.name,
                f"0 covers {share(counts[0], total)} of the masks, has no name, and is taken as a class",
                "if 0 means that nobody looked there, the model learns that nothing is there",
                "`ignore_values: [0]` if it is not labelled, or name it: `class_names: {0: background, …}`",
            )
        )
    return out


CHECK = Check(_run)

"""Samples and classes of each split: empty splits, few windows, classes that a split lacks, rare classes."""

from collections.abc import Iterator

import numpy as np

from adapteo.check._findings import Check, Finding, share, some
from adapteo.check._view import PARTS, View

_NAME = "balance"
_FEW = {"train": 20, "val": 5, "test": 5}
_RARE = 0.01


def _run(view: View) -> Iterator[Finding]:
    parts = {name: len(keys) for name, keys in view.parts.items()}
    counts = {part: np.zeros(len(view.classes)) for part in parts}
    for window in view.windows:
        counts[window.part] += window.counts
    sizes = ", ".join(f"{name} {count:,}" for name, count in parts.items())
    details = (
        f"samples: {sizes}",
        *(f"{part}: {_shares(view, found)}" for part, found in counts.items() if found.any()),
    )
    well = True
    for finding in (*_empty(view, parts), *_lacking(view, counts), *_rare(view, counts)):
        well = False
        yield Finding(finding.level, _NAME, finding.path, finding.problem, finding.effect, finding.change, details)
    if well:
        yield Finding("OK", _NAME, "", f"samples: {sizes}; every class in every split", details=details)


def _empty(view: View, parts: dict[str, int]) -> Iterator[Finding]:
    remedy = view.change("chip", str(max(16, view.survey.chip // 2))) if view.survey else "change `splits`"
    for name in PARTS:
        count = parts.get(name, 0)
        if not count:
            yield Finding(
                "FAIL" if name != "test" else "WARN", _NAME, "", f"the split '{name}' has no sample",
                "training needs it" if name != "test" else "there is no table that says how good the map is",
                f"{remedy}, or give it a part with `splits`",
            )  # fmt: skip
    few = [name for name in PARTS if 0 < parts.get(name, 0) < _FEW[name]]
    if few:
        told = ", ".join(f"{name} {parts[name]}" for name in few)
        yield Finding(
            "WARN", _NAME, "", f"few samples: {told}",
            "scores of so few samples differ a lot from one draw of the split to the next",
            f"{remedy}, for more and smaller windows; or label more places",
        )  # fmt: skip


def _lacking(view: View, counts: dict[str, np.ndarray]) -> Iterator[Finding]:
    """Classes that a split has none of, where labels are per pixel."""
    if not view.windows:
        return
    everywhere = np.sum([*counts.values()], axis=0)
    for part, found in counts.items():
        gone = (found == 0) & (everywhere > 0)
        absent = [name for name, lost in zip(view.classes, gone, strict=True) if lost]
        if absent and found.any():
            train, left = part == "train", int((found > 0).sum())
            yield Finding(
                "FAIL" if train and left < 2 else "WARN", _NAME, "",
                f"the split '{part}' has no pixel of {some(absent, 6)}",
                "the class cannot be learned" if train else "how well it is found cannot be said from this split",
                f"{_other_split(view)}, or label the class in more places",
            )  # fmt: skip


def _other_split(view: View) -> str:
    """What to change for another division of the same labels."""
    by = view.survey.splits.by if view.survey and view.survey.splits else "block"
    if view.survey is None or by in ("block", "random"):
        return view.change("splits.seed", "1")
    return f"list other {by}s in `splits.test` and `splits.val`"


def _rare(view: View, counts: dict[str, np.ndarray]) -> Iterator[Finding]:
    found = counts.get("train")
    if found is None or not found.any():
        return
    rare = [name for name, count in zip(view.classes, found, strict=True) if 0 < count < _RARE * found.sum()]
    if rare:
        least = min(rare, key=lambda name: found[view.classes.index(name)])
        part = share(float(found[view.classes.index(least)]), float(found.sum()))
        yield Finding(
            "WARN", _NAME, "",
            f"{some(rare, 6)}: less than 1 % of the training labels ({least}: {part})",
            "the loss hardly counts it, so it is hardly ever mapped", "label more of it, or join it with another class",
        )  # fmt: skip


def _shares(view: View, found: np.ndarray) -> str:
    return ", ".join(
        f"{name} {share(float(c), float(found.sum()))}" for name, c in zip(view.classes, found, strict=True)
    )


CHECK = Check(_run)

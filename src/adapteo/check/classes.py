"""Classes: values that are none, names without a label, and names that differ by a letter's case."""

from collections.abc import Iterator

import numpy as np

from adapteo.check._findings import Check, Finding, some
from adapteo.check._view import View
from adapteo.data._mask_labels import MaskLabels

_NAME = "classes"


def _run(view: View) -> Iterator[Finding]:
    well = True
    for finding in (*_alike(view), *_strange(view), *_alone(view)):
        well = False
        yield finding
    if well:
        yield Finding("OK", _NAME, "", f"{len(view.classes)} classes: {some(view.classes, 12)}")


def _alike(view: View) -> Iterator[Finding]:
    folded: dict[str, list[str]] = {}
    for name in view.classes:
        folded.setdefault("".join(name.casefold().replace("_", " ").replace("-", " ").split()), []).append(name)
    for names in folded.values():
        if len(names) > 1:
            mapped = ", ".join(f"'{name}': {names[0].strip()}" for name in names)
            yield Finding(
                "WARN", _NAME, _file(view),
                f"classes that are written in different ways: {some([repr(name) for name in names])}",
                "they are learned as different classes, and each is taken for the other",
                view.change("class_names", f"{{{mapped}, …}}"),
            )  # fmt: skip


def _strange(view: View) -> Iterator[Finding]:
    """Labels that were left out, because they have no class."""
    if view.survey is None:
        return
    labels = view.labels
    if isinstance(labels, MaskLabels):
        for note in labels.notes:
            if "no class are ignored" in note:
                yield Finding(
                    "WARN", _NAME, some([path.name for path in labels.paths]), note.removeprefix("masks: "),
                    "these pixels teach nothing; if they mean a class, that class is not learned",
                    "add them to `class_names`, or to `ignore_values` if they are no class",
                )  # fmt: skip
        return
    for reason in labels.dropped:
        if "without a class" in reason:
            yield Finding(
                "WARN", _NAME, labels.path.name, f"{reason}: left out",
                "they are neither a class nor background",
                f"fill in the column '{view.survey.class_column}', or leave it",
            )  # fmt: skip


def _alone(view: View) -> Iterator[Finding]:
    if len(view.classes) == 1:
        only = view.classes[0]
        yield Finding(
            "FAIL", _NAME, _file(view), f"there is one class, '{only}'",
            "what has no label is not learned as something else, so the map will be this class everywhere",
            "draw some labels of what is not this class, e.g. 'other', in the same file",
        )  # fmt: skip
    if view.survey is None or not view.windows:
        return
    counts = np.sum([window.counts for window in view.windows], axis=0)
    absent = [name for name, count in zip(view.classes, counts, strict=True) if not count]
    if absent and len(view.windows) == len(view.plan.windows):
        yield Finding(
            "WARN", _NAME, _file(view), f"no pixel of a scene has the class {some(absent, 6)}",
            "it is never learned and never mapped, and takes its share of the mean score",
            view.change("class_names", "…") + f" without {some(absent, 6)}, or leave it for scenes that will have it",
        )  # fmt: skip


def _file(view: View) -> str:
    return view.drawn.path.name if view.survey is not None and view.drawn is not None else ""


CHECK = Check(_run)

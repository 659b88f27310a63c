"""How much of the scenes has no label: it is ignored, never taken for background."""

from collections.abc import Iterator

import numpy as np

from adapteo.check._findings import Check, Finding, share
from adapteo.check._view import View

_NAME = "unlabelled"
_MUCH = 0.5


def _run(view: View) -> Iterator[Finding]:
    windows = view.windows
    if not windows:
        yield Finding("OK", _NAME, "", "labels are of whole images")
        return
    labelled, seen = sum(int(w.counts.sum()) for w in windows), sum(w.size for w in windows)
    if view.survey is None:
        rest = 1 - labelled / max(seen, 1)
        said = f"{share(rest, 1)} of the chips' area is unlabelled: ignored, not background"
        yield Finding("WARN" if rest > _MUCH else "OK", _NAME, "", said)
        return
    plan = view.plan
    area = sum(scene.shape[0] * scene.shape[1] for scene in view.scenes)
    rest = 1 - labelled * len(plan.windows) / len(windows) / area if view.survey.stride is None else float("nan")
    here = 1 - labelled / max(seen, 1)
    said = f"{share(here, 1)} of the {len(plan.windows)} windows"
    if np.isfinite(rest):
        said = f"{share(max(rest, 0.0), 1)} of the scenes, {said}"
    polygons = view.drawn is None or "polygon" in view.drawn.kinds
    said = f"{said} unlabelled: ignored, not background"
    if not polygons or here <= _MUCH:
        yield Finding("OK", _NAME, "", said)
        return
    yield Finding(
        "WARN", _NAME, "", said, "nothing is learned from it: what was never drawn is mapped as one of the classes",
        "draw also what is none of the classes, with a class of its own, if there is such",
    )  # fmt: skip


CHECK = Check(_run)

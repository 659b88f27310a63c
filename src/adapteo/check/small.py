"""Scenes that are smaller than a window, most of which is then empty."""

from collections.abc import Iterator

from adapteo.check._findings import Check, Finding, number, some
from adapteo.check._view import View

_NAME = "small"


def _run(view: View) -> Iterator[Finding]:
    survey = view.survey
    assert survey is not None, "as this check is for surveys"
    small = {scene.name: scene.shape for scene in view.scenes if min(scene.shape) < survey.chip}
    if not small:
        yield Finding("OK", _NAME, "", f"no scene is smaller than a window ({survey.chip} x {survey.chip} pixels)")
        return
    least = min(small, key=lambda name: min(small[name]))
    height, width = small[least]
    side = max(1, min(small[least]))
    what = number(len(small), "scene")
    yield Finding(
        "WARN", _NAME, some([*small]),
        f"{what} of {len(view.scenes)} smaller than a window of {survey.chip} pixels (smallest {least}: {width} x "
        f"{height})",
        "the rest of each window is filled up: little is learned from it, and there is little to divide",
        view.change("chip", str(side)) if side >= 8 else "leave it out of `scenes`, or name the whole scene",
        tuple(f"{name}: {w} x {h} pixels" for name, (h, w) in small.items()),
    )  # fmt: skip


CHECK = Check(_run, survey=True)

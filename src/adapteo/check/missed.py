"""Labels that lie in no scene, also those that would with x and y exchanged."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from adapteo.check._findings import Check, Finding, number, share, some
from adapteo.check._view import View
from adapteo.data._shapes import mapped
from adapteo.data._survey_cells import shown
from adapteo.data.vector import Labels

_NAME = "missed"
_MUCH = 0.5


def _run(view: View) -> Iterator[Finding]:
    labels = view.drawn
    view.plan  # noqa: B018  # when no label at all lies in a scene, its error says more
    if labels is None:
        yield Finding("OK", _NAME, "", f"every scene is looked up in {number(len(view.labels.masks), 'mask')}")  # type: ignore[union-attr]
        return
    rows = np.unique(labels.rows)
    lost = np.setdiff1d(rows, _inside(view, labels))
    if not lost.size:
        yield Finding("OK", _NAME, labels.path.name, f"all {len(rows):,} labels lie in a scene")
        return
    told = some([row + 1 for row in lost.tolist()], 8)
    swapped = replace(labels, geometry=mapped(labels.geometry, lambda xy: xy[:, ::-1]))
    turned = np.intersect1d(lost, _inside(view, swapped))
    if turned.size:
        yield Finding(
            "FAIL", _NAME, labels.path.name,
            f"{number(turned.size, 'label')} of {len(rows):,} lie in a scene only with x and y exchanged",
            "they are not trained on, although they were drawn for these scenes",
            "exchange their coordinates (CSV: the names of the columns; QGIS: Swap X and Y coordinates)",
            (f"rows {some([row + 1 for row in turned.tolist()], 50)}",),
        )  # fmt: skip
    many = lost.size > _MUCH * len(rows)
    yield Finding(
        "WARN", _NAME, labels.path.name,
        f"{number(lost.size, 'label')} of {len(rows):,} ({share(lost.size, len(rows))}) lie in no scene: rows {told}",
        "they are not used" + ("; most of the labels are lost, is a scene missing?" if many else ""),
        view.change("scenes", "…") + " with the scenes that they were drawn on, or leave it",
        (f"rows {some([row + 1 for row in lost.tolist()], 200)}, counted from 1",),
    )  # fmt: skip


def _inside(view: View, labels: Labels) -> np.ndarray:
    found = [shown(scene, labels) for scene in view.scenes]
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)


CHECK = Check(_run, survey=True)

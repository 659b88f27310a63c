"""Where the labels of a survey lie: windows of its scenes on a regular grid, those with a label only. No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Protocol

import numpy as np
import shapely

from adapteo._ignore import IGNORE
from adapteo.data._burn import burn
from adapteo.data._projection import is_geographic
from adapteo.data._shapes import mapped
from adapteo.data._survey_scenes import SceneFile
from adapteo.data.vector import Labels
from adapteo.errors import DataError

_KEPT = 16  # labelled pixels of a window that go into the variogram


class Drawn(Protocol):
    """Labels that can be put into windows of scenes: drawn shapes, or rasters."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the class index."""

    def window(self, scene: SceneFile, row: int, col: int, size: int) -> np.ndarray:
        """Class indices ``(size, size)`` of a window; `IGNORE` without a label, and outside the scene."""

    def squares(self, scene: SceneFile, size: int) -> list[tuple[int, int]]:
        """Windows in which there can be a label: row and column, in windows, on the common grid; sorted."""

    def shared(self, scenes: Sequence[SceneFile]) -> list[tuple[int, int]]:
        """Pairs of scenes, by position, that show the same labels."""

    def missed(self, scenes: Sequence[SceneFile]) -> DataError:
        """What to say when no label lies in a scene."""


@dataclass(frozen=True)
class Drawing:
    """How labels become pixels; see `adapteo.data._burn.burn`."""

    labels: Labels
    point_radius: float = 0.0
    line_width: float | None = None

    def window(self, scene: SceneFile, row: int, col: int, size: int) -> np.ndarray:
        """Class indices ``(size, size)`` of a window; `IGNORE` without a label, and outside the scene."""
        out = burn(
            self.labels,
            scene.place(row, col),
            (size, size),
            scene.crs,
            point_radius=self.point_radius,
            line_width=self.line_width,
        )
        out[: max(0, -row)], out[:, : max(0, -col)] = IGNORE, IGNORE
        out[max(0, scene.shape[0] - row) :], out[:, max(0, scene.shape[1] - col) :] = IGNORE, IGNORE
        return out

    @property
    def classes(self) -> tuple[str, ...]:
        """See `Drawn`."""
        return self.labels.classes

    def squares(self, scene: SceneFile, size: int) -> list[tuple[int, int]]:
        """Windows that the bounding box of a label touches."""
        labels = self.labels if self.line_width is None else self.labels.widened(self.line_width)
        bounds = shapely.bounds(labels.to_crs(scene.crs).geometry).reshape(-1, 4)
        return squares_of(scene, bounds, self.point_radius + 1, size)

    def shared(self, scenes: Sequence[SceneFile]) -> list[tuple[int, int]]:
        """See `Drawn`."""
        features = [set(shown(scene, self.labels).tolist()) for scene in scenes]
        return [(i, j) for i, j in combinations(range(len(scenes)), 2) if features[i] & features[j]]

    def missed(self, scenes: Sequence[SceneFile]) -> DataError:
        """See `Drawn`."""
        return _missed(scenes, self.labels)


@dataclass(frozen=True, eq=False)
class Cell:
    """A window with labels.

    Attributes:
        scene: position of its scene.
        row, col: of its upper left pixel in the scene; negative where the common grid begins before the scene.
        square: row and column of the window, counted in windows, on the common grid of pixels.
        counts: ``(k,)`` labelled pixels by class.
        pixels: ``(n, 2)`` some labelled pixels, x and y on the common grid.
        codes: ``(n,)`` their classes.
    """

    scene: int
    row: int
    col: int
    square: tuple[int, int]
    counts: np.ndarray
    pixels: np.ndarray
    codes: np.ndarray


def find_cells(scenes: Sequence[SceneFile], drawing: Drawn, size: int) -> list[Cell]:
    """Draw the labels into each scene, window by window, where there can be any.

    Raises:
        DataError: no label lies in any scene.
    """
    cells = []
    for number, scene in enumerate(scenes):
        for square in drawing.squares(scene, size):
            row, col = (square[i] * size - scene.origin[i] for i in (0, 1))
            target = drawing.window(scene, row, col, size)
            ys, xs = np.nonzero(target != IGNORE)
            if ys.size:
                kept = np.random.default_rng([abs(row), abs(col)]).permutation(ys.size)[:_KEPT]
                codes = target[ys, xs]
                pixels = np.column_stack([xs[kept] + square[1] * size, ys[kept] + square[0] * size])
                counts = np.bincount(codes, minlength=len(drawing.classes))
                cells.append(Cell(number, row, col, square, counts, pixels, codes[kept]))
    if not cells:
        raise drawing.missed(scenes)
    return cells


def shown(scene: SceneFile, labels: Labels) -> np.ndarray:
    """Features of the file (`Labels.rows`) that touch a scene."""
    here = labels.to_crs(scene.crs)
    corners = shapely.get_coordinates(outline(scene))[:-1].tolist()
    found = [here.touching([(x - 360.0 * turn, y) for x, y in corners]) for turn in _turns(scene)]
    return np.unique(here.rows[np.concatenate(found)])


def outline(scene: SceneFile) -> shapely.Polygon:
    """Edge of a scene in its own coordinates."""
    height, width = scene.shape
    return shapely.Polygon(
        [scene.place(row, col)[2::3] for row, col in ((0, 0), (0, width), (height, width), (height, 0))]
    )


def _turns(scene: SceneFile) -> tuple[int, ...]:
    return (-1, 0, 1) if is_geographic(scene.crs) else (0,)


def squares_of(scene: SceneFile, bounds: np.ndarray, margin: float, size: int) -> list[tuple[int, int]]:
    """Windows of a scene, on the common grid, that boxes ``(n, 4)`` in its coordinates touch.

    Args:
        scene: see above.
        bounds: left, bottom, right, top.
        margin: pixels around the boxes.
        size: side of a window.
    """
    squares: set[tuple[int, int]] = set()
    for top, left, bottom, right in _pixel_boxes(scene, bounds):
        top, left = max(0, int(top - margin)), max(0, int(left - margin))
        bottom, right = min(scene.shape[0] - 1, int(bottom + margin)), min(scene.shape[1] - 1, int(right + margin))
        if top > bottom or left > right:
            continue
        rows, cols = (
            (np.array(span) + scene.origin[i]) // size for i, span in enumerate([(top, bottom), (left, right)])
        )
        squares |= {(r, c) for r in range(rows[0], rows[1] + 1) for c in range(cols[0], cols[1] + 1)}
    return sorted((int(r), int(c)) for r, c in squares)


def _pixel_boxes(scene: SceneFile, bounds: np.ndarray) -> Iterator[np.ndarray]:
    """Boxes in map coordinates as top, left, bottom, right in pixels of the scene."""
    a, b, c, d, e, f = scene.transform
    inverse = np.linalg.inv(np.array([[a, b], [d, e]]))
    for turn in _turns(scene):
        moved = bounds + np.array([360.0 * turn, 0, 360.0 * turn, 0])
        corners = np.stack([moved[:, [i, j]] for i in (0, 2) for j in (1, 3)], axis=1) - [c, f]
        pixels = corners @ inverse.T
        low, high = pixels.min(axis=1), pixels.max(axis=1)
        near = (high > -1e6).all(axis=1) & (low < 1e9).all(axis=1)
        yield from np.clip(np.column_stack([low[:, ::-1], high[:, ::-1]]), -1e6, 1e9)[near]


def _missed(scenes: Sequence[SceneFile], labels: Labels) -> DataError:
    """Say where labels and scenes are, and whether exchanged axes would bring them together."""
    swapped = replace(labels, geometry=mapped(labels.geometry, lambda xy: xy[:, ::-1]))
    for scene in scenes:
        if shown(scene, swapped).size:
            return DataError(
                f"{labels.path}: no label lies in a scene, but with x and y exchanged they lie in {scene.path.name}",
                fix="exchange them (CSV: the names of the two columns; QGIS: Swap X and Y coordinates)",
            )
    inside = next((scene for scene in scenes if shown(scene, labels).size), None)
    if inside is not None:
        return DataError(
            f"{labels.path}: its labels lie in the scenes (e.g. {inside.path.name}), but cover the middle of no pixel",
            fix=f"draw areas larger than a pixel ({inside.gsd:.3g} m), or save their centres as points",
        )
    nearest = scenes[0]
    here = labels.to_crs(nearest.crs)
    (left, bottom), (right, top) = _extent(nearest)
    there = ", ".join(f"{value:.7g}" for value in here.bounds)
    return DataError(
        f"{labels.path}: none of its {len(labels)} labels lies in any of {len(scenes)} scenes",
        allowed=[f"within {left:.7g}, {bottom:.7g}, {right:.7g}, {top:.7g} ({nearest.path.name}); they span {there}"],
        fix="correct `labels_crs` if they should lie there, or name the scenes that they were drawn on",
    )


def _extent(scene: SceneFile) -> tuple[np.ndarray, np.ndarray]:
    height, width = scene.shape
    corners = np.array([scene.place(row, col)[2::3] for row in (0, height) for col in (0, width)])
    return corners.min(axis=0), corners.max(axis=0)

"""The strip around what tests, in which training labels are ignored. No torch.

Rectangles are top, left, bottom, right in pixels of a grid; bottom and right lie outside.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from adapteo.data._survey_cells import Cell

KEPT_SHARE = 0.6
"""Share of the training labels that a buffer which nobody asked for must leave."""
Rect = tuple[int, int, int, int]


def rect_of(square: tuple[int, int], chip: int, side: int) -> Rect:
    """The block of some side that a window lies in; the window itself when that is its own side."""
    row, col = (int(i) * chip // side * side for i in square)
    return row, col, row + side, col + side


def gaps(boxes: np.ndarray, rects: np.ndarray) -> np.ndarray:
    """Distances ``(n, m)`` between boxes ``(n, 4)`` and rectangles ``(m, 4)`` in pixels; 0 where they touch."""
    top, left, bottom, right = boxes.T[:, :, None]
    down = np.maximum(np.maximum(rects[:, 0] - bottom, top - rects[:, 2]), 0)
    across = np.maximum(np.maximum(rects[:, 1] - right, left - rects[:, 3]), 0)
    return np.hypot(down, across)


def near(window: Rect, rects: np.ndarray, distance: float) -> tuple[Rect, ...]:
    """Rectangles within a distance of a window."""
    if distance <= 0 or not len(rects):
        return ()
    found = rects[gaps(np.array([window], float), rects)[0] <= distance]
    return tuple((int(t), int(le), int(b), int(r)) for t, le, b, r in found)


def bearable(cells: Sequence[Cell], grids: Sequence[int], rects: Mapping[int, np.ndarray], buffer: float) -> float:
    """Halve a buffer until it leaves most of the training labels, and some of each class.

    Args:
        cells: that train.
        grids: of the cells.
        rects: that test, by grid.
        buffer: in pixels.
    """
    distances = [_from_tests(cell, rects.get(grid)) for cell, grid in zip(cells, grids, strict=True)]
    weights = [np.full(len(cell.codes), cell.counts.sum() / len(cell.codes)) for cell in cells]
    if not distances:
        return 0.0
    distance, weight = np.concatenate(distances), np.concatenate(weights)
    codes = np.concatenate([cell.codes for cell in cells])
    while buffer >= 1:
        free = distance > buffer
        complete = len(np.unique(codes[free])) == len(np.unique(codes))
        if complete and weight[free].sum() >= KEPT_SHARE * weight.sum():
            return buffer
        buffer /= 2
    return 0.0


def _from_tests(cell: Cell, rects: np.ndarray | None) -> np.ndarray:
    """Distance of each labelled pixel's centre to the nearest rectangle."""
    if rects is None or not len(rects):
        return np.full(len(cell.codes), np.inf)
    x, y = cell.pixels.T + 0.5
    return gaps(np.column_stack([y, x, y, x]), rects).min(axis=1)

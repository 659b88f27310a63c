"""Outlines of equal numbers in an image that is larger than the memory, drawn part by part.

The sides of pixels at which a part begins or ends are found strip by strip, those along rows only, and wait on disk. A
corner lies at each end of such a segment, and the corners of a part in one column of corners belong together in pairs:
the sides along columns. So a part's segments are all that is needed to go round it. Drawn are so many parts at a time
that the memory depends on `_BATCH` and on the largest polygon, not on how many there are.
"""

import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_BATCH = 2**19
"""Segments that are drawn at a time, about; some 400 bytes for each."""
_TOP, _BOTTOM = 0, 1
_FIELDS = 5  # part, row of corners, first and last column of corners, and whether the part lies below it or above it


def draw(strips: Iterator[np.ndarray], owners: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give polygons around connected parts, some at a time, with their owners.

    Args:
        strips: ``(h, width)`` numbers of parts from top to bottom, -1 for what is not drawn. A part is connected by
            sides of pixels.
        owners: ``(n,)`` of each part, ascending. All parts of one come together.

    Yields:
        ``(m,)`` polygons in pixel coordinates (x = column, y = row of corners), and their owners, ascending; those of
        one owner by the upper and left ends of their boxes. Polygons have corners only where they turn, begin with
        the upper left one, and are valid: a hole that touches the outline does it in points.
    """
    with tempfile.TemporaryDirectory(prefix="adapteo-") as folder:
        files, counts = _store(strips, Path(folder), len(owners))
        before = np.cumsum(counts) - counts
        first_of_owner = np.flatnonzero(np.diff(owners, prepend=-1))
        group = before[first_of_owner] // _BATCH
        cuts = [*first_of_owner[np.flatnonzero(np.diff(group, prepend=-1))].tolist(), len(owners)]
        for first, last in pairwise(cuts):
            if counts[first:last].any():
                yield _drawn(_load(files, first, last), owners)  # without a name, so that it goes when it is done with


def _drawn(segments: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Polygons of segments, ordered, and their owners."""
    polygons, parts = _polygons(segments)
    left, top = shapely.bounds(polygons)[:, :2].T
    order = np.lexsort((left, top, owners[parts]))
    return polygons[order], owners[parts][order]


def _store(strips: Iterator[np.ndarray], folder: Path, parts: int) -> tuple[list[Path], np.ndarray]:
    """Write the segments of each strip to a file, sorted by part, and count them for each part."""
    files: list[Path] = []
    counts = np.zeros(parts, np.int64)
    last: np.ndarray | None = None
    row = 0
    for strip in strips:
        if last is None:
            last = np.full(strip.shape[1], -1, strip.dtype)
        _append(files, folder, counts, _segments(np.concatenate([last[None], strip[:-1]]), strip, row))
        last = strip[-1]
        row += len(strip)
    if last is not None:
        _append(files, folder, counts, _segments(last[None], np.full_like(last, -1)[None], row))
    return files, counts


def _append(files: list[Path], folder: Path, counts: np.ndarray, segments: np.ndarray) -> None:
    segments = segments[np.argsort(segments[:, 0], kind="stable")]
    parts, number = np.unique(segments[:, 0], return_counts=True)
    counts[parts] += number
    files.append(folder / f"{len(files)}.npy")
    np.save(files[-1], segments)


def _load(files: list[Path], first: int, last: int) -> np.ndarray:
    """Segments ``(n, 5)`` of the parts from the first up to the last, sorted by part, row and column."""
    found = []
    for file in files:
        stored = np.load(file, mmap_mode="r")
        begin, end = np.searchsorted(stored[:, 0], (first, last))
        found.append(np.array(stored[begin:end]))
    segments = np.concatenate(found)
    return segments[np.argsort(segments[:, 0], kind="stable")]  # files and what is in them follow the rows


def _segments(above: np.ndarray, below: np.ndarray, row: int) -> np.ndarray:
    """Longest segments ``(n, 5)`` int32 on the lines between rows of numbers ``(h, w)``, of which the first is ``row``.

    They are sorted by line, then kind, then column: at the end of a line of corners both kinds may meet.
    """
    found = []
    for kind, own, other in ((_TOP, below, above), (_BOTTOM, above, below)):
        edge = (own >= 0) & (own != other)
        on = edge[:, 1:] & edge[:, :-1] & (own[:, 1:] == own[:, :-1])
        starts, ends = edge.copy(), edge.copy()
        starts[:, 1:] &= ~on
        ends[:, :-1] &= ~on
        line, first = np.nonzero(starts)
        after = np.nonzero(ends)[1] + 1
        found.append(np.stack([own[line, first], line + row, first, after, np.full(len(line), kind)], 1))
    segments = np.concatenate(found).astype(np.int32)
    return segments[np.lexsort((segments[:, 2], segments[:, 1]))]


# ------------------------------------------------------------------------------------------ going round


def _polygons(segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Polygons of segments that are sorted by part, row and column, and their parts, ascending."""
    part, row, left, right, kind = segments.T
    is_top = kind == _TOP
    # The part lies on the left hand of whoever goes (where rows count downwards): its upper side from right to left.
    start, end = np.where(is_top, right, left), np.where(is_top, left, right)
    ring, place, length = _rings(_following(part, row, start, end, kind))
    sides = np.where(is_top, -1, 1) * row.astype(np.int64) * (right - left)
    hole = np.bincount(ring, sides, len(length)) < 0
    place = (place + hole[ring]) % length[ring]  # so that both begin at the left end of their uppermost side
    first = np.cumsum(length) - length
    order = np.empty(len(part), np.int64)
    order[first[ring] + place] = np.arange(len(part))
    leader = order[first + np.where(hole, 0, length - 1)]
    # Rings by part, the outline before the holes: a part that is connected has one outline.
    by_part = np.lexsort((leader, hole, part[leader]))
    first, length, hole = first[by_part], length[by_part], hole[by_part]
    begins = np.concatenate([[0], np.cumsum(2 * length + 1)])
    at = np.repeat(first - (np.cumsum(length) - length), length) + np.arange(len(part))
    one_by_one = order[at]
    corners = np.empty((begins[-1], 2))
    once = np.ones(len(corners), bool)
    closing = np.where(hole, begins[1:] - 1, begins[:-1])  # a ring ends where it began
    once[closing] = False
    corners[once, 0] = np.stack([start[one_by_one], end[one_by_one]], 1).ravel()
    corners[once, 1] = np.repeat(row[one_by_one], 2)
    corners[closing] = corners[np.where(hole, begins[:-1], begins[1:] - 1)]
    outline = np.flatnonzero(~hole)
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, corners, (begins, np.append(outline, len(hole))))
    return np.asarray(polygons, object), part[leader[by_part[outline]]].astype(np.int64)


def _following(part: np.ndarray, row: np.ndarray, start: np.ndarray, end: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Which segment comes after each, over the side along a column that both have a corner on.

    Where a part touches itself in a corner, four sides meet. They are taken so that two belong to each of the pixels
    that are not of the part, which lie in different holes, or one without: else a ring would meet itself. So the one
    that has the part below it goes with the side above.
    """
    count = len(part)
    column = np.concatenate([end, start])
    both = np.arange(2 * count) % count
    order = np.lexsort((kind[both], row[both], column, part[both]))
    one, other = order[::2], order[1::2]
    ends = one < count
    following = np.empty(count, np.int64)
    following[np.where(ends, one, other)] = np.where(ends, other, one) - count
    return following


def _rings(following: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ring of each segment, its place in it, and how long rings are; the first segment of a ring has the last place.

    Places are counted by jumping twice as far in each round (Wyllie 1979, "The complexity of parallel computations").
    """
    count = len(following)
    graph = coo_array((np.ones(count, np.int8), (np.arange(count), following)), shape=(count, count))
    rings, ring = connected_components(graph, directed=False)
    length = np.bincount(ring, minlength=rings)
    leader = np.full(rings, count, np.int64)
    np.minimum.at(leader, ring, np.arange(count))
    goal = leader[ring]
    distance = np.ones(count, np.int64)
    distance[leader] = 0
    jump = following.copy()
    jump[leader] = leader
    moving = np.flatnonzero(jump != goal)
    while moving.size:
        to = jump[moving]
        distance[moving], jump[moving] = distance[moving] + distance[to], jump[to]
        moving = moving[jump[moving] != goal[moving]]
    return ring, length[ring] - 1 - distance, length

"""Shapes on a plane: taken apart, repaired, cut.

Arrays of shapely geometries go in; what comes out is in simple parts (Point, LineString, Polygon; two dimensions), with
the index of the geometry that each part came from. Coordinates are always in the order x, y (longitude, latitude).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely

_POINT, _LINE, _POLYGON, _COLLECTION = 0, 1, 3, 7
KINDS = {_POINT: "point", _LINE: "line", _POLYGON: "polygon"}

Parts = tuple[np.ndarray, np.ndarray]
"""Geometries, and the index of the one that each came from, ascending."""


@dataclass(frozen=True)
class Cleaned:
    """What is left of the geometries of a file.

    Attributes:
        parts: Point, LineString and Polygon, valid, with coordinates that are finite.
        index: ``(n,)`` number of the geometry that each part came from, ascending.
        repaired: geometries that were invalid (self-intersection, a ring twice, a hole outside).
        wrapped: geometries that were drawn across the antimeridian.
        dropped: number of geometries by reason.
    """

    parts: np.ndarray
    index: np.ndarray
    repaired: int
    wrapped: int
    dropped: dict[str, int]


def clean(geometry: np.ndarray, geographic: bool) -> Cleaned:
    """Take apart, repair, drop what is empty.

    Args:
        geometry: shapely geometries of any kind, None where there is none.
        geographic: whether coordinates are longitude and latitude in degrees; then parts end at the antimeridian.
    """
    parts, given = explode(shapely.force_2d(geometry))
    full = ~shapely.is_empty(parts)
    parts, given = parts[full], given[full]
    known = finite(parts)
    parts, placed = parts[known], given[known]
    wrapped = np.zeros(len(parts), bool)
    if geographic:
        parts, wrapped = unwrap(parts)
    parts, inner, broken = repair(parts)
    large = _extent(parts) > 0
    parts, index = parts[large], placed[inner][large]
    dropped = {
        "without a geometry": _lost(np.arange(len(geometry)), given),
        "with coordinates that are no finite numbers": _lost(given, placed),
        "that cover nothing (no area, no length)": _lost(placed, index),
    }
    repaired, crossing = np.intersect1d(placed[broken], index).size, np.unique(placed[wrapped]).size
    if geographic:
        parts, inner = split(parts)
        index = index[inner]
    return Cleaned(parts, index, repaired, crossing, dropped)


def explode(geometry: np.ndarray) -> Parts:
    """Points, lines and polygons of multi-part geometries and of collections, also nested ones."""
    index = np.arange(len(geometry))
    while True:
        geometry, inner = shapely.get_parts(geometry, return_index=True)
        index = index[inner]
        if not (shapely.get_type_id(geometry) > _POLYGON).any():
            return geometry, index


def in_order(parts: Sequence[np.ndarray], index: Sequence[np.ndarray]) -> Parts:
    """Put lists of parts into one, by the index of what they came from."""
    where = np.concatenate(index)
    order = np.argsort(where, kind="stable")
    return np.concatenate(parts)[order], where[order]


def kinds(geometry: np.ndarray) -> np.ndarray:
    """What each simple part is: "point", "line" or "polygon"."""
    names = np.array([KINDS.get(i, "") for i in range(_COLLECTION)])
    return names[shapely.get_type_id(geometry)]


def to_grid(geometry: np.ndarray, transform: tuple[float, ...]) -> np.ndarray:
    """Map to pixel coordinates (x = column, y = row, of corners), as ``transform`` has it.

    The origin is subtracted first, so that nothing is lost where coordinates and pixel size are whole numbers.
    """
    a, b, c, d, e, f = transform
    determinant = a * e - b * d

    def place(xy: np.ndarray) -> np.ndarray:
        x, y = xy[:, 0] - c, xy[:, 1] - f
        if b == d == 0:
            return np.column_stack([x / a, y / e])
        return np.column_stack([(e * x - b * y) / determinant, (a * y - d * x) / determinant])

    return mapped(geometry, place)


def mapped(geometry: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Change coordinates ``(n, 2)``."""
    if not len(geometry):
        return geometry
    return np.asarray(shapely.transform(geometry, change))


def clip(geometry: np.ndarray, area: shapely.Geometry) -> Parts:
    """Keep what lies in an area; parts that only touch it are left out."""
    pieces, index = explode(shapely.intersection(geometry, area))
    kept = ~shapely.is_empty(pieces) & (shapely.get_type_id(pieces) == shapely.get_type_id(geometry)[index])
    return pieces[kept], index[kept]


def finite(parts: np.ndarray) -> np.ndarray:
    """Whether all coordinates of a part are finite."""
    xy, owner = shapely.get_coordinates(parts, return_index=True)
    out = np.ones(len(parts), bool)
    out[owner[~np.isfinite(xy).all(axis=1)]] = False
    return out


def _extent(parts: np.ndarray) -> np.ndarray:
    """Area of polygons, length of lines, 1 for points."""
    kind = shapely.get_type_id(parts)
    return np.where(kind == _POINT, 1.0, np.where(kind == _LINE, shapely.length(parts), shapely.area(parts)))


def repair(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give valid parts, the index of the part that each came from, and the indices of those that were invalid.

    What a polygon covers an even number of times is outside afterwards, as GDAL fills it.
    """
    broken = np.flatnonzero(~shapely.is_valid(parts))
    if not broken.size:
        return parts, np.arange(len(parts)), broken
    pieces, inner = explode(shapely.make_valid(parts[broken]))
    same = shapely.get_type_id(pieces) == shapely.get_type_id(parts[broken])[inner]
    sound = np.setdiff1d(np.arange(len(parts)), broken)
    return *in_order([parts[sound], pieces[same]], [sound, broken[inner[same]]]), broken


def _lost(before: np.ndarray, after: np.ndarray) -> int:
    return int(np.setdiff1d(before, after).size)


# ------------------------------------------------------------------------------------- antimeridian


def unwrap(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Let what jumps from 180 to -180 degrees go on beyond 180; also says which parts did.

    An edge of more than 180 degrees is taken to go the short way, if that gives the part a smaller, positive width:
    a box around the whole world stays one.
    """
    xy, owner = shapely.get_coordinates(parts, return_index=True)
    jumps = (np.abs(np.diff(xy[:, 0])) > 180) & (owner[1:] == owner[:-1])
    suspects = np.unique(owner[1:][jumps])
    beyond = mapped(parts[suspects], lambda xy: np.column_stack([xy[:, 0] + 360 * (xy[:, 0] < 0), xy[:, 1]]))
    narrower = (_width(beyond) > 0) & (_width(beyond) < _width(parts[suspects]))
    wrapped = np.zeros(len(parts), bool)
    wrapped[suspects[narrower]] = True
    out = parts.copy()
    out[wrapped] = beyond[narrower]
    return out, wrapped


def split(parts: np.ndarray) -> Parts:
    """Cut valid parts at the antimeridian and bring all of them between -180 and 180 degrees."""
    bounds = shapely.bounds(parts).reshape(-1, 4)
    outside = (bounds[:, 0] < -180) | (bounds[:, 2] > 180)
    if not outside.any():
        return parts, np.arange(len(parts))
    pieces, index = [parts[~outside]], [np.flatnonzero(~outside)]
    for turn in (-1, 0, 1):
        west = -180.0 + 360 * turn
        cut, inner = clip(parts[outside], shapely.box(west, -90, west + 360, 90))
        pieces.append(shifted(cut, -360.0 * turn))
        index.append(np.flatnonzero(outside)[inner])
    return in_order(pieces, index)


def _width(parts: np.ndarray) -> np.ndarray:
    bounds = shapely.bounds(parts).reshape(-1, 4)
    return bounds[:, 2] - bounds[:, 0]


def shifted(parts: np.ndarray, east: float) -> np.ndarray:
    """Move to the east."""
    return mapped(parts, lambda xy: xy + np.array([east, 0.0]))

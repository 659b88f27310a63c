"""Labels as pixels: what lies in a window is drawn into it, by GDAL."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import shapely
from rasterio.features import rasterize

from adapteo._ignore import IGNORE
from adapteo.data._projection import is_geographic
from adapteo.data._shapes import to_grid
from adapteo.data.vector import Labels

_LARGE = 256
"""Points of a polygon or line from which on those that lie far from the window are left out before drawing."""


def burn(
    labels: Labels,
    transform: Sequence[float],
    shape: tuple[int, int],
    crs: str,
    *,
    point_radius: float = 0.0,
    line_width: float | None = None,
) -> np.ndarray:
    """Draw labels into a window: class indices ``(h, w)`` int64, `IGNORE` where nothing was drawn.

    A polygon covers the pixels whose centre lies in it (on its edge: as GDAL decides). A line without a width covers
    the pixels that it runs through as GDAL draws lines, one pixel wide. A point covers the pixel that it lies in.
    Where features overlap, the one that is later in the file is seen, as GDAL does it. Neighbouring windows fit
    together: a window is what a drawing of the whole scene has there.

    Args:
        labels: in any coordinate system; moved to that of the window once (see `Labels.to_crs`).
        transform: ``(a, b, c, d, e, f)`` of the window, as in `adapteo.data.raster.Transform`; may be rotated.
        shape: height and width of the window in pixels.
        crs: of the window, WKT.
        point_radius: in pixels; a point also covers the pixels whose centre is not farther away.
        line_width: metres on the ground; lines become polygons of this width (see `Labels.widened`).

    Raises:
        DataError: there is no way from one coordinate system to the other.
    """
    if line_width is not None:
        labels = labels.widened(line_width)
    here = labels.to_crs(crs)
    out = np.full(shape, IGNORE, np.int32)
    for turn in _turns(transform, shape) if is_geographic(here.crs) else (0,):
        a, b, c, d, e, f = transform
        place = (a, b, c - 360.0 * turn, d, e, f)
        near = here.touching(_outline(place, shape, point_radius + 1))
        if near.size:
            drawn = to_grid(here.geometry[near], place).tolist()
            discs = (here.kinds[near] == "point") & (point_radius > 0)
            _draw(out, drawn, here.codes[near].tolist(), discs, point_radius)
    return out.astype(np.int64)


def _outline(transform: Sequence[float], shape: tuple[int, int], margin: float) -> list[tuple[float, float]]:
    """Corners of a window with a margin in pixels, in map coordinates."""
    a, b, c, d, e, f = transform
    top, left, bottom, right = -margin, -margin, shape[0] + margin, shape[1] + margin
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return [(a * x + b * y + c, d * x + e * y + f) for x, y in corners]


def _turns(transform: Sequence[float], shape: tuple[int, int]) -> range:
    """Turns around the Earth that a window in degrees lies in; labels are in turn 0, from -180 to 180."""
    x = [x for x, _ in _outline(transform, shape, 0)]
    return range(int((min(x) + 180) // 360), int((max(x) + 180) // 360) + 1)


def _draw(out: np.ndarray, geometry: list[Any], codes: list[int], discs: np.ndarray, radius: float) -> None:
    """Draw in order; geometry in pixel coordinates of the window."""
    for disc, run in groupby(range(len(codes)), key=discs.tolist().__getitem__):
        if disc:
            for i in run:
                _disc(out, geometry[i].x, geometry[i].y, radius, codes[i])
            continue
        shapes = [(shape, codes[i]) for i in run if (shape := _near(geometry[i], out.shape)) is not None]
        if shapes:
            rasterize(shapes, out=out, skip_invalid=False)


def _disc(out: np.ndarray, x: float, y: float, radius: float, code: int) -> None:
    top, left = max(int(np.floor(y - radius)), 0), max(int(np.floor(x - radius)), 0)
    bottom, right = int(np.floor(y + radius)) + 1, int(np.floor(x + radius)) + 1
    part = out[top : max(bottom, 0), left : max(right, 0)]
    rows = np.arange(top, top + part.shape[0])[:, None]
    cols = np.arange(left, left + part.shape[1])
    covered = (rows + 0.5 - y) ** 2 + (cols + 0.5 - x) ** 2 <= radius**2
    part[covered | ((rows == np.floor(y)) & (cols == np.floor(x)))] = code


def _near(shape: shapely.Geometry, size: tuple[int, int]) -> shapely.Geometry | dict[str, object] | None:
    """A shape without the points that make no difference in the window; None when nothing is left.

    Handing a shape to GDAL costs about a microsecond per point, and a polygon of a whole region is handed over for
    each window. No edge that is near the window changes, so that the same pixels are covered.
    """
    if shape.geom_type == "Point" or shapely.get_num_coordinates(shape) < _LARGE:
        return shape
    if shape.geom_type == "LineString":
        line = _thinned(shapely.get_coordinates(shape), size, closed=False)
        return {"type": "LineString", "coordinates": line.tolist()} if len(line) > 1 else None
    rings = [_thinned(shapely.get_coordinates(ring)[:-1], size, closed=True) for ring in shapely.get_rings(shape)]
    kept = [np.concatenate([ring, ring[:1]]).tolist() for ring in rings if len(ring) > 2]
    return {"type": "Polygon", "coordinates": kept} if kept else None


def _thinned(xy: np.ndarray, size: tuple[int, int], closed: bool) -> np.ndarray:
    """Leave out points that lie, with the points before and after them, beyond the same side of the window.

    What connects the others then lies beyond that side as well, and winds around each pixel as often as before.
    """
    height, width = size
    for axis, limit in ((0, (-1.0, width + 1.0)), (1, (-1.0, height + 1.0))):
        for beyond in (lambda v, low=limit[0]: v < low, lambda v, high=limit[1]: v > high):
            out = beyond(xy[:, axis])
            before, after = np.roll(out, 1), np.roll(out, -1)
            if not closed:
                before[:1], after[-1:] = False, False
            xy = xy[~(out & before & after)]
    return xy

"""How large the pixels of a map are on the ground."""

from dataclasses import dataclass

import numpy as np

from adapteo.data._projection import on_ellipsoid, unit_metres

_NODES = 512
"""Places along each side at which the area is computed; between them it is interpolated."""
_TOLERANCE = 0.005
"""Share by which a projection may change areas before it counts as distorting them: UTM within its zone does not."""


@dataclass(frozen=True)
class Areas:
    """Area of the pixels of a map.

    Attributes:
        nominal: square metres of a pixel in the map's own units, or their mean where that has no meaning.
        rows, cols: of the centres of the pixels at which it was computed.
        values: ``(rows, cols)`` square metres on the ellipsoid there.
        uniform: all pixels count as `nominal`: the projection changes areas by less than 0.5 %.
    """

    nominal: float
    rows: np.ndarray
    cols: np.ndarray
    values: np.ndarray
    uniform: bool

    def at(self, top: int, count: int) -> np.ndarray:
        """Square metres ``(count, width)`` of the pixels of some rows."""
        width = int(self.cols[-1]) + 1
        if self.uniform:
            return np.full((count, width), self.nominal)
        row, lower, share = _between(self.rows, np.arange(top, top + count))
        here = self.values[row] * (1 - share[:, None]) + self.values[lower] * share[:, None]
        col, right, share = _between(self.cols, np.arange(width))
        return here[:, col] * (1 - share) + here[:, right] * share


def pixel_areas(crs: str, transform: tuple[float, ...], shape: tuple[int, int]) -> Areas | None:
    """Compute the area of pixels; None for a coordinate system without a place on Earth.

    The area on the ellipsoid is that of the parallelogram that the steps of one pixel along a row and a column span in
    space. Up to a distortion of 0.5 % areas are those in the plane, as everybody computes them.

    Args:
        crs: WKT.
        transform: ``(a, b, c, d, e, f)``.
        shape: height and width in pixels.
    """
    rows, cols = (np.unique(np.append(np.arange(0, n, -(-n // _NODES)), n - 1)) for n in shape)
    col, row = np.meshgrid(cols + 0.5, rows + 0.5)
    a, b, c, d, e, f = transform

    def place(col: np.ndarray, row: np.ndarray) -> np.ndarray | None:
        return on_ellipsoid(np.stack([a * col + b * row + c, d * col + e * row + f], -1).reshape(-1, 2), crs)

    corners = [place(col + x, row + y) for x, y in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))]
    if any(corner is None for corner in corners):
        return None
    east, west, south, north = (corner for corner in corners if corner is not None)
    values = np.linalg.norm(np.cross(east - west, south - north), axis=-1).reshape(row.shape)
    known = np.isfinite(values)  # a map in a projection of the whole Earth may have corners outside
    unit = unit_metres(crs)
    if unit is not None and known.all():
        nominal = abs(a * e - b * d) * unit**2
        if np.abs(values / nominal - 1).max() <= _TOLERANCE:
            return Areas(nominal, rows, cols, values, uniform=True)
    mean = float(values[known].mean()) if known.any() else 1.0
    return Areas(mean, rows, cols, np.where(known, values, 0.0), uniform=False)


def _between(nodes: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index of the node before and after each place, and how far it is on the way."""
    before = np.searchsorted(nodes, at, side="right") - 1
    after = np.minimum(before + 1, len(nodes) - 1)
    step = np.maximum(nodes[after] - nodes[before], 1)
    return before, after, (at - nodes[before]) / step

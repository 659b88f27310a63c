"""Scenes of any coordinate system and resolution on the pixels of one map."""

import math
from collections.abc import Sequence

from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform, transform_bounds

from adapteo.data._layout import Box, Grid
from adapteo.data._source import BandFile
from adapteo.data._source import Grid as SourceGrid
from adapteo.data._warp import Assembled, Piece
from adapteo.data.raster import Scene, pixel_size
from adapteo.errors import ConfigError, DataError

__all__ = ["common_grid", "on_grid"]
_SPARSE = 100  # times as many pixels as all scenes have: then they lie too far apart for one map
_SAME = 0.01  # of a pixel


def common_grid(
    scenes: Sequence[Scene], crs: str | None = None, resolution: float | None = None
) -> tuple[Grid, tuple[Box, ...]]:
    """Find pixels that hold all scenes.

    Where coordinate system and resolution are those of the first scene, its pixels are pixels of the grid, and so are
    those of all scenes on the same raster: they are read as they are.

    Args:
        scenes: at least one, each with a place.
        crs: e.g. "EPSG:32633"; None for that of the first scene.
        resolution: side of a pixel in units of the coordinate system; None for that of the first scene.

    Returns:
        The grid, and of each scene row, column, height and width in it.

    Raises:
        ConfigError: no such coordinate system, or a resolution that is not above 0.
        DataError: a scene has no place, or they lie too far apart.
    """
    for scene in scenes:
        if scene.crs is None or scene.transform is None:
            raise DataError(
                f"{scene.path} does not say where it lies, so that it fits into no mosaic",
                fix="give it a coordinate system, or map the scenes one by one",
            )
    target = _reference(crs, scenes[0])
    left, top, x_size, y_size = _origin(scenes[0], target, resolution)
    boxes = []
    for scene in scenes:
        west, south, east, north = transform_bounds(CRS.from_wkt(scene.crs), target, *_bounds(scene), densify_pts=21)
        first = math.floor((west - left) / x_size + _SAME), math.floor((top - north) / y_size + _SAME)
        last = math.ceil((east - left) / x_size - _SAME), math.ceil((top - south) / y_size - _SAME)
        boxes.append((first[1], first[0], last[1] - first[1], last[0] - first[0]))
    row, col = min(box[0] for box in boxes), min(box[1] for box in boxes)
    height, width = max(box[0] + box[2] for box in boxes) - row, max(box[1] + box[3] for box in boxes) - col
    if height * width > _SPARSE * sum(box[2] * box[3] for box in boxes):
        raise DataError(
            f"the scenes lie too far apart for one map: it would have {height} x {width} pixels, nearly all empty",
            fix="map them one by one, or nearer ones together",
        )
    place = (x_size, 0.0, left + col * x_size, 0.0, -y_size, top - row * y_size)
    grid = Grid(height, width, target.to_wkt(), place)
    return grid, tuple((y - row, x - col, h, w) for y, x, h, w in boxes)


def on_grid(scene: Scene, grid: Grid) -> Assembled:
    """The same scene on other pixels: moved where the grids fit, else resampled bilinearly, NaN beyond."""
    own = SourceGrid(scene.crs, scene.transform, (scene.height, scene.width), scene.gsd)
    shape = (grid.height, grid.width)
    target = SourceGrid(grid.crs, grid.transform, shape, pixel_size(grid.crs, grid.transform, shape))
    names = enumerate(scene.descriptions, 1)
    pieces = [Piece(BandFile(str(scene.path), i, name, None, None, (), own), scene, target) for i, name in names]
    return Assembled(str(scene.path), pieces, target, (scene.date,))


def _reference(crs: str | None, first: Scene) -> CRS:
    try:
        return CRS.from_user_input(crs) if crs else CRS.from_wkt(first.crs)
    except CRSError as error:
        raise ConfigError(f"'{crs}' is no coordinate system", fix="name one like EPSG:32633") from error


def _origin(first: Scene, target: CRS, resolution: float | None) -> tuple[float, float, float, float]:
    """Corner of a pixel of the grid, and the size of pixels."""
    if resolution is not None and not resolution > 0:
        raise ConfigError(f"a resolution of {resolution} is not above 0", fix="give the side of a pixel, e.g. 10")
    a, b, c, d, e, f = first.transform or (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    upright = CRS.from_wkt(first.crs) == target and not b and not d and a > 0 > e
    if upright and (resolution is None or (math.isclose(resolution, a) and math.isclose(resolution, -e))):
        return c, f, a, -e
    if resolution is None:
        resolution = _pixel(first, target)
    return 0.0, 0.0, resolution, resolution  # corners at multiples of the resolution


def _pixel(scene: Scene, target: CRS) -> float:
    """Mean side of the pixel in the centre of a scene, in units of another coordinate system."""
    a, b, c, d, e, f = scene.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    row, col = scene.height / 2, scene.width / 2
    at = [(a * x + b * y + c, d * x + e * y + f) for x, y in ((col, row), (col + 1, row), (col, row + 1))]
    x, y = transform(CRS.from_wkt(scene.crs), target, [p[0] for p in at], [p[1] for p in at])[:2]
    return (math.dist((x[0], y[0]), (x[1], y[1])) + math.dist((x[0], y[0]), (x[2], y[2]))) / 2


def _bounds(scene: Scene) -> tuple[float, float, float, float]:
    """West, south, east and north of a scene in its own coordinates."""
    a, b, c, d, e, f = scene.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    corners = [(0, 0), (scene.width, 0), (0, scene.height), (scene.width, scene.height)]
    x, y = [a * col + b * row + c for col, row in corners], [d * col + e * row + f for col, row in corners]
    return min(x), min(y), max(x), max(y)

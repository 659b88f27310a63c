from contextlib import ExitStack

import numpy as np
import pytest
import rasterio
from rasterio.warp import reproject, transform_bounds

from adapteo.data.mosaic import common_grid, on_grid
from adapteo.data.raster import open_scene
from adapteo.errors import ConfigError, DataError


def write(path, array, crs="EPSG:32632", place=(10, 0, 500_000, 0, -10, 5_000_000), **options):
    count, height, width = array.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=array.dtype, crs=crs,
        transform=rasterio.Affine(*place), **options,
    ) as file:  # fmt: skip
        file.write(array)
    return path


def smooth(height, width):
    rows, cols = np.mgrid[:height, :width]
    return (2 + np.sin(rows / 17) + np.cos(cols / 23))[None].astype(np.float32)


def opened(stack, *paths):
    return [stack.enter_context(open_scene(path)) for path in paths]


def test_scenes_on_one_raster_are_read_as_they_are(tmp_path):
    whole = np.random.default_rng(0).integers(1, 999, (2, 90, 120), dtype=np.uint16)
    cuts = [(0, 0, 60, 50), (20, 30, 70, 90)]
    paths = [
        write(tmp_path / f"{i}.tif", whole[:, y : y + h, x : x + w], place=(10, 0, 5e5 + 10 * x, 0, -10, 5e6 - 10 * y))
        for i, (y, x, h, w) in enumerate(cuts)
    ]
    with ExitStack() as stack:
        scenes = opened(stack, *paths)
        grid, boxes = common_grid(scenes)
        assert (grid.height, grid.width, grid.transform) == (90, 120, (10, 0, 5e5, 0, -10, 5e6))
        assert boxes == tuple(cuts)
        for scene, (y, x, h, w) in zip(scenes, cuts, strict=True):
            read = on_grid(scene, grid).read(5, 7, 80, 100)
            expected = np.full(whole.shape, np.nan, np.float32)
            expected[:, y : y + h, x : x + w] = whole[:, y : y + h, x : x + w]
            np.testing.assert_array_equal(read, expected[:, 5:85, 7:107])


def test_another_zone_is_warped_as_gdal_does(tmp_path):
    first = write(tmp_path / "a.tif", smooth(200, 200), place=(10, 0, 730_000, 0, -10, 5_000_000))
    box = transform_bounds("EPSG:32632", "EPSG:32633", 731_000, 4_997_000, 733_000, 4_999_000)
    array = smooth(260, 260)
    second = write(tmp_path / "b.tif", array, "EPSG:32633", (10, 0, round(box[0], -1), 0, -10, round(box[3], -1)))
    with ExitStack() as stack:
        scenes = opened(stack, first, second)
        grid, boxes = common_grid(scenes)
        assert grid.transform[0] == 10
        assert boxes[0][2:] == (200, 200)
        read = on_grid(scenes[1], grid).read(0, 0, grid.height, grid.width)[0]
        y, x, h, w = boxes[1]
        outside = np.ones_like(read, bool)
        outside[y : y + h, x : x + w] = False
        assert np.isnan(read[outside]).all()
        expected = np.full_like(read, np.nan)
        reproject(
            array[0], expected, src_transform=scenes[1].file.transform, src_crs="EPSG:32633", src_nodata=np.nan,
            dst_transform=rasterio.Affine(*grid.transform), dst_crs="EPSG:32632", dst_nodata=np.nan,
            resampling=rasterio.enums.Resampling.bilinear, tolerance=0, XSCALE=1, YSCALE=1,
        )  # fmt: skip
        both = ~np.isnan(read) & ~np.isnan(expected)
        assert both.sum() > 0.95 * 260 * 260
        np.testing.assert_allclose(read[both], expected[both], atol=1e-3)
        parts = [on_grid(scenes[1], grid).read(row, 0, 1, grid.width)[0] for row in (y + 5, y + 100)]
        np.testing.assert_allclose(parts, read[[y + 5, y + 100]][:, None], atol=1e-4)


def test_coordinate_system_and_resolution_can_be_chosen(tmp_path):
    with ExitStack() as stack:
        scenes = opened(stack, write(tmp_path / "a.tif", smooth(100, 100)))
        grid, _ = common_grid(scenes, "EPSG:4326")
        assert grid.height * grid.width == pytest.approx(100 * 100, rel=0.1)
        assert rasterio.CRS.from_wkt(grid.crs).to_epsg() == 4326
        grid, _ = common_grid(scenes, resolution=20)
        assert (grid.height, grid.width, grid.transform[:2]) == (50, 50, (20, 0))
        read = on_grid(scenes[0], grid).read(0, 0, 50, 50)
        blocks = smooth(100, 100).reshape(1, 50, 2, 50, 2).mean((2, 4))
        np.testing.assert_allclose(read[:, 1:-1, 1:-1], blocks[:, 1:-1, 1:-1], atol=0.01)


def test_what_makes_no_mosaic(tmp_path):
    with ExitStack() as stack:
        here = write(tmp_path / "a.tif", smooth(20, 20))
        far = write(tmp_path / "b.tif", smooth(20, 20), place=(10, 0, 700_000, 0, -10, 5_500_000))
        scenes = opened(stack, here, far)
        with pytest.raises(DataError, match="too far apart"):
            common_grid(scenes)
        with pytest.raises(ConfigError, match="'EPSG:1' is no coordinate system"):
            common_grid(scenes[:1], "EPSG:1")
        with pytest.raises(ConfigError, match="not above 0"):
            common_grid(scenes[:1], resolution=0)
        bare = stack.enter_context(open_scene(write(tmp_path / "c.tif", smooth(20, 20), crs=None)))
        with pytest.raises(DataError, match=r"c\.tif does not say where it lies"):
            common_grid([bare])

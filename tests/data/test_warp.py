"""Bands on one grid, against GDAL's own tools; and what survives of holes."""

import numpy as np
import products
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject
from rasterio.warp import transform as transform_points

from adapteo.data._opening import read_header
from adapteo.data._source import BandFile, Grid
from adapteo.data._warp import open_bands

UTM32, UTM33, DEGREES = "EPSG:32632", "EPSG:32633", "EPSG:4326"
TARGET = (48, 56)
LEFT, TOP = 700_000.0, 5_700_000.0


def target(crs=UTM32, gsd=10.0):
    return Grid(CRS.from_user_input(crs).to_wkt(), (gsd, 0.0, LEFT, 0.0, -gsd, TOP), TARGET, gsd)


def stored(tmp_path, values, crs, gsd, angle=0.0, at=(0.0, 0.0), nodata=None):
    """A file over the target, in another coordinate system and of other pixels; ``at`` in pixels of the target."""
    x, y = transform_points(UTM32, crs, [LEFT + 10 * at[0]], [TOP - 10 * at[1]])
    side = gsd if crs != DEGREES else gsd / 111_319.49
    place = Affine.translation(x[0], y[0]) @ Affine.rotation(angle) @ Affine.scale(side, -side)
    path = tmp_path / f"s_{abs(hash((crs, gsd, angle, at, nodata, values.tobytes())))}.tif"
    return products.write(path, values, crs=crs, transform=place, nodata=nodata)


def read(path, grid, box=None, **known):
    band = BandFile(str(path), 1, "red", grid=read_header(str(path)).grid, **known)
    with open_bands(str(path), [band], grid) as reader:
        return reader.read(*(box or (0, 0, *grid.shape)))[0]


def by_gdal(path, grid, nodata):
    """What gdalwarp makes of the whole file at once, told how coarse the target is."""
    out = np.full(grid.shape, np.nan, np.float32)
    with rasterio.open(path) as file:
        middle = LEFT + 280, TOP - 240
        x, y = transform_points(
            grid.crs, file.crs, [middle[0] + d for d in (0, 10, 0)], [middle[1] + d for d in (0, 0, 10)]
        )
        cols, rows = np.array([~file.transform @ pair for pair in zip(x, y, strict=True)]).T
        ratios = [np.hypot(*(axis[1:] - axis[0])) for axis in (cols, rows)]
        fractions = [1 / ratio if ratio >= 1.05 else 1.0 for ratio in ratios]
        reproject(
            rasterio.band(file, 1), out, src_nodata=nodata, dst_transform=Affine(*grid.transform), dst_nodata=np.nan,
            dst_crs=CRS.from_wkt(grid.crs), resampling=Resampling.bilinear, tolerance=0,
            XSCALE=fractions[0], YSCALE=fractions[1],
        )  # fmt: skip
    return out


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    crs=st.sampled_from([UTM32, UTM33, DEGREES]),
    gsd=st.sampled_from([10.0, 15.0, 20.0, 30.0, 60.0]),
    angle=st.sampled_from([0.0, 0.0, 12.0]),
    at=st.tuples(st.floats(-20, 20), st.floats(-20, 20)),
    seed=st.integers(0, 1000),
    box=st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 8), st.integers(1, 16)),
)
def test_agrees_with_gdal_and_windows_fit_together(tmp_path_factory, crs, gsd, angle, at, seed, box):
    rng = np.random.default_rng(seed)
    values = rng.normal(100, 30, (40, 40)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = -9999
    path = stored(tmp_path_factory.mktemp("w"), values, crs, gsd, angle, at, -9999)
    grid = target()
    whole, expected = read(path, grid), by_gdal(path, grid, -9999)
    # Where a pixel's centre lies on the edge of what is known, rounding decides.
    assert (np.isnan(whole) != np.isnan(expected)).mean() < 0.005
    both = ~np.isnan(whole) & ~np.isnan(expected)
    np.testing.assert_allclose(whole[both], expected[both], atol=0.02)
    row, col, height, width = box
    part = read(path, grid, box)
    same = whole[row : row + height, col : col + width]
    assert (np.isnan(part) != np.isnan(same)).mean() < 0.02
    np.testing.assert_allclose(part, np.where(np.isnan(part), np.nan, np.where(np.isnan(same), part, same)), atol=0.05)


@pytest.mark.parametrize("says", ["file", "product", "nan", "mask"])
@pytest.mark.parametrize("crs", [UTM32, UTM33])
def test_holes_do_not_smear(tmp_path, says, crs):
    hole = {"file": 0, "product": 0, "nan": np.nan, "mask": 4000}[says]
    values = np.full((40, 40), 700, np.float32)
    values[10:14, 10:14] = hole
    path = stored(tmp_path, values, crs, 20.0, nodata=0 if says == "file" else None)
    if says == "mask":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
            file.write_mask(values != hole)
    found = read(path, target(), missing=(0.0,) if says == "product" else ())
    known = found[~np.isnan(found)]
    np.testing.assert_allclose(known, 700, rtol=1e-6)
    assert 40 <= np.isnan(found[15:35, 15:35]).sum() <= 80
    assert known.size > 0.9 * found.size or crs == UTM33


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-7, 5), (100, 0)])
def test_whole_pixels_are_moved_exactly(tmp_path, shift):
    values = np.random.default_rng(0).integers(1, 9999, (48, 56)).astype(np.uint16)
    path = stored(tmp_path, values, UTM32, 10.0, at=(shift[1], shift[0]))
    found = read(path, target(), scale=0.5, offset=1.0)
    padded = np.full((48 + 400, 56 + 400), np.nan, np.float32)
    padded[200 + shift[0] : 248 + shift[0], 200 + shift[1] : 256 + shift[1]] = values
    np.testing.assert_array_equal(found, padded[200:248, 200:256] * np.float32(0.5) + 1)


def test_nothing_of_a_file_that_lies_elsewhere(tmp_path):
    path = stored(tmp_path, np.ones((8, 8), np.uint8), UTM33, 10.0, at=(9000.0, 0.0))
    assert np.isnan(read(path, target())).all()


def test_only_what_a_window_needs_is_read(tmp_path):
    values = np.ones((4000, 4000), np.uint8)
    path = products.write(tmp_path / "large.tif", values, gsd=20.0, left=LEFT, top=TOP, tiled=True, compress="deflate")
    header = read_header(str(path))
    grid = Grid(header.grid.crs, (10.0, 0.0, LEFT, 0.0, -10.0, TOP), (8000, 8000), 10.0)
    with open_bands("x", [BandFile(str(path), grid=header.grid)], grid) as reader:
        piece = reader._pieces[0]
        asked = []
        read_window = piece.scene.read
        piece.scene.read = lambda *window: asked.append(window) or read_window(*window)
        assert (reader.read(1000, 2000, 64, 64) == 1).all()
    assert len(asked) == 1
    assert max(asked[0][2:4]) < 64

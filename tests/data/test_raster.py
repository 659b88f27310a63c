import warnings
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from adapteo.data._dates import acquired
from adapteo.data.raster import open_scene, pixel_size, read_raster
from adapteo.errors import DataError


def from_origin(x, y, width, height):
    return rasterio.Affine(width, 0, x, 0, -height, y)


UTM = {"crs": "EPSG:32632", "transform": from_origin(500_000, 5_000_000, 10, 10)}


def write(path: Path, array: np.ndarray, tags=None, names=(), **profile) -> Path:
    count, height, width = array.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=array.dtype, **{**UTM, **profile}
    ) as file:
        file.write(array)
        file.update_tags(**(tags or {}))
        for i, name in enumerate(names, 1):
            file.set_band_description(i, name)
    return path


@pytest.fixture
def scene(tmp_path):
    return write(
        tmp_path / "scene.tif", np.arange(2 * 300 * 410, dtype=np.int32).reshape(2, 300, 410), names=("VV", "VH")
    )


# ------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
def test_every_type_reads_as_float_and_as_itself(tmp_path, dtype):
    array = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    path = write(tmp_path / "a.tif", array)
    assert read_raster(path).array.dtype == np.float32
    np.testing.assert_array_equal(read_raster(path).array, array.astype(np.float32))
    assert read_raster(path, masked=False).array.dtype == dtype


def test_nodata_nan_and_infinity_become_nan_only_when_masked(tmp_path):
    array = np.array([[[-9999, 1.0, np.nan, np.inf]]], dtype=np.float32)
    path = write(tmp_path / "a.tif", array, nodata=-9999)
    np.testing.assert_array_equal(read_raster(path).array[0, 0], [np.nan, 1, np.nan, np.nan])
    np.testing.assert_array_equal(read_raster(path, masked=False).array, array)


def test_internal_mask_becomes_nan(tmp_path):
    path = write(tmp_path / "a.tif", np.ones((1, 2, 2), np.uint8))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(np.array([[True, False], [True, True]]))
    np.testing.assert_array_equal(read_raster(path).array[0], [[1, np.nan], [1, 1]])


def test_bands_are_selected_in_the_order_asked_for(scene):
    picked = read_raster(scene, [2, 1])
    assert picked.descriptions == ("VH", "VV")
    np.testing.assert_array_equal(picked.array, read_raster(scene).array[::-1])
    with pytest.raises(DataError, match="has no band 3; it has 2"):
        read_raster(scene, [1, 3])
    with pytest.raises(DataError, match="has no band"):
        read_raster(scene, [])


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_a_window_is_read_into_an_array(tmp_path, dtype):
    array = np.random.default_rng(0).integers(0, 5, (3, 40, 50)).astype(dtype)
    if array.dtype.kind == "f":
        array[1, 12, 9] = np.inf
    path = write(tmp_path / "a.tif", array, nodata=0)
    expected = np.where((array == 0) | np.isinf(array), np.nan, array)[[2, 1], 10:18, 5:25]
    out = np.full((2, 8, 20), -1, np.float32)
    with open_scene(path) as opened:
        assert opened.read(10, 5, 8, 20, [3, 2], out) is out
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(opened.read(10, 5, 8, 20, [3, 2]), expected)


def test_of_float64_what_float32_cannot_hold_is_missing(tmp_path):
    path = write(tmp_path / "a.tif", np.array([[[1e300, 1.5, -1e39]]]))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(read_raster(path).array[0, 0], [np.nan, 1.5, np.nan])


@pytest.mark.parametrize("interleave", ["band", "pixel"])
def test_blocks_that_a_window_touches(tmp_path, interleave):
    """At the worst place a window begins and ends in the middle of blocks."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 700, 640), dtype=np.uint16)
    blocks = {"tiled": True, "blockxsize": 128, "blockysize": 64, "interleave": interleave}
    with open_scene(write(tmp_path / "a.tif", noise, **blocks)) as opened:
        used = 2 if interleave == "band" else 3
        assert opened.block_bytes(1, 2, [1, 3]) == 1 * 2 * 64 * 128 * used * 2
        assert opened.block_bytes(65, 130, [1, 3]) == 2 * 3 * 64 * 128 * used * 2
        assert opened.block_bytes(700, 640, [1, 3]) == 11 * 5 * 64 * 128 * used * 2  # no more than there are


def test_complex_numbers_are_refused(tmp_path):
    path = write(tmp_path / "slc.tif", np.ones((1, 2, 2), np.complex64))
    with pytest.raises(DataError, match="complex numbers"):
        read_raster(path)


@pytest.mark.parametrize(("mode", "dtype", "count"), [("RGB", "uint8", 3), ("L", "uint8", 1), ("1", "uint8", 1)])
def test_png(tmp_path, mode, dtype, count):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert(mode)
    picture.save(tmp_path / "a.png")
    raster = read_raster(tmp_path / "a.png", masked=False)
    assert raster.array.shape == (count, 5, 7)
    assert raster.array.dtype == dtype
    assert raster.crs is None
    assert raster.latlon is None
    expected = np.asarray(picture).astype(np.uint8).reshape(5, 7, count).transpose(2, 0, 1)
    np.testing.assert_array_equal(raster.array, expected)


def test_palette_png_gives_indices_and_sixteen_bits_survive(tmp_path):
    labels = np.array([[0, 1], [2, 3]], dtype=np.uint8)
    palette = Image.fromarray(labels).convert("P")
    palette.putpalette([10, 20, 30] * 4)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_raster(tmp_path / "p.png", masked=False).array[0], labels)
    Image.fromarray(labels.astype(np.uint16) * 20_000).save(tmp_path / "u16.png")
    np.testing.assert_array_equal(read_raster(tmp_path / "u16.png", masked=False).array[0], labels * np.uint16(20_000))


def test_transparent_pixels_are_missing(tmp_path):
    pixels = np.full((2, 2, 4), 9, dtype=np.uint8)
    pixels[0, 1, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    raster = read_raster(tmp_path / "a.png", [4, 1])
    assert raster.descriptions == ("alpha", "red")
    np.testing.assert_array_equal(raster.array, [[[9, 0], [9, 9]], [[9, np.nan], [9, 9]]])


def test_jpeg_as_image_and_as_scene(tmp_path):
    Image.fromarray(np.full((8, 8, 3), 100, np.uint8)).save(tmp_path / "a.jpg")
    assert read_raster(tmp_path / "a.jpg").descriptions == ("red", "green", "blue")
    with open_scene(tmp_path / "a.jpg") as opened:
        assert opened.descriptions == ("red", "green", "blue")
        assert (opened.crs, opened.transform, opened.latlon, opened.gsd) == (None, None, None, None)


# -------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg"])
def test_damaged_files_are_named(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(DataError, match=f"there is no file .*{name}"):
        read_raster(path)
    path.touch()
    with pytest.raises(DataError, match=r"is empty \(0 bytes\)"):
        read_raster(path)
    path.write_bytes(b"This is not an image" * 10)
    with pytest.raises(DataError, match="it is not an image"):
        read_raster(path)
    with pytest.raises(DataError, match="is a folder"):
        read_raster(tmp_path)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg"])
def test_truncated_files_are_refused_wherever_they_end(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (3, 40, 50), dtype=np.uint8)
    whole = tmp_path / f"whole_{name}"
    if name.endswith("tif"):
        write(whole, noise, compress="deflate")
    else:
        Image.fromarray(noise.transpose(1, 2, 0)).save(whole)
    content = whole.read_bytes()
    for end in range(1, len(content) - 20, max(1, len(content) // 40)):
        (tmp_path / name).write_bytes(content[:end])
        with pytest.raises(DataError, match=name):
            read_raster(tmp_path / name)


def test_damage_inside_a_scene_is_reported_when_it_is_read(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1, 512, 512), dtype=np.uint8)
    path = write(tmp_path / "a.tif", noise, tiled=True, blockxsize=256, blockysize=256, compress="deflate")
    content = bytearray(path.read_bytes())
    content[-3000:-2000] = bytes(1000)
    path.write_bytes(bytes(content))
    with open_scene(path) as opened:
        opened.read(0, 0, 100, 100)
        with pytest.raises(DataError, match=r"cannot read .*a\.tif"):
            opened.read(300, 300, 100, 100)


def test_chips_without_place_neither_warn_nor_have_one(tmp_path):
    path = tmp_path / "a.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(path, np.ones((1, 2, 2), np.uint8), crs=None, transform=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raster = read_raster(path)
        assert (raster.crs, raster.transform, raster.latlon, raster.gsd) == (None, None, None, None)
        with open_scene(path) as opened:
            assert opened.transform is None


# --------------------------------------------------------------------------------------------- place


def test_place_of_a_utm_scene(scene):
    with open_scene(scene) as opened:
        assert opened.gsd == 10.0
        lat, lon = opened.latlon
        assert lon == pytest.approx(9 + 2050 / 78_850, abs=1e-4)  # 9 E is the central meridian of zone 32
        assert lat == pytest.approx(45.14, abs=0.01)
        assert (opened.height, opened.width, opened.count, opened.dtype) == (300, 410, 2, "int32")


def test_pixel_size_of_degrees_and_feet():
    feet = rasterio.crs.CRS.from_epsg(2263).to_wkt()  # US survey feet
    assert pixel_size(feet, (10.0, 0, 1e6, 0, -10.0, 2e5), (2, 2)) == pytest.approx(3.048, abs=1e-3)
    degrees = rasterio.crs.CRS.from_epsg(4326).to_wkt()
    at_60_north = pixel_size(degrees, (0.001, 0, 10, 0, -0.001, 60), (2, 2))
    assert at_60_north == pytest.approx(111.32 * 0.5**0.5, rel=1e-3)


def test_spain_chip_lies_in_spain(shared_data):
    with open_scene(shared_data / "sen1floods11_spain" / "Spain_7370579_S2Hand.tif") as opened:
        assert opened.latlon == pytest.approx((38.106, -0.759), abs=1e-3)
        assert opened.gsd == pytest.approx(8.87, abs=0.01)
        assert opened.descriptions[8] == "B8A"
        assert opened.nodata == 0


def test_grids_are_compared(tmp_path, scene):
    array = np.zeros((1, 300, 410), np.uint8)
    others = {
        "pixels": write(tmp_path / "a.tif", array[:, :-1]),
        "coordinate": write(tmp_path / "b.tif", array, crs="EPSG:32633"),
        "origin": write(tmp_path / "c.tif", array, transform=from_origin(500_005, 5_000_000, 10, 10)),
    }
    with open_scene(scene) as opened:
        assert opened.mismatch(opened) is None
        for reason, path in others.items():
            with open_scene(path) as other:
                assert reason in opened.mismatch(other)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"SENSING_TIME": "2021-07-03T16:49:00.5Z"}, date(2021, 7, 3)),
        ({"TIFFTAG_DATETIME": "2019:12:31 10:00:00"}, date(2019, 12, 31)),
        ({"TIFFTAG_DATETIME": "2024:01:01 00:00:00", "date_acquired": "20200229"}, date(2020, 2, 29)),
        ({"TIFFTAG_DATETIME": "0000:00:00 00:00:00"}, None),
        ({"SENSING_TIME": "yesterday"}, None),
        ({}, None),
    ],
)
def test_acquisition_date(tags, expected):
    assert acquired(tags) == expected


def test_acquisition_date_of_a_file(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((1, 2, 2), np.uint8), tags={"ACQUISITION_DATE": "2023-05-06"})
    with open_scene(path) as opened:
        assert opened.date == date(2023, 5, 6)

import signal
import subprocess
import sys
import threading
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.env import get_gdal_config

from adapteo.data.raster import open_scene
from adapteo.errors import ConfigError, DataError
from adapteo.predict import Inputs, MapLegend, match_bands, predict_scene
from adapteo.windows import TILE, Layer, Windows, sweep

HLS6 = ("blue", "green", "red", "nir08", "swir16", "swir22")
VALUE = MapLegend(("height",), kind="regression")
TWO = MapLegend(("land", "water"))
SMALL = Windows(size=32, batch=3)


class Memory:
    """An image in memory."""

    def __init__(self, array):
        self.array, self.shape, self.extent = array, array.shape, (0, 0, *array.shape[2:])

    def read(self, row, col, out):
        height, width = out.shape[2:]
        assert 0 <= row <= row + height <= self.shape[2]
        assert 0 <= col <= col + width <= self.shape[3]
        out[:] = self.array[..., row : row + height, col : col + width]


def identity(images):
    return images[:, 0]


def assemble(forward, array, windows, outputs=1):
    out = np.full((outputs, *array.shape[-2:]), np.nan, dtype=np.float32)
    times = np.zeros(array.shape[-2:], dtype=int)
    for rows in sweep([Layer(forward, Memory(array))], outputs, windows):
        here = (slice(rows.row, rows.row + rows.values.shape[1]), slice(rows.col, rows.col + rows.values.shape[2]))
        out[(slice(None), *here)] = np.where(rows.seen, rows.values.numpy(), np.nan)
        times[here] += 1
    assert (times == 1).all()
    return out


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def write(path: Path, array: np.ndarray, names=(), **profile) -> Path:
    count, height, width = array.shape
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
    options = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": array.dtype}
    with rasterio.open(path, "w", **{**options, **place, **profile}) as file:
        file.write(array)
        for i, name in enumerate(names, 1):
            file.set_band_description(i, name)
    return path


def read(path):
    with rasterio.open(path) as file:
        return file.read()


# ------------------------------------------------------------------------------------------- windows


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 600),
    width=st.integers(1, 600),
    size=st.sampled_from([8, 50, 64, 300]),
    overlap=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.8]),
    seed=st.integers(0, 99),
)
def test_identity_gives_any_image_back_exactly(height, width, size, overlap, seed):
    if size == 8:
        height, width = height % 60 + 1, width % 60 + 1  # many windows
    array = noise(1, 1, height, width, seed=seed)
    windows = Windows(size, overlap, batch=5, band=1)
    np.testing.assert_array_equal(assemble(identity, array, windows), array[0])


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-8, 12345.678])
def test_constant_stays_exactly_constant(value):
    array = noise(1, 1, 150, 333)
    result = assemble(lambda images: torch.full_like(images[:, 0], value), array, Windows(32, 0.6))
    assert (result == np.float32(value)).all()


def test_result_does_not_depend_on_bands_or_batches():
    def position(images):  # depends on where in the window a pixel lies, as a model with little context does
        ramp = torch.linspace(-1, 1, images.shape[-1])
        return images[:, 0] * (1 + ramp[:, None] * ramp)

    array = noise(1, 1, 300, 900)
    whole = assemble(position, array, Windows(64, 0.25, batch=8, band=4096))
    for band, batch in [(1, 8), (512, 3)]:
        np.testing.assert_array_equal(assemble(position, array, Windows(64, 0.25, batch, band=band)), whole)


def test_there_are_no_seams():
    """Windows that disagree by 1 blend without a step; without overlap there is one."""

    def checkerboard():
        calls = iter(range(10**6))
        return lambda images: torch.stack([torch.full_like(i[0], next(calls) % 2) for i in images])

    array = np.zeros((1, 1, 32, 400), dtype=np.float32)
    steps = {o: np.abs(np.diff(assemble(checkerboard(), array, Windows(32, o))[0, 16])).max() for o in (0, 0.25, 0.5)}
    assert steps[0] == 1.0
    assert steps[0.25] < 0.21  # a Hann ramp over 8 pixels
    assert steps[0.5] < 0.11


def test_blend_is_the_weighted_mean():
    """Against sums in float64."""
    windows = Windows(24, 0.4)
    array = noise(1, 1, 70, 95)
    profile = noise(24, 24, seed=1)
    result = assemble(lambda images: images[:, 0] * torch.from_numpy(profile), array, windows)
    total, weight, taper = np.zeros((70, 95)), np.zeros((70, 95)), windows.taper().double().numpy()
    for y in windows.starts(70):
        for x in windows.starts(95):
            here = (slice(y, y + 24), slice(x, x + 24))
            total[here] += array[0, 0][here] * profile * taper
            weight[here] += taper
    np.testing.assert_allclose(result[0], total / weight, rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 300), overlap=st.floats(0, 0.95), length=st.integers(1, 3000))
def test_windows_cover_everything_and_weigh_everything(size, overlap, length):
    windows = Windows(size, overlap)
    starts = windows.starts(length)
    assert starts[0] == 0
    assert all(0 < b - a <= windows.step for a, b in pairwise(starts))
    assert starts[-1] == max(0, length - size)
    taper = windows.taper()
    assert taper.min() > 0
    assert taper.max() <= 1
    assert torch.equal(taper, taper.flip(0, 1).T)
    bands = windows.bands(length)
    assert [left for left, _ in bands] == list(range(0, length, bands[0][1] if len(bands) > 1 else length))
    assert all(left % TILE == 0 for left, _ in bands)


def test_missing_windows_are_not_computed_and_partly_missing_ones_see_nan():
    array = np.zeros((2, 3, 64, 200), dtype=np.float32)
    array[..., :100] = np.nan
    array[0, :, :, 150] = np.nan  # one date only: not missing
    array[:, :2, :, 160] = np.nan  # some bands only: not missing
    seen = []

    def forward(images):
        assert images.shape[1:] == (2, 3, 32, 32)
        assert not torch.isnan(images).flatten(1).all(1).any()
        seen.append(len(images))
        return torch.ones(len(images), 1, 32, 32)

    calls = []
    windows = Windows(32, 0.25, batch=4)
    parts = list(sweep([Layer(forward, Memory(array))], 1, windows, lambda *progress: calls.append(progress)))
    missing = np.concatenate([~rows.seen for rows in parts])
    expected = np.zeros((64, 200), dtype=bool)
    expected[:, :100] = True
    np.testing.assert_array_equal(missing, expected)
    total = len(windows.starts(64)) * len(windows.starts(200))
    assert sum(seen) < total
    assert calls[-1] == (total, total)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_only_missing():
    nothing = Memory(np.full((1, 1, 40, 40), np.nan, np.float32))
    parts = list(sweep([Layer(lambda _: pytest.fail("called"), nothing)], 2, SMALL))
    assert not any(rows.seen.any() for rows in parts)


def test_a_small_image_is_reflected():
    array = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    shown = []
    assemble(lambda images: shown.append(images.clone()) or images[:, 0], array, Windows(4))
    expected = [[0, 1, 2, 1], [3, 4, 5, 4], [0, 1, 2, 1], [3, 4, 5, 4]]
    np.testing.assert_array_equal(shown[0][0, 0, 0], expected)


def test_wrong_settings_and_wrong_output_are_explained():
    with pytest.raises(ConfigError, match="use size 224"):
        Windows(size=225, multiple=16)
    with pytest.raises(ConfigError, match="overlap of 1"):
        Windows(overlap=1)
    with pytest.raises(ConfigError, match="batch 0"):
        Windows(batch=0)
    with pytest.raises(ConfigError, match="the map needs"):
        assemble(identity, np.zeros((1, 1, 9, 9), np.float32), SMALL, outputs=2)


def test_what_reading_or_the_model_raises_comes_through():
    class Broken(Memory):
        def read(self, row, col, out):
            raise DataError("damaged")

    with pytest.raises(DataError, match="damaged"):
        list(sweep([Layer(identity, Broken(np.zeros((1, 1, 99, 99))))], 1, SMALL))

    def out_of_memory(images):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(sweep([Layer(out_of_memory, Memory(np.zeros((1, 1, 99, 99), np.float32)))], 1, SMALL))


def test_a_row_stays_while_the_next_one_is_read():
    """The reading thread is one row ahead, in memory that it uses again."""
    array = noise(1, 2, 200, 90)
    windows = Windows(32, 0.25, batch=4)
    rows = len(windows.starts(200))
    asked = threading.Semaphore(0)

    class Counted(Memory):
        reads = 0

        def read(self, row, col, out):
            super().read(row, col, out)
            self.reads += 1
            asked.release()

    source = Counted(array)
    finished = []

    def forward(images):
        number = len(finished)
        while source.reads < min(number + 2, rows):  # until the next row has come
            assert asked.acquire(timeout=10)
        finished.append(images.numpy().copy())
        return images[:, 0]

    parts = list(sweep([Layer(forward, source)], 2, windows))
    assert len(finished) == rows
    for top, images in zip(windows.starts(200), finished, strict=True):
        for left, image in zip(windows.starts(90), images, strict=True):
            np.testing.assert_array_equal(image, array[..., top : top + 32, left : left + 32])
    np.testing.assert_array_equal(np.concatenate([part.values for part in parts], axis=1), array[0])


def test_memory_does_not_depend_on_the_size_of_the_image():
    """Of NumPy, which reads; `python -m benchmarks predict_memory` measures the process.

    The larger image has nine times the pixels: a single byte for each would be half as much again as the small one
    needs. How many windows the reading thread is ahead, and what Python has not freed yet, differ by a few percent.
    """

    class Empty:
        def __init__(self, height, width):
            self.shape, self.extent = (1, 20, height, width), (0, 0, height, width)

        def read(self, row, col, out):
            out[:] = 0

    def peak(height, width):
        tracemalloc.start()
        empty = Layer(lambda images: images[:, 0, :1], Empty(height, width))
        for _ in sweep([empty], 1, Windows(64, band=256)):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(100, 100)  # what is made once
    small = peak(500, 800)
    assert small > 5e6
    assert peak(1500, 2400) < 1.2 * small


# ---------------------------------------------------------------------------------------------- maps


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (300, 280), (31, 33)])
def test_values_of_any_size_keep_place_and_missing(tmp_path, shape):
    array = noise(1, *shape)
    array[0, : shape[0] // 3] = -9999
    scene = write(tmp_path / "scene.tif", array, nodata=-9999)
    assert predict_scene(identity, scene, tmp_path / "map.tif", VALUE, windows=SMALL) == (tmp_path / "map.tif",)
    np.testing.assert_array_equal(read(tmp_path / "map.tif"), np.where(array == -9999, np.nan, array))
    with rasterio.open(tmp_path / "map.tif") as file, rasterio.open(scene) as source:
        assert (file.crs, file.transform, file.shape) == (source.crs, source.transform, source.shape)
        assert (file.dtypes, np.isnan(file.nodata), file.descriptions) == (("float32",), True, ("height",))


def water(images):
    likely = (images[:, 0, :1] > 0.05).float() * 0.75 + 0.125
    return torch.cat([1 - likely, likely], dim=1)


def test_classes_and_probabilities(tmp_path):
    numbers = np.random.default_rng(0).integers(1, 1000, (2, 200, 300), dtype=np.uint16)
    numbers[:, 50:60] = 0
    numbers[0, 100:110] = 0  # only one of the bands
    scene = write(tmp_path / "scene.tif", numbers, nodata=0)
    files = predict_scene(water, scene, tmp_path / "map.tif", TWO, inputs=Inputs(scale=1e-4), windows=SMALL,
                          probabilities=True)  # fmt: skip
    assert [path.name for path in files] == ["map.tif", "map_probabilities.tif"]
    is_water, gone = numbers[0] > 500, np.zeros((200, 300), bool)
    gone[50:60] = True
    with rasterio.open(files[0]) as file:
        np.testing.assert_array_equal(file.read(1), np.where(gone, 255, is_water))
        assert file.dtypes == ("uint8",)
        assert file.tags(1) == {"CLASS_0": "land", "CLASS_1": "water"}
        assert file.colormap(1)[0] != file.colormap(1)[1]
    with rasterio.open(files[1]) as file:
        assert (file.dtypes, file.scales, file.nodata) == (("uint16",) * 2, (1e-4, 1e-4), 65535)
        assert file.descriptions == ("land", "water")
        stored = file.read()
    assert (stored[:, gone] == 65535).all()
    np.testing.assert_array_equal(stored[1][~gone], np.where(is_water[~gone], 8750, 1250))
    assert (stored[:, ~gone].sum(axis=0) == 10_000).all()


def test_the_cache_of_blocks_does_not_depend_on_the_size_of_the_scene(tmp_path):
    before, during = get_gdal_config("GDAL_CACHEMAX"), []

    def forward(images):
        during.append(get_gdal_config("GDAL_CACHEMAX"))
        return images[:, 0, :1]

    windows = Windows(size=128, band=256)
    for side in (1024, 2048):
        blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "band", "nodata": 0}
        scene = write(tmp_path / "scene.tif", np.ones((2, side, side), np.uint16), **blocks)
        inputs = Inputs(indexes=(2,))
        predict_scene(forward, scene, tmp_path / "map.tif", VALUE, inputs=inputs, windows=windows)
    # 2 blocks down (128 rows and where they begin), 3 across (256 + 2 * 127 columns, likewise), and 8 MiB for the map.
    assert set(during) == {2**23 + 2 * 3 * 256**2 * 2}
    assert get_gdal_config("GDAL_CACHEMAX") == before


def test_many_classes_need_sixteen_bits(tmp_path):
    scene = write(tmp_path / "scene.tif", np.full((1, 5, 5), 299, np.uint16))
    legend = MapLegend(tuple(f"crop {i}" for i in range(300)))
    windows = Windows(size=8)
    one_hot = lambda images: torch.nn.functional.one_hot(images[:, 0, 0].long(), 300).permute(0, 3, 1, 2)  # noqa: E731
    predict_scene(one_hot, scene, tmp_path / "map.tif", legend, windows=windows)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert (file.dtypes, file.nodata, file.tags(1)["CLASS_299"]) == (("uint16",), 65535, "crop 299")
        assert (file.read() == 299).all()


def test_dates_in_one_file_and_in_several_are_the_same(tmp_path):
    numbers = np.random.default_rng(0).integers(1, 1000, (6, 40, 50), dtype=np.uint16)
    both = write(tmp_path / "both.tif", numbers)
    each = [write(tmp_path / f"{i}.tif", numbers[3 * i : 3 * i + 3]) for i in range(2)]
    shapes = set()

    def second_date_last_band(images):
        shapes.add(tuple(images.shape[1:3]))
        return images[:, 1, 1:2]

    inputs = Inputs((1, 3), 2, scale=((1.0, 1.0), (1.0, 0.5)), offset=((0.0,), (-1.0,)))
    for i, scene in enumerate((both, each)):
        predict_scene(second_date_last_band, scene, tmp_path / f"map{i}.tif", VALUE, inputs=inputs, windows=SMALL)
        np.testing.assert_array_equal(read(tmp_path / f"map{i}.tif")[0], numbers[5] * np.float32(0.5) - 1)
    assert shapes == {(2, 2)}


def test_errors_name_the_file_and_leave_nothing(tmp_path):
    a = write(tmp_path / "a.tif", np.ones((3, 40, 50), np.uint8))
    b = write(tmp_path / "b.tif", np.ones((3, 40, 51), np.uint8))
    out = tmp_path / "out" / "map.tif"
    with pytest.raises(DataError, match=r"b\.tif does not lie on the pixels of .*a\.tif"):
        predict_scene(identity, [a, b], out, VALUE)
    with pytest.raises(DataError, match="do not hold 2 dates"):
        predict_scene(identity, a, out, VALUE, inputs=Inputs(frames=2))
    with pytest.raises(DataError, match="there is no file"):
        predict_scene(identity, tmp_path / "c.tif", out, VALUE)
    with pytest.raises(DataError, match="no scene"):
        predict_scene(identity, [], out, VALUE)
    with pytest.raises(DataError, match="would replace the scene"):
        predict_scene(identity, a, a, VALUE)
    with pytest.raises(DataError, match="has no band 4"):
        predict_scene(identity, a, out, VALUE, inputs=Inputs((4,)))
    with pytest.raises(ConfigError, match="scale or offset"):
        predict_scene(identity, a, out, VALUE, inputs=Inputs(scale=(1.0, 2.0)))
    with pytest.raises(ConfigError, match="no probabilities"):
        predict_scene(identity, a, out, VALUE, probabilities=True)
    with pytest.raises(ConfigError, match="cannot show"):
        MapLegend(("a",), kind="segmentaton")
    with pytest.raises(ConfigError, match="1 to 1 classes"):
        MapLegend(("a", "b"), kind="regression")
    assert not out.parent.exists() or list(out.parent.iterdir()) == []


def test_interruption_leaves_nothing(tmp_path):
    scene = write(tmp_path / "scene.tif", np.ones((1, 700, 64), np.uint8))

    def stop_later(images, calls=iter(range(100))):  # noqa: B008
        if next(calls) == 20:
            raise KeyboardInterrupt
        return torch.ones(len(images), 2, 32, 32)

    with pytest.raises(KeyboardInterrupt):
        predict_scene(stop_later, scene, tmp_path / "out" / "map.tif", TWO, windows=SMALL, probabilities=True)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_failing_writer_stops_the_reading_thread(tmp_path, monkeypatch):
    scene = write(tmp_path / "scene.tif", np.ones((1, 900, 64), np.uint8))

    def full(*_):
        raise DataError("the disk is full")

    monkeypatch.setattr("adapteo.data._map_pieces.Pieces.write", full)
    with pytest.raises(DataError, match="disk is full"):
        predict_scene(lambda images: images[:, 0], scene, tmp_path / "out" / "map.tif", VALUE, windows=SMALL)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("adapteo-read")]
    assert list((tmp_path / "out").iterdir()) == []


# --------------------------------------------------------------------------------------------- bands


@pytest.mark.parametrize(
    ("names", "wanted", "sensor", "expected"),
    [
        (("B02", "B03", "B04", "B8A", "B11", "B12"), HLS6, None, (1, 2, 3, 4, 5, 6)),
        (("B2", "B3", "B4", "B5", "B6", "B7"), HLS6, None, (1, 2, 3, 4, 5, 6)),  # only Landsat has all
        (("swir22", "NIR_NARROW", "red"), ("red", "nir08"), None, (3, 2)),
        (("VV", "VH"), ("vh", "vv"), None, (2, 1)),
        ((None, "B5", "odd"), ("nir08",), "landsat8", (2,)),
        (tuple(f"B{i}" for i in (1, 2, 3, 4, 5, 6, 7, 8, "8A", 9, 10, 11, 12)), HLS6, None, (2, 3, 4, 9, 12, 13)),
    ],
)  # fmt: skip
def test_bands_are_found_by_name(tmp_path, names, wanted, sensor, expected):
    path = write(tmp_path / "a.tif", np.zeros((len(names), 2, 2), np.uint8), [name or "" for name in names])
    with open_scene(path) as scene:
        assert match_bands(scene, wanted, sensor) == expected


def test_bands_without_names_follow_the_dataset(tmp_path):
    with open_scene(write(tmp_path / "a.tif", np.zeros((12, 2, 2), np.uint8))) as scene:
        assert match_bands(scene, ("swir22", "blue"), dataset_order=HLS6, frames=2) == (6, 1)
        with pytest.raises(DataError, match="cannot find swir22, blue .* 12 bands per date: unnamed"):
            match_bands(scene, ("swir22", "blue"), dataset_order=HLS6)
        with pytest.raises(DataError, match="not 5 dates"):
            match_bands(scene, ("blue",), frames=5)


def test_known_names_are_never_overruled_by_the_order(tmp_path):
    with open_scene(write(tmp_path / "a.tif", np.zeros((2, 2, 2), np.uint8), ["red", "nir"])) as scene, \
            pytest.raises(DataError, match="cannot find green"):  # fmt: skip
        match_bands(scene, ("green",), dataset_order=("green", "red"))


def test_names_that_differ_between_sensors_need_the_sensor(tmp_path):
    with open_scene(write(tmp_path / "a.tif", np.zeros((2, 2, 2), np.uint8), ["B6", "B7"])) as scene:
        assert match_bands(scene, ("swir16",), "landsat8") == (1,)
        assert match_bands(scene, ("swir16",)) == (1,)  # on Sentinel-2 there is no such band here
    with open_scene(write(tmp_path / "b.tif", np.zeros((2, 2, 2), np.uint8), ["B6", "B11"])) as scene, \
            pytest.raises(DataError, match="--bands"):  # fmt: skip
        match_bands(scene, ("swir16",))


def test_spain_chip(tmp_path, shared_data):
    """The green and near infrared of real Sentinel-2: the map lies where the chip lies, missing pixels included."""
    chip = shared_data / "sen1floods11_spain" / "Spain_7370579_S2Hand.tif"
    with open_scene(chip) as scene:
        inputs = Inputs(match_bands(scene, ("green", "nir")), scale=1e-4)

    def ndwi(images):
        green, nir = torch.nan_to_num(images[:, 0]).split(1, dim=1)
        return torch.cat([green < nir, green >= nir], dim=1)

    predict_scene(ndwi, chip, tmp_path / "map.tif", TWO, inputs=inputs, windows=Windows(128))
    with rasterio.open(tmp_path / "map.tif") as file, rasterio.open(chip) as source:
        assert (file.crs, file.transform, file.shape) == (source.crs, source.transform, source.shape)
        green, nir = source.read([3, 8])
        expected = np.where((green == 0) & (nir == 0), 255, green >= nir)
        np.testing.assert_array_equal(file.read(1), expected)


# ------------------------------------------------------------------------------------ going on, and mosaics


def position(images):
    """Depends on where in the window a pixel lies."""
    ramp = torch.linspace(-1, 1, images.shape[-1])
    return images[:, 0] * (1 + ramp[:, None] * ramp)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_sweep_that_goes_on_gives_exactly_the_rest(monkeypatch, layers):
    monkeypatch.setattr("adapteo.windows.PIECE", TILE)
    windows = Windows(64, 0.4, batch=3, band=256)
    images = [noise(1, 1, 700, 600, seed=i) for i in range(layers)]
    if layers == 2:
        images[0][..., 300:] = np.nan
        images[1][..., :250] = np.nan
    stack = [Layer(position, Memory(image)) for image in images]
    pieces = windows.pieces(700, 600)
    assert len(pieces) == 9
    whole = list(sweep(stack, 1, windows))
    for skip in range(len(pieces) + 1):
        calls = []
        rest = list(sweep(stack, 1, windows, lambda *progress, calls=calls: calls.append(progress), skip=skip))
        assert len(rest) == sum((h + 255) // 256 * ((w + 255) // 256) for _, _, h, w in pieces[skip:])
        for part, expected in zip(rest, whole[len(whole) - len(rest) :], strict=True):
            assert (part.row, part.col) == (expected.row, expected.col)
            np.testing.assert_array_equal(part.values, expected.values)
            np.testing.assert_array_equal(part.seen, expected.seen)
        assert not calls or calls[-1][0] == calls[-1][1]


def constant(value):
    return lambda images: torch.full_like(images[:, 0], value)


@pytest.mark.parametrize(("overlap", "expected"), [("mean", (1, 2, 3)), ("first", (1, 1, 3)), ("last", (1, 3, 3))])
@pytest.mark.parametrize("height", [40, 300])
def test_where_images_overlap(overlap, expected, height):
    """Each has its say only where it saw something; a height of one row of windows, and of several."""
    first, second = np.zeros((2, 1, 1, height, 900), np.float32)
    first[..., 500:] = np.nan
    second[..., :400] = np.nan
    layers = [Layer(constant(1.0), Memory(first)), Layer(constant(3.0), Memory(second))]
    out = np.empty((height, 900), np.float32)
    for part in sweep(layers, 1, Windows(48, 0.25, band=256), overlap=overlap):
        out[part.row : part.row + part.values.shape[1], part.col : part.col + part.values.shape[2]] = part.values[0]
        assert part.seen.all()
    for cols, value in zip((slice(0, 400), slice(400, 500), slice(500, 900)), expected, strict=True):
        np.testing.assert_allclose(out[:, cols], value, rtol=1e-6)
    if overlap != "mean":
        assert set(np.unique(out)) == {1.0, 3.0}


def test_images_are_read_and_predicted_only_where_they_lie():
    class Corner(Memory):
        reads = 0

        def read(self, row, col, out):
            super().read(row, col, out)
            self.reads += 1

    images = [Corner(np.full((1, 1, 400, 400), np.nan, np.float32)) for _ in range(2)]
    for number, image in enumerate(images):
        image.extent = (300 * number, 300 * number, 100, 100)
        y, x, h, w = image.extent
        image.array[..., y : y + h, x : x + w] = number
    seen = np.zeros((400, 400), bool)
    for part in sweep([Layer(identity, image) for image in images], 1, Windows(64)):
        seen[part.row : part.row + part.values.shape[1], part.col : part.col + part.values.shape[2]] = part.seen
    assert [image.reads for image in images] == [3, 3]
    assert seen.sum() == 2 * 100 * 100
    assert seen[350, 350]


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
import adapteo.windows
from adapteo.predict import Inputs, MapLegend, Target, Windows, predict_layers
from adapteo._scene_images import open_dates
from adapteo.data.map_file import grid_of
from adapteo.windows import Layer
scene, out, calls = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
adapteo.windows.PIECE = 256
left = iter(range(calls))

def forward(images):
    if next(left, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    ramp = torch.linspace(-1, 1, images.shape[-1])
    wave = torch.sin(images[:, 0, :1] * 9 + ramp) * 0.4 + 0.5
    return torch.cat([1 - wave, wave], dim=1)

with open_dates([scene], Inputs(scale=1e-4)) as images:
    target = Target(out, MapLegend(("land", "water")), True, "model and scene", print)
    windows = Windows(64, batch=4, band=256)
    readers = int(sys.argv[4])
    predict_layers([Layer(forward, images)], grid_of(images.scenes[0]), target, windows=windows, readers=readers)
"""


def test_after_a_kill_the_next_call_goes_on_and_writes_the_same_bytes(tmp_path):
    numbers = np.random.default_rng(0).integers(1, 10_000, (1, 700, 600), dtype=np.uint16)
    scene = write(tmp_path / "scene.tif", numbers, nodata=0)

    def run(out, calls, readers=1):
        command = [sys.executable, "-c", KILLED, str(scene), str(out), str(calls), str(readers)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run(tmp_path / "once" / "map.tif", 10_000).returncode == 0
    out = tmp_path / "again" / "map.tif"
    for calls, said in [(20, ""), (30, "map.tif: going on after 1 of 9 finished pieces\n")]:
        found = run(out, calls, readers=2)
        assert (found.returncode, found.stdout) == (-signal.SIGKILL, said), found.stderr
        assert [path.name for path in out.parent.iterdir()] == [".map.tif.partial"], "nothing under the final name"
    found = run(out, 10_000)
    assert found.returncode == 0
    assert "going on after" in found.stdout
    names = sorted(path.name for path in (tmp_path / "once").iterdir())
    assert names == sorted(path.name for path in out.parent.iterdir())
    assert "map_probabilities.tif" in names
    for name in names:
        assert (out.parent / name).read_bytes() == (tmp_path / "once" / name).read_bytes(), name

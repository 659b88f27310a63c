"""Several processes that read give what one reader gives, and never outlive the one that asked."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from rasterio import Affine

from adapteo import mapping
from adapteo._scene_images import Inputs, SceneImages, Share, open_dates, open_place
from adapteo.data.mosaic import common_grid, on_grid
from adapteo.data.scene_files import open_images
from adapteo.errors import AdaptEOError, DataError
from adapteo.windows import Layer
from data import products
from reader_openers import rows_of, with_habit

HERE = Path(__file__).parent


def write(path, seed=0, bands=3, shape=(150, 200), corner=(500_000, 5_500_000), crs="EPSG:32632", **profile):
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 9, (bands, *shape)).astype(np.uint16) * 100
    place = {"crs": crs, "transform": Affine(10, 0, corner[0], 0, -10, corner[1]), "nodata": 0}
    options = {"driver": "GTiff", "count": bands, "height": shape[0], "width": shape[1], "dtype": "uint16"}
    with rasterio.open(path, "w", **options, **place, **profile) as file:
        file.write(array)
    return path


def tiles(**more):
    return {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate", **more}


def check(images, count=3):
    expected = rows_of(images, 1)
    for readers in range(2, count + 1):
        for one, other in zip(expected, rows_of(images, readers), strict=True):
            np.testing.assert_array_equal(one, other)  # NaN where NaN
    assert any(np.isnan(row).any() for row in expected)


@pytest.mark.parametrize(
    ("profile", "bands"),
    [(tiles(interleave="pixel"), 3), (tiles(interleave="band"), 5), ({}, 2)],  # divided: columns, channels, columns
    ids=["pixel", "band", "strips"],
)
def test_one_file(tmp_path, profile, bands):
    path = write(tmp_path / "scene.tif", bands=bands, **profile)
    with open_dates([path], Inputs(scale=(0.5,) * bands, offset=tuple(range(bands)))) as images:
        check([images])


def test_dates(tmp_path):
    paths = [write(tmp_path / f"{seed}.tif", seed, 2, **tiles(interleave="pixel")) for seed in range(2)]
    with open_dates(paths, Inputs((2, 1), scale=((1, 2), (3, 4)))) as images:
        assert images.shape[:2] == (2, 2)
        check([images])


def test_a_product_with_pixels_of_three_sizes(tmp_path):
    root, _ = products.safe(tmp_path, "1C", bands=("B02", "B03", "B11", "B09"), left=600_000.0)
    names = ("blue", "nir09", "swir16", "green")
    with open_images(root, names) as scene:
        assert [scene.effort(i) for i in range(1, 5)] == [(1, False), (1 / 36, True), (1 / 4, True), (1, False)]
        assert scene.slow
    again = partial(open_place, (root,), names, None, Inputs())
    with again() as images:
        images.opener = again
        expected = rows_of([images], 1)
        for one, other in zip(expected, rows_of([images], 3), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_mosaic_over_two_zones(tmp_path):
    west, _, _, north = rasterio.warp.transform_bounds(
        "EPSG:32632", "EPSG:32633", 730_400, 5_499_000, 731_000, 5_500_000
    )
    a = write(tmp_path / "a.tif", 1, corner=(730_000, 5_500_000), **tiles())
    b = write(tmp_path / "b.tif", 2, corner=(round(west, -1), round(north, -1)), crs="EPSG:32633", **tiles())
    c = write(tmp_path / "c.tif", 3, corner=(730_500, 5_499_500), **tiles(interleave="band"))
    with open_images(a) as first, open_images(b) as second, open_images(c) as third:
        scenes = [first, second, third]
        grid, boxes = common_grid(scenes)
        images = []
        for path, scene, box in zip((a, b, c), scenes, boxes, strict=True):
            again = partial(open_place, (path,), (), None, Inputs(), (grid, box))
            images.append(SceneImages([on_grid(scene, grid)], Inputs(), box, again))
        check(images, 2)


@pytest.mark.parametrize("block", [1, 8, 500])
def test_shares_of_columns_are_all_columns(block):
    for of in (1, 2, 3, 7):
        for left, width in [(0, 5), (3, 64), (100, 1000)]:
            cuts = [Share(((0, 1),), number, of, block).columns(left, width) for number in range(of)]
            assert cuts[0][0] == 0
            assert cuts[-1][1] == width
            assert all(one[1] == other[0] and one[0] <= one[1] for one, other in pairwise(cuts))


def test_channels_are_shared_by_what_they_cost(tmp_path):
    root, _ = products.safe(tmp_path, "1C", bands=("B02", "B03", "B11", "B12"), left=600_000.0)
    with open_place((root,), ("blue", "green", "swir16", "swir22"), None, Inputs()) as images:
        assert [share.channels for share in images.shares(2)] == [((0, 1), (2, 3)), ((1, 2), (3, 4))]
        assert [share.channels for share in images.shares(9)] == [((0, 1),), ((1, 2),), ((2, 3),), ((3, 4),)]


def test_readers_are_chosen_for_slow_files_and_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    monkeypatch.setattr("adapteo.mapping._LARGE", 1)
    root, _ = products.safe(tmp_path, "1C", bands=("B02", "B11"), left=600_000.0)
    gpu, cpu = (SimpleNamespace(model=torch.nn.Linear(1, 1, device=device)) for device in ("meta", "cpu"))
    with (
        open_place((root,), ("blue", "swir16"), None, Inputs()) as slow,
        open_dates([write(tmp_path / "scene.tif")], Inputs()) as quick,
    ):
        slow, quick = Layer(None, slow), Layer(None, quick)
        assert mapping._readers(gpu, [slow], mapping.Reading()) == 3
        assert mapping._readers(gpu, [quick, slow], mapping.Reading()) == 3
        assert mapping._readers(gpu, [quick], mapping.Reading()) == 1
        assert mapping._readers(cpu, [slow], mapping.Reading()) == 1
        assert mapping._readers(cpu, [quick], mapping.Reading(readers=5)) == 5
        monkeypatch.setattr("adapteo.mapping._LARGE", 10**6)
        assert mapping._readers(gpu, [slow], mapping.Reading()) == 1


def damaged(path):
    """Tiles in the middle are no deflate."""
    write(path, **tiles(interleave="pixel"))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\x01" * (size // 8))
    return path


def test_what_a_reader_raises_comes_through(tmp_path):
    path = damaged(tmp_path / "scene.tif")
    texts = []
    for readers in (1, 2):
        with open_dates([path], Inputs()) as images, pytest.raises(DataError) as error:
            rows_of([images], readers)
        texts.append(str(error.value))
        assert error.value.fix
    assert texts[0] == texts[1]
    assert "scene.tif" in texts[0]
    assert len(texts[0].splitlines()) <= 5


def test_warnings_and_messages_come_through(tmp_path, caplog):
    path = write(tmp_path / "scene.tif")
    with pytest.warns(UserWarning, match="the sun was low"):
        with_habit(path, "warns")
    assert ("gdal", 40, "a block is odd") in caplog.record_tuples


def test_errors_that_cannot_travel_and_readers_that_die(tmp_path):
    path = write(tmp_path / "scene.tif")
    with pytest.raises(RuntimeError, match="Odd: a 1.0"):
        with_habit(path, "odd")
    with pytest.raises(AdaptEOError, match="killed \\(signal 9\\)") as error:
        with_habit(path, "dies")
    assert "--readers" in error.value.fix


def test_readers_import_no_torch():
    code = "import sys, adapteo._reader_process; print([m for m in ('torch', 'typer', 'rich') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


WAITING = """
import sys
from reader_openers import with_habit
with_habit(sys.argv[1], "waits")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_program_is_stopped(tmp_path, number):
    path = write(tmp_path / "scene.tif")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    program = subprocess.Popen([sys.executable, "-c", WAITING, str(path)], stderr=subprocess.DEVNULL, env=environment)
    try:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("waiting-*"))) < 2:
            assert time.monotonic() < deadline
            assert program.poll() is None
            time.sleep(0.05)
        readers = [path.name.removeprefix("waiting-") for path in tmp_path.glob("waiting-*")]
        mapped = [Path(f"/proc/{pid}/maps").read_text() for pid in readers]
        assert all("memfd:adapteo" in maps and "/dev/shm/" not in maps for maps in mapped), "memory without a name"
        program.send_signal(number)
        assert program.wait(20) != 0
    finally:
        program.kill()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in readers):
        assert time.monotonic() < deadline
        time.sleep(0.05)

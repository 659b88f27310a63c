import json
import subprocess
import sys
import warnings
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from rio_cogeo.cogeo import cog_validate

from adapteo.data.map_file import Grid, Layout, fingerprint_of, grid_of, open_maps
from adapteo.data.raster import open_scene
from adapteo.errors import DataError
from adapteo.styles import classes_style

COLOURS = {0: (200, 180, 90), 1: (10, 60, 220)}
NAMES = ("land", "open & water")
CLASSES = Layout("uint8", 255, ("class",), NAMES, COLOURS, style=lambda _: classes_style(NAMES, COLOURS))
WKT = rasterio.crs.CRS.from_epsg(32632).to_wkt()
PLACE = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)


def grid(height, width):
    return Grid(height, width, WKT, PLACE)


def boxes(height, width, rows=256):
    return [(y, 0, min(rows, height - y), width) for y in range(0, height, rows)]


def fill(pieces, *arrays):
    """Write what is not there yet, tile by tile."""
    for top, left, height, width in pieces.boxes[pieces.finished :]:
        for y in range(top, top + height, 256):
            for x in range(left, left + width, 256):
                rows, cols = slice(y, min(y + 256, top + height)), slice(x, min(x + 256, left + width))
                pieces.write([array[:, rows, cols] for array in arrays], y, x)


def make(out, array, layout=CLASSES, place=None):
    with open_maps({out: layout}, place or grid(*array.shape[1:]), boxes(*array.shape[1:])) as pieces:
        fill(pieces, array)
    return out


def noise(*shape, high=2, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def test_map_has_place_colours_names_and_a_style(tmp_path):
    out = tmp_path / "maps" / "map.tif"
    array = noise(1, 300, 410)
    with open_maps({out: CLASSES}, grid(300, 410)) as pieces:
        fill(pieces, array)
        assert not out.exists()
    with rasterio.open(out) as file:
        np.testing.assert_array_equal(file.read(), array)
        assert (file.crs.to_epsg(), tuple(file.transform)[:6]) == (32632, PLACE)
        assert (file.nodata, file.compression.name, file.block_shapes) == (255, "deflate", [(256, 256)])
        assert file.colormap(1)[1] == (10, 60, 220, 255)
        assert file.colorinterp[0].name == "palette"
        assert file.tags(1) == {"CLASS_0": "land", "CLASS_1": "open & water"}
        assert file.tags()["TIFFTAG_SOFTWARE"] == "adapteo"
        assert file.descriptions == ("class",)
    assert sorted(path.name for path in out.parent.iterdir()) == ["map.qml", "map.tif", "map.tif.aux.xml"]
    rasterio.shutil.copy(out, tmp_path / "map.vrt", driver="VRT")  # how GDAL itself understands the map
    names = ElementTree.parse(tmp_path / "map.vrt").findall(".//CategoryNames/Category")
    assert [name.text for name in names] == list(NAMES)
    entries = ElementTree.parse(out.with_suffix(".qml")).findall(".//paletteEntry")
    assert [(e.get("value"), e.get("color"), e.get("label")) for e in entries] == [
        ("0", "#c8b45a", "land"), ("1", "#0a3cdc", "open & water"),
    ]  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(
    height=st.integers(2, 1300),  # of a single column, rio-cogeo takes the decimation to be 1
    width=st.integers(2, 1300),
    rows=st.sampled_from([256, 512, 1024]),
    kind=st.integers(0, 2),
)
def test_any_map_is_a_valid_cog_with_its_pixels(tmp_path_factory, height, width, rows, kind):
    layout = (CLASSES, Layout("float32", float("nan"), ("height",)), Layout("uint16", 65535, ("a", "b"), scale=1e-4))[
        kind
    ]
    array = noise(len(layout.bands), height, width, high=2 if kind == 0 else 9999, dtype=layout.dtype)
    array[:, : height // 3] = layout.nodata
    out = tmp_path_factory.mktemp("map") / "map.tif"
    with open_maps({out: layout}, grid(height, width), boxes(height, width, rows)) as pieces:
        fill(pieces, array)
    valid, errors, doubts = cog_validate(out, strict=True, quiet=True)
    assert (valid, errors, doubts) == (True, [], [])
    with rasterio.open(out) as file:
        np.testing.assert_array_equal(file.read(), array)
        assert file.scales == (layout.scale,) * len(layout.bands)
        assert file.descriptions == layout.bands
        assert np.isnan(file.nodata) if kind == 1 else file.nodata == layout.nodata
        assert bool(file.overviews(1)) == (max(height, width) > 256)


def test_overviews_show_the_most_frequent_class_and_the_mean_of_values(tmp_path):
    classes = np.kron(noise(1, 300, 300, high=4), np.ones((1, 2, 2), np.uint8))
    classes[:, ::2, ::2] = 7  # one pixel of four is another one
    values = noise(1, 600, 600, high=100, dtype=np.float32)
    values[:, :100] = np.nan
    steps = noise(2, 600, 600, high=10_000, dtype=np.uint16)
    steps[:, :, :50] = 65535
    make(tmp_path / "a.tif", classes, replace(CLASSES, classes=tuple("abcdefgh")))
    make(tmp_path / "b.tif", values, Layout("float32", float("nan")))
    make(tmp_path / "c.tif", steps, Layout("uint16", 65535, ("a", "b")))

    def half(name):
        with rasterio.open(tmp_path / name, overview_level=0) as file:
            return file.read()

    np.testing.assert_array_equal(half("a.tif"), classes[:, 1::2, 1::2])
    blocks = values[:, 100:].reshape(1, 250, 2, 300, 2).mean((2, 4))
    np.testing.assert_allclose(half("b.tif")[:, 50:], blocks, rtol=1e-6)
    assert np.isnan(half("b.tif")[:, :50]).all()
    expected = steps[:, :, 50:].reshape(2, 300, 2, 275, 2).mean((2, 4))
    np.testing.assert_allclose(half("c.tif")[:, :, 25:], expected, atol=0.51)
    assert (half("c.tif")[:, :, :25] == 65535).all()


def test_map_without_place_and_with_ground_control_points(tmp_path):
    points = [rasterio.control.GroundControlPoint(r, c, 9 + c / 1e3, 45 - r / 1e3) for r, c in [(0, 0), (0, 9), (9, 0)]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(tmp_path / "s1.tif", "w", driver="GTiff", width=9, height=9, count=1, dtype="uint8") as file:
            file.gcps = (points, rasterio.crs.CRS.from_epsg(4326))
    with open_scene(tmp_path / "s1.tif") as opened:
        place = grid_of(opened)
    make(tmp_path / "map.tif", np.zeros((1, 9, 9), np.uint8), place=place)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert [(p.row, p.col, p.x, p.y) for p in file.gcps[0]] == [(p.row, p.col, p.x, p.y) for p in points]
        assert file.gcps[1].to_epsg() == 4326
    make(tmp_path / "nowhere.tif", np.zeros((1, 9, 9), np.uint8), place=Grid(9, 9))
    with open_scene(tmp_path / "nowhere.tif") as opened:
        assert (opened.crs, opened.transform) == (None, None)


# --------------------------------------------------------------------------------------- interruption


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, DataError("no"), OSError(28, "No space left on device")])
def test_interruption_leaves_the_old_map_and_nothing_else(tmp_path, interruption):
    out = make(tmp_path / "out" / "map.tif", np.ones((1, 300, 410), np.uint8))
    before = {path: path.read_bytes() for path in out.parent.iterdir()}
    with (
        pytest.raises((KeyboardInterrupt, OSError, DataError)),
        open_maps({out: CLASSES}, grid(300, 410), boxes(300, 410)) as pieces,
    ):
        pieces.write([np.zeros((1, 256, 410), np.uint8)], 0, 0)
        raise interruption
    assert {path: path.read_bytes() for path in out.parent.iterdir()} == before


def stop_after(out, arrays, count, fingerprint="same"):
    """Write some pieces and a part of the next."""
    maps = {out: CLASSES, out.with_name("more.tif"): Layout("uint16", 65535, ("a", "b"))}
    height, width = arrays[0].shape[1:]
    with (
        pytest.raises(KeyboardInterrupt),
        open_maps(maps, grid(height, width), boxes(height, width), fingerprint) as pieces,
    ):
        for y, _, rows, _ in pieces.boxes[:count]:
            pieces.write([array[:, y : y + rows] for array in arrays], y, 0)
        pieces.write([array[:, count * 256 : count * 256 + 16] for array in arrays], count * 256, 0)
        raise KeyboardInterrupt
    return maps


def test_finished_pieces_are_used_again_and_the_files_are_the_same(tmp_path):
    arrays = noise(1, 1000, 300), noise(2, 1000, 300, high=10_000, dtype=np.uint16)
    out = tmp_path / "map.tif"
    maps = stop_after(out, arrays, 2)
    assert [path.name for path in tmp_path.iterdir()] == [".map.tif.partial"]
    with open_maps(maps, grid(1000, 300), boxes(1000, 300), "same") as pieces:
        assert pieces.finished == 2
        assert "going on after 2 of 4" in pieces.note
        fill(pieces, *arrays)
    once = tmp_path / "once"
    with open_maps({once / p.name: each for p, each in maps.items()}, grid(1000, 300), fingerprint="same") as pieces:
        fill(pieces, *arrays)
    for path in maps:
        assert fingerprint_of(path) == "same"
        assert path.read_bytes() == (once / path.name).read_bytes()
    assert not (tmp_path / ".map.tif.partial").exists()


def test_pieces_of_something_else_and_damaged_ones_are_not_used(tmp_path):
    arrays = noise(1, 1000, 300), noise(2, 1000, 300, high=10_000, dtype=np.uint16)
    out, place = tmp_path / "map.tif", grid(1000, 300)
    maps = stop_after(out, arrays, 3)
    piece = tmp_path / ".map.tif.partial" / "00001-1.tif"
    content = bytearray(piece.read_bytes())
    content[len(content) // 2] ^= 255
    piece.write_bytes(bytes(content))
    with pytest.raises(KeyboardInterrupt), open_maps(maps, place, boxes(1000, 300), "same") as pieces:
        assert pieces.finished == 1
        raise KeyboardInterrupt
    with open_maps(maps, place, boxes(1000, 300), "other") as pieces:
        assert pieces.finished == 0
        assert "stopped prediction of something else" in pieces.note
        fill(pieces, *arrays)
    with rasterio.open(out) as file:
        np.testing.assert_array_equal(file.read(), arrays[0])


def test_one_process_at_a_time(tmp_path):
    folder = tmp_path / ".map.tif.partial"
    folder.mkdir()
    with (
        FileLock(folder / "lock"),
        pytest.raises(DataError, match=r"another process is writing .*map\.tif"),
        open_maps({tmp_path / "map.tif": CLASSES}, grid(9, 9)),
    ):
        pass


def test_a_piece_counts_when_its_checksums_are_there(tmp_path):
    arrays = noise(1, 600, 300), noise(2, 600, 300, high=10_000, dtype=np.uint16)
    stop_after(tmp_path / "map.tif", arrays, 1)
    names = sorted(path.name for path in (tmp_path / ".map.tif.partial").iterdir())
    assert [name for name in names if name.endswith(".json")] == ["00000.json", "job.json"]
    sums = json.loads((tmp_path / ".map.tif.partial/00000.json").read_text())
    assert [part[:4] for part in sums[0]] == [[0, 0, 256, 300]]


def test_a_new_map_takes_the_stale_companions_of_the_old_one_away(tmp_path):
    out = tmp_path / "out" / "map.tif"
    out.parent.mkdir()
    for name in ("map.tif", "map.tif.aux.xml", "map.tif.ovr"):
        (out.parent / name).write_text("old")
    make(out, np.ones((1, 300, 410), np.float32), Layout("float32", np.nan))
    assert [path.name for path in out.parent.iterdir()] == ["map.tif"]


FULL = """
import resource, sys, numpy as np
from pathlib import Path
from adapteo.data.map_file import Grid, Layout, open_maps
from adapteo.errors import DataError
rows, limit = int(sys.argv[2]), int(sys.argv[3])
noise = np.random.default_rng(0).integers(0, 256, (1, rows, 1024), dtype=np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    with open_maps({Path(sys.argv[1]): Layout("uint8", 255, ("class",), ("a", "b"))}, Grid(rows, 1024)) as pieces:
        for y in range(0, rows, 256):
            pieces.write([noise[:, y : y + 256]], y, 0)
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize(("rows", "limit"), [(256, 100_000), (600, 100_000), (600, 640_000)])
def test_full_disk(tmp_path, rows, limit):
    """A limit on the size of files acts like a full disk; 640 kB suffice for the pixels, not for overviews too."""
    pytest.importorskip("resource")
    out = tmp_path / "out" / "map.tif"
    found = subprocess.run(
        [sys.executable, "-c", FULL, str(out), str(rows), str(limit)], capture_output=True, text=True, check=False
    )
    assert "cannot write" in found.stdout, found
    assert "map.tif" in found.stdout
    assert list((tmp_path / "out").iterdir()) == []


def test_map_must_be_named_like_a_geotiff(tmp_path):
    with (
        pytest.raises(DataError, match=r"write map\.tif"),
        open_maps({tmp_path / "map.png": CLASSES}, grid(9, 9)),
    ):
        pass

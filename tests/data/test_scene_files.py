"""Scenes in every layout, found and read in physical units."""

import json

import numpy as np
import products
import pytest
import webserver

from adapteo.bands import SENTINEL2_L1C, SENTINEL2_L2A
from adapteo.data.raster import Scene
from adapteo.data.scene_files import discover, open_images, open_source, open_sources
from adapteo.errors import DataError


def one(root, *patterns, **more):
    found = discover(patterns or ("*",), root, **more)
    assert len(found) == 1, [source.name for source in found]
    return found[0]


def read(source, bands=None):
    with open_source(source, bands) as reader:
        return reader.read(0, 0, reader.height, reader.width)


def refusal(*given, **more):
    with pytest.raises(DataError) as caught:
        discover(*given, **more)
    text = str(caught.value)
    assert len(text.splitlines()) <= 5
    return text


# ------------------------------------------------------------------------------------------ Sentinel-2


@pytest.mark.parametrize(("level", "bands"), [("1C", SENTINEL2_L1C), ("2A", SENTINEL2_L2A)])
@pytest.mark.parametrize("offset", [-1000, None])
def test_a_safe_product_is_reflectance_as_its_metadata_say(tmp_path, level, bands, offset):
    root, stored = products.safe(tmp_path, level, offset=offset)
    source = one(tmp_path)
    assert (source.kind, source.path, source.names) == ("safe", str(root), bands)
    assert (source.date, source.sensor, source.tile) == ("2023-06-14", "sentinel2", "32UQC")
    assert (source.gsd, source.shape) == (10, (120, 120))
    for names, files, side in ((("red", "blue"), ("B04", "B02"), 120), (("swir22",), ("B12",), 60),
                               (("coastal",), ("B01",), 20)):  # fmt: skip
        values = read(source, names)
        assert values.shape == (len(names), side, side)
        for band, file in zip(values, files, strict=True):
            np.testing.assert_allclose(band, (stored[file] + float(offset or 0)) / 10000, atol=1e-6)


def test_coarser_bands_of_a_safe_product_lie_on_the_finest(tmp_path):
    _, stored = products.safe(tmp_path, bands=("B04", "B11"))
    values = read(one(tmp_path), ["red", "swir16"])[1]
    # Bilinear: a fine pixel is 3/4 of the coarse one that it lies in and 1/4 of the next, along rows and columns.
    coarse = np.pad((stored["B11"] - 1000.0) / 10000, 1, mode="edge")
    near = np.repeat(np.arange(1, 61), 2)
    far = near + np.tile([-1, 1], 60)
    rows = 0.75 * coarse[near] + 0.25 * coarse[far]
    np.testing.assert_allclose(values, 0.75 * rows[:, near] + 0.25 * rows[:, far], atol=1e-5)


@pytest.mark.parametrize("special", [0, 65535])
def test_what_is_missing_or_saturated_is_no_part_of_its_neighbours(tmp_path, special):
    def change(name, values):
        values[:] = 3000
        values[5:9, 5:9] = special
        return values

    products.safe(tmp_path, bands=("B04", "B11"), change=change)
    fine, coarse = read(one(tmp_path), ["red", "swir16"])
    assert np.isnan(fine).sum() == 16
    known = coarse[~np.isnan(coarse)]
    np.testing.assert_allclose(known, 0.2, atol=1e-6)
    assert np.isnan(coarse[11:17, 11:17]).all()


def test_some_images_of_a_safe_product_keep_its_scale(tmp_path):
    _, stored = products.safe(tmp_path)
    source = one(tmp_path, "*.SAFE/GRANULE/*/IMG_DATA/R20m/*_B0[45]_20m.jp2")
    assert source.names == ("red", "rededge071")
    assert source.gsd == 20
    np.testing.assert_allclose(read(source)[1], (stored["B05"] - 1000.0) / 10000, atol=1e-6)


def test_broken_safe_products(tmp_path):
    root, _ = products.safe(tmp_path, bands=("B04",))
    (root / "MTD_MSIL2A.xml").write_text("<a><b></a>")
    assert "MTD_MSIL2A.xml" in refusal(["*.SAFE"], tmp_path)
    (root / "MTD_MSIL2A.xml").unlink()
    source = one(tmp_path, "*.SAFE")
    assert not source.product
    assert "no MTD_MSIL*.xml" in source.doubts[0]
    (tmp_path / "empty.SAFE").mkdir()
    assert "holds no images" in refusal(["empty.SAFE"], tmp_path)


# ------------------------------------------------------------------------------------- HLS and Landsat


@pytest.mark.parametrize(("sensor", "nir"), [("S30", "B8A"), ("L30", "B05")])
def test_hls(tmp_path, sensor, nir):
    _, stored = products.hls(tmp_path, sensor)
    source = one(tmp_path)
    assert (source.kind, source.date, source.tile) == ("hls", "2021-07-31", "32UQC")
    assert source.sensor == f"hls_{sensor.lower()}"
    assert source.product
    np.testing.assert_allclose(read(source, ["nir08"])[0], stored[nir] * 1e-4, atol=1e-6)
    if sensor == "L30":
        np.testing.assert_allclose(read(source, ["lwir11"])[0], stored["B10"] * 0.01, atol=1e-4)
    again = one(tmp_path, "*/*.B0[23].tif", bands=["green", "B02"])
    assert again.names == ("green", "blue")


@pytest.mark.parametrize(
    ("satellite", "bands"), [("LC09", ("SR_B2", "SR_B5", "ST_B10")), ("LE07", ("SR_B1", "SR_B4", "ST_B6"))]
)
def test_landsat(tmp_path, satellite, bands):
    _, stored = products.landsat(tmp_path, satellite)
    source = one(tmp_path)
    assert (source.kind, source.date, source.tile) == ("landsat", "2021-07-31", "193023")
    values = read(source, ["blue", "nir08", "lwir11"])
    for band, name in zip(values[:2], bands, strict=False):
        np.testing.assert_allclose(band, stored[name] * 2.75e-5 - 0.2, atol=1e-6)
    np.testing.assert_allclose(values[2], stored[bands[2]] * 0.00341802 + 149, rtol=1e-5)


# ------------------------------------------------------------------------------ files, folders, addresses


def test_one_file_per_band(tmp_path):
    rng = np.random.default_rng(0)
    stored = {name: rng.integers(1, 9999, (8, 9)).astype(np.uint16) for name in ("B02", "B04", "B8A", "B10")}
    for day in ("20230614", "20230624"):
        for name, values in stored.items():
            products.write(tmp_path / "s2" / f"T32UQC_{day}T101601_{name}.tif", values)
    found = discover(["s2"], tmp_path, sensor="sentinel2")
    assert [source.date for source in found] == ["2023-06-14", "2023-06-24"]
    assert [source.tile for source in found] == ["32UQC", "32UQC"]
    assert found[0].names == ("blue", "red", "nir08", "cirrus")
    assert not found[0].product
    np.testing.assert_array_equal(read(found[1], ["nir08"])[0], stored["B8A"])
    scaled = discover(["s2/*20230614*"], tmp_path, bands=["red"], sensor="sentinel2", scale=1e-4, offset=-0.1, nodata=5)
    np.testing.assert_allclose(
        read(scaled[0])[0], np.where(stored["B04"] == 5, np.nan, stored["B04"] * 1e-4 - 0.1), atol=1e-6
    )


@pytest.mark.parametrize("names", [("B02", "B03", "B04"), ("blue", "green", "red"), ("SR_B2", "SR_B3", "SR_B4")])
def test_a_folder_of_bands_is_called_as_the_folder(tmp_path, names):
    for i, name in enumerate(names):
        products.write(tmp_path / "S2B_32UQC_20230614_0_L2A" / f"{name}.tif", np.full((4, 4), i + 1, np.uint16))
    source = one(tmp_path)
    assert (source.name, source.date, source.tile) == ("S2B_32UQC_20230614_0_L2A", "2023-06-14", "32UQC")
    assert read(source, ["red", "blue"])[:, 0, 0].tolist() == [3, 1]


def test_one_file_with_all_bands_and_its_virtual_twin(tmp_path):
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    path = products.write(tmp_path / "scene_2023-06-14.tif", values, nodata=7, names=("blue", "green", "red"))
    (tmp_path / "twin.vrt").write_text(f"""<VRTDataset rasterXSize="5" rasterYSize="4"><SRS>EPSG:32632</SRS>
      <GeoTransform>600000, 10, 0, 5700000, 0, -10</GeoTransform>
      <VRTRasterBand dataType="Int16" band="1"><Description>red</Description><SimpleSource>
      <SourceFilename relativeToVRT="1">{path.name}</SourceFilename><SourceBand>3</SourceBand>
      </SimpleSource></VRTRasterBand></VRTDataset>""")
    scene, twin = discover(["*"], tmp_path)
    assert (scene.kind, scene.date, scene.names) == ("file", "2023-06-14", ("blue", "green", "red"))
    np.testing.assert_array_equal(read(scene), np.where(values == 7, np.nan, values))
    np.testing.assert_array_equal(read(twin)[0], values[2])
    assert one(tmp_path, "scene*", bands=["nir08", "red", "B2"]).names == ("nir08", "red", "blue")
    assert "names 2" in refusal(["scene*"], tmp_path, bands=["red", "blue"])


def test_the_scale_of_a_file_counts_until_one_is_given(tmp_path):
    values = np.full((1, 3, 3), 400, np.int16)
    products.write(tmp_path / "a.tif", values, scales=(0.01,), offsets=(2.0,))
    assert read(one(tmp_path)).flat[0] == pytest.approx(6)
    assert read(one(tmp_path, "a.tif", scale=0.1, offset=0.0)).flat[0] == pytest.approx(40)


def item(folder, new, **properties):
    """A STAC item with two bands, and the values stored."""
    stored = np.arange(1, 17, dtype=np.uint16).reshape(4, 4) * 1000
    assets = {"thumbnail": {"href": "./t.jpg", "roles": ["thumbnail"]},
              "visual": {"href": "./TCI.tif", "eo:bands": [{"common_name": "red"}]}}  # fmt: skip
    for key, name, common in (("red", "B04", "red"), ("rededge1", "B05", "rededge")):
        products.write(folder / f"{name}.tif", stored)
        known = {"nodata": 1000, "scale": 0.0001, "offset": -0.1}
        old = {"eo:bands": [{"name": name, "common_name": common}], "raster:bands": [known]}
        fresh = {"bands": [{"name": name, "eo:common_name": common}], "nodata": 1000, "raster:scale": 0.0001,
                 "raster:offset": -0.1}  # fmt: skip
        assets[key] = {"href": f"./{name}.tif", "roles": ["data"], **(fresh if new else old)}
        assets[key + "-jp2"] = {**assets[key], "href": f"./{name}.jp2"}
    products.stac(folder / "item.json", assets, platform="sentinel-2b", **{"grid:code": "MGRS-32UQC"}, **properties)
    return stored


@pytest.mark.parametrize("new", [False, True])
def test_stac_items(tmp_path, new):
    stored = item(tmp_path, new)
    source = one(tmp_path, "item.json")
    assert (source.kind, source.date, source.sensor, source.tile) == ("stac", "2023-06-14", "sentinel2", "32UQC")
    assert source.names == ("red", "rededge071")
    assert source.product
    np.testing.assert_allclose(read(source)[1], np.where(stored == 1000, np.nan, stored * 1e-4 - 0.1), atol=1e-6)


def test_an_offset_that_a_catalogue_has_taken_out_is_not_taken_twice(tmp_path):
    stored = item(tmp_path, False, **{"earthsearch:boa_offset_applied": True})
    source = one(tmp_path, "item.json")
    np.testing.assert_allclose(read(source)[0, 1:], stored[1:] * 1e-4, atol=1e-6)
    assert "offset: auto" in source.doubts[0]


def test_files_and_items_through_the_network(tmp_path):
    stored = item(tmp_path, False)
    with webserver.serving() as web:
        for path in tmp_path.iterdir():
            web.files[f"/a/{path.name}"] = path.read_bytes()
        source = one(tmp_path, f"{web.url}/a/item.json")
        np.testing.assert_allclose(read(source)[0, 1:], stored[1:] * 1e-4 - 0.1, atol=1e-6)
        bands = [f"{web.url}/a/B04.tif", f"/vsicurl/{web.url}/a/B05.tif"]
        np.testing.assert_array_equal(read(one(tmp_path, bands[0]))[0], stored)
        np.testing.assert_array_equal(read(one(tmp_path, bands[1]))[0], stored)
        with open_images(f"{web.url}/a/item.json", ["red"]) as scene:
            assert scene.descriptions == ("red",)
            assert scene.scaled
        missing = f"{web.url}/a/nothing.tif"
        assert missing in refusal([missing], tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("a.zip", b"x", "an archive"), ("a.nc", b"x", "netCDF"), ("a.tif", b"", "0 bytes"),
     ("a.tif", b"xyz", "not an image"),
     ("a.json", b"{", "no JSON"),
     ("a.json", b'{"type":"Feature","assets":{"x":{"href":"a"}}}', "none of its 1 assets")],
)  # fmt: skip
def test_what_is_no_scene(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert words in refusal([name], tmp_path)


def test_nothing_there(tmp_path):
    assert "no file fits" in refusal(["*.tif"], tmp_path)
    assert "no such folder" in refusal(["*.tif"], tmp_path / "none")
    (tmp_path / "notes.json").write_text(json.dumps({"a": 1}))
    assert "no file fits" in refusal(["*"], tmp_path)


def test_a_band_that_is_not_there_is_said_with_those_that_are(tmp_path):
    products.hls(tmp_path)
    with pytest.raises(DataError, match="no band 'vv'") as caught:
        read(one(tmp_path), ["vv"])
    assert "nir08" in str(caught.value)


# --------------------------------------------------------------------------------- for whoever predicts


def test_a_plain_file_is_opened_as_it_is(tmp_path):
    path = products.write(tmp_path / "a.tif", np.full((2, 4, 4), 5, np.int16), scales=(2, 2), offsets=(1, 1))
    with open_images(path) as scene:
        assert type(scene) is Scene
        assert scene.read(0, 0, 4, 4).max() == 5


def test_a_product_is_opened_with_the_bands_that_are_needed(tmp_path):
    root, stored = products.safe(tmp_path)
    with open_images(root, ["swir16", "nir08"]) as scene:
        assert (scene.count, scene.height, scene.gsd) == (2, 60, 20)
        assert scene.descriptions == ("swir16", "nir08")
        assert scene.scaled
        assert scene.date.isoformat() == "2023-06-14"
        out = np.empty((1, 7, 9), np.float32)
        found = scene.read(3, 4, 7, 9, [2], out)
        assert found is out
        np.testing.assert_allclose(out[0], (stored["B8A"][3:10, 4:13] - 1000.0) / 10000, atol=1e-6)
        assert scene.block_bytes(10, 10, [1, 2]) > 0


def test_dates_are_opened_on_the_grid_of_the_first(tmp_path):
    first, one_day = products.hls(tmp_path, day="2021212")
    second, other_day = products.hls(tmp_path, day="2021222", seed=1, left=products.LEFT + 60, top=products.TOP - 30)
    with open_images([first, second], ["red", "blue"]) as scene:
        assert [day.isoformat() for day in scene.dates] == ["2021-07-31", "2021-08-10"]
        assert scene.date is None
        values = scene.read(0, 0, 40, 40)
    np.testing.assert_allclose(values[0], one_day["B04"] * 1e-4, atol=1e-6)
    assert np.isnan(values[2, 0]).all()
    assert np.isnan(values[2, :, :2]).all()
    np.testing.assert_allclose(values[2, 1:, 2:], other_day["B04"][:-1, :-2] * 1e-4, atol=1e-6)


def test_dates_of_files_stay_as_stored(tmp_path):
    paths = [products.write(tmp_path / f"a_2023060{i}.tif", np.full((2, 4, 4), i, np.int16)) for i in (1, 2)]
    with open_images(paths) as scene:
        assert scene.read(0, 0, 4, 4)[:, 0, 0].tolist() == [1, 1, 2, 2]
        assert not scene.scaled
    root, _ = products.hls(tmp_path / "hls")
    with pytest.raises(DataError, match="one map"), open_images([root, paths[0]]):
        pass
    with pytest.raises(DataError, match="3 scenes"), open_images(tmp_path):
        pass


def test_dates_in_several_sources(tmp_path):
    for day in ("2021212", "2021222"):
        products.hls(tmp_path, day=day)
    sources = discover(["*"], tmp_path)
    with open_sources(sources, ["red"]) as reader:
        assert reader.count == 2


def test_real_scenes(shared_data):
    found = discover(["scenes", "terramind_examples/S2L2A"], shared_data)
    assert [(source.name[:7], len(source.bands), source.shape) for source in found[:2]] == [
        ("ftw_aus", 8, (379, 578)), ("s2_leip", 8, (206, 154))
    ]  # fmt: skip
    assert [(len(source.bands), source.shape, source.gsd) for source in found[2:]] == [(12, (224, 224), 10)] * 5
    for source in found:
        assert np.isfinite(read(source)).any(axis=(1, 2)).all()
    # Austria, in the next zone, has nothing to show in Leipzig.
    with open_source(found[0], grid=found[1].grid) as reader:
        assert np.isnan(reader.read(0, 0, 206, 154)).all()

"""What is read from chips: bands, dates, missing values, scale, the Sentinel-2 offset; and real imagery."""

from dataclasses import replace

import numpy as np
import pytest
from chipfolder import chips, flood_folder, picture_folder, problem, write_csv, write_tif

from adapteo.bands import SENTINEL2_L1C, SENTINEL2_L2A
from adapteo.data.folder import Folder
from adapteo.data.splits import Splits


@pytest.fixture
def flood(tmp_path):
    return flood_folder(tmp_path)


@pytest.fixture
def pictures(tmp_path):
    return picture_folder(tmp_path)


def test_nothing_found_says_what_there_is(tmp_path):
    chips(tmp_path, 1)
    text = problem(Folder(str(tmp_path), "images/*.jp2"), "x")
    assert "matches 'images/*.jp2'" in text
    assert "images/chip_0_S2.tif" in text
    assert "set `root`" in problem(Folder(str(tmp_path / "nowhere")), "x")


def test_a_wrong_number_of_bands_is_named(flood):
    assert "chip_0_S2.tif has 3 bands, not 2: red, green" in problem(replace(flood, band_names=("red", "green")))


def test_files_without_names_ask_for_them(tmp_path):
    write_tif(tmp_path / "A/a.tif", np.ones((2, 4, 4), np.float32))
    text = problem(Folder(str(tmp_path)))
    assert "does not name its 2 bands" in text
    assert "`band_names`" in text


def test_names_that_need_the_sensor_say_so(tmp_path):
    write_tif(tmp_path / "A/a.tif", np.ones((1, 4, 4), np.float32), ("B5",))
    assert "set `sensor`" in problem(Folder(str(tmp_path)))
    assert Folder(str(tmp_path), sensor="landsat8").bands == ("nir08",)


def test_the_wrong_scale_is_refused_with_the_right_one(flood, pictures):
    text = problem(replace(flood, scale=1.0))
    assert "is not reflectance" in text
    assert "0.0001" in text
    assert "1/255" in problem(replace(pictures, scale=1.0))


def test_nodata_and_offset(tmp_path):
    write_tif(tmp_path / "A/a.tif", np.array([[[0, 1000], [2000, -5]]], np.int16), ("red",), nodata=0)
    image = Folder(str(tmp_path), scale=1e-4, offset=-0.1, nodata=-5).read("A/a").image[0, 0]
    np.testing.assert_allclose(image, [[np.nan, 0.0], [0.1, np.nan]], atol=1e-7)


def test_dates_stacked_in_one_file(tmp_path):
    stack = np.arange(6, dtype=np.float32).reshape(6, 1, 1) / 10 * np.ones((1, 4, 4), np.float32)
    write_tif(tmp_path / "A/x_20210131_20210301.tif", stack)
    dataset = Folder(str(tmp_path), band_names=("red", "nir"), dates_per_file=3)
    sample = dataset.read("A/x_20210131_20210301", ("nir",))
    assert dataset.frames == 3
    np.testing.assert_allclose(sample.image[:, 0, 0, 0], [0.1, 0.3, 0.5], rtol=1e-6)
    assert "has 3 frames, but 2 dates" in problem(replace(dataset, date_format="%Y%m%d"))


def test_one_file_per_date(tmp_path):
    for month, value in (("01", 0.1), ("06", 0.6)):
        write_tif(tmp_path / f"m{month}/chip_2021{month}02.tif", np.full((1, 4, 4), value, np.float32), ("red",))
    dataset = Folder(str(tmp_path), ("m01/*_20210102.tif", "m06/*_20210602.tif"), date_format="%Y%m%d")
    assert dataset.frames == 2
    sample = dataset.read("chip")
    np.testing.assert_allclose(sample.image[:, 0, 0, 0], [0.1, 0.6])
    np.testing.assert_array_equal(sample.dates, [[2021, 2], [2021, 153]])


def test_a_broken_image_is_named(flood, tmp_path):
    path = tmp_path / "images/chip_1_S2.tif"
    path.write_bytes(path.read_bytes()[:200])
    assert "chip_1_S2.tif" in problem(flood, "chip_1")


def test_the_fingerprint_follows_files_and_settings(flood, tmp_path):
    before = flood.fingerprint()
    assert replace(flood).fingerprint() == before
    assert replace(flood, scale=1.1e-4).fingerprint() != before
    assert replace(flood, ignore=(255, 7)).fingerprint() != before
    write_tif(tmp_path / "images/chip_1_S2.tif", np.ones((3, 9, 9), np.int16), ("B02", "B03", "B04"))
    assert replace(flood).fingerprint() != before


# -------------------------------------------------------------------------------- Sentinel-2 baseline


def test_the_offset_needs_a_dark_band(tmp_path):
    write_tif(tmp_path / "A/a.tif", np.ones((1, 4, 4), np.float32), ("nir",))
    assert "`offset: auto` needs" in problem(Folder(str(tmp_path), offset="auto"))


def test_an_offset_in_the_index_goes_first(tmp_path):
    write_tif(tmp_path / "a.tif", np.full((1, 4, 4), 1200, np.int16), ("blue",))
    write_tif(tmp_path / "b.tif", np.full((1, 4, 4), 1200, np.int16), ("blue",))
    rows = [{"path": "a.tif", "label": "x", "offset": "0.01"}, {"path": "b.tif", "label": "x", "offset": ""}]
    write_csv(tmp_path / "index.csv", rows)
    dataset = Folder(str(tmp_path), index="index.csv", scale=1e-4, offset="auto")
    assert dataset.read("a").image.mean() == pytest.approx(0.13)
    assert dataset.read("b").image.mean() == pytest.approx(0.02)


def terramind(shared_data, product, bands):
    names = ("water", "trees", "flooded", "crops", "built", "bare", "snow", "cloud", "rangeland")
    return Folder(
        str(shared_data / "terramind_examples"), f"{product}/*.tif", "LULC/*.tif", band_names=bands, scale=1e-4,
        class_names=dict(enumerate(names, 1)), offset="auto",
    )  # fmt: skip


def carries_offset(dataset, key):
    difference = dataset.read(key, ("red",)).image - replace(dataset, offset=0.0).read(key, ("red",)).image
    return bool(difference.mean() < -0.05)


def test_the_offset_of_level_1c_agrees_with_the_cirrus_band(shared_data):
    dataset = terramind(shared_data, "S2L1C", SENTINEL2_L1C)
    stored = replace(dataset, offset=0.0)
    expected = {key: bool(stored.read(key, ("cirrus",)).image.min() >= 0.1) for key in dataset._chips}
    assert sum(expected.values()) == 3
    assert {key: carries_offset(dataset, key) for key in expected} == expected


def test_the_offset_of_level_2a_agrees_with_regression_on_level_1c(shared_data):
    """The atmosphere adds little at 2.2 um: what L2A shows where L1C is 0 is the offset that L2A still carries."""
    level2 = terramind(shared_data, "S2L2A", SENTINEL2_L2A)
    level1 = terramind(shared_data, "S2L1C", SENTINEL2_L1C)  # its own offset is taken off
    expected = {}
    for key in level2._chips:
        x = level1.read(key, ("swir22",)).image.ravel()
        y = replace(level2, offset=0.0).read(key, ("swir22",)).image.ravel()
        expected[key] = bool(np.polyfit(x, y, 1)[1] > 0.05)
    assert [key for key, carries in expected.items() if carries] == ["433D_629L_3_1"]
    assert {key: carries_offset(level2, key) for key in expected} == expected


# ----------------------------------------------------------------------------------------- real data


def test_terramind_sites(shared_data):
    dataset = terramind(shared_data, "S2L2A", SENTINEL2_L2A)
    assert len(dataset.classes) == 9
    assert dataset.gsd == pytest.approx(10)
    sample = dataset.read("637U_59R_1_3")
    assert sample.image.shape == (1, 12, 224, 224)
    assert set(np.unique(sample.target)) == {1, 3, 4, 8}
    assert sample.latlon == pytest.approx((57.2, 9.8), abs=0.1)


def test_sen1floods11_spain(shared_data):
    dataset = Folder(
        str(shared_data / "sen1floods11_spain"), "*_S2Hand.tif", "*_LabelHand.tif", sensor="sentinel2", scale=1e-4,
        class_names=("land", "water"), ignore=-1,
    )  # fmt: skip
    assert dataset.bands == SENTINEL2_L1C
    sample = dataset.read("Spain_7370579", ("red", "nir"))
    assert sample.image.shape == (1, 2, 512, 512)
    assert dict(zip(*np.unique(sample.target, return_counts=True), strict=True)) == {-1: 99, 0: 192_010, 1: 70_035}


def test_eurosat(shared_data):
    dataset = Folder(
        str(shared_data / "eurosat_rgb"), index="index.csv", scale=10.8e-4,
        splits=Splits("column", "central", holdout={"iberia": "iberia"}, column="region", fractions=(0.7, 0.1, 0.2)),
    )  # fmt: skip
    assert dataset.holdouts == ("iberia",)
    assert [len(dataset.split(name)) for name in ("train", "val", "test", "iberia")] == [1820, 260, 520, 745]
    sample = dataset.read(dataset.split("val")[0])
    assert sample.image.shape == (1, 3, 64, 64)
    assert 0 < sample.image.mean() < 0.5
    assert sample.group in ("central", "iberia")

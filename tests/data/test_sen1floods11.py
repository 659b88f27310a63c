"""Sen1Floods11: the published layouts, splits and values, on a small stand-in and on one real chip."""

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from chipfolder import write_tif
from webserver import serving

from adapteo import registry
from adapteo.bands import SENTINEL2_L1C
from adapteo.contracts import IGNORE
from adapteo.data import _download, _lists, sen1floods11
from adapteo.data._samples_sen1floods11 import write
from adapteo.data.raster import read_raster
from adapteo.data.sen1floods11 import DATES, Sen1Floods11
from adapteo.data.statistics import statistics
from adapteo.errors import DataError

HAND = "v1.1/data/flood_events/HandLabeled"
LISTS = "v1.1/splits/flood_handlabeled"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sen1floods11")
    write(folder, per_split=2, side=32)
    return folder


@pytest.fixture
def root(written, tmp_path):
    return Path(shutil.copytree(written, tmp_path / "copy"))


def problem(dataset, key=None):
    """What the user is told when a split, or a chip, is read."""
    with pytest.raises(DataError) as caught:
        dataset.read(key) if key else dataset.split("train")
    assert len(str(caught.value).splitlines()) <= 5
    return str(caught.value)


def everything(dataset):
    return {name: list(dataset.split(name)) for name in ("train", "val", "test", *dataset.holdouts)}


# ------------------------------------------------------------------------------------------- reading


def test_it_is_in_the_registry(written):
    assert registry.load("datasets", "sen1floods11") is Sen1Floods11
    dataset = Sen1Floods11(str(written))
    assert (dataset.task, dataset.gsd, dataset.frames) == ("segmentation", 10.0, 1)
    assert len(dataset.colours) == len(dataset.classes) == 2
    assert dataset.bands == SENTINEL2_L1C
    assert replace(dataset, radar=True).bands == (*SENTINEL2_L1C, "vv", "vh")


def test_all_splits_and_bolivia_held_out(written):
    dataset = Sen1Floods11(str(written))
    parts = everything(dataset)
    assert list(parts) == ["train", "val", "test", "bolivia"]
    assert [len(keys) for keys in parts.values()] == [2, 2, 2, 2]
    assert {dataset.group(key) for key in parts["bolivia"]} == {"Bolivia"}
    assert "Bolivia" not in {dataset.group(key) for name in ("train", "val", "test") for key in parts[name]}
    for keys in parts.values():
        for key in keys:
            sample = dataset.read(key)
            assert sample.image.shape == (1, 13, 32, 32)
            assert sample.image.dtype == np.float32
            assert (sample.target.shape, sample.target.dtype) == ((32, 32), np.int64)
            assert set(np.unique(sample.target)) == {IGNORE, 0, 1}
            assert (sample.key, sample.group) == (key, key.split("_")[0])


def test_values_are_those_of_the_files(written):
    dataset = Sen1Floods11(str(written), radar=True)
    key = dataset.split("train")[0]
    sample = dataset.read(key)
    with rasterio.open(written / HAND / f"S2Hand/{key}_S2Hand.tif") as file:
        s2, place = file.read(), file.transform
    with rasterio.open(written / HAND / f"S1Hand/{key}_S1Hand.tif") as file:
        s1 = file.read()
    with rasterio.open(written / HAND / f"LabelHand/{key}_LabelHand.tif") as file:
        label = file.read(1)
    assert (s2.dtype, s1.dtype, label.dtype) == (np.int16, np.float32, np.int16)
    np.testing.assert_allclose(sample.image[0, :13], np.where(s2 == 0, np.nan, s2 * 1e-4), rtol=1e-6)
    np.testing.assert_array_equal(sample.image[0, 13:], s1)
    assert np.isnan(sample.image[0, 13:]).any(), "the stand-in has pixels that radar missed"
    np.testing.assert_array_equal(sample.target, label)
    lon, lat = place @ (16, 16) if hasattr(place, "__matmul__") else place * (16, 16)
    np.testing.assert_allclose(sample.latlon, (lat, lon), rtol=1e-6)


def test_zero_is_missing_also_where_the_file_does_not_say_so(root):
    dataset = Sen1Floods11(str(root))
    key = dataset.split("train")[0]
    s2 = np.full((13, 32, 32), 800, np.int16)
    s2[:, 4, 5] = s2[10, 6, 7] = 0
    write_tif(root / HAND / f"S2Hand/{key}_S2Hand.tif", s2)
    sample = dataset.read(key)
    np.testing.assert_array_equal(np.isnan(sample.image[0]), s2 == 0)
    assert np.isnan(sample.latlon).all(), "no georeference"


@pytest.mark.parametrize(
    ("wanted", "indexes"),
    [(("swir22", "blue"), [12, 1]), (("vh", "red", "vv"), [14, 3, 13]), (("vv",), [13])],
)
def test_bands_come_in_the_order_asked_for(written, wanted, indexes):
    dataset = Sen1Floods11(str(written), radar=True)
    key = dataset.split("val")[0]
    whole, some = dataset.read(key), dataset.read(key, wanted)
    np.testing.assert_array_equal(some.image, whole.image[:, indexes])
    np.testing.assert_array_equal(some.target, whole.target)
    np.testing.assert_allclose(some.latlon, whole.latlon, rtol=1e-6)


def test_bands_that_are_not_there(written):
    dataset = Sen1Floods11(str(written))
    key = dataset.split("val")[0]
    for name in ("vv", "elevation"):
        with pytest.raises(DataError, match=f"Sen1Floods11 has no band '{name}'"):
            dataset.read(key, (name,))


def test_dates_are_those_of_the_floods(written):
    dataset = Sen1Floods11(str(written))
    for keys in everything(dataset).values():
        for key in keys:
            day = DATES[dataset.group(key)]
            np.testing.assert_array_equal(dataset.read(key).dates, [[day.year, day.timetuple().tm_yday]])
    assert len(DATES) == 11


def test_mekong_is_cambodia_and_hyphens_are_no_trouble(written, root):
    for old, new in (("Ghana_100000", "Mekong_7"), ("Nigeria_107919", "Sri-Lanka_8")):
        for layer in ("S2Hand", "LabelHand"):
            (root / HAND / layer / f"{old}_{layer}.tif").rename(root / HAND / layer / f"{new}_{layer}.tif")
        path = root / LISTS / "flood_train_data.csv"
        path.write_text(path.read_text().replace(old, new))
    dataset = Sen1Floods11(str(root))
    assert dataset.split("train") == ["Mekong_7", "Sri-Lanka_8"]
    np.testing.assert_array_equal(dataset.read("Mekong_7").dates, [[2018, 216]])
    np.testing.assert_array_equal(dataset.read("Sri-Lanka_8").dates, [[2017, 148]])
    assert dataset.group("Sri-Lanka_8") == "Sri-Lanka"


def test_statistics(written):
    dataset = Sen1Floods11(str(written), radar=True)
    found = dataset.published_statistics(("nir08", "blue", "vh"))
    assert found.mean == (0.30902815, 0.1412956, -16.895273)
    assert found.std == (0.11798815, 0.07406382, 5.290568)
    whole = dataset.published_statistics(dataset.bands)
    assert len(whole.mean) == 15
    assert dataset.published_statistics(("blue", "ndvi")) is None
    measured = statistics(dataset, dataset.split("train"))
    ratio = np.array(measured.mean[:10]) / whole.mean[:10]
    assert ((ratio > 0.2) & (ratio < 6)).all(), "the same physical units"


def test_fingerprint_follows_files_and_bands(root):
    dataset = Sen1Floods11(str(root))
    before = dataset.fingerprint()
    assert Sen1Floods11(str(root)).fingerprint() == before
    assert Sen1Floods11(str(root), radar=True).fingerprint() != before
    key = dataset.split("train")[0]
    write_tif(root / HAND / f"S2Hand/{key}_S2Hand.tif", np.ones((13, 32, 32), np.int16))
    assert Sen1Floods11(str(root)).fingerprint() != before


def test_it_survives_pickling(written):
    dataset = Sen1Floods11(str(written))
    key = dataset.split("train")[0]
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again.read(key).image, dataset.read(key).image)


def test_radiometry_of_new_scenes(written):
    assert Sen1Floods11(str(written)).radiometry(np.ones((13, 4, 4))) == (1e-4, 0.0)
    with pytest.raises(DataError, match="no one scale"):
        Sen1Floods11(str(written), radar=True).radiometry(np.ones((15, 4, 4)))


# -------------------------------------------------------------------------------------- other layouts


def test_root_may_be_the_version_itself(written):
    assert everything(Sen1Floods11(str(written / "v1.1"))) == everything(Sen1Floods11(str(written)))


def test_the_layout_of_terramind(written, tmp_path):
    names = {"S2Hand": "S2L1CHand", "S1Hand": "S1GRDHand", "LabelHand": "LabelHand"}
    for layer, folder in names.items():
        shutil.copytree(written / HAND / layer, tmp_path / "data" / folder)
    (tmp_path / "splits").mkdir()
    original = Sen1Floods11(str(written), radar=True)
    for part, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        (tmp_path / f"splits/flood_{name}_data.txt").write_text("\n".join(original.split(part)))
    dataset = Sen1Floods11(str(tmp_path), radar=True)
    parts = everything(dataset)
    assert sorted(parts.pop("bolivia")) == sorted(original.split("bolivia")), "held out although no list names it"
    assert parts == {part: list(original.split(part)) for part in parts}
    key = parts["train"][0]
    np.testing.assert_array_equal(dataset.read(key).image, original.read(key).image)


def test_without_chips_of_bolivia_there_is_no_holdout(root):
    (root / LISTS / "flood_bolivia_data.csv").unlink()
    for path in root.rglob("Bolivia_*"):
        path.unlink()
    dataset = Sen1Floods11(str(root))
    assert dataset.holdouts == ()
    with pytest.raises(DataError, match="'bolivia' is empty"):
        dataset.split("bolivia")


# --------------------------------------------------------------------------------------------- splits


def test_lists_in_a_folder_of_the_users_own(written, tmp_path):
    official = everything(Sen1Floods11(str(written)))
    turned = dict(zip(("train", "valid", "test"), (official["test"], official["train"], official["val"]), strict=True))
    for name, keys in turned.items():
        (tmp_path / f"{name}_data.txt").write_text("\n".join(keys))
    (tmp_path / "few.txt").write_text(official["test"][1])
    dataset = Sen1Floods11(str(written), splits=str(tmp_path))
    assert (dataset.split("train"), dataset.split("val")) == (official["test"], official["train"])
    assert sorted(dataset.split("bolivia")) == sorted(official["bolivia"])
    assert replace(dataset, train_list="few.txt").split("train") == [official["test"][1]]


def test_overlap_is_refused(root):
    path = root / LISTS / "flood_test_data.csv"
    key = Sen1Floods11(str(root)).split("train")[1]
    path.write_text(path.read_text() + f"{key}_S1Hand.tif,{key}_LabelHand.tif\n")
    assert f"'{key}' is in both 'train' and 'test'" in problem(Sen1Floods11(str(root)))


def test_training_on_bolivia_is_refused(root, tmp_path):
    (tmp_path / "cheat.txt").write_text("Bolivia_400000")
    text = problem(Sen1Floods11(str(root), train_list=str(tmp_path / "cheat.txt")))
    assert "'Bolivia_400000' is in both 'train' and 'bolivia'" in text


def test_entries_that_are_no_chips(root):
    path = root / LISTS / "flood_val_data.txt"
    (root / LISTS / "flood_valid_data.csv").unlink()
    path.write_text("Ghana/../../etc")
    assert f"{path}: 'Ghana/../../etc' is no chip" in problem(Sen1Floods11(str(root)))


def test_unknown_splits_and_chips(written):
    dataset = Sen1Floods11(str(written))
    with pytest.raises(DataError, match="did you mean 'train'"):
        dataset.split("trian")
    assert "no chip 'Ghana_1'" in problem(dataset, "Ghana_1")


# ------------------------------------------------------------------------------------------ bad files


def test_what_to_put_where_when_nothing_is_there(tmp_path):
    text = problem(Sen1Floods11(str(tmp_path)))
    assert f"{tmp_path}/{HAND}/S2Hand" in text
    assert LISTS in text
    assert "gs://sen1floods11" in text
    assert "`download: true`" in text


def test_missing_files_are_named_and_counted(root):
    dataset = Sen1Floods11(str(root))
    key = dataset.split("val")[0]
    missing = root / HAND / f"LabelHand/{key}_LabelHand.tif"
    missing.unlink()
    assert f"{missing} of the splits are missing" in problem(Sen1Floods11(str(root)))
    shutil.rmtree(root / HAND / "S1Hand")
    assert "and 8 more files" in problem(Sen1Floods11(str(root), radar=True))
    shutil.rmtree(root / LISTS)
    assert f"there is no folder {root / LISTS}" in problem(Sen1Floods11(str(root)))


@pytest.mark.parametrize("layer", ["S2Hand", "LabelHand", "S1Hand"])
def test_a_damaged_file_is_named(root, layer):
    dataset = Sen1Floods11(str(root), radar=True)
    key = dataset.split("train")[0]
    path = root / HAND / layer / f"{key}_{layer}.tif"
    path.write_bytes(path.read_bytes()[:400])
    text = problem(dataset, key)
    assert path.name in text
    assert "fetch it again" in text
    path.write_bytes(b"<html>not found</html>")
    assert path.name in problem(dataset, key)


def test_files_that_do_not_fit(root):
    dataset = Sen1Floods11(str(root), radar=True)
    key = dataset.split("train")[0]
    s2, s1, label = (root / HAND / name / f"{key}_{name}.tif" for name in ("S2Hand", "S1Hand", "LabelHand"))
    write_tif(label, np.zeros((1, 16, 16), np.int16))
    assert "LabelHand.tif has 1 bands of (16, 16) pixels" in problem(dataset, key)
    write_tif(label, np.full((1, 32, 32), 7, np.int16))
    text = problem(dataset, key)
    assert "LabelHand.tif holds the value 7 in 1,024 pixels" in text
    assert "class_names" not in text, "there is no such key here"
    write_tif(s1, np.zeros((2, 16, 16), np.float32))
    assert "S1Hand.tif has (16, 16) pixels" in problem(dataset, key)
    write_tif(s2, np.ones((12, 32, 32), np.int16))
    text = problem(dataset, key)
    assert "S2Hand.tif has 12 bands, not 13" in text
    assert "band_names" not in text


# ------------------------------------------------------------------------------------------- download


@pytest.fixture
def bucket(written, monkeypatch):
    """A bucket on this machine that holds the stand-in."""
    monkeypatch.setattr(_download, "PAUSE", 0.0)
    with serving() as web:
        base = written / "v1.1"
        files = [path for path in base.rglob("*") if path.is_file()]
        web.files = {f"/v1.1/{path.relative_to(base).as_posix()}": path.read_bytes() for path in files}
        monkeypatch.setattr(sen1floods11, "_BUCKET", f"{web.url}/v1.1")
        yield web


def test_nothing_is_fetched_unless_asked_for(bucket, tmp_path):
    problem(Sen1Floods11(str(tmp_path)))
    assert bucket.asked == []


def test_download(bucket, tmp_path, written):
    dataset = Sen1Floods11(str(tmp_path), download=True)
    assert everything(dataset) == everything(Sen1Floods11(str(written)))
    assert len(bucket.asked) == 4 + 2 * 8
    assert not [path for path in bucket.paths if "S1Hand/" in path], "radar was not asked for"
    key = dataset.split("test")[0]
    np.testing.assert_array_equal(dataset.read(key).image, Sen1Floods11(str(written)).read(key).image)
    bucket.asked.clear()
    assert Sen1Floods11(str(tmp_path)).split("train") == dataset.split("train")
    assert replace(dataset, radar=True).read(key, ("vv",)).image.shape == (1, 1, 32, 32)
    assert len(bucket.asked) == 8, "only what is missing"
    assert not list(tmp_path.rglob("*.part"))


def test_a_whole_copy_is_left_as_it_is(bucket, root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    Sen1Floods11(str(root), download=True).split("train")
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before, "it may be on a read-only disk"
    assert bucket.asked == []


def test_a_download_that_was_interrupted_goes_on(bucket, tmp_path):
    broken = dict(list(bucket.files.items()))
    gone = [path for path in broken if "LabelHand/" in path][3]
    del bucket.files[gone]
    with pytest.raises(DataError, match="there is no http"):
        Sen1Floods11(str(tmp_path), download=True).split("train")
    bucket.files = broken
    bucket.asked.clear()
    assert len(Sen1Floods11(str(tmp_path), download=True).split("train")) == 2
    assert gone in bucket.paths
    assert not [path for path in bucket.paths if path.endswith(".csv")]


def test_the_lists_of_the_paper(bucket, tmp_path, written, monkeypatch):
    official = everything(Sen1Floods11(str(written)))
    for name, part in (("train", "train"), ("valid", "val"), ("test", "test"), ("bolivia", "bolivia")):
        bucket.files[f"/paper/sen1floods11/{name}_data.txt"] = "\n".join(official[part]).encode()
    few = "train_subsets/flood_train_data_0.10_0.txt"
    bucket.files[f"/paper/sen1floods11/{few}"] = official["train"][0].encode()
    monkeypatch.setattr(sen1floods11, "PAPER", f"{bucket.url}/paper")
    assert "`download: true`" in problem(Sen1Floods11(str(written), splits="paper"))
    monkeypatch.setattr(sen1floods11, "_DIGESTS", {})
    dataset = Sen1Floods11(str(written), splits="paper", download=True)
    assert everything(dataset) == official
    assert replace(dataset, train_list=few).split("train") == official["train"][:1]
    bucket.asked.clear()
    assert everything(replace(dataset, download=False)) == official, "from the cache"
    assert bucket.asked == []


def test_the_digests_are_of_the_lists_that_are_looked_for():
    assert set(sen1floods11._DIGESTS) >= {f"{name}_data.txt" for name in ("train", "valid", "test", "bolivia")}
    assert all(len(digest) == 64 for digest in sen1floods11._DIGESTS.values())
    assert _lists.PAPER.startswith("https://")


# --------------------------------------------------------------------------------------------- samples


def test_samples_are_a_function_of_the_seed(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write(tmp_path / name, per_split=1, side=16, seed=seed)
    a, b, c = (Sen1Floods11(str(tmp_path / name)) for name in "abc")
    key = a.split("train")[0]
    np.testing.assert_array_equal(a.read(key).image, b.read(key).image)
    assert not np.array_equal(a.read(key).image, c.read(key).image)


def test_samples_look_like_water_and_land(written):
    dataset = Sen1Floods11(str(written), radar=True)
    for keys in everything(dataset).values():
        for key in keys:
            sample = dataset.read(key, ("green", "nir08", "cirrus", "vv"))
            green, nir, cirrus, vv = sample.image[0]
            assert np.nanmedian(nir[sample.target == 1]) < np.nanmedian(nir[sample.target == 0])
            assert np.nanmedian(vv[sample.target == 1]) < np.nanmedian(vv[sample.target == 0]) < 0
            assert np.nanmax(cirrus) < 0.05 < np.nanmax(green)


# ------------------------------------------------------------------------------------------ real chip


def test_the_real_chip_of_spain(shared_data, tmp_path):
    source = shared_data / "sen1floods11_spain"
    if not source.is_dir():
        pytest.skip("the chip of Sen1Floods11 is not on this machine")
    key = "Spain_7370579"
    for layer in ("S2Hand", "S1Hand", "LabelHand"):
        (tmp_path / HAND / layer).mkdir(parents=True)
        shutil.copy(source / f"{key}_{layer}.tif", tmp_path / HAND / layer)
    (tmp_path / LISTS).mkdir(parents=True)
    for name in ("train", "valid", "test", "bolivia"):
        row = f"{key}_S1Hand.tif,{key}_LabelHand.tif\n" if name == "train" else ""
        (tmp_path / LISTS / f"flood_{name}_data.csv").write_text(row)
    dataset = Sen1Floods11(str(tmp_path), radar=True)
    sample = dataset.read(key)
    assert sample.image.shape == (1, 15, 512, 512)
    np.testing.assert_array_equal(sample.dates, [[2019, 261]])
    np.testing.assert_allclose(sample.latlon, (38.1058, -0.7589), atol=1e-3)
    s2 = read_raster(source / f"{key}_S2Hand.tif", masked=False)
    assert s2.descriptions == ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
    np.testing.assert_allclose(sample.image[0, :13], s2.array * 1e-4, rtol=1e-6)
    assert set(np.unique(sample.target)) == {IGNORE, 0, 1}
    water, land = (sample.image[0][:, sample.target == value].mean(1) for value in (1, 0))
    nir, vv, vh = (dataset.bands.index(name) for name in ("nir08", "vv", "vh"))
    assert water[nir] < land[nir]
    assert water[vv] < land[vv] < 0
    assert water[vh] < land[vh] < 0
    published = dataset.published_statistics(dataset.bands)
    standardised = (sample.image[0] - np.array(published.mean)[:, None, None]) / np.array(published.std)[:, None, None]
    assert np.abs(standardised.mean((1, 2))).max() < 3, "the statistics are in the units of the images"

"""GEO-Bench 1.0 as it lies on disk: what is read, which names are corrected, and what is said when something lacks."""

import json
import pickle
import sys
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pytest
from pydantic import TypeAdapter

from adapteo.bands import BY_NAME, SENTINEL2_L1C, SENTINEL2_L2A
from adapteo.contracts import IGNORE
from adapteo.data import geobench
from adapteo.data._geobench_sets import SETS
from adapteo.data._samples_geobench import write
from adapteo.data.geobench import GeoBench
from adapteo.errors import ConfigError, DataError
from adapteo.registry import load


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("geobench")
    write(folder, per_split=3, side=16)
    return folder


@pytest.fixture
def cashew(tmp_path):
    write(tmp_path, per_split=3, side=16, subsets=["m-cashew-plant"])
    return GeoBench(str(tmp_path))


def folder_of(dataset):
    return dataset._folder


def stored(dataset, key):
    with h5py.File(folder_of(dataset) / f"{key}.hdf5") as file:
        return {name: np.asarray(file[name]) for name in file}


def problem(call):
    with pytest.raises(DataError) as caught:
        call()
    assert len(str(caught.value).splitlines()) <= 5
    return str(caught.value)


# --------------------------------------------------------------------------------------------- all sets


@pytest.mark.parametrize("subset", SETS)
def test_every_set(root, subset):
    dataset = GeoBench(str(root), subset)
    parts = {name: dataset.split(name) for name in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [3, 3, 3]
    assert len(set().union(*parts.values())) == 9
    assert dataset.holdouts == ()
    sample = dataset.read(parts["test"][0])
    assert sample.key == parts["test"][0]
    assert sample.image.shape == (1, len(dataset.bands), 16, 16)
    assert (sample.image.dtype, sample.dates.shape, sample.latlon.shape) == (np.float32, (1, 2), (2,))
    optical = [i for i, band in enumerate(dataset.bands) if BY_NAME[band].kind == "optical"]
    assert (sample.image[:, optical] >= 0).all()
    assert sample.image[:, optical].max() <= 1.01
    assert sample.group == dataset.group(sample.key)
    if dataset.task == "segmentation":
        assert (sample.target.shape, sample.target.dtype) == ((16, 16), np.int64)
        assert set(np.unique(sample.target)) <= set(range(len(dataset.classes)))
    elif dataset.task == "multilabel":
        assert (sample.target.shape, sample.target.dtype) == ((43,), np.float32)
        assert sample.target.sum() > 0
    else:
        assert (sample.target.shape, sample.target.dtype) == ((), np.int64)
    assert len(set(dataset.classes)) == len(dataset.classes)


def test_number_of_classes():
    """GEO-Bench's table of tasks (arXiv 2306.03831)."""
    counts = {
        "m-bigearthnet": 43, "m-so2sat": 17, "m-brick-kiln": 2, "m-forestnet": 12, "m-eurosat": 10, "m-pv4ger": 2,
        "m-pv4ger-seg": 2, "m-chesapeake": 7, "m-cashew-plant": 7, "m-SA-crop-type": 10, "m-nz-cattle": 2,
        "m-NeonTree": 2,
    }  # fmt: skip
    assert {name: len(facts.classes) for name, facts in SETS.items()} == counts


def test_it_is_in_the_registry_and_takes_yaml(root):
    assert load("datasets", "geobench") is GeoBench
    made = TypeAdapter(GeoBench).validate_python({"root": str(root), "subset": "m-eurosat", "ignore": []})
    assert made == GeoBench(str(root), "m-eurosat")
    assert pickle.loads(pickle.dumps(made)).split("train") == made.split("train")


def test_unknown_set():
    with pytest.raises(ConfigError, match="did you mean 'm-cashew-plant'"):
        GeoBench("x", "m-cashew-plantation")
    with pytest.raises(ConfigError, match="'ignore' means nothing for m-eurosat"):
        GeoBench("x", "m-eurosat", ignore=(0,))


# ------------------------------------------------------------------------------------------------ bands


def test_values_and_order_of_bands(cashew):
    key = cashew.split("train")[1]
    arrays = stored(cashew, key)
    assert cashew.bands == SENTINEL2_L2A
    whole = cashew.read(key).image
    np.testing.assert_allclose(whole[0, 3], arrays["04 - Red_2020-01-09"] * 1e-4, rtol=1e-6)
    np.testing.assert_allclose(whole[0, 8], arrays["08A - Vegetation Red Edge_2020-01-09"] * 1e-4, rtol=1e-6)
    np.testing.assert_array_equal(cashew.read(key, ("swir16", "blue")).image, whole[:, [10, 1]])
    assert "m-cashew-plant has no band 'cirrus'" in problem(lambda: cashew.read(key, ("cirrus",)))


def test_only_what_is_wanted_is_needed(cashew):
    key = cashew.split("train")[0]
    with h5py.File(folder_of(cashew) / f"{key}.hdf5", "a") as file:
        for name in list(file):
            if not name.startswith(("02", "label")):
                del file[name]
    assert cashew.read(key, ("blue",)).image.shape == (1, 1, 16, 16)
    assert "has no '03 - Green'" in problem(lambda: cashew.read(key, ("green",)))


def test_eurosat_has_its_bands_put_right(root):
    """ "08A" holds B09, "09" B10 and so on: the ninth band of the files is the last but four (geo-bench issue 28)."""
    dataset = GeoBench(str(root), "m-eurosat")
    arrays = stored(dataset, "id_0000")
    assert dataset.bands == SENTINEL2_L1C
    by_key = {
        "nir": "08 - NIR", "nir09": "08A - Vegetation Red Edge", "cirrus": "09 - Water vapour",
        "swir16": "10 - SWIR - Cirrus", "swir22": "11 - SWIR", "nir08": "12 - SWIR", "red": "04 - Red",
    }  # fmt: skip
    image = dataset.read("id_0000", tuple(by_key)).image[0]
    for band, key in zip(image, by_key.values(), strict=True):
        np.testing.assert_allclose(band, arrays[key] * 1e-4, rtol=1e-6)
    assert image[2].mean() < 0.01  # cirrus is nearly black


def test_brick_kiln_has_its_bands_put_right(root):
    """Exported were B1 B2 B3 B4 B5 B7 B8A B8 B11 B12 and a picture (geo-bench issue 29)."""
    dataset = GeoBench(str(root), "m-brick-kiln")
    arrays = stored(dataset, "examples_0_0")
    order = ("coastal", "blue", "green", "red", "rededge071", "rededge078", "nir08", "nir", "swir16", "swir22")
    assert sorted(dataset.bands) == sorted(order)
    image = dataset.read("examples_0_0", order).image[0]
    for i, key in enumerate(sorted(arrays)[:10]):
        np.testing.assert_allclose(image[i], arrays[key] * 1e-4, rtol=1e-6)


def test_radar_becomes_decibel(root):
    dataset = GeoBench(str(root), "m-so2sat")
    arrays = stored(dataset, "id_0000")
    image = dataset.read("id_0000", ("vh", "vv", "red")).image[0]
    np.testing.assert_allclose(image[0], 10 * np.log10(arrays["05 - VH.LEE Filtered"]), rtol=1e-4)
    np.testing.assert_allclose(image[1], 10 * np.log10(arrays["06 - VV.LEE Filtered"]), rtol=1e-4)
    np.testing.assert_array_equal(image[2], arrays["04 - Red"])


def test_no_echo_is_missing(tmp_path):
    write(tmp_path, per_split=1, side=8, subsets=["m-so2sat"])
    dataset = GeoBench(str(tmp_path), "m-so2sat")
    with h5py.File(folder_of(dataset) / "id_0000.hdf5", "a") as file:
        file["06 - VV.LEE Filtered"][2, 3] = 0
    missing = np.isnan(dataset.read("id_0000").image[0])
    assert missing.sum() == 1
    assert missing[dataset.bands.index("vv"), 2, 3]


def test_radiometry_of_new_scenes(root):
    overview = np.zeros((3, 4, 4))
    for subset, scale in {
        "m-cashew-plant": 1e-4,
        "m-SA-crop-type": 1e-4,
        "m-pv4ger": 1 / 255,
        "m-forestnet": 1 / 255,
    }.items():
        assert GeoBench(str(root), subset).radiometry(overview) == (scale, 0.0)


# ----------------------------------------------------------------------------------------------- labels


def test_masks_are_as_stored(cashew):
    key = cashew.split("val")[0]
    mask = stored(cashew, key)["label"]
    np.testing.assert_array_equal(cashew.read(key).target, mask)
    ignoring = replace(cashew, ignore=(0, 3))
    np.testing.assert_array_equal(ignoring.read(key).target, np.where(np.isin(mask, (0, 3)), IGNORE, mask))
    assert ignoring.classes == cashew.classes


def test_chesapeake_has_a_value_of_no_class(tmp_path):
    write(tmp_path, per_split=1, side=8, subsets=["m-chesapeake"])
    dataset = GeoBench(str(tmp_path), "m-chesapeake")
    with h5py.File(folder_of(dataset) / "id_0000.hdf5", "a") as file:
        file["label"][1, 1] = 15
    assert dataset.read("id_0000").target[1, 1] == IGNORE


def test_value_that_is_no_class(cashew):
    key = cashew.split("train")[0]
    with h5py.File(folder_of(cashew) / f"{key}.hdf5", "a") as file:
        file["label"][0, :3] = 9
    said = problem(lambda: cashew.read(key))
    assert f"{key}.hdf5 holds the value 9 in 3 pixels" in said
    assert "download the set again" in said


def test_labels_of_classification(root):
    """The generator labels the i-th sample of the p-th part with p + i."""
    dataset = GeoBench(str(root), "m-eurosat")
    labels = [[int(dataset.read(key).target) for key in dataset.split(name)] for name in ("train", "val", "test")]
    assert labels == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]


@pytest.mark.parametrize("subset", ["m-eurosat", "m-bigearthnet"])
def test_labels_in_a_table_when_files_have_none(tmp_path, subset):
    write(tmp_path, per_split=1, side=8, subsets=[subset])
    dataset = GeoBench(str(tmp_path), subset)
    before = dataset.read("id_0001").target
    for key in ("id_0000", "id_0001", "id_0002"):
        with h5py.File(folder_of(dataset) / f"{key}.hdf5", "a") as file:
            del file.attrs["pickle"]
    assert "has no label" in problem(lambda: dataset.read("id_0001"))
    if subset == "m-eurosat":
        content = {"0": ["id_0000"], str(int(before)): ["id_0001"]}
        (folder_of(dataset) / "label_map.json").write_text(json.dumps(content))
    else:
        (folder_of(dataset) / "label_stats.json").write_text(json.dumps({"id_0001": before.astype(int).tolist()}))
    np.testing.assert_array_equal(GeoBench(str(tmp_path), subset).read("id_0001").target, before)


def test_label_out_of_range(tmp_path):
    write(tmp_path, per_split=1, side=8, subsets=["m-eurosat"])
    dataset = GeoBench(str(tmp_path), "m-eurosat")
    with h5py.File(folder_of(dataset) / "id_0000.hdf5", "a") as file:
        file.attrs["pickle"] = str(pickle.dumps({"label": 10}))
    assert "the label of" in problem(lambda: dataset.read("id_0000"))
    with h5py.File(folder_of(dataset) / "id_0000.hdf5", "a") as file:
        file.attrs["pickle"] = "b'cut"
    assert "'pickle'" in problem(lambda: dataset.read("id_0000"))


# ------------------------------------------------------------------------------------- places and dates


@pytest.mark.parametrize(
    ("subset", "key", "group", "latlon"),
    [
        ("m-cashew-plant", "sample_57", "place 02", None),
        ("m-forestnet", "-0.018_110.974_2014_05_02", None, (-0.018, 110.974)),
        ("m-pv4ger", "51.353,7.083", None, (51.353, 7.083)),
        ("m-pv4ger-seg", "7.083,51.353", None, (51.353, 7.083)),
        ("m-nz-cattle", "331_Kapiti_Coast_(2017)_175.1481,-40.7054", "Kapiti Coast", (-40.7054, 175.1481)),
        ("m-nz-cattle", "001_Hamilton_(2016-2017)_175.2805,-37.8303", "Hamilton", (-37.8303, 175.2805)),
        ("m-NeonTree", "2018_SJER_3_252000_4104000_image_628", "SJER", None),
        ("m-eurosat", "id_0001", None, None),
        ("m-cashew-plant", "another", None, None),
    ],
)
def test_what_names_say(subset, key, group, latlon):
    said = SETS[subset].name(key)
    assert (said.group, said.latlon) == (group, latlon)


def test_dates(root):
    cashew = GeoBench(str(root))
    first, second = cashew.split("train")[:2]
    np.testing.assert_array_equal(cashew.read(first).dates, [(2019, 319)])  # 15 November
    np.testing.assert_array_equal(cashew.read(second).dates, [(2020, 9)])
    assert np.isnan(
        GeoBench(str(root), "m-SA-crop-type").read(GeoBench(str(root), "m-SA-crop-type").split("test")[0]).dates
    ).all()


def test_first_of_january_is_no_date(root):
    """ForestNet's composites and the cattle have a year only, written as 1 January."""
    forest = GeoBench(str(root), "m-forestnet")
    first, second = forest.split("train")[:2]
    np.testing.assert_array_equal(forest.read(first).dates, [(2015, 152)])
    assert second.endswith("_2016_01_01")
    assert np.isnan(forest.read(second).dates).all()
    cattle = GeoBench(str(root), "m-nz-cattle")
    assert np.isnan(cattle.read(cattle.split("train")[0]).dates).all()


def test_places_from_the_files(root):
    kiln = GeoBench(str(root), "m-brick-kiln")
    assert kiln.read("examples_0_0").latlon == pytest.approx((24 - 8e-4, 90 + 8e-4), abs=1e-4)
    ben = GeoBench(str(root), "m-bigearthnet")
    lat, lon = ben.read("id_0000").latlon
    assert (lat, lon) == pytest.approx((39.75, -8.999), abs=0.02)  # 4,400 km north in UTM zone 29, on its meridian
    # Other sets keep a place that is not the image's, and it is not taken.
    assert np.isnan(GeoBench(str(root), "m-eurosat").read("id_0000").latlon).all()


# ------------------------------------------------------------------------------------------- statistics


def test_statistics_of_the_files_on_disk(cashew):
    stats = json.loads((folder_of(cashew) / "band_stats.json").read_text())
    found = cashew.published_statistics(("red", "nir08"))
    assert found.mean == pytest.approx([stats[k]["mean"] * 1e-4 for k in ("04 - Red", "08A - Vegetation Red Edge")])
    assert found.std == pytest.approx([stats[k]["std"] * 1e-4 for k in ("04 - Red", "08A - Vegetation Red Edge")])
    images = np.concatenate([cashew.read(key).image for key in cashew.split("train")])
    np.testing.assert_allclose(images[:, 3].mean(), found.mean[0], rtol=1e-4)


def test_statistics_of_the_paper(cashew):
    (folder_of(cashew) / "band_stats.json").unlink()
    found = cashew.published_statistics(("blue", "green", "red", "nir08", "swir16", "swir22"))
    assert found.mean == pytest.approx((0.06348, 0.08925, 0.08807, 0.26435, 0.24639, 0.16009), abs=1e-5)
    assert found.std == pytest.approx((0.02273, 0.02223, 0.03505, 0.04151, 0.04950, 0.05144), abs=1e-5)


def test_no_statistics(root, tmp_path):
    dataset = GeoBench(str(root), "m-so2sat")
    assert dataset.published_statistics(("red",)) is not None
    assert dataset.published_statistics(("red", "vv")) is None  # the file's are of intensities
    write(tmp_path, per_split=1, side=8, subsets=["m-eurosat"])
    (tmp_path / "classification_v1.0/m-eurosat/band_stats.json").unlink()
    assert GeoBench(str(tmp_path), "m-eurosat").published_statistics(("red",)) is None


def test_damaged_statistics(cashew):
    path = folder_of(cashew) / "band_stats.json"
    path.write_text('{"04 - Red": {"mean": 1}}')
    assert "no mean and std" in problem(lambda: cashew.published_statistics(("red",)))
    path.write_text("{")
    assert "cannot read" in problem(lambda: replace(cashew).published_statistics(("red",)))


# ----------------------------------------------------------------------------------- splits and partitions


def test_partitions(cashew):
    half = replace(cashew, partition="0.50x_train")
    assert len(half.split("train")) == 1
    assert half.split("test") == cashew.split("test")
    assert half.fingerprint() != cashew.fingerprint()
    said = problem(lambda: replace(cashew, partition="0.1x_train").split("train"))
    assert "0.1x_train_partition.json" in said
    assert "0.50x_train, 1.00x_train, default" in said


def test_no_such_split(cashew):
    assert "did you mean 'val'" in problem(lambda: cashew.split("valid"))


@pytest.mark.parametrize("theirs", ["valid", "train"])
def test_overlap(cashew, theirs):
    path = folder_of(cashew) / "default_partition.json"
    content = json.loads(path.read_text())
    content[theirs].append(content["train"][0])
    path.write_text(json.dumps(content))
    said = problem(lambda: cashew.split("test"))
    assert f"'{content['train'][0]}' is in" in said
    assert ("both 'train' and 'val'" if theirs == "valid" else "'train' twice") in said


@pytest.mark.parametrize("text", ["[]", '{"train": "a"}', '{"train": [1]}', "{"])
def test_damaged_partition(cashew, text):
    path = folder_of(cashew) / "default_partition.json"
    path.write_text(text)
    assert "default_partition.json" in problem(lambda: cashew.split("train"))


def test_empty_split(cashew):
    (folder_of(cashew) / "default_partition.json").write_text('{"train": ["a"], "valid": []}')
    assert "the split 'test' of" in problem(lambda: cashew.split("test"))


# ----------------------------------------------------------------------------------------- what is missing


def test_the_set_is_not_there(tmp_path):
    said = problem(lambda: GeoBench(str(tmp_path)).split("train"))
    assert f"there is no folder m-cashew-plant in {tmp_path}" in said
    assert "segmentation_v1.0/m-cashew-plant.zip" in said
    assert "download: true" in said


@pytest.mark.parametrize("inside", ["", "segmentation_v1.0", "segmentation_v1.0/m-cashew-plant"])
def test_where_the_set_may_lie(cashew, inside):
    start = folder_of(cashew).parents[1] / inside
    assert GeoBench(str(start)).split("train") == cashew.split("train")


def test_missing_and_damaged_files(cashew):
    one, two, three = cashew.split("train")
    (folder_of(cashew) / f"{one}.hdf5").unlink()
    assert f"there is no file {folder_of(cashew) / one}.hdf5" in problem(lambda: cashew.read(one))
    (folder_of(cashew) / f"{two}.hdf5").write_bytes(b"not HDF5")
    assert f"cannot read {folder_of(cashew) / two}.hdf5" in problem(lambda: cashew.read(two))
    path = folder_of(cashew) / f"{three}.hdf5"
    path.write_bytes(path.read_bytes()[:3000])
    assert f"cannot read {path}" in problem(lambda: cashew.read(three))
    assert "lists no sample 'sample_x'" in problem(lambda: cashew.read("sample_x"))


def test_bands_that_differ_in_size(cashew):
    key = cashew.split("train")[0]
    with h5py.File(folder_of(cashew) / f"{key}.hdf5", "a") as file:
        del file["04 - Red_2019-11-15"]
        file["04 - Red_2019-11-15"] = np.zeros((4, 4))
    assert "not images of one size" in problem(lambda: cashew.read(key))
    with h5py.File(folder_of(cashew) / f"{key}.hdf5", "a") as file:
        del file["label"]
        file["label"] = np.zeros((4, 4))
    assert "the mask of" in problem(lambda: cashew.read(key, ("blue",)))


def test_fingerprint(cashew):
    before = cashew.fingerprint()
    assert replace(cashew).fingerprint() == before
    assert replace(cashew, ignore=(0,)).fingerprint() != before
    path = folder_of(cashew) / f"{cashew.split('test')[0]}.hdf5"
    path.write_bytes(path.read_bytes() + b" ")
    assert replace(cashew).fingerprint() != before


def test_download(tmp_path, monkeypatch):
    """The archive is asked for by its name, revision and sum, and unpacked where the benchmark's own tool does."""
    write(tmp_path / "away", per_split=1, side=8, subsets=["m-eurosat"])
    source = tmp_path / "away/classification_v1.0"
    archive = tmp_path / "m-eurosat.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(source.rglob("*")):
            file.write(path, path.relative_to(source))
    asked = []

    def from_hub(*arguments):
        asked.append(arguments)
        return archive

    monkeypatch.setattr(geobench, "from_hub", from_hub)
    dataset = GeoBench(str(tmp_path / "here"), "m-eurosat", download=True)
    assert dataset.split("train") == ("id_0000",)
    assert dataset.read("id_0000").image.shape == (1, 13, 8, 8)
    assert (tmp_path / "here/classification_v1.0/m-eurosat/band_stats.json").is_file()
    assert asked == [
        (
            "recursix/geo-bench-1.0",
            "classification_v1.0/m-eurosat.zip",
            "1e5754337032f097396db62cc15a5ff88f4618e8",
            "ea1d66258e7a789b24e9f7cfdf7498f3c12129f7725e4710a73547db72329804",
        )
    ]
    assert replace(dataset, download=False).split("test") == ("id_0002",)  # and not again


# ---------------------------------------------------------------------------------------------- samples


def test_samples_come_from_the_seed(tmp_path):
    for name, seed in {"a": 0, "b": 0, "c": 1}.items():
        write(tmp_path / name, per_split=1, side=8, seed=seed, subsets=["m-eurosat"])
    a, b, c = (GeoBench(str(tmp_path / name), "m-eurosat").read("id_0000").image for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_h5py_is_not_installed(cashew, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match=r"pip install 'adapteo\[geobench\]'"):
        cashew.read(cashew.split("train")[0])

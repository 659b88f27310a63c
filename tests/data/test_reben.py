"""reBEN as it lies on disk: splits, hold-outs, grids of 10, 20 and 60 m, CORINE codes, and what is said of gaps."""

import hashlib
import pickle
import sys
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import rasterio
from pydantic import TypeAdapter

from adapteo.bands import SENTINEL2_L2A
from adapteo.contracts import IGNORE
from adapteo.data import _reben_files
from adapteo.data._corine import CLASSES, CODES, COLOURS, UNLABELLED, encode
from adapteo.data._reben_files import FILES, STATISTICS, patch_file
from adapteo.data._samples_reben import write
from adapteo.data.reben import ReBEN
from adapteo.errors import ConfigError, DataError
from adapteo.registry import load

LIST_NAMES = ("train", "val", "test", "ood", "Austria", "Ireland")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reben")
    write(folder, per_split=3, side=24)
    return folder


@pytest.fixture
def small(tmp_path):
    """A copy that a test may spoil."""
    write(tmp_path, per_split=1, side=12)
    return ReBEN(str(tmp_path))


def band_path(dataset, key, name):
    return patch_file(Path(dataset.root), "BigEarthNet-S2", key, name)


def map_path(dataset, key):
    return patch_file(Path(dataset.root), "Reference_Maps", key, "reference_map")


def raw(path):
    with rasterio.open(path) as file:
        return file.read(1)


def overwrite(path, array):
    with rasterio.open(path) as file:
        profile = file.profile
    profile.update(height=array.shape[-2], width=array.shape[-1], dtype=array.dtype, tiled=False)
    with rasterio.open(path, "w", **profile) as file:
        file.write(array, 1)


def rows(dataset):
    return pyarrow.parquet.read_table(Path(dataset.root) / "metadata.parquet").to_pylist()


def problem(call):
    with pytest.raises(DataError) as caught:
        call()
    assert len(str(caught.value).splitlines()) <= 5
    return str(caught.value)


# ------------------------------------------------------------------------------------------ official


def test_it_is_in_the_registry_and_takes_yaml(root):
    assert load("datasets", "reben") is ReBEN
    made = TypeAdapter(ReBEN).validate_python({"root": str(root), "pad": 128, "holdout": ["Ireland"]})
    assert made == ReBEN(str(root), pad=128, holdout=("Ireland",))
    assert pickle.loads(pickle.dumps(made)).split("train") == made.split("train")


def test_austria_and_ireland_are_held_out(root):
    dataset = ReBEN(str(root))
    assert dataset.holdouts == ("Austria", "Ireland")
    parts = {name: dataset.split(name) for name in ("train", "val", "test", "Austria", "Ireland")}
    assert [len(keys) for keys in parts.values()] == [3, 3, 3, 3, 3]
    assert sum(Counter(key for keys in parts.values() for key in keys).values()) == 15
    countries = {name: {dataset.group(key) for key in keys} for name, keys in parts.items()}
    assert countries["Austria"] == {"Austria"}
    assert countries["Ireland"] == {"Ireland"}
    for name in ("train", "val", "test"):
        assert countries[name] == {"Portugal", "Finland"}
    # Their training patches are in no part at all.
    unused = {row["patch_id"] for row in rows(dataset)} - {key for keys in parts.values() for key in keys}
    assert len(unused) == 2
    assert dataset.group("nowhere") is None


def test_other_hold_outs(root):
    plain = ReBEN(str(root), holdout=())
    assert plain.holdouts == ()
    assert [len(plain.split(name)) for name in ("train", "val", "test")] == [5, 3, 9]
    official = {"train": "train", "validation": "val", "test": "test"}
    for row in rows(plain):
        assert row["patch_id"] in plain.split(official[row["split"]])
    finland = ReBEN(str(root), holdout=("Finland",))
    assert finland.holdouts == ("Finland",)
    assert {finland.group(key) for key in finland.split("train")} == {"Portugal", "Austria", "Ireland"}
    said = problem(lambda: ReBEN(str(root), holdout=("Irland",)).split("train"))
    assert "no country 'Irland'; did you mean 'Ireland'" in said


def test_no_such_split(root):
    assert "the split 'ood' does not exist" in problem(lambda: ReBEN(str(root)).split("ood"))


# --------------------------------------------------------------------------------------------- lists


def listed(root, name):
    return tuple((root / "lists" / f"{name}.txt").read_text().split())


def test_lists(root):
    dataset = ReBEN(str(root), splits=str(root / "lists"))
    assert dataset.holdouts == ("ood",)
    for name in ("train", "val", "test", "ood"):
        assert dataset.split(name) == listed(root, name)
    assert {dataset.group(key) for key in dataset.split("ood")} == {"Austria", "Ireland"}


def test_hold_outs_may_share_patches(root):
    """The paper's hold-out is a part of its lists of Austria and Ireland."""
    dataset = ReBEN(str(root), splits=str(root / "lists"), holdout=("Ireland", "ood"))
    assert dataset.holdouts == ("Ireland", "ood")
    assert set(dataset.split("Ireland")) < set(dataset.split("ood"))
    missing = ReBEN(str(root), splits=str(root / "lists"), holdout=("Norway",))
    assert "Norway" in problem(lambda: missing.split("train"))


def copy_lists(root, to, **changed):
    to.mkdir()
    for name in LIST_NAMES:
        text = (root / "lists" / f"{name}.txt").read_text()
        (to / f"{name}.txt").write_text(changed.get(name, text))
    return str(to)


def test_lists_without_a_hold_out(root, tmp_path):
    folder = copy_lists(root, tmp_path / "lists")
    (tmp_path / "lists/ood.txt").unlink()
    assert ReBEN(str(root), splits=folder).holdouts == ()


@pytest.mark.parametrize(("one", "other"), [("val", "train"), ("test", "val"), ("ood", "train"), ("ood", "test")])
def test_overlap(root, tmp_path, one, other):
    both = listed(root, other)[1]
    folder = copy_lists(root, tmp_path / "lists", **{one: f"{both}\n"})
    said = problem(lambda: ReBEN(str(root), splits=folder).split("train"))
    assert f"'{both}' is in both '{other}' and '{one}'" in said


def test_patch_that_does_not_exist(root, tmp_path):
    folder = copy_lists(root, tmp_path / "lists", val="S2A_nowhere\n")
    said = problem(lambda: ReBEN(str(root), splits=folder).split("train"))
    assert "val.txt" in said
    assert "'S2A_nowhere'" in said


def test_the_lists_of_the_paper_are_fetched_when_asked(root, monkeypatch):
    asked = {}

    def fetch(url, path, digest=""):
        name = url.rpartition("/")[2]
        if not url.endswith(f"/datasets_splits/reBEN/reBEN_7k/{name}") or name.partition(".")[0] not in LIST_NAMES:
            raise adapteo_lists.AbsentError(f"there is no {url}")
        asked[name] = digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((root / "lists" / name).read_text())

    from adapteo.data import _lists as adapteo_lists

    monkeypatch.setattr(adapteo_lists, "fetch", fetch)
    said = problem(lambda: ReBEN(str(root), splits="paper").split("train"))
    assert "download: true" in said
    dataset = ReBEN(str(root), splits="paper", download=True)
    assert dataset.split("ood") == listed(root, "ood")
    assert set(asked) == {"train.txt", "val.txt", "test.txt", "ood.txt"}
    assert all(len(digest) == 64 for digest in asked.values())
    assert ReBEN(str(root), splits="paper").split("val") == listed(root, "val")  # from the cache


# -------------------------------------------------------------------------------------------- images


def test_grids_of_10_20_and_60_metres(root):
    dataset = ReBEN(str(root))
    key = dataset.split("test")[0]
    sample = dataset.read(key)
    assert sample.image.shape == (1, 12, 24, 24)
    assert sample.image.dtype == np.float32
    assert dataset.bands == SENTINEL2_L2A
    sizes = {"B02": 24, "B8A": 12, "B01": 4}
    for i, band in enumerate(dataset.bands):
        name, metres = FILES[band]
        stored = raw(band_path(dataset, key, name))
        assert sizes.get(name, len(stored)) == len(stored) == 240 // metres
        factor = metres // 10
        np.testing.assert_allclose(sample.image[0, i], np.kron(stored, np.ones((factor, factor))) * 1e-4, rtol=1e-6)


def test_nearest_neighbour_is_what_gdal_says(root):
    """Each 10 m pixel has the value of the 20 or 60 m pixel that holds its centre."""
    dataset = ReBEN(str(root))
    key = dataset.split("train")[0]
    for band in ("swir16", "nir09"):
        with rasterio.open(band_path(dataset, key, FILES[band][0])) as file:
            resampled = file.read(1, out_shape=(24, 24), resampling=rasterio.enums.Resampling.nearest)
        np.testing.assert_allclose(dataset.read(key, (band,)).image[0, 0], resampled * 1e-4, rtol=1e-6)


def test_order_and_choice_of_bands(root):
    dataset = ReBEN(str(root))
    key = dataset.split("val")[0]
    whole = dataset.read(key).image
    np.testing.assert_array_equal(dataset.read(key, ("swir22", "coastal", "blue")).image, whole[:, [11, 0, 1]])
    assert "reBEN has no band 'cirrus'" in problem(lambda: dataset.read(key, ("cirrus",)))


def test_only_the_bands_wanted_are_read(small):
    key = small.split("train")[0]
    for name, _ in FILES.values():
        if name != "B11":
            band_path(small, key, name).unlink()
    assert small.read(key, ("swir16",)).image.shape == (1, 1, 12, 12)
    assert "B01.tif" in problem(lambda: small.read(key))


def test_dates_and_places(root):
    dataset = ReBEN(str(root))
    first, second = dataset.split("Austria")[:2]
    sample = dataset.read(first, ("blue",))
    np.testing.assert_array_equal(sample.dates, [(2017, 164)])  # 13 June
    with rasterio.open(band_path(dataset, first, "B02")) as file:
        west, south, east, north = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    assert south < sample.latlon[0] < north
    assert west < sample.latlon[1] < east
    assert sample.group == "Austria"
    np.testing.assert_allclose(dataset.read(first, ("nir09",)).latlon, sample.latlon, atol=1e-6)
    assert np.abs(dataset.read(second, ("blue",)).latlon - sample.latlon).max() > 0.001


# -------------------------------------------------------------------------------------------- labels


def test_maps(root):
    dataset = ReBEN(str(root))
    key = dataset.split("train")[0]
    codes, target = raw(map_path(dataset, key)), dataset.read(key, ("blue",)).target
    assert (target.shape, target.dtype) == ((24, 24), np.int64)
    assert (codes == 999).sum() > 0
    for code in np.unique(codes):
        index = next((i for i, name in enumerate(CLASSES) if code in CODES[name]), IGNORE)
        assert set(target[codes == code]) == {index}
    assert (target[codes == 999] == IGNORE).all()


def test_codes_of_corine():
    every = np.array([code for codes in CODES.values() for code in codes])
    assert len(every) == len(set(every)) == 32
    assert not set(every) & set(UNLABELLED)
    assert len(every) + len(set(UNLABELLED) - {999}) == 44  # the third level of CORINE
    found = encode(np.array([[111, 112, 523, 241], [231, 999, 122, 335]], np.uint16), "map")
    names = [[CLASSES[i] if i >= 0 else None for i in row] for row in found]
    assert names == [
        ["Urban fabric", "Urban fabric", "Marine waters", "Permanent crops"],
        ["Pastures", None, None, None],
    ]
    assert list(CLASSES) == sorted(CLASSES)
    assert len(CLASSES) == len(COLOURS) == len(set(COLOURS)) == 19


def test_codes_agree_with_the_labels_of_the_patch(root):
    """The patch has the labels of the classes in its map, in the archive as in the copy."""
    by_pixel, by_patch = ReBEN(str(root)), ReBEN(str(root), labels="multilabel")
    for key in by_pixel.split("Ireland"):
        seen = np.unique(by_pixel.read(key, ("blue",)).target)
        np.testing.assert_array_equal(np.flatnonzero(by_patch.read(key, ("blue",)).target), seen[seen >= 0])


def test_labels_of_the_patch(root):
    dataset = ReBEN(str(root), labels="multilabel")
    assert dataset.task == "multilabel"
    by_key = {row["patch_id"]: row["labels"] for row in rows(dataset)}
    for key in dataset.split("test"):
        target = dataset.read(key, ("blue",)).target
        assert (target.shape, target.dtype) == ((19,), np.float32)
        assert [CLASSES[i] for i in np.flatnonzero(target)] == sorted(by_key[key])


def test_labels_of_the_patch_need_no_maps(small):
    key = small.split("train")[0]
    map_path(small, key).unlink()
    assert replace(small, labels="multilabel").read(key, ("blue",)).target.sum() > 0
    assert "reference_map.tif" in problem(lambda: small.read(key, ("blue",)))


def test_pad(root):
    plain, padded = ReBEN(str(root)), ReBEN(str(root), pad=32)
    key = plain.split("train")[0]
    before, after = plain.read(key), padded.read(key)
    assert after.image.shape == (1, 12, 32, 32)
    np.testing.assert_array_equal(after.image[..., :24, :24], before.image)
    np.testing.assert_array_equal(after.image[..., 24:, :24], before.image[..., 22:14:-1, :])
    np.testing.assert_array_equal(after.image[..., :24, 24:], before.image[..., 22:14:-1])
    np.testing.assert_array_equal(after.target[:24, :24], before.target)
    assert (after.target[24:] == IGNORE).all()
    assert (after.target[:, 24:] == IGNORE).all()
    assert after.target.dtype == np.int64
    np.testing.assert_array_equal(after.latlon, before.latlon)
    marks = ReBEN(str(root), labels="multilabel", pad=32).read(key)
    assert (marks.image.shape[2:], marks.target.shape) == ((32, 32), (19,))
    assert "`pad: 20` is less than a patch, 24 pixels" in problem(lambda: replace(plain, pad=20).read(key))


# ------------------------------------------------------------------------------------------- numbers


def test_published_statistics(root):
    """Values in the form of IBM/peft-geofm, in stored numbers."""
    found = ReBEN(str(root)).published_statistics(("swir16", "blue"))
    assert found.mean == pytest.approx((1568.226806640625e-4, 438.3720703125e-4))
    assert found.std == pytest.approx((1070.1612548828125e-4, 607.02685546875e-4))
    assert set(STATISTICS) == set(FILES) == set(SENTINEL2_L2A)
    assert ReBEN(str(root)).radiometry(np.zeros((1, 2, 2))) == (1e-4, 0.0)


def test_facts(root):
    dataset = ReBEN(str(root))
    assert (dataset.task, dataset.frames, dataset.gsd, dataset.classes) == ("segmentation", 1, 10.0, CLASSES)
    assert dataset.colours[CLASSES.index("Arable land")] == (255, 255, 168)  # 211 of CORINE is #ffffa8
    with pytest.raises(ConfigError, match="'labels' cannot be 'pixel'"):
        ReBEN("x", labels="pixel")
    with pytest.raises(ConfigError, match="cannot be called 'test'"):
        ReBEN("x", holdout=("test",))


def test_fingerprint(small):
    before = small.fingerprint()
    assert replace(small).fingerprint() == before
    assert replace(small, pad=16).fingerprint() != before
    assert replace(small, labels="multilabel").fingerprint() != before
    assert replace(small, holdout=()).fingerprint() != before
    path = map_path(small, small.split("test")[0])
    path.write_bytes(path.read_bytes() + b" ")
    assert replace(small).fingerprint() != before


# ------------------------------------------------------------------------------------ what is missing


def test_nothing_is_there(tmp_path, small):
    said = problem(lambda: ReBEN(str(tmp_path / "nowhere")).split("train"))
    assert f"there is no metadata.parquet in {tmp_path / 'nowhere'}" in said
    assert "zenodo.org/records/10891137" in said
    assert "download: true" in said
    (Path(small.root) / "Reference_Maps").rename(Path(small.root) / "maps")
    assert "there is no Reference_Maps in" in problem(lambda: small.split("train"))
    assert replace(small, labels="multilabel").split("train")


def test_missing_and_damaged_files(small):
    key = small.split("train")[0]
    path = band_path(small, key, "B03")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert str(path) in problem(lambda: small.read(key))
    path.write_bytes(b"no image")
    assert str(path) in problem(lambda: small.read(key))
    path.unlink()
    said = problem(lambda: small.read(key))
    assert f"there is no file {path}" in said
    assert "download: true" in said
    assert "there is no patch 'S2A_nowhere'" in problem(lambda: small.read("S2A_nowhere"))


def test_files_that_do_not_fit(small):
    key = small.split("train")[0]
    overwrite(map_path(small, key), np.full((12, 12), 111, np.uint16))
    small.read(key)
    overwrite(map_path(small, key), np.full((12, 12), 7, np.uint16))
    said = problem(lambda: small.read(key))
    assert "reference_map.tif holds 7 in 144 pixels" in said
    overwrite(map_path(small, key), np.full((6, 6), 111, np.uint16))
    assert "reference_map.tif has (6, 6) pixels" in problem(lambda: small.read(key))
    overwrite(band_path(small, key, "B05"), np.ones((12, 12), np.uint16))
    assert "do not fit on one grid" in problem(lambda: small.read(key))


def test_damaged_table(small):
    path = Path(small.root) / "metadata.parquet"
    table = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(table.drop_columns(["country"]), path)
    assert "no column 'country'" in problem(lambda: small.split("train"))
    pyarrow.parquet.write_table(table.set_column(2, "split", [["validate"] * len(table)]), path)
    assert "the split 'validate'" in problem(lambda: replace(small).split("train"))
    pyarrow.parquet.write_table(table.set_column(1, "labels", [[["Forest"]] * len(table)]), path)
    assert "the label 'Forest'" in problem(lambda: replace(small, labels="multilabel").split("train"))
    path.write_bytes(b"PAR1 but not really")
    assert f"cannot read {path}" in problem(lambda: replace(small).split("train"))


def test_pyarrow_is_not_installed(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'adapteo[parquet]'" in problem(lambda: small.split("train"))


def test_samples_need_a_multiple_of_6(tmp_path):
    assert "multiple of 6" in problem(lambda: write(tmp_path, side=100))


# -------------------------------------------------------------------------------------------- download


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with the archives of a small copy, the images in two parts; returns what was asked for."""
    away = tmp_path / "away"
    write(away, per_split=1, side=6)
    files = {"V2/metadata.parquet": (away / "metadata.parquet").read_bytes()}
    for kind, names in _reben_files._ARCHIVES.items():
        with tarfile.open(tmp_path / f"{kind}.tar.gz", "w:gz") as file:
            file.add(away / kind, kind)
        data = (tmp_path / f"{kind}.tar.gz").read_bytes()
        step = -(-len(data) // len(names))
        files |= {name: data[i * step : (i + 1) * step] for i, name in enumerate(names)}
    sums = {
        kind: {name: hashlib.md5(files[name]).hexdigest() for name in names}
        for kind, names in _reben_files._ARCHIVES.items()
    }
    monkeypatch.setattr(_reben_files, "_ARCHIVES", sums)
    asked = []

    def from_hub(repo, file, revision, digest=""):
        asked.append(file)
        path = tmp_path / "cache" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[file])
        return path

    monkeypatch.setattr(_reben_files, "from_hub", from_hub)
    return away, asked, files


def test_download(tmp_path, hub):
    away, asked, _ = hub
    here = ReBEN(str(tmp_path / "here"), download=True)
    there = ReBEN(str(away))
    for name in ("train", "Austria"):
        assert here.split(name) == there.split(name)
        np.testing.assert_array_equal(here.read(here.split(name)[0]).image, there.read(there.split(name)[0]).image)
    assert asked == [
        "V2/metadata.parquet", "V2/BigEarthNet-S2.tar.gzaa", "V2/BigEarthNet-S2.tar.gzab",
        "V2/Reference_Maps.tar.gzaa",
    ]  # fmt: skip
    unused = {row["patch_id"] for row in rows(there) if row["country"] == "Austria" and row["split"] == "train"}
    assert len(unused) == 1
    assert not list((tmp_path / "here").rglob(unused.pop()))  # only what the splits name is unpacked
    replace(here).split("train")
    assert len(asked) == 4  # what is there is not fetched again


def test_damaged_download(tmp_path, hub):
    _, _, files = hub
    files["V2/BigEarthNet-S2.tar.gzab"] += b"x"
    said = problem(lambda: ReBEN(str(tmp_path / "here"), download=True).split("train"))
    assert "BigEarthNet-S2.tar.gzab is damaged" in said


def test_archive_without_a_patch(tmp_path, hub):
    away, _, _ = hub
    table = pyarrow.parquet.read_table(away / "metadata.parquet")
    more = table.slice(0, 1).set_column(0, "patch_id", [["S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_99_99"]])
    (tmp_path / "here").mkdir()
    pyarrow.parquet.write_table(pyarrow.concat_tables([table, more]), tmp_path / "here/metadata.parquet")
    said = problem(lambda: ReBEN(str(tmp_path / "here"), download=True).split("train"))
    assert "has no patch 'S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_99_99' (1 are missing)" in said


def test_samples_come_from_the_seed(tmp_path):
    for name, seed in {"a": 0, "b": 0, "c": 1}.items():
        write(tmp_path / name, per_split=1, side=6, seed=seed)
    a, b, c = (ReBEN(str(tmp_path / name)) for name in "abc")
    key = a.split("train")[0]
    np.testing.assert_array_equal(a.read(key).image, b.read(key).image)
    assert (a.read(key).image != c.read(c.split("train")[0]).image).any()

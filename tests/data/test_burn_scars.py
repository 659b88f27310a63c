"""HLS Burn Scars: the published layouts, splits and values, on a small stand-in."""

import io
import pickle
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from chipfolder import write_tif
from webserver import serving

from adapteo import registry
from adapteo.bands import HLS6
from adapteo.contracts import IGNORE
from adapteo.data import _burn_scars_files, _download, burn_scars
from adapteo.data._samples_burn_scars import write
from adapteo.data.burn_scars import BurnScars
from adapteo.data.statistics import statistics
from adapteo.errors import AdaptEOError, ConfigError, DataError

STEM = "subsetted_512x512_HLS.S30.{}.v1.4"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("burn_scars")
    write(folder, per_split=3, side=32)
    return folder


@pytest.fixture
def root(written, tmp_path):
    return Path(shutil.copytree(written, tmp_path / "copy"))


def problem(dataset, key=None):
    """What the user is told when a split, or a chip, is read."""
    with pytest.raises(AdaptEOError) as caught:
        dataset.read(key) if key else dataset.split("train")
    assert len(str(caught.value).splitlines()) <= 5
    return str(caught.value)


def everything(dataset):
    return {name: list(dataset.split(name)) for name in ("train", "val", "test", *dataset.holdouts)}


def flat(parts):
    return [key for keys in parts.values() for key in keys]


def keys_in(folder):
    return sorted(path.name.split("S30.")[1].split(".v1")[0] for path in folder.glob("*_merged.tif"))


def image_of(root, key):
    return next(root.rglob(f"*{key}*_merged.tif"))


def mask_of(root, key):
    return next(root.rglob(f"*{key}*.mask.tif"))


# ------------------------------------------------------------------------------------------- reading


def test_it_is_in_the_registry(written):
    assert registry.load("datasets", "burn_scars") is BurnScars
    dataset = BurnScars(str(written))
    assert (dataset.task, dataset.gsd, dataset.frames, dataset.bands) == ("segmentation", 30.0, 1, HLS6)
    assert len(dataset.colours) == len(dataset.classes) == 2
    assert dataset.holdouts == ()


def test_values_are_those_of_the_files(written):
    dataset = BurnScars(str(written))
    for key in dataset.split("train"):
        sample = dataset.read(key)
        with rasterio.open(image_of(written, key)) as file:
            image, crs = file.read(), file.crs
        with rasterio.open(mask_of(written, key)) as file:
            mask = file.read(1)
        assert (image.dtype, mask.dtype, crs.to_epsg()) == (np.float32, np.int16, 32600 + int(key[1:3]))
        assert (image == -9999).any(), "the stand-in has pixels outside the swath"
        np.testing.assert_array_equal(sample.image[0], np.where(image == -9999, np.nan, image))
        np.testing.assert_array_equal(sample.target, mask)
        assert set(np.unique(sample.target)) == {IGNORE, 0, 1}
        assert (sample.image.shape, sample.image.dtype) == ((1, 6, 32, 32), np.float32)
        assert (sample.target.shape, sample.target.dtype) == ((32, 32), np.int64)
        assert (sample.key, sample.group) == (key, key[1:4])
        np.testing.assert_array_equal(sample.dates, [[int(key[7:11]), int(key[11:])]])
        zone = (sample.latlon[1] + 180) // 6 + 1
        assert zone == int(key[1:3])
        assert 24 < sample.latlon[0] < 50


def test_bands_come_in_the_order_asked_for(written):
    dataset = BurnScars(str(written))
    key = dataset.split("val")[0]
    np.testing.assert_array_equal(dataset.read(key, ("swir22", "green")).image, dataset.read(key).image[:, [5, 1]])
    with pytest.raises(DataError, match="HLS Burn Scars has no band 'nir'; did you mean 'nir08'"):
        dataset.read(key, ("nir",))


@pytest.mark.parametrize("fill", [-9999.0, 9999.0, -0.9999, np.nan])
def test_missing_pixels_however_they_are_marked(root, fill):
    dataset = BurnScars(str(root))
    key = dataset.split("train")[0]
    image = np.full((6, 32, 32), 0.2, np.float32)
    image[2, 3, 4] = fill
    image[:, 5, 6] = 0  # all bands: missing
    image[5, 7, 8] = 0  # one band: dark
    image[0, 9, 9] = -0.01  # over-corrected air, a measurement
    write_tif(image_of(root, key), image, place=(500_000, 4_000_000))
    read = dataset.read(key).image[0]
    wanted = np.zeros(image.shape, bool)
    wanted[2, 3, 4] = wanted[:, 5, 6] = True
    np.testing.assert_array_equal(np.isnan(read), wanted)
    np.testing.assert_array_equal(read[~wanted], image[~wanted])
    some = dataset.read(key, ("swir22",)).image[0, 0]
    np.testing.assert_array_equal(some, read[5], "a pixel is missing or not whatever bands are asked for")


def test_the_files_own_mark_counts_too(root):
    dataset = BurnScars(str(root))
    key = dataset.split("train")[0]
    image = np.full((6, 32, 32), 0.2, np.float32)
    image[1, 2, 3] = 7
    write_tif(image_of(root, key), image, nodata=7)
    sample = dataset.read(key)
    assert np.isnan(sample.image).sum() == 1
    assert np.isnan(sample.latlon).all(), "no georeference"


def test_statistics_go_with_the_splits(written):
    official = BurnScars(str(written))
    listed = replace(official, splits=str(written / "splits"))
    assert official.published_statistics(("swir22", "blue")).mean == (0.11944914225186566, 0.033349706741586264)
    assert listed.published_statistics(("swir22", "blue")).mean == (0.1710367799, 0.0525628887)
    assert listed.published_statistics(("swir22", "blue")).std == (0.0835518017, 0.0308036711)
    assert official.published_statistics(("blue", "ndvi")) is None
    measured = statistics(official, official.split("train"))
    ratio = np.array(measured.mean) / official.published_statistics(HLS6).mean
    assert ((ratio > 0.2) & (ratio < 6)).all(), "the same physical units"


def test_fingerprint_follows_files_and_splits(root):
    dataset = BurnScars(str(root))
    before = dataset.fingerprint()
    assert BurnScars(str(root)).fingerprint() == before
    key = dataset.split("test")[0]
    write_tif(mask_of(root, key), np.ones((1, 32, 32), np.int16))
    assert BurnScars(str(root)).fingerprint() != before


def test_it_survives_pickling(written):
    dataset = BurnScars(str(written))
    key = dataset.split("train")[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset)).read(key).image, dataset.read(key).image)


def test_radiometry_of_new_scenes(written):
    dataset = BurnScars(str(written))
    assert dataset.radiometry(np.full((6, 4, 4), 1800.0)) == (1e-4, 0.0)
    assert dataset.radiometry(np.full((6, 4, 4), 0.18)) == (1.0, 0.0)
    assert dataset.radiometry(np.full((6, 4, 4), np.nan)) == (1.0, 0.0)


# --------------------------------------------------------------------------------------------- splits


def test_the_official_split_follows_the_folders(written):
    dataset = BurnScars(str(written), val_fraction=0.3)
    parts = everything(dataset)
    assert parts["test"] == keys_in(written / "validation")
    assert sorted(parts["train"] + parts["val"]) == keys_in(written / "training")
    tiles = {name: {key.split(".")[0] for key in keys} for name, keys in parts.items()}
    assert not tiles["train"] & tiles["val"], "no tile is in both"
    assert len(parts["val"]) >= 0.3 * 6
    assert everything(BurnScars(str(written), val_fraction=0.3)) == parts
    assert len(everything(BurnScars(str(written), val_fraction=0.01))["val"]) == 1


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5])
def test_validation_takes_whole_tiles(fraction):
    random = np.random.default_rng(0)
    keys = sorted(
        {f"T{random.integers(10, 18)}S{'ABC'[random.integers(3)]}A.{2018 + i % 4}{i:03d}" for i in range(1, 366)}
    )
    tile_of = {key: key.split(".")[0] for key in keys}
    chosen = burn_scars._whole_tiles(keys, fraction)
    assert {tile_of[key] for key in chosen} & {tile_of[key] for key in set(keys) - chosen} == set()
    largest = max(list(tile_of.values()).count(tile) for tile in tile_of.values())
    assert fraction * len(keys) <= len(chosen) < fraction * len(keys) + largest
    assert burn_scars._whole_tiles(keys, fraction) == chosen


def test_lists_divide_the_chips_of_all_folders(written):
    dataset = BurnScars(str(written), splits=str(written / "splits"))
    parts = everything(dataset)
    for name, keys in parts.items():
        assert [f"{key}.v1" for key in keys] == (written / f"splits/{name}.txt").read_text().split()
    assert sorted(flat(parts)) == sorted(keys_in(written / "training") + keys_in(written / "validation"))
    assert set(parts["test"]) & set(keys_in(written / "training")), "the lists cross the folders"
    assert {dataset.read(key).key for keys in parts.values() for key in keys} == set(flat(parts))


@pytest.mark.parametrize("folder", ["data", "."])
def test_all_chips_in_one_folder(written, tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    for path in written.rglob("*.tif"):
        shutil.copy(path, tmp_path / folder)
    shutil.copytree(written / "splits", tmp_path / "splits")
    dataset = BurnScars(str(tmp_path))
    assert everything(dataset) == everything(BurnScars(str(written), splits=str(written / "splits")))
    key = dataset.split("train")[0]
    np.testing.assert_array_equal(dataset.read(key).image, BurnScars(str(written)).read(key).image)
    shutil.rmtree(tmp_path / "splits")
    assert f"no folder {tmp_path}/splits" in problem(BurnScars(str(tmp_path)))


def test_few_labels(written, tmp_path):
    official = BurnScars(str(written))
    listed = replace(official, splits=str(written / "splits"))
    key = next(key for key in listed.split("train") if key in official.split("train"))
    (tmp_path / "few.txt").write_text(f"{key}.v1")
    for dataset in (official, listed):
        few = replace(dataset, train_list=str(tmp_path / "few.txt"))
        assert everything(few) == {**everything(dataset), "train": [key]}


def test_zones_can_be_held_out(written):
    dataset = BurnScars(str(written), splits=str(written / "splits"), holdout=("10S", "11T"))
    parts = everything(dataset)
    assert dataset.holdouts == ("holdout",)
    assert {dataset.group(key) for key in parts["holdout"]} == {"10S", "11T"}
    assert not {"10S", "11T"} & {dataset.group(key) for name in ("train", "val", "test") for key in parts[name]}
    whole = everything(replace(dataset, holdout=()))
    assert sorted(flat(parts)) == sorted(flat(whole))


def test_overlap_is_refused(root):
    path = root / "splits/test.txt"
    path.write_text(path.read_text() + (root / "splits/train.txt").read_text())
    assert "is in both 'train' and 'test'" in problem(BurnScars(str(root), splits=str(root / "splits")))


def test_the_same_chip_in_both_folders_is_refused(root):
    path = next((root / "training").glob("*_merged.tif"))
    for copied in (path, mask_of(root, path.name.removesuffix("_merged.tif"))):
        shutil.copy(copied, root / "validation")
    assert "are the same chip" in problem(BurnScars(str(root)))


def test_lists_that_do_not_fit(root):
    path = root / "splits/train.txt"
    dataset = BurnScars(str(root), splits=str(root / "splits"))
    path.write_text("T99XYZ.2020100.v1")
    assert "the splits list 'T99XYZ.2020100', but there is no file" in problem(dataset)
    path.write_text("chip_1")
    assert f"{path}: 'chip_1' is no chip" in problem(replace(dataset))
    path.unlink()
    assert "no list of the train chips" in problem(replace(dataset))


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"val_fraction": 0.0}, "val_fraction is 0"), ({"val_fraction": 1.0}, "val_fraction is 1"),
     ({"holdout": ("west",)}, "'west' is no UTM grid zone")],
)  # fmt: skip
def test_impossible_fields_are_refused(fields, words):
    with pytest.raises(ConfigError, match=words):
        BurnScars("somewhere", **fields)


def test_unknown_splits_and_chips(written):
    dataset = BurnScars(str(written))
    with pytest.raises(DataError, match="did you mean 'val'"):
        dataset.split("vall")
    assert "no chip 'T10SEH.1999001'" in problem(dataset, "T10SEH.1999001")


# ------------------------------------------------------------------------------------------ bad files


def test_what_to_put_where_when_nothing_is_there(tmp_path):
    text = problem(BurnScars(str(tmp_path)))
    for words in (f"{tmp_path}/training", "*_merged.tif", "*.mask.tif", "hls_burn_scars.tar.gz", "`download: true`"):
        assert words in text


def test_half_a_copy_is_no_copy(root):
    shutil.rmtree(root / "validation")
    assert "HLS Burn Scars is not in" in problem(BurnScars(str(root)))


def test_a_missing_mask_is_named(root):
    path = next((root / "training").glob("*.mask.tif"))
    path.unlink()
    text = problem(BurnScars(str(root)))
    assert f"there is no {path.name} beside it" in text


def test_a_file_without_tile_and_day(root):
    shutil.copy(next((root / "training").glob("*_merged.tif")), root / "training/mine_merged.tif")
    assert "mine_merged.tif names no tile and day" in problem(BurnScars(str(root)))


@pytest.mark.parametrize("of", [image_of, mask_of])
def test_a_damaged_file_is_named(root, of):
    dataset = BurnScars(str(root))
    key = dataset.split("train")[0]
    path = of(root, key)
    path.write_bytes(path.read_bytes()[:400])
    text = problem(dataset, key)
    assert path.name in text
    assert "fetch it again" in text


def test_files_that_do_not_fit(root):
    dataset = BurnScars(str(root))
    key = dataset.split("train")[0]
    write_tif(mask_of(root, key), np.zeros((1, 16, 16), np.int16))
    assert "mask.tif has 1 bands of (16, 16) pixels" in problem(dataset, key)
    write_tif(mask_of(root, key), np.full((1, 32, 32), 2, np.int16))
    assert "mask.tif holds the value 2 in 1,024 pixels" in problem(dataset, key)
    write_tif(image_of(root, key), np.full((6, 32, 32), 1500, np.int16))
    text = problem(dataset, key)
    assert "_merged.tif is not reflectance: its median is 1500" in text
    assert "dataset section" not in text, "there is no such key here"
    write_tif(image_of(root, key), np.full((5, 32, 32), 0.2, np.float32))
    assert "_merged.tif has 5 bands, not 6" in problem(dataset, key)


# ------------------------------------------------------------------------------------------- download


@pytest.fixture
def archive(written, tmp_path):
    """The stand-in in the archive of the hub, with things that do not belong to it."""
    path = tmp_path / "hls_burn_scars.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for folder in ("training", "validation"):
            tar.add(written / folder, f"./{folder}")
        for name in ("../escaped_merged.tif", "training/._x_merged.tif", "readme.txt", "elsewhere/y_merged.tif"):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
    return path


@pytest.fixture
def hub(archive, monkeypatch):
    """Replaces the hub; lists what was asked for."""
    asked = []

    def from_hub(repo, file, revision, digest):
        asked.append(f"{repo}/{file}")
        assert len(revision) == 40
        assert len(digest) == 64
        return archive

    monkeypatch.setattr(_burn_scars_files, "from_hub", from_hub)
    return asked


def test_nothing_is_fetched_unless_asked_for(hub, tmp_path):
    problem(BurnScars(str(tmp_path / "new")))
    assert hub == []


def test_download(hub, tmp_path, written):
    new = tmp_path / "deep/new"
    dataset = BurnScars(str(new), download=True)
    assert everything(dataset) == everything(BurnScars(str(written)))
    assert hub == ["ibm-nasa-geospatial/hls_burn_scars/hls_burn_scars.tar.gz"]
    here = sorted(path.relative_to(new).as_posix() for path in new.rglob("*.*") if path.name != ".download.lock")
    assert here == sorted(path.relative_to(written).as_posix() for path in written.rglob("*.tif"))
    assert not list(tmp_path.rglob("escaped*"))
    BurnScars(str(new), download=True).split("train")
    assert len(hub) == 1, "what is there is not fetched again"


def test_a_download_that_was_interrupted_goes_on(hub, archive, tmp_path, monkeypatch):
    new = tmp_path / "new"
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) * 2 // 3])
    assert "is damaged" in problem(BurnScars(str(new), download=True))
    assert "is not in" in problem(BurnScars(str(new))), "half an archive is no copy"
    archive.write_bytes(whole)
    assert len(BurnScars(str(new), download=True).split("test")) == 3
    assert not (new / ".unpacked").exists()


def test_an_archive_of_something_else(hub, archive, tmp_path):
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("training/a_merged.tif")
        tar.addfile(member, io.BytesIO(b""))
    assert "has no folder validation" in problem(BurnScars(str(tmp_path / "new"), download=True))


def test_the_lists_of_the_paper(written, monkeypatch):
    monkeypatch.setattr(_download, "PAUSE", 0.0)
    with serving() as web:
        for name in ("train", "val", "test"):
            web.files[f"/paper/burn_scars/{name}_data.txt"] = (written / f"splits/{name}.txt").read_bytes()
        monkeypatch.setattr(burn_scars, "PAPER", f"{web.url}/paper")
        assert "`download: true`" in problem(BurnScars(str(written), splits="paper"))
        assert web.asked == []
        assert "not what was expected" in problem(BurnScars(str(written), splits="paper", download=True))
        monkeypatch.setattr(burn_scars, "_DIGESTS", {})
        dataset = BurnScars(str(written), splits="paper", download=True)
        assert everything(dataset) == everything(BurnScars(str(written), splits=str(written / "splits")))
        assert dataset.published_statistics(("red",)).mean == (0.0946640745,)


# --------------------------------------------------------------------------------------------- samples


def test_samples_are_a_function_of_the_seed(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write(tmp_path / name, per_split=1, side=16, seed=seed)
    a, b, c = (BurnScars(str(tmp_path / name)) for name in "abc")
    key = a.split("train")[0]
    np.testing.assert_array_equal(a.read(key).image, b.read(key).image)
    assert not np.array_equal(a.read(key).image, c.read(key).image)


def test_samples_look_burnt(written):
    dataset = BurnScars(str(written))
    pixels, burnt = [], []
    for keys in everything(dataset).values():
        for key in keys:
            sample = dataset.read(key, ("nir08", "swir22"))
            pixels.append(sample.image[0].reshape(2, -1))
            burnt.append(sample.target.ravel())
    (nir, swir), burnt = np.concatenate(pixels, 1), np.concatenate(burnt)
    nbr = (nir - swir) / (nir + swir)
    assert np.nanmedian(nbr[burnt == 1]) < np.nanmedian(nbr[burnt == 0]) - 0.1
    assert 0.1 < (burnt == 1).mean() < 0.9


def test_many_samples_have_names_of_their_own(tmp_path):
    write(tmp_path, per_split=8, side=16)
    dataset = BurnScars(str(tmp_path))
    assert sum(len(keys) for keys in everything(dataset).values()) == 24
    assert all(1 <= int(key[11:]) <= 365 for key in dataset.split("train"))

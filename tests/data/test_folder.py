"""Folders of chips: what is found, what is read, and what is said when something does not fit."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from chipfolder import flood_folder, picture_folder, problem, write_csv, write_tif
from pydantic import ConfigDict, TypeAdapter

from adapteo.contracts import IGNORE
from adapteo.data.folder import Folder
from adapteo.data.raster import read_raster
from adapteo.data.splits import Splits
from adapteo.errors import DataError


@pytest.fixture
def flood(tmp_path):
    return flood_folder(tmp_path)


@pytest.fixture
def pictures(tmp_path):
    return picture_folder(tmp_path)


# --------------------------------------------------------------------------------------------- masks


def test_chips_with_masks(flood, tmp_path):
    assert flood.task == "segmentation"
    assert flood.classes == ("land", "water")
    assert flood.bands == ("blue", "green", "red")
    assert (flood.frames, flood.gsd) == (1, 10.0)
    sample = flood.read("chip_3")
    stored = read_raster(tmp_path / "images/chip_3_S2.tif").array
    mask = read_raster(tmp_path / "masks/chip_3_L.tif", masked=False).array[0]
    assert sample.image.dtype == np.float32
    np.testing.assert_allclose(sample.image[0], stored * 1e-4, rtol=1e-6)
    np.testing.assert_array_equal(sample.target, np.where(mask == 255, IGNORE, mask.astype(int)))
    assert sample.target.dtype == np.int64
    assert sample.latlon == pytest.approx((49.65, 9.2), abs=0.05)
    assert np.isnan(sample.dates).all()


def test_bands_come_in_the_order_asked_for(flood):
    whole = flood.read("chip_0").image
    np.testing.assert_array_equal(flood.read("chip_0", ("red", "blue")).image, whole[:, [2, 0]])
    with pytest.raises(DataError, match="has no band 'nir'"):
        flood.read("chip_0", ("nir",))


def test_it_survives_pickling(flood):
    before = flood.read("chip_0")
    again = pickle.loads(pickle.dumps(flood))
    assert again == flood
    np.testing.assert_array_equal(again.read("chip_0").image, before.image)


def test_values_of_a_mask_are_mapped_to_classes(flood):
    mapped = replace(flood, class_names={255: "edge", 0: "land", 1: "water"}, ignore=())
    assert mapped.classes == ("land", "water", "edge")
    target = mapped.read("chip_0").target
    assert target[0, 0] == 2
    assert set(np.unique(target)) == {0, 1, 2}


def test_a_value_that_is_no_class_is_named(flood):
    text = problem(replace(flood, ignore=()))
    assert "chip_0_L.tif holds the value 255 in 1 pixels" in text
    assert "`ignore: 255`" in text


def test_nodata_of_a_mask_is_ignored_unless_it_is_a_class(flood, tmp_path):
    write_tif(
        tmp_path / "masks/chip_0_L.tif", np.array([[[0, 9], [1, 0]] * 4] * 4).reshape(1, 8, 8).astype("u1"), nodata=9
    )
    assert set(np.unique(flood.read("chip_0").target)) == {IGNORE, 0, 1}
    write_tif(tmp_path / "masks/chip_0_L.tif", np.zeros((1, 8, 8), np.uint8), nodata=0)
    assert (flood.read("chip_0").target == 0).all()


def test_a_missing_mask_is_named(flood, tmp_path):
    (tmp_path / "masks/chip_4_L.tif").unlink()
    text = problem(flood, "chip_0")
    assert "chip_4_S2.tif has no partner" in text
    assert "masks/*_L.tif" in text


def test_a_mask_without_image_is_named(flood, tmp_path):
    (tmp_path / "images/chip_4_S2.tif").unlink()
    assert "chip_4_L.tif has no partner" in problem(flood, "chip_0")


def test_two_files_for_one_key_are_named(tmp_path):
    for suffix in ("tif", "tiff"):
        write_tif(tmp_path / f"A/a.{suffix}", np.ones((1, 4, 4), np.float32), ("red",))
    text = problem(Folder(str(tmp_path)), "A/a")
    assert "A/a.tif and A/a.tiff both stand for 'A/a'" in text


def test_keys_are_what_the_wildcards_match(tmp_path):
    for i, part in enumerate(("train", "test")):
        for name in ("a", "b"):
            write_tif(tmp_path / part / f"images/T1_{name}_s2.tif", np.full((3, 4, 4), i, np.float32))
            write_tif(tmp_path / part / f"masks/T1_{name}_lab.tif", np.ones((1, 4, 4), np.uint8))
    dataset = Folder(
        str(tmp_path), "*/images/T1_*_s2.tif", "*/masks/T1_*_lab.tif", class_names=("no", "yes"),
        band_names=("red", "green", "blue"), splits=Splits("folder"),
    )  # fmt: skip
    assert dataset.split("train") == ("train/a", "train/b")
    assert dataset.split("test") == ("test/a", "test/b")
    assert dataset == replace(dataset)
    assert dataset.read("test/b").target.sum() == 16


def test_a_mask_of_another_size_is_named(flood, tmp_path):
    write_tif(tmp_path / "masks/chip_0_L.tif", np.zeros((1, 4, 4), np.uint8))
    assert "chip_0_L.tif has 1 bands of (4, 4) pixels" in problem(flood)


def test_whole_numbers_without_names_are_not_taken_for_a_regression(flood):
    assert "holds whole numbers" in problem(replace(flood, class_names=()))
    assert replace(flood, class_names=(), label_type="regression").task == "regression"


def test_regression_targets_are_floats_with_nan(tmp_path):
    height = np.array([[[1.5, np.nan], [-9999, 3]]], np.float32)
    write_tif(tmp_path / "i/a.tif", np.ones((2, 2, 2), np.float32), ("VV", "VH"))
    write_tif(tmp_path / "m/a.tif", height, nodata=-9999)
    dataset = Folder(str(tmp_path), "i/*.tif", "m/*.tif")
    assert (dataset.task, dataset.classes) == ("regression", ())
    np.testing.assert_array_equal(dataset.read("a").target, np.array([[1.5, np.nan], [np.nan, 3]], np.float32))


# ----------------------------------------------------------------------------------- classes by name


def test_class_folders(pictures):
    assert pictures.task == "classification"
    assert pictures.classes == ("Forest", "Sea")
    assert pictures.bands == ("red", "green", "blue")
    sample = pictures.read("Sea/Sea_1")
    assert sample.target == 1
    assert sample.target.dtype == np.int64
    assert sample.image.max() <= 1.0
    assert np.isnan(sample.latlon).all()


def test_a_folder_that_all_images_share_is_no_class(pictures):
    unlabelled = replace(pictures, images="Sea/*.png")
    assert unlabelled.read("Sea_0").target is None
    with pytest.raises(DataError, match="the chips have no labels"):
        assert unlabelled.task


def test_strict_configuration_builds_it():
    config = ConfigDict(extra="forbid", strict=True)
    given = """[{"root": "/chips", "images": ["a/*.tif", "b/*.tif"], "masks": "m/*.tif", "offset": "auto", "scale": 1,
        "class_names": {"1": "water", "2": "trees"}, "ignore": 255, "band_names": ["B02"], "nodata": 0,
        "splits": {"by": "random", "seed": 3}}]"""
    (dataset,) = TypeAdapter(tuple[Folder], config=config).validate_json(given)
    assert dataset == Folder(
        "/chips", ("a/*.tif", "b/*.tif"), "m/*.tif", offset="auto", class_names={1: "water", 2: "trees"}, ignore=255,
        band_names=("B02",), nodata=0.0, splits=Splits(seed=3),
    )  # fmt: skip


def test_an_index_gives_everything(pictures, tmp_path):
    rows = [
        {
            "path": f"{name}/{name}_{i}.png",
            "label": name,
            "lat": 40 + i,
            "lon": 5,
            "event": f"E{i}",
            "date": "2021-02-01",
        }
        for name in ("Forest", "Sea")
        for i in range(3)
    ]
    write_csv(tmp_path / "index.csv", rows)
    sample = replace(pictures, index="index.csv").read("Sea/Sea_2")
    assert (sample.target, sample.group) == (1, "E2")
    np.testing.assert_array_equal(sample.latlon, [42, 5])
    np.testing.assert_array_equal(sample.dates, [[2021, 32]])


def test_a_geoparquet_index_gives_the_same(pictures, tmp_path):
    geopandas = pytest.importorskip("geopandas")
    pytest.importorskip("pyarrow")
    points = geopandas.points_from_xy([500_000, 510_000], [5_500_000, 5_500_000])
    frame = geopandas.GeoDataFrame(
        {"path": ["Forest/Forest_0.png", "Sea/Sea_0.png"], "label": ["Forest", None]}, geometry=points, crs=32632
    )
    frame.to_parquet(tmp_path / "index.parquet")
    dataset = replace(pictures, index="index.parquet")
    assert dataset._chips["Forest/Forest_0"].latlon == pytest.approx((49.65, 9.0), abs=0.01)
    assert "'Sea/Sea_0' has no label, others have one" in problem(dataset)


@pytest.mark.parametrize("columns", [("label",), ("Forest", "Sea")])
def test_several_labels_per_image(pictures, tmp_path, columns):
    marks = {"Forest_0": (1, 0), "Forest_1": (1, 1), "Sea_0": (0, 0)}
    names = np.array(["Forest", "Sea"])
    rows = []
    for stem, mark in marks.items():
        label = {"label": ";".join(names[np.array(mark, bool)]) or ";"}
        one_hot = dict(zip(names.tolist(), mark, strict=True))
        rows.append({"path": f"{stem.split('_')[0]}/{stem}.png", **(label if columns == ("label",) else one_hot)})
    write_csv(tmp_path / "index.csv", rows)
    dataset = replace(pictures, index="index.csv", class_names=("Forest", "Sea"))
    assert dataset.task == "multilabel"
    for stem, mark in marks.items():
        target = dataset.read(f"{stem.split('_')[0]}/{stem}").target
        assert target.dtype == np.float32
        np.testing.assert_array_equal(target, mark)


def test_an_unknown_label_is_named(pictures, tmp_path):
    write_csv(tmp_path / "index.csv", [{"path": "Sea/Sea_0.png", "label": "Forrest"}])
    text = problem(replace(pictures, index="index.csv", class_names=("Forest", "Sea")))
    assert "the label 'Forrest', which is not a class; did you mean 'Forest'?" in text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"file": "a.png"}], "has no column 'path'"),
        ([{"path": "a.png", "lat": "north", "lon": 1}], "row 2: lat 'north' is not a number"),
        ([{"path": "a.png", "date": "May"}], "'May' is not a date"),
        ([{"path": "Sea/Sea_0.png"}, {"path": "Sea/Sea_0.png"}], "row 3: 'Sea/Sea_0.png' is in the index twice"),
        ([{"path": "a.png", "value": 1}], "regression is per pixel"),
        ([{"path": "a.png", "label": "Sea"}], "there is no file"),
    ],
)
def test_a_bad_index_is_explained(pictures, tmp_path, rows, message):
    write_csv(tmp_path / "index.csv", rows)
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        dataset = replace(pictures, index="index.csv", band_names=("red", "green", "blue"))
        assert dataset.task
        dataset.read(next(iter(dataset._chips)))

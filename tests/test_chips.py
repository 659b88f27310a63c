"""Chips of a survey, read back by the folder dataset."""

import json
import subprocess
import sys
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from typer.testing import CliRunner

from adapteo import _yaml, chips, config
from adapteo.chips import write_chips
from adapteo.cli import app
from adapteo.data._survey_splits import SurveySplits
from adapteo.data.folder import Folder
from adapteo.data.raster import Raster, write_image
from adapteo.data.splits import Splits
from adapteo.data.survey import Survey
from adapteo.errors import ConfigError

LEFT, TOP = 500_000.0, 5_700_000.0


def scene(path, seed, size=(70, 100), left=LEFT, dtype="uint16", nodata=None, crs="EPSG:32632"):
    rng = np.random.default_rng(seed)
    image = rng.integers(900, 4000, (3, *size))
    if dtype == "float32":
        image = rng.random((3, *size))
    image = image.astype(dtype)
    if nodata is not None:
        image[:, :9, :9] = nodata
    write_image(path, Raster(image, ("blue", "red", "nir08"), nodata, crs, (10.0, 0.0, left, 0.0, -10.0, TOP)))


@pytest.fixture
def survey(tmp_path):
    """Two scenes with squares of two classes and a region column."""
    folder = tmp_path / "my scenes"
    (folder / "scenes").mkdir(parents=True)
    scene(folder / "scenes/a_20210731.tif", 0)
    scene(folder / "scenes/b.tif", 1, left=LEFT + 2000, nodata=0)
    boxes, kinds, regions = [], [], []
    for x in range(0, 3000, 160):
        for y in range(0, 700, 160):
            boxes.append(shapely.box(LEFT + x, TOP - y - 60, LEFT + x + 50, TOP - y))
            kinds.append("water" if (x // 400 + y // 300) % 2 else "dry land")
            regions.append("east" if x > 1500 else "west")
    table = gpd.GeoDataFrame({"kind": kinds, "region": regions}, geometry=boxes, crs="EPSG:32632")
    table.to_file(folder / "labels.gpkg")
    return Survey(str(folder), "scenes/*.tif", "labels.gpkg", "kind", scale=1e-4, chip=16)


def read_back(out):
    given = {**_yaml.read(out / "adapteo.yaml").root["dataset"]}
    assert given.pop("name") == "folder"
    splits = given.pop("splits")
    made = Splits(**{key: tuple(value) if isinstance(value, list) else value for key, value in splits.items()})
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return Folder(**{**given, "root": str(out / given["root"])}, splits=made)


def assert_equal_datasets(one, other):
    assert other.classes == one.classes
    assert other.bands == one.bands
    assert other.task == one.task
    assert other.gsd == one.gsd
    assert other.holdouts == one.holdouts
    names = [name for name in ("train", "val", "test", *one.holdouts) if one.plan.parts[name]]
    for name in names:
        assert len(one.split(name)) == len(other.split(name))
        for key, chip in zip(one.split(name), other.split(name), strict=True):
            there, here = one.read(key), other.read(chip)
            for field in ("image", "target", "dates", "latlon"):
                np.testing.assert_array_equal(getattr(here, field), getattr(there, field), err_msg=f"{key} {field}")
                assert getattr(here, field).dtype == getattr(there, field).dtype
            assert here.group == there.group


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"offset": -0.1},
        {"splits": SurveySplits("scene", test=("b",), fractions=(0.7, 0.3, 0))},
        {"splits": SurveySplits("region", column="region", test=("east",), fractions=(0.7, 0.3, 0))},
        {"splits": SurveySplits(size=160.0, buffer=20.0, holdout={"far": (9.03, 51, 9.2, 52)}), "stride": 8},
        {"scale": 0.000123, "splits": SurveySplits("random")},
    ],
    ids=["blocks", "offset", "scene", "region", "hold-out", "odd scale"],
)
def test_the_folder_gives_the_same_samples_targets_and_splits(survey, tmp_path, change):
    made = replace(survey, **change)
    written = write_chips(made, tmp_path / "chips")
    assert written.dtype == "uint16"
    assert written.chips == sum(len(keys) for keys in made.plan.parts.values())
    assert_equal_datasets(made, read_back(tmp_path / "chips"))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("dtype", "expected"), [("float32", "float32"), ("int16", "uint16")])
def test_the_smallest_type_that_loses_nothing_is_chosen(survey, tmp_path, dtype, expected):
    root = tmp_path / "my scenes"
    (root / "scenes/b.tif").unlink()
    (root / "scenes/a_20210731.tif").unlink()
    scene(root / "scenes/b.tif", 3, dtype=dtype)
    made = replace(survey, scale=1.0 if dtype == "float32" else 1e-4)
    written = write_chips(made, tmp_path / "chips")
    assert written.dtype == expected
    assert_equal_datasets(made, read_back(tmp_path / "chips"))


def test_negative_numbers_are_kept_as_such(survey, tmp_path):
    for path in (tmp_path / "my scenes/scenes").glob("*.tif"):
        with rasterio.open(path) as file:
            place, crs = tuple(file.transform)[:6], file.crs.to_wkt()
        image = np.random.default_rng(5).integers(-300, 300, (3, 70, 100)).astype(np.int16)
        write_image(path, Raster(image, ("vv", "vh", "elevation"), None, crs, place))
    made = replace(survey, scale=0.1)
    assert write_chips(made, tmp_path / "chips").dtype == "int16"
    assert_equal_datasets(made, read_back(tmp_path / "chips"))


def test_files_say_what_they_hold_to_other_programs(survey, tmp_path):
    made = replace(survey, offset=-0.1)
    out = write_chips(made, tmp_path / "chips").folder
    index = gpd.read_parquet(out / "index.parquet")
    assert index.crs.to_epsg() in (4326, None) or "CRS84" in str(index.crs)
    assert set(index["split"]) == {"train", "val", "test"}
    assert set(index["scene"]) == {"a_20210731", "b"}
    assert set(index.loc[index["scene"] == "a_20210731", "date"]) == {"2021-07-31"}
    row = index.iloc[0]
    with rasterio.open(out / row["path"]) as image, rasterio.open(out / row["mask"]) as mask:
        assert image.scales == (1e-4,) * 3
        assert image.offsets == (-0.1,) * 3
        assert image.descriptions == ("blue", "red", "nir08")
        assert mask.nodata == 255
        assert mask.bounds == image.bounds
        codes = mask.read(1)
        outline = gpd.GeoSeries([shapely.box(*image.bounds)], crs=image.crs).to_crs(index.crs)[0]
    assert outline.symmetric_difference(row.geometry).area < 1e-6 * outline.area
    counts = [row[f"pixels_{name}"] for name in made.classes]
    assert counts == [(codes == i).sum() for i in range(len(made.classes))]


def test_a_stopped_run_goes_on_and_leaves_nothing_under_the_final_name(survey, tmp_path, monkeypatch):
    out, seen = tmp_path / "chips", []

    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_chips(survey, out, progress=stop)
    assert not out.exists()
    assert len(list((tmp_path / ".chips.part/masks").glob("*.tif"))) == 5
    write = chips.write_image
    monkeypatch.setattr(chips, "write_image", lambda path, *rest: (seen.append(path.name), write(path, *rest)))
    total = write_chips(survey, out).chips
    assert len(seen) == 2 * (total - 5)
    assert_equal_datasets(survey, read_back(out))


def test_what_was_begun_from_other_scenes_is_not_gone_on_with(survey, tmp_path):
    beside = tmp_path / ".chips.part"
    (beside / "images").mkdir(parents=True)
    (beside / "state.json").write_text(json.dumps({"fingerprint": "another", "dtype": "uint16"}))
    (beside / "images/stray.tif").touch()
    out = write_chips(survey, tmp_path / "chips").folder
    assert not (out / "images/stray.tif").exists()


def test_an_existing_folder_is_refused_and_replaced_only_when_asked(survey, tmp_path):
    out = tmp_path / "chips"
    out.mkdir()
    (out / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="is there already"):
        write_chips(survey, out)
    assert (out / "mine.txt").read_text() == "x"
    write_chips(survey, out, overwrite=True)
    assert not (out / "mine.txt").exists()
    assert_equal_datasets(survey, read_back(out))


def test_chips_cannot_be_cut_from_chips(survey, tmp_path):
    folder = read_back(write_chips(survey, tmp_path / "chips").folder)
    with pytest.raises(ConfigError, match="only surveys"):
        write_chips(folder, tmp_path / "again")


def test_without_pyarrow_the_index_is_csv(survey, tmp_path, monkeypatch):
    monkeypatch.setattr(chips, "find_spec", lambda name: None)
    written = write_chips(survey, tmp_path / "chips")
    assert written.index.name == "index.csv"
    assert_equal_datasets(survey, read_back(tmp_path / "chips"))


def test_torch_is_not_imported():
    code = "import sys, adapteo.chips; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_writes_a_project_that_is_ready_to_train(survey, tmp_path):
    project = tmp_path / "burn"
    project.mkdir()
    given = {"name": "survey", "root": "../my scenes", "scenes": "scenes/*.tif", "labels": "labels.gpkg"}
    given |= {"class_column": "kind", "scale": 1e-4, "chip": 16}
    text = _yaml.dump({"dataset": given, "backbone": "nano", "method": "frozen", "decoder": "linear", "out": "x"})
    (project / "adapteo.yaml").write_text(text)
    runner = CliRunner()
    done = runner.invoke(app, ["chips", str(project), "--out", str(tmp_path / "chips")])
    assert done.exit_code == 0, done.output
    assert f"{sum(len(keys) for keys in survey.plan.parts.values())} chips, uint16" in done.output
    run = config.load(tmp_path / "chips")
    assert (config.name_of(run.dataset), config.name_of(run.backbone)) == ("folder", "nano")
    assert_equal_datasets(survey, run.dataset)
    assert run.out == tmp_path / "chips/run"
    again = runner.invoke(app, ["chips", str(project), "--out", str(tmp_path / "chips")])
    assert again.exit_code == 2
    assert "--overwrite" in again.output

"""Each region, scene or date left out once."""

import csv
import json
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import shapely
import torch
from rich.console import Console
from typer.testing import CliRunner

import adapteo
from adapteo import _yaml
from adapteo.cli import app
from adapteo.config import Run, Train
from adapteo.data._survey_leave_out import leaving_out
from adapteo.data._survey_splits import SurveySplits
from adapteo.data.raster import Raster, write_image
from adapteo.data.survey import Survey
from adapteo.errors import ConfigError, DataError
from adapteo.evaluate import table
from adapteo.fitted import Report
from adapteo.leave_out import leave_one_out
from adapteo.tasks.segmentation import Segmentation

CRS, LEFT, TOP = "EPSG:32632", 500_000.0, 5_700_000.0
DAYS = ("20200105", "20200310", "20210720", "20220801")
REGIONS = ("north/west", "north west", "south", "east")


@pytest.fixture
def survey(tmp_path):
    """Four scenes side by side, each of another date and region."""
    (tmp_path / "data").mkdir()
    boxes, kinds, regions = [], [], []
    for number, (day, region) in enumerate(zip(DAYS, REGIONS, strict=True)):
        image = np.random.default_rng(number).integers(400, 2000, (3, 32, 48)).astype(np.uint16)
        image[2, :, 24:] += 3000
        left = LEFT + 960 * number
        place = (10.0, 0.0, left, 0.0, -10.0, TOP)
        write_image(tmp_path / f"data/s_{day}.tif", Raster(image, ("green", "red", "nir08"), None, CRS, place))
        for x in range(0, 48, 8):
            boxes.append(shapely.box(left + 10 * x, TOP - 300, left + 10 * x + 60, TOP - 20))
            kinds.append("dark" if x < 24 else "bright")
            regions.append(region)
    frame = gpd.GeoDataFrame({"kind": kinds, "region": regions}, geometry=boxes, crs=CRS)
    frame.to_file(tmp_path / "data/labels.gpkg")
    return Survey(str(tmp_path / "data"), "s_*.tif", "labels.gpkg", "kind", scale=1e-4, chip=16)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("region", sorted(REGIONS)),
        ("scene", [f"s_{day}" for day in DAYS]),
        ("date", ["2020-01-05", "2020-03-10", "2021-07-20", "2022-08-01"]),
    ],
)
def test_each_value_is_tested_once_and_trained_on_by_all_others(survey, by, expected):
    regions = SurveySplits("region", column="region", test=("south",))
    found = leaving_out(replace(survey, splits=regions) if by == "region" else survey, by)
    assert list(found) == expected
    tested = [key for one in found.values() for key in one.split("test")]
    assert len(tested) == len(set(tested)) == 4 * 6
    for one in found.values():
        parts = [set(one.split(name)) for name in ("train", "val", "test")]
        assert len(set().union(*parts)) == 24
        assert len(parts[2]) == 6
        assert {key.split("/")[0] for key in parts[0]}.isdisjoint(key.split("/")[0] for key in parts[2])


class Fake:
    """A trained run whose score depends on what it was tested on."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def test(self, *, resamples: int) -> Report:
        keys = self.run.dataset.split("test")
        wrong = DAYS.index(next(iter(keys)).split("/")[0][2:])  # so many of 10 pixels of each class
        truth = torch.arange(2).repeat(len(keys), 10)
        guess = truth.clone()
        guess[:, : 2 * wrong] = 1 - guess[:, : 2 * wrong]
        logits = torch.nn.functional.one_hot(guess, 2).movedim(-1, 1).float()[..., None]
        statistics = self.run.task.statistics(logits, truth[..., None])
        found = table(self.run.task, statistics, ("a", "b"), (None,) * len(keys), split="test", resamples=resamples)
        return Report({"test": found}, {}, None, self.run.dataset.split_note)


def test_the_table_has_every_value_and_their_mean_and_spread(survey, tmp_path):
    made = Run(survey, None, None, None, Segmentation(), Train(), tmp_path / "out")
    seen = []

    def train(one):
        seen.append(one)
        one.out.mkdir(parents=True)
        return Fake(one)

    found = leave_one_out(made, "scene", train=train, resamples=10)
    accuracy = 1 - np.arange(4) / 10
    expected = accuracy / (2 - accuracy)  # IoU of two classes that are mixed up alike
    assert found.monitor == "miou"
    np.testing.assert_allclose([row.score for row in found.rows], expected, rtol=1e-5)
    assert found.mean == pytest.approx(expected.mean())
    assert found.spread == pytest.approx(expected.std(ddof=1))
    assert [one.out.name for one in seen] == [f"s_{day}" for day in DAYS]
    assert json.loads((tmp_path / "out/leave_one_out.json").read_text())["spread"] == found.spread
    with (tmp_path / "out/leave_one_out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["value"] for row in rows] == [f"s_{day}" for day in DAYS]
    assert [float(row["score"]) for row in rows] == [row.score for row in found.rows]
    console = Console(record=True, width=120)
    found.render(console)
    text = console.export_text()
    assert text.index(f"s_{DAYS[3]}") < text.index(f"s_{DAYS[0]}")  # worst first
    assert f"mean {found.mean:.3f}, standard deviation {found.spread:.3f}" in text


def test_folders_of_values_with_any_characters_are_different(survey, tmp_path):
    regions = replace(survey, splits=SurveySplits("region", column="region", test=("south",)))
    made = Run(regions, None, None, None, Segmentation(), Train(), tmp_path / "out")

    def train(one):
        one.out.mkdir(parents=True)
        return Fake(one)

    found = leave_one_out(made, "region", train=train, resamples=2)
    folders = [row.folder for row in found.rows]
    assert len(set(folders)) == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == sorted(folders)


def test_what_cannot_be_left_out(survey, tmp_path):
    with pytest.raises(ConfigError, match="name no column with the region"):
        leaving_out(survey, "region")
    with pytest.raises(DataError, match="no column 'county'"):
        leaving_out(survey, "county")
    with pytest.raises(ConfigError, match="there are 2"):
        leaving_out(survey, "kind")
    with pytest.raises(ConfigError, match="fractions"):
        leaving_out(replace(survey, splits=SurveySplits(fractions=(0.8, 0, 0.2))), "scene")
    with pytest.raises(ConfigError, match="only a survey"):
        leave_one_out(Run(None, None, None, None, Segmentation(), Train(), tmp_path), "region")


def test_the_command(survey, tmp_path, monkeypatch):
    section = {"name": "survey", "root": survey.root, "scenes": "s_*.tif", "labels": "labels.gpkg",
               "class_column": "kind", "scale": 1e-4, "chip": 16}  # fmt: skip
    given = {"dataset": section, "backbone": "nano", "method": "frozen", "decoder": "linear"}
    (tmp_path / "burn.yaml").write_text(_yaml.dump(given))
    asked = []

    def fit(one, *, resume, check):
        asked.append((one.dataset.splits.by, one.dataset.splits.test, one.out, resume, check))
        one.out.mkdir(parents=True)
        return Fake(one)

    monkeypatch.setattr(adapteo, "fit", fit)
    words = ["fit", str(tmp_path / "burn.yaml"), "train.epochs=1", "--leave-one-out", "date", "--resume"]
    done = CliRunner().invoke(app, [*words, "--no-check", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    days = ("2020-01-05", "2020-03-10", "2021-07-20", "2022-08-01")
    assert asked == [("date", (day,), tmp_path / "out" / day, True, False) for day in days]
    assert all(day in done.output for day in days)
    assert "standard deviation" in done.output
    saved = json.loads((tmp_path / "out/leave_one_out.json").read_text())
    assert [row["value"] for row in saved["rows"]] == list(days)

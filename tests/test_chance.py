"""The random-split figure beside the spatial one, on a place whose neighbours look alike."""

import json
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import shapely
from rich.console import Console

import adapteo
from adapteo import _chance, headstart
from adapteo._chance import CHANCE_FILE
from adapteo.contracts import IGNORE
from adapteo.data._survey_splits import SurveySplits
from adapteo.data.raster import Raster, write_image
from adapteo.data.survey import Survey

CRS, LEFT, TOP = "EPSG:32632", 500_000.0, 5_700_000.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fields of 32 x 32 pixels, each with a colour of its own and a class that has nothing to do with it."""
    root = tmp_path_factory.mktemp("fields")
    rng = np.random.default_rng(4)
    colours = rng.integers(300, 3000, (4, 4, 4))
    image = np.kron(colours, np.ones((32, 32), int)) + rng.normal(0, 20, (4, 128, 128))
    place = (10.0, 0.0, LEFT, 0.0, -10.0, TOP)
    write_image(root / "s.tif", Raster(image.astype(np.uint16), ("blue", "green", "red", "nir08"), None, CRS, place))
    classes = rng.permutation(np.arange(16) % 2).reshape(4, 4)
    fields = [(row, col) for row in range(4) for col in range(4)]
    boxes = [shapely.box(LEFT + 320 * c, TOP - 320 * (r + 1), LEFT + 320 * (c + 1), TOP - 320 * r) for r, c in fields]
    table = gpd.GeoDataFrame({"kind": ["ab"[classes[field]] for field in fields]}, geometry=boxes, crs=CRS)
    table.to_file(root / "l.gpkg")
    return root


def survey(folder, **splits):
    how = SurveySplits(**{"size": 320.0, "fractions": (0.6, 0.2, 0.2), **splits})
    return Survey(str(folder), "s.tif", "l.gpkg", "kind", scale=1e-4, chip=16, splits=how)


@pytest.fixture(scope="module")
def fitted(folder, tmp_path_factory):
    given = {"dataset": survey(folder), "backbone": "nano", "method": "frozen", "decoder": "linear"}
    out = str(tmp_path_factory.mktemp("runs") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headstart, "STRENGTHS", (1e-1, 1e-2))  # what can be learned by heart is fitted for long
        return adapteo.fit({**given, "out": out, "train": {"epochs": 1, "workers": 0}}, show=False)


def test_by_chance_there_are_as_many_windows_with_all_their_labels(folder):
    made = survey(folder, buffer=100.0)
    chance = made.by_chance()
    drawn = {part: chance.split(part) for part in ("train", "val", "test")}
    assert {part: len(keys) for part, keys in drawn.items()} == {
        part: len(made.split(part)) for part in ("train", "val", "test")
    }
    keys = [key for part in drawn.values() for key in part]
    assert len(set(keys)) == len(keys)
    assert all((chance.read(key).target != IGNORE).all() for key in keys)
    assert any((made.read(key).target == IGNORE).any() for key in made.split("train"))  # the buffer
    places = [tuple(int(x) // 32 for x in key.split("/")[1].split("_")) for key in drawn["test"]]
    beside = {tuple(int(x) // 32 for x in key.split("/")[1].split("_")) for key in drawn["train"]}
    assert sum(place in beside for place in places) > 0.7 * len(places)  # most test windows have a neighbour
    assert survey(folder, by="random", size=None).by_chance() is None
    assert "too good" in survey(folder, by="random", size=None).split_note
    assert made.split_note is None


def test_the_test_shows_how_much_neighbours_help_and_keeps_it(fitted, monkeypatch):
    monkeypatch.setattr(headstart, "STRENGTHS", (1e-1, 1e-2))
    report = fitted.test(chance=True, pictures=False, resamples=20)
    spatial = report.baselines["test"].row().metrics[report.tables["test"].monitor][0]
    assert report.chance.value > spatial + 0.2
    assert report.chance.low <= report.chance.value <= report.chance.high
    assert report.chance.monitor == report.tables["test"].monitor
    console = Console(record=True, width=160)
    report.render(console)
    assert f"linear probe, random split: {report.chance.monitor} {report.chance.value:.3f}" in console.export_text()
    saved = json.loads((fitted.folder / "test.json").read_text())
    assert saved["linear_probe_random_split"]["value"] == report.chance.value
    monkeypatch.setattr(_chance, "fit_head", None)  # not fitted again
    assert fitted.test(chance=True, pictures=False, resamples=20).chance == report.chance
    assert fitted.test(pictures=False, resamples=20).chance is None
    kept = fitted.folder / CHANCE_FILE
    kept.write_text(kept.read_text().replace(report.chance.fingerprint, "other data"))
    with pytest.raises(TypeError):  # of other data: fitted again
        fitted.test(chance=True, pictures=False, resamples=20)


def test_a_table_of_a_random_split_says_so(folder, fitted):
    chance = replace(fitted.run, dataset=survey(folder, by="random", size=None))
    report = replace(fitted, run=chance).test(chance=True, pictures=False, resamples=20)
    assert report.chance is None
    console = Console(record=True, width=200)
    report.render(console)
    assert "splits.by is random: test windows lie beside training windows" in console.export_text()
    assert "too good" in json.loads((fitted.folder / "test.json").read_text())["note"]

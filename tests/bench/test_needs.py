"""What a cell lacks is said in one line: data, weights, packages, rates; and how long it may take."""

from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest

from adapteo import checkpoint
from adapteo.bench import needs
from adapteo.bench.needs import Checker
from adapteo.bench.setting import Setting, options
from adapteo.bench.tables import Cell
from adapteo.errors import WeightsError

CELL = Cell("prithvi-2.0-300m", "lora", "linear", "sen1floods11")
UNET = Cell("unet-resnet50", "full", "unet", "sen1floods11")


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """No data, and a cache of the hub without weights."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return Setting(tmp_path / "data", tmp_path / "out")


def checked(setting, cell, **fields):
    return Checker(setting, **{"fetch": False, **fields}).check(cell)


def test_data_and_weights_that_are_missing(empty):
    problem = checked(empty, CELL).problem
    assert f"Sen1Floods11: there is no folder {empty.data}/sen1floods11" in problem
    assert "no weights ibm-nasa-geospatial/Prithvi-EO-2.0-300M/Prithvi_EO_V2_300M.pt in the hub's cache" in problem
    assert "\n" not in problem


def test_data_that_are_not_complete(empty):
    (empty.data / "geobench").mkdir(parents=True)
    problem = checked(empty, replace(UNET, dataset="m-cashew-plant")).problem
    assert problem == f"there is no folder m-cashew-plant in {empty.data}/geobench"


def test_random_weights_are_always_there(empty):
    assert "no weights" not in checked(empty, UNET).problem


def test_everything_is_there(setting):
    for cell in (CELL, UNET, replace(CELL, dataset="reben"), replace(CELL, change="draw=1")):
        assert checked(setting, cell).problem == ""


def test_weights_in_the_cache_or_in_a_folder(empty, tmp_path):
    place = tmp_path / "hub/models--ibm-nasa-geospatial--Prithvi-EO-2.0-300M"
    (place / "snapshots/abc").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs/main").write_text("abc")
    (place / "snapshots/abc/Prithvi_EO_V2_300M.pt").write_bytes(b"")
    assert "no weights" not in checked(empty, CELL).problem
    folder = replace(empty, options=options([f"weights={tmp_path / 'mine'}"]))
    assert f"there are no weights at {tmp_path / 'mine'}" in checked(folder, CELL).problem
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/Prithvi_EO_V2_300M.pt").write_bytes(b"")
    assert "no weights" not in checked(folder, CELL).problem


def test_weights_are_fetched_once_per_model(setting, monkeypatch):
    asked = []

    def fetch(weights, source):
        asked.append(source.repo)
        raise WeightsError("cannot reach the hub")

    monkeypatch.setattr(checkpoint, "locate", fetch)
    full = replace(setting, preset="full")
    checker = Checker(full, fetch=True)
    assert [checker.check(replace(CELL, seed=seed)).problem for seed in range(3)] == ["cannot reach the hub"] * 3
    assert asked == ["ibm-nasa-geospatial/Prithvi-EO-2.0-300M"]


def test_rates_that_the_paper_does_not_have(setting):
    full = replace(setting, preset="full", options=options(["rates=paper"]))
    assert "no learning rate" in checked(full, replace(UNET, model="prithvi-2.0-100m", decoder="linear")).problem
    assert "no learning rate" not in checked(full, UNET).problem


def test_a_search_needs_optuna(setting, monkeypatch):
    searching = replace(setting, options=options([]))
    monkeypatch.setattr(needs, "find_spec", lambda name: None)
    assert checked(searching, CELL).problem.endswith("pip install 'adapteo[tune]'")


class TestHours:
    def of(self, cell, **seconds):
        return Checker(Setting(Path(), Path()), fetch=False, seconds=seconds.get("measured")).hours(cell)

    def test_from_the_papers_minutes(self):
        assert self.of(CELL) == pytest.approx(11.5 / 60)
        assert self.of(replace(CELL, change="draw=0")) == pytest.approx(1.15 / 60)
        assert self.of(replace(CELL, change="precision=bf16")) == pytest.approx(11.5 / 60)

    def test_of_other_decoders_nothing_is_known(self):
        assert self.of(replace(CELL, decoder="fcn")) is None
        assert self.of(replace(CELL, model="prithvi-2.0-300m-tl")) is None

    def test_from_a_measured_step(self):
        assert self.of(CELL, measured={CELL.path: 0.5}) == pytest.approx(0.5 * 252 * 48.4 / 3600)
        other = replace(CELL, decoder="fcn")
        assert self.of(other, measured={other.path: 1.0}) == pytest.approx(252 * 48.4 / 3600)

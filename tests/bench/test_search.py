"""The search for a learning rate: in its range, the same after a stop, on validation, and of each cell's own side."""

import csv
import json
from dataclasses import replace

import pytest

from adapteo import experiment
from adapteo.bench import search as module
from adapteo.bench.running import rate_of
from adapteo.bench.search import HIGHEST, LOWEST, search
from adapteo.bench.setting import Setting, options
from adapteo.bench.tables import Cell
from adapteo.errors import AdaptEOError, ConfigError, DataError, Interrupted
from adapteo.train import Trainer

pytest.importorskip("optuna")
CELL = Cell("clay-v1", "frozen", "linear", "sen1floods11", seed=2)
BEST = 2e-3


class Pretended:
    """Stands in for the training: its validation loss is lowest at the rate `BEST`."""

    def __init__(self, monkeypatch):
        self.rates, self.error, self.stop_at = [], lambda rate: None, None
        monkeypatch.setattr(experiment, "fit", self)

    def __call__(self, run, *, resume):
        assert resume
        if len(self.rates) == self.stop_at:
            self.stop_at = None
            raise Interrupted("stopped")
        self.rates.append(run.train.rate)
        error = self.error(run.train.rate)
        if error:
            raise error
        run.out.mkdir(parents=True, exist_ok=True)
        (run.out / "adapter").mkdir()
        losses = [1.0, abs(run.train.rate - BEST), float("nan")]
        with (run.out / "log.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["epoch", "val_loss"], *enumerate(losses)])


@pytest.fixture
def trainings(monkeypatch):
    return Pretended(monkeypatch)


@pytest.fixture
def found(tmp_path):
    """The setting of a search of eight trials."""
    return Setting(tmp_path, tmp_path / "out", options=options(["trials=8"]))


def test_the_best_trial_wins(trainings, found):
    rate = search(CELL, found)
    assert len(trainings.rates) == 8
    assert all(LOWEST <= tried <= HIGHEST for tried in trainings.rates)
    assert rate == min(trainings.rates, key=lambda tried: abs(tried - BEST))
    assert max(trainings.rates) > 1e-3, "the paper's ceiling is no ceiling here"


def test_it_searches_once_for_all_seeds(trainings, found):
    rate = search(CELL, found)
    trainings.rates.clear()
    assert search(replace(CELL, seed=0), found) == rate
    assert rate_of(replace(CELL, change="precision=bf16"), found) == rate
    assert trainings.rates == []
    search(replace(CELL, metadata="on"), found)
    assert len(trainings.rates) == 8, "with metadata there is a rate of its own"


def test_a_stopped_search_goes_on_as_if_it_had_not_been(trainings, found, tmp_path):
    search(CELL, found)
    whole = list(trainings.rates)
    trainings.rates.clear()
    trainings.stop_at = 5
    again = replace(found, out=tmp_path / "again")
    with pytest.raises(Interrupted):
        search(CELL, again)
    kept = json.loads((again.search_place(CELL) / "trial-05/trial.json").read_text())
    assert kept == {"values": {"rate": whole[5]}}, "written before the training, which can then go on"
    search(CELL, again)
    assert trainings.rates == whole


def test_more_trials_go_on_from_those_that_are_there(trainings, found):
    search(CELL, found)
    more = replace(found, options=replace(found.options, trials=10))
    search(CELL, more)
    assert len(trainings.rates) == 10


def test_only_numbers_are_left_of_a_trial(trainings, found):
    search(CELL, found)
    assert {path.name for path in found.search_place(CELL).rglob("*") if path.is_file()} == {
        "trial.json", "search.json", "log.csv",
    }  # fmt: skip


def test_rates_that_diverge_are_trials_too(trainings, found):
    trainings.error = lambda rate: AdaptEOError("the loss became nan") if rate > 1e-3 else None
    rate = search(CELL, found)
    assert rate <= 1e-3
    assert len(trainings.rates) == 8
    trainings.error = lambda rate: AdaptEOError("the loss became nan")
    with pytest.raises(AdaptEOError, match="none of 8 trials came to an end; the first: the loss became nan"):
        search(replace(CELL, metadata="on"), found)


def test_what_is_not_the_rates_fault_ends_the_search(trainings, found):
    trainings.error = lambda rate: DataError("no such folder")
    with pytest.raises(DataError):
        search(CELL, found)


def test_without_optuna(found, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"adapteo\[tune\]"):
        search(CELL, found)


def test_with_real_trainings(setting):
    """Two trials of one step; the rate that comes out is that of the lower validation loss."""
    searching = replace(setting, options=replace(setting.options, rates="search", trials=2))
    rate = search(CELL, searching)
    trials = [json.loads(path.read_text()) for path in searching.search_place(CELL).glob("trial-*/trial.json")]
    assert len(trials) == 2
    assert rate == min(trials, key=lambda trial: trial["value"])["values"]["rate"]
    assert not list(searching.search_place(CELL).rglob("state.pt"))


def test_a_trial_that_was_stopped_keeps_its_state(setting, monkeypatch):
    searching = replace(setting, options=replace(setting.options, rates="search", trials=1))
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_must_stop", lambda self: True)
        with pytest.raises(Interrupted):
            search(CELL, searching)
    assert (searching.search_place(CELL) / "trial-00/state.pt").is_file()
    assert LOWEST <= search(CELL, searching) <= HIGHEST


def test_the_range_is_the_papers_with_a_higher_ceiling():
    assert (module.LOWEST, module.HIGHEST) == (1e-5, 1e-2)

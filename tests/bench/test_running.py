"""One cell from files to numbers: made once, gone on with after a stop, and with a reason where it cannot be made."""

import json
from dataclasses import replace

import pytest

from adapteo import experiment
from adapteo.bands import HLS6
from adapteo.bench.running import CANNOT, DONE, FAILED, complete, finished
from adapteo.bench.setting import Setting, options
from adapteo.bench.tables import Cell
from adapteo.errors import AdaptEOError, Interrupted
from adapteo.train import Trainer

CELL = Cell("prithvi-1.0-100m", "lora", "linear", "sen1floods11")
SUBSET = [
    Cell("clay-v1", "lora", "linear", "sen1floods11"),
    Cell("clay-v1-6", "full", "linear", "burn_scars", "on"),
    Cell("prithvi-2.0-300m", "vit_adapter", "linear", "reben"),
    Cell("decur", "frozen", "linear", "m-cashew-plant"),
    Cell("unet-resnet50", "full", "unet", "m-SA-crop-type"),
    Cell("vit-in21k", "full", "linear", "burn_scars"),
    Cell("prithvi-1.0-100m", "vpt", "linear", "burn_scars", change="draw=2"),
    Cell("decur-6", "full", "upernet", "sen1floods11"),
    Cell("clay-v1-6", "vpt", "unet", "reben"),
    Cell("clay-v1-6", "lora", "linear", "sen1floods11", change="precision=bf16"),
]
"""Each model family, method, dataset and kind of change once; the slow tests have all cells."""


@pytest.mark.parametrize("cell", SUBSET, ids=str)
def test_a_cell_runs(cell, setting):
    outcome = complete(cell, setting)
    assert (outcome.state, outcome.reason) == (DONE, "")
    result = outcome.result
    assert result == json.loads((setting.place(cell) / "result.json").read_text())
    holdouts = {"sen1floods11": {"bolivia"}, "reben": {"ood"}}.get(cell.dataset, set())
    assert result["scores"].keys() == {"test"} | holdouts
    assert all(0 <= value <= 1 for value in result["scores"].values())
    assert (result["epochs"], result["samples"]["train"]) == (1, 2)
    assert result["memory_bytes"]["total"] > result["parameters"]["backbone"]
    assert result["normalisation"]["source"] == "dataset"
    assert not list(setting.place(cell).rglob("*.safetensors")), "a smoke run keeps its numbers only"
    assert not (setting.place(cell) / "state.pt").exists()


def test_what_is_done_is_not_run_again(setting, monkeypatch):
    first = complete(CELL, setting)
    monkeypatch.setattr(experiment, "fit", pytest.fail)
    assert complete(CELL, setting) == first
    assert finished(CELL, setting) == first.result
    assert finished(replace(CELL, seed=1), setting) is None


def test_a_stopped_run_goes_on(setting, tmp_path, monkeypatch):
    whole = complete(CELL, setting).result
    again = replace(setting, out=tmp_path / "again")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_must_stop", lambda self: True)
        with pytest.raises(Interrupted):
            complete(CELL, again)
    assert finished(CELL, again) is None
    assert (again.place(CELL) / "state.pt").is_file()
    result = complete(CELL, again).result
    assert result["scores"] == whole["scores"]
    assert result["seconds"] > json.loads((again.place(CELL) / "run.json").read_text())["seconds_per_step"]


def test_weights_are_kept_on_request(setting):
    kept = replace(setting, options=replace(setting.options, keep=True))
    complete(CELL, kept)
    fitted = experiment.load(kept.place(CELL))
    assert fitted.bands == HLS6


def test_missing_data_is_a_reason(tmp_path):
    setting = Setting(tmp_path / "nowhere", tmp_path, "full", options(["rates=paper", "jobs=0", "accelerator=cpu"]))
    outcome = complete(Cell("unet-resnet50", "full", "unet", "sen1floods11"), setting)
    assert outcome.state == CANNOT
    assert "Sen1Floods11: there is no folder" in outcome.reason
    assert "\n" not in outcome.reason


def test_an_error_of_the_training_is_a_failure(setting, monkeypatch):
    def diverge(self, loss):
        raise AdaptEOError("the training loss became nan")

    monkeypatch.setattr(Trainer, "_check_loss", diverge)
    outcome = complete(CELL, setting)
    assert (outcome.state, outcome.reason) == (FAILED, "the training loss became nan")
    assert finished(CELL, setting) is None


def test_without_a_rate_of_the_papers_there_is_no_run(tmp_path):
    setting = Setting(tmp_path, tmp_path, "full", options(["rates=paper"]))
    outcome = complete(Cell("prithvi-2.0-100m", "lora", "linear", "reben"), setting)
    assert (outcome.state, "no learning rate" in outcome.reason) == (CANNOT, True)


def test_the_cost_of_a_cell(setting):
    outcome = complete(CELL, setting, cost=True)
    assert outcome.cost
    assert outcome.result["parameters"]["backbone_trained"] == 2 * 14 * 16 * 768
    assert outcome.result == finished(CELL, setting, cost=True)

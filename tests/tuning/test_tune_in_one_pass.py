"""Tunings whose trials share a pass: the same results as alone, equal budgets, and as if they had not been stopped."""

import json
from dataclasses import replace

import pytest
from test_tune import Heard, short

from adapteo import experiment, one_pass, tuning
from adapteo import trials as kept
from adapteo.errors import AdaptEOError, Interrupted
from adapteo.plan import Settled
from adapteo.train import Trainer
from adapteo.trials import Search, course
from adapteo.tuning import Terms

pytest.importorskip("optuna")
ALIKE = ("train.cache_features=off", "method=frozen", "train.head_start=false", "train.epochs=2")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(experiment, "settle", lambda run: Settled(run.train.memory, None))


@pytest.fixture
def passes(monkeypatch):
    """Numbers of trainings in each pass of several."""
    found, run = [], one_pass._run.Turns.run
    monkeypatch.setattr(one_pass._run.Turns, "run", lambda self: found.append(len(self.active)) or run(self))
    return found


def trials(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("trial-*/trial.json"))]


def plain(folder):
    return [{key: value for key, value in trial.items() if key != "seconds"} for trial in trials(folder)]


def test_a_grid_is_one_pass_and_each_trial_as_alone(tmp_path, passes):
    run, heard = short(tmp_path / "tune", *ALIKE), Heard()
    grid = {"train.rate": "1e-2,1e-3,1e-4", "decoder": "linear,fcn"}
    found = tuning.tune(run, Terms((), grid, trials=8, seeds=1), heard)
    assert passes == [6]
    assert (found.rows[0].trials, found.rows[0].lost, heard.total, heard.done) == (6, 0, 8, 8)
    assert "frozen: 6 trials in one pass (1, 2, 3, 4, 5, 6 of 6)" in heard.lines
    assert sum(line.startswith("frozen  trial ") for line in heard.lines) == 6
    for number, trial in enumerate(trials(run.out / "frozen")):
        made = short(tmp_path / f"{number}", *ALIKE, *(f"{key}={value}" for key, value in trial["values"].items()))
        experiment.fit(made)
        assert trial["course"] == course(made.out / "log.csv", "val_miou")
        assert trial["seconds"] > 0


def test_the_sampler_proposes_four_at_a_time(tmp_path, passes):
    found = tuning.tune(short(tmp_path, *ALIKE), Terms(("frozen", "bitfit"), {}, trials=6, seeds=1))
    assert passes == [4, 2]
    assert [row.trials for row in found.rows] == [6, 6, 0]
    assert len({trial["values"]["train.rate"] for trial in trials(tmp_path / "frozen")}) == 6
    assert found.rows[0].values == max(trials(tmp_path / "frozen"), key=lambda t: (t["value"], -t["loss"]))["values"]


@pytest.mark.parametrize("stop", ["in the middle", "between two notes"])
def test_a_stopped_one_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch, stop, passes):
    terms = Terms((), {}, trials=6, seeds=1)
    whole, run, calls = tuning.tune(short(tmp_path / "whole", *ALIKE), terms), short(tmp_path / "stopped", *ALIKE), []
    keep = kept._keep
    with monkeypatch.context() as patch:
        if stop == "in the middle":
            step = Trainer._step

            def stopping(trainer, group):
                calls.append(1)
                if len(calls) == 6:
                    trainer.stopping.set()
                return step(trainer, group)

            patch.setattr(Trainer, "_step", stopping)
        else:

            def note(trial, folder):
                calls.append(1)
                if len(calls) == 3:
                    raise OSError
                keep(trial, folder)

            patch.setattr(kept, "_keep", note)
        with pytest.raises((Interrupted, OSError)):
            tuning.tune(run, terms)
    again = tuning.tune(run, terms)
    assert plain(run.out / "frozen") == plain(tmp_path / "whole/frozen")
    assert again.rows[0].scores == whole.rows[0].scores


def test_more_trials_go_on_with_the_round(tmp_path):
    tuning.tune(short(tmp_path / "few", *ALIKE), Terms((), {}, trials=2, seeds=1))
    tuning.tune(short(tmp_path / "few", *ALIKE), Terms((), {}, trials=5, seeds=1))
    tuning.tune(short(tmp_path / "all", *ALIKE), Terms((), {}, trials=5, seeds=1))
    assert plain(tmp_path / "few/frozen") == plain(tmp_path / "all/frozen")


def test_pruning_compares_with_earlier_rounds(tmp_path, monkeypatch, passes):
    seen = []

    def hopeless(self, before, scores, warmup):
        seen.append(len(before))
        return len(before) == 4 and len(scores) == 2

    monkeypatch.setattr(Search, "hopeless", hopeless)
    rates = {"train.rate": "1e-2,3e-3,1e-3,3e-4,1e-4,3e-5"}
    found = tuning.tune(short(tmp_path, *ALIKE), Terms((), rates, trials=8, seeds=1, prune=True))
    assert passes == [4, 2]
    assert (found.rows[0].trials, found.rows[0].lost) == (6, 2)
    assert set(seen) == {0, 4}
    assert [trial["state"] for trial in trials(tmp_path / "frozen")] == ["complete"] * 4 + ["pruned"] * 2


def test_one_that_diverges_is_lost_alone(tmp_path, monkeypatch):
    check = Trainer._check_loss

    def diverging(trainer, loss):
        check(trainer, float("nan") if trainer.folder.name == "trial-01" else loss)

    monkeypatch.setattr(Trainer, "_check_loss", diverging)
    found = tuning.tune(short(tmp_path, *ALIKE), Terms((), {}, trials=3, seeds=1))
    assert (found.rows[0].trials, found.rows[0].lost) == (3, 1)
    assert [trial["state"] for trial in trials(tmp_path / "frozen")] == ["complete", "failed", "complete"]


def test_seeds_share_a_pass_when_they_share_the_order(tmp_path, passes, monkeypatch):
    base = short(tmp_path / "base", *ALIKE, "train.order_seed=0")
    weights = tmp_path / "base.safetensors"
    experiment.save_tensors(base.backbone.build(base.dataset.bands).state_dict(), weights)
    run = replace(base, backbone=replace(base.backbone, weights=str(weights)))
    found = tuning.tune(run, Terms((), {}, trials=0, seeds=3))
    assert passes == [3]
    assert found.rows[0].seeds == 3
    own = replace(run, out=tmp_path / "own", train=replace(run.train, order_seed=None))
    assert tuning.tune(own, Terms((), {}, trials=0, seeds=2)).rows[0].seeds == 2
    assert passes == [3]


def test_a_seed_that_fails_leaves_the_others(tmp_path, monkeypatch):
    check = Trainer._check_loss

    def diverging(trainer, loss):
        if trainer.folder.name == "seed-1":
            raise AdaptEOError("the training loss became nan")
        check(trainer, loss)

    monkeypatch.setattr(Trainer, "_check_loss", diverging)
    found = tuning.tune(short(tmp_path, *ALIKE, "train.order_seed=0"), Terms((), {}, trials=0, seeds=2))
    assert (found.rows[0].seeds, found.rows[0].reason) == (1, "the training loss became nan")

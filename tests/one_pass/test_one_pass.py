"""Trainings in one pass: each as it would be alone, with what is read and frozen computed once, and after a stop."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import adapteo
from adapteo import config, experiment, one_pass
from adapteo.checkpoint import load_state, read_state, save_tensors
from adapteo.errors import AdaptEOError, ConfigError, DataError, Interrupted
from adapteo.feature_cache import FeatureLoader
from adapteo.model import Boundary
from adapteo.one_pass import Group, fit_each, frozen_start
from adapteo.plan import Settled
from adapteo.train import Observer, Trainer
from test_train import adapters, assert_same, log, timeless
from toy import BANDS, Toy, other, spell

KEYS = (
    "method=frozen", "train.epochs=2", "train.warmup=1", "decoder=unet", "train.cache_features=off",
    "train.head_start=false",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(experiment, "settle", lambda run: Settled(run.train.memory, None))  # has tests of its own
    yield
    torch.set_num_threads(before)


def alone_and_together(tmp_path, runs):
    """Train copies one after the other, then these together."""
    for run in runs:
        experiment.fit(replace(run, out=tmp_path / "alone" / run.out.name))
    ended = list(fit_each(runs))
    assert sorted(one.number for one in ended) == list(range(len(runs)))
    assert all(one.error is None and one.seconds > 0 for one in ended)


def assert_as_alone(tmp_path, runs, *, memory=True):
    """To the last bit: logs, best models, probes, optimisers, counted memory."""
    for run in runs:
        one, two = tmp_path / "alone" / run.out.name, run.out
        assert log(one) == log(two)
        assert_same(adapters(one), adapters(two))
        states = [timeless(load_state(folder / "state.pt")) for folder in (one, two)]
        for state in states:
            state["meter"]["memory"] = memory and state["meter"]["memory"]
        assert_same(*states)


def rates(tmp_path, *keys, **toy):
    first = spell(tmp_path / "rate-0", *KEYS, *keys, **toy)
    return [first, *(other(first, tmp_path / f"rate-{i}", rate=first.train.rate * 3.0**-i) for i in (1, 2))]


@pytest.fixture
def counted(monkeypatch):
    """Images that were read, and those that passed through the frozen part, in a pass or on the way to the disk."""
    seen = {"read": [], "passed": []}
    read, reach = Toy.read, Boundary.reach

    def reading(self, key, bands=None):
        seen["read"].append(key)
        return read(self, key, bands)

    def reaching(self, model, batch):
        seen["passed"] += batch.keys
        return reach(self, model, batch)

    monkeypatch.setattr(Toy, "read", reading)
    monkeypatch.setattr(Boundary, "reach", reaching)
    return seen


class StopAt(Observer):
    """Sends Ctrl-C at one step, counted over all."""

    left = 0

    def step(self, loss):
        StopAt.left -= 1
        if StopAt.left == 0:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    "keys",
    [
        ("train.augment=d4",),
        ("train.augment=d4+crop", "train.crop=8"),
        ("train.cache_features=auto",),
        ("train.cache_features=auto", "train.augment=d4+crop"),
        ("train.accumulate=2", "train.workers=2"),
        ("train.cache_features=auto", "train.precision=bf16"),
        ("decoder=linear", "train.head_start=true", "train.memory=leanest"),
    ],
    ids=" ".join,
)
def test_rates_give_what_each_gives_alone(tmp_path, keys):
    runs = rates(tmp_path, *keys)
    alone_and_together(tmp_path, runs)
    assert_as_alone(tmp_path, runs)
    assert len({log(run.out)[-1]["train_loss"] for run in runs}) == 3, "they do differ"


def test_without_a_cache_bf16_rounds_elsewhere(tmp_path):
    """Features reach decoders as float32, as they do from the cache: within bf16's rounding of what they are alone."""
    runs = rates(tmp_path, "train.precision=bf16", "train.epochs=1")
    alone_and_together(tmp_path, runs)
    for run in runs:
        pairs = zip(log(tmp_path / "alone" / run.out.name), log(run.out), strict=True)
        assert all(float(a["val_loss"]) == pytest.approx(float(b["val_loss"]), rel=1e-2) for a, b in pairs)


def test_heads_that_read_other_maps(tmp_path):
    first = spell(tmp_path / "unet", *KEYS, "backbone.depth=4", "train.augment=d4+crop")
    runs = [first, *(replace(first, decoder=_decoder(name), out=tmp_path / name) for name in ("linear", "fcn"))]
    alone_and_together(tmp_path, runs)
    assert_as_alone(tmp_path, runs)


def _decoder(name):
    return config.load({**vars(spell(Path("x"))), "decoder": name}).decoder


@pytest.mark.parametrize("cache", ["off", "auto"])
@pytest.mark.parametrize("method", ["{name: last_k, k: 2}", "side"])
def test_methods_that_train_behind_frozen_blocks_or_beside_them(tmp_path, method, cache):
    runs = rates(tmp_path, f"method={method}", "backbone.depth=4", "decoder=linear", f"train.cache_features={cache}")
    assert frozen_start(runs[0])
    alone_and_together(tmp_path, runs)
    beside_images = method == "side" and cache == "off"  # what the trunk gives is kept in other pieces
    assert_as_alone(tmp_path, runs, memory=not beside_images)


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_other_tasks(tmp_path, kind):
    runs = rates(tmp_path, "decoder=linear", "train.epochs=1", kind=kind)
    alone_and_together(tmp_path, runs)
    assert_as_alone(tmp_path, runs)


def test_images_of_other_sizes_come_as_they_are(tmp_path):
    runs = rates(tmp_path, "decoder=linear", "train.batch=1", "train.epochs=1", odd=True)
    alone_and_together(tmp_path, runs)
    assert_as_alone(tmp_path, runs)


def test_seeds_share_a_pass_where_the_order_has_a_seed_of_its_own(tmp_path, counted):
    first = spell(tmp_path / "seed-0", *KEYS, "train.order_seed=7")
    runs = [first, other(first, tmp_path / "seed-1", seed=1)]
    assert Group.key(runs[0]) == Group.key(runs[1])
    weights = tmp_path / "base.safetensors"
    save_tensors(runs[0].backbone.build(BANDS).state_dict(), weights)
    runs = [replace(run, backbone=replace(run.backbone, weights=str(weights))) for run in runs]
    alone_and_together(tmp_path, runs)
    assert_as_alone(tmp_path, runs)
    assert len(counted["passed"]) == 2 * 6 + 3 * 4, "each image once an epoch, for both"
    left, right = (adapters(run.out) for run in runs)
    assert not torch.equal(left["decoder.head.weight"], right["decoder.head.weight"])
    own = [replace(run, train=replace(run.train, order_seed=None)) for run in runs]
    assert Group.key(own[0]) != Group.key(own[1])


def test_backbones_with_other_random_weights_share_nothing(tmp_path):
    """Each is drawn from the seed, so that their frozen blocks differ."""
    first = spell(tmp_path / "seed-0", *KEYS, "train.order_seed=7", "train.epochs=1")
    runs, passes = [first, other(first, tmp_path / "seed-1", seed=1)], []
    assert len(list(fit_each(runs, told=passes.append))) == 2
    assert passes == [[0], [1]]


def test_frozen_blocks_are_computed_and_held_once(tmp_path, counted, monkeypatch):
    held, readers = [], Group.readers

    def looking(group):
        held.append([{p.data_ptr() for p in member.model.backbone.parameters()} for member in group.members])
        return readers(group)

    monkeypatch.setattr(Group, "readers", looking)
    runs = rates(tmp_path, "train.augment=d4+crop", "train.crop=8", "train.epochs=3")
    assert len(list(fit_each(runs))) == 3
    assert counted["passed"].count("train-00") == 3
    assert len(counted["passed"]) == 3 * 6 + 4 * 4, "training images in 3 epochs, validation before and after each"
    (models,) = held
    assert models[0] == models[1] == models[2]


def test_what_is_stored_is_decoded_once(tmp_path, monkeypatch):
    runs, made, batch = rates(tmp_path, "train.cache_features=auto"), [], FeatureLoader._batch
    monkeypatch.setattr(FeatureLoader, "_batch", lambda self, *given: made.append(1) or batch(self, *given))
    list(fit_each(runs))
    assert len(made) == 2 * 3 + 3 * 2 + 2, "training, validation, and once its labels"


class TestGroups:
    def test_what_may_differ(self, tmp_path):
        base = spell(tmp_path, *KEYS)
        key = Group.key(base)
        for text in ("train.rate=1", "train.epochs=9", "decoder=linear", "out=other", "train.select=loss"):
            assert Group.key(config.load(vars(base), [text])) == key
        for text in (
            "train.batch=4",
            "train.seed=1",
            "train.augment=none",
            "train.crop=8",
            "method=lora",
            "train.trunk=int8",
        ):
            assert Group.key(config.load(vars(base), [text])) != key

    @pytest.mark.parametrize(
        ("method", "frozen"),
        [("frozen", True), ("{name: last_k, k: 1}", True), ("{name: last_k, k: 2}", False), ("lora", False),
         ("full", False), ("vpt", False), ("bitfit", False), ("lst", True), ("vit_adapter", False)],
    )  # fmt: skip
    def test_whose_start_is_frozen(self, tmp_path, method, frozen):
        assert frozen_start(spell(tmp_path, f"method={method}")) == frozen

    def test_others_are_trained_alone(self, tmp_path):
        runs = [spell(tmp_path / name, f"method={name}", "train.epochs=1") for name in ("lora", "frozen", "ssf")]
        runs += [other(runs[0], tmp_path / "more", rate=1e-3), other(runs[1], tmp_path / "frozen-2", rate=1e-3)]
        passes = []
        assert [one.number for one in fit_each(runs, told=passes.append)] == [0, 3, 1, 4, 2]
        assert passes == [[0], [3], [1, 4], [2]]

    def test_memory_bounds_a_pass(self, tmp_path, monkeypatch):
        runs, passes = rates(tmp_path, "train.epochs=1"), []
        monkeypatch.setattr("adapteo.machine.available", lambda: 1)
        list(fit_each(runs, told=passes.append))
        assert passes == [[0], [1], [2]]


class TestStops:
    @pytest.mark.parametrize("step", [1, 9, 17])
    def test_all_go_on_as_if_they_had_not_been_stopped(self, tmp_path, step):
        """Three trainings of two epochs of three steps; in the middle of an epoch, at its end, in the last."""
        runs = rates(tmp_path, "train.augment=d4+crop")
        StopAt.left = step
        with pytest.raises(Interrupted):
            list(fit_each(runs, [StopAt() for _ in runs]))
        assert all((run.out / "state.pt").is_file() for run in runs)
        alone_and_together_again(tmp_path, runs)

    @pytest.mark.parametrize("number", [4, 5, 8])
    def test_after_a_kill_those_behind_catch_up(self, tmp_path, monkeypatch, number, counted):
        runs, save, saved = rates(tmp_path), Trainer._save, []

        def die(trainer):
            saved.append(1)
            if len(saved) == number:
                raise SystemExit("killed")
            save(trainer)

        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "_save", die)
            with pytest.raises(SystemExit):
                list(fit_each(runs))
        alone_and_together_again(tmp_path, runs)

    def test_one_that_fails_does_not_stop_the_others(self, tmp_path, monkeypatch):
        runs, check = rates(tmp_path), Trainer._check_loss

        def diverging(trainer, loss):
            check(trainer, float("nan") if trainer.folder.name == "rate-1" and trainer.epoch == 1 else loss)

        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "_check_loss", diverging)
            ended = list(fit_each(runs))
        assert {one.number: one.error and one.error.problem[:24] for one in ended} == {
            0: None, 1: "the training loss became", 2: None,
        }  # fmt: skip
        for run in runs[::2]:
            experiment.fit(replace(run, out=tmp_path / "alone" / run.out.name))
        assert_as_alone(tmp_path, runs[::2])

    def test_one_without_room_goes_on_alone(self, tmp_path, monkeypatch):
        runs, step, seen = rates(tmp_path), Trainer._step, []

        def short(trainer, group):
            if trainer.folder.name == "rate-1" and trainer.epoch == 1 and not seen:
                seen.append(1)
                raise torch.cuda.OutOfMemoryError
            return step(trainer, group)

        for run in runs:
            experiment.fit(replace(run, out=tmp_path / "alone" / run.out.name))
        monkeypatch.setattr(Trainer, "_step", short)
        assert [one.number for one in fit_each(runs)] == [0, 2, 1]
        assert_as_alone(tmp_path, runs)

    def test_early_stopping_is_each_ones_own(self, tmp_path):
        runs = rates(tmp_path, "train.epochs=4", "train.select=loss", "decoder=linear", "train.rate=1e-3")
        runs[1] = other(runs[1], runs[1].out, rate=0.5, patience=1)
        alone_and_together(tmp_path, runs)
        assert_as_alone(tmp_path, runs)
        assert len({len(log(run.out)) for run in runs}) > 1

    def test_data_that_cannot_be_read_end_all(self, tmp_path):
        runs = rates(tmp_path, missing="train-03")
        with pytest.raises(DataError, match="train-03 cannot be read"):
            list(fit_each(runs))


def alone_and_together_again(tmp_path, runs):
    for run in runs:
        experiment.fit(replace(run, out=tmp_path / "alone" / run.out.name))
    assert not [one for one in fit_each(runs, resume=True) if one.error]
    assert_as_alone(tmp_path, runs)


class Heard(Observer):
    def __init__(self):
        self.notes, self.totals, self.done, self.ended = [], [], 0, 0

    def note(self, message):
        self.notes.append(message)

    def steps(self, total, done):
        self.totals.append((total, done))

    def step(self, loss):
        self.done += 1

    def finished(self):
        self.ended += 1


def test_fit_many(tmp_path):
    runs, heard = rates(tmp_path, "train.epochs=1"), Heard()
    fitted = one_pass.fit_many(runs, observer=heard)
    assert [one.folder for one in fitted] == [run.out for run in runs]
    assert (heard.totals, heard.done, heard.ended) == ([(9, 0)], 9, 1), "one bar"
    assert sum(note.startswith("rate-1: epoch 1 ") for note in heard.notes) == 1
    again = one_pass.fit_many(runs, resume=True)
    assert [one.folder for one in again] == [run.out for run in runs]
    with pytest.raises(ConfigError, match="is finished"):
        one_pass.fit_many(runs)
    with pytest.raises(ConfigError, match="on one device"):
        one_pass.fit_many([other(runs[0], tmp_path / "more", devices=2)])
    with pytest.raises(ConfigError, match="two runs are to be kept"):
        one_pass.fit_many([runs[0], runs[0]])


def test_fit_many_tells_the_first_failure_at_the_end(tmp_path, monkeypatch):
    runs, check = rates(tmp_path, "train.epochs=1"), Trainer._check_loss
    patched = lambda t, loss: check(t, float("nan") if t.folder.name == "rate-0" else loss)  # noqa: E731
    monkeypatch.setattr(Trainer, "_check_loss", patched)
    with pytest.raises(AdaptEOError, match="became nan"):
        one_pass.fit_many(runs)
    assert (runs[2].out / "run.json").is_file()


def test_fit_many_says_how_to_go_on(tmp_path):
    StopAt.left = 2
    with pytest.raises(Interrupted, match="resume=True"):
        one_pass.fit_many(rates(tmp_path), observer=StopAt())


def test_by_the_package(tmp_path):
    runs = rates(tmp_path, "train.epochs=1")
    fitted = adapteo.fit_many([runs[0], {**vars(runs[1])}], "train.clip=0.5", show=False)
    assert [one.run.train.clip for one in fitted] == [0.5, 0.5]
    assert read_state(runs[1].out / "adapter/decoder.safetensors").keys()

"""Networks beside a frozen trunk, trained on what it gave once: the same as with the trunk, which is not run again."""

import contextlib
import os
import signal
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from adapteo import experiment
from adapteo.assembly import adapt_model, assemble, loader
from adapteo.config import FeatureCaching
from adapteo.contracts import Backbone
from adapteo.feature_cache import with_features
from adapteo.model import Boundary, boundary
from adapteo.peft import _side
from adapteo.peft.lst import LSTRoute
from adapteo.shelf import Shelf
from adapteo.train import Observer
from toy import other, spell, start

DEEP, STAGES = "backbone={name: 'tiny:TinySpec', depth: 5}", "backbone={name: 'tiny:TinyStagesSpec'}"
LST, SIDE = "method={name: lst, reduction: 4}", "method={name: side, reduction: 4, kernel: 3}"
CASES = [(LST, DEEP), (SIDE, DEEP), (SIDE, STAGES)]


def spelt(folder, *keys, store="float32", **toy):
    run = spell(folder / "run", *keys, **toy)
    return other(run, run.out, cache_features=FeatureCaching(store=store, folder=folder / "features"))


def assembled(run, moved=True):
    """A model with the method in place, all that is trained moved off its start."""
    model = assemble(run).model
    adapt_model(model, run, run.dataset.classes)
    if moved:
        generator = torch.Generator().manual_seed(5)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def served(run, model, said=None):
    bands = assemble(run).bands
    plain = (loader(run, "train", bands, shuffled=True), loader(run, "val", bands))
    notes = [] if said is None else said
    autocast = contextlib.nullcontext
    return plain, with_features(run, model, plain, untouched=False, autocast=autocast, note=notes.append)


def keys(run):
    return [shelf.key for shelf, _, _ in served(run, assembled(run))[1][0]._arrays]


def tensors(run):
    """What a run has trained."""
    files = sorted((run.out / "adapter").glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


@pytest.fixture
def trunk(monkeypatch):
    """Calls of the way through the trunk, but for the blank images that ask for shapes."""
    calls, asking = [], []
    advance, reach = Backbone.advance, Boundary.reach

    def spy(self, *args):
        if not asking:
            calls.append(args[1:])
        return advance(self, *args)

    def ask(self, model, batch):
        asking.extend([] if batch.keys else [True])
        try:
            return reach(self, model, batch)
        finally:
            asking.clear()

    monkeypatch.setattr(Backbone, "advance", spy)
    monkeypatch.setattr(Boundary, "reach", ask)
    return calls


@pytest.mark.parametrize(("kind", "decoder"), [("segmentation", "unet"), ("classification", "linear")])
@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_logits_and_gradients_are_those_of_the_images(tmp_path, method, backbone, kind, decoder):
    """With flips and turns, and images that are padded to whole patches."""
    run = spelt(tmp_path, method, backbone, f"decoder={decoder}", kind=kind, side=21)
    model = assembled(run).eval()
    plain, cached = served(run, model)
    for epoch in (0, 1, 0):  # the last from the shelves only
        for one, two in zip(plain[0].epoch(epoch), cached[0].epoch(epoch), strict=True):
            assert one.keys == two.keys
            assert two.images.numel() == 0
            found = []
            for batch in (one, two):
                model.zero_grad(set_to_none=True)
                logits = model(batch)
                run.task.loss(logits, batch.target, run.task.weight(batch.target)).backward()
                found.append((logits.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
            torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-4, atol=1e-5)
            assert found[0][1].keys() == found[1][1].keys()
            assert any(name.startswith("backbone.route.") for name in found[0][1])
            for name, grad in found[0][1].items():
                torch.testing.assert_close(found[1][1][name], grad, rtol=1e-3, atol=1e-5 * float(grad.abs().max()))


@pytest.mark.parametrize(("method", "backbone"), CASES)
@pytest.mark.parametrize(("store", "error"), [("bf16", 2**-8), ("int8", 1 / 254)])
def test_in_fewer_bytes_values_are_within_the_stated_error(tmp_path, method, backbone, store, error):
    stored = {}
    for each in ("float32", store):
        run = spelt(tmp_path, method, backbone, store=each)
        stored[each] = next(served(run, assembled(run))[1][0].epoch(0)).stored
    for exact, rounded in zip(stored["float32"], stored[store], strict=True):
        others = [1] if exact.ndim == 3 else [2, 3]
        bound = exact.abs() if store == "bf16" else exact.abs().amax(others, keepdim=True)
        assert ((exact - rounded).abs() <= error * bound * (1 + 1e-4)).all()
        assert not torch.equal(exact, rounded)


class Epochs(Observer):
    """Notes how often the trunk had run at the end of each epoch."""

    def __init__(self, calls):
        self.calls, self.counts = calls, []

    def epoch(self, row):
        self.counts.append(len(self.calls))


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_a_whole_training_is_the_same_and_runs_the_trunk_in_the_first_epoch_only(tmp_path, trunk, method, backbone):
    logs, adapters, counts = {}, {}, {}
    for store in ("off", "float32", "bf16"):
        run = spell(
            tmp_path / store, method, backbone, "train.head_start=false", "train.batch=1", "train.epochs=4",
            "train.rate=0.002", "train.augment=none", counts=(4, 2, 1, 1),
        )  # fmt: skip
        caching = "off" if store == "off" else FeatureCaching(store=store, folder=tmp_path / "features")
        trunk.clear()
        watch = Epochs(trunk)
        experiment.fit(other(run, run.out, cache_features=caching), observer=watch)
        counts[store] = watch.counts
        rows = np.genfromtxt(run.out / "log.csv", delimiter=",", names=True)
        logs[store] = np.stack([rows["train_loss"][1:], rows["val_loss"][1:], rows["val_miou"][1:]])
        adapters[store] = tensors(run)
    assert np.diff(counts["off"]).min() >= 6, "each image passes the trunk in each epoch"
    for store in ("float32", "bf16"):
        assert counts[store][0] > 0
        assert np.diff(counts[store]).tolist() == [0, 0, 0], "no image does after the first"
    np.testing.assert_allclose(logs["float32"], logs["off"], rtol=1e-4)
    np.testing.assert_allclose(logs["bf16"], logs["off"], rtol=0.02)
    assert adapters["off"].keys() == adapters["float32"].keys()
    for name, tensor in adapters["off"].items():
        torch.testing.assert_close(adapters["float32"][name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_looks_are_stored_when_they_are_first_drawn(tmp_path, trunk):
    run = spelt(tmp_path, SIDE, DEEP)
    _, (train, _) = served(run, assembled(run))
    for _ in range(2):
        for epoch in range(30):
            list(train.epoch(epoch))
        before = len(trunk)
    assert before == len(trunk) > 0
    elements = {(p, train.augment.element(train.shuffle, e, p)) for e in range(30) for p in range(len(train.keys))}
    assert len(train._arrays[0][0]) == len(elements) > len(train.keys)


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_settings_of_the_side_network_do_not_matter_for_what_is_stored(tmp_path, trunk, monkeypatch, method, backbone):
    monkeypatch.setattr(_side, "_LEAST", 4)
    narrow = spelt(tmp_path, method, backbone, "train.augment=none")
    wide = spelt(
        tmp_path, method.replace("reduction: 4", "reduction: 1"), backbone, "train.augment=none", "decoder=unet"
    )
    models = [assembled(run) for run in (narrow, wide)]
    shapes = [[p.shape for p in model.backbone.route.parameters()] for model in models]
    assert shapes[0] != shapes[1]
    list(served(narrow, models[0])[1][0].epoch(0))
    assert trunk
    trunk.clear()
    list(served(wide, models[1])[1][0].epoch(0))
    assert not trunk


def test_what_is_the_same_thing_is_shared_with_other_methods(tmp_path):
    side, lst = keys(spelt(tmp_path, SIDE, DEEP)), keys(spelt(tmp_path, LST, DEEP))
    assert len(lst) == 6
    assert side == keys(spelt(tmp_path, "method=frozen", DEEP, "decoder=unet"))
    late = keys(spelt(tmp_path, "method={name: last_k, k: 2}", DEEP, "decoder=unet"))
    assert late[-1] == lst[3]
    assert late[:-1] == side[:3]
    assert len({*side, *lst}) == len(side) + len(lst)


def test_the_norm_is_in_the_key_of_the_last_map_only(tmp_path, monkeypatch):
    found = {}
    for moved in (False, True):
        for method in (LST, SIDE):
            run = spelt(tmp_path, method, DEEP)
            model = assembled(run)
            if moved:
                model.backbone.norm.weight.data.mul_(2)
            found[moved, method] = [shelf.key for shelf, _, _ in served(run, model)[1][0]._arrays]
    assert found[False, LST] == found[True, LST], "the ladder norms by itself what is behind the last block"
    assert found[False, SIDE][:-1] == found[True, SIDE][:-1]
    assert found[False, SIDE][-1] != found[True, SIDE][-1]


@pytest.mark.parametrize("method", [LST, SIDE])
def test_for_labels_per_image_nothing_is_averaged(tmp_path, method):
    run = spelt(tmp_path, method, DEEP, kind="classification")
    batch = next(served(run, assembled(run))[1][0].epoch(0))
    shapes = {tuple(values.shape[1:]) for values in batch.stored}
    assert shapes == ({(17, 32)} if method == LST else {(32, 4, 4)})
    pooled = spelt(tmp_path, "method=frozen", DEEP, "decoder=linear", kind="classification")
    assert next(served(pooled, assembled(pooled))[1][0].epoch(0)).stored[0].shape[2:] == (1, 1)
    assert not {*keys(run)} & {*keys(pooled)}


@pytest.mark.parametrize(
    ("method", "why"),
    [
        ("[{name: side, kernel: 3}, bitfit]", "trains parts of the backbone that its side network reads"),
        ("{name: vit_adapter, conv_width: 8}", "leads its own way"),
    ],
)
def test_what_is_not_stored_says_why(tmp_path, method, why):
    said = []
    run = spelt(tmp_path, f"method={method}", DEEP)
    model = assembled(run)
    plain, cached = served(run, model, said)
    assert cached == plain
    assert model.boundary is None
    assert why in said[0]


def test_a_side_network_that_does_not_say_what_it_reads_is_not_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(LSTRoute, "reads", lambda self, backbone: None)
    said = []
    run = spelt(tmp_path, LST, DEEP)
    plain, cached = served(run, assembled(run), said)
    assert cached == plain
    assert "leads its own way" in said[0]


def test_the_boundary_beside_a_trunk(tmp_path):
    model = assembled(spelt(tmp_path, SIDE, STAGES))
    found = boundary(model, (16, 16))
    assert (found.maps, found.seen, found.complete, found.grid) == ((0, 1), (), False, None)
    assert boundary(model, (16, 16), untouched=True) is None
    model.backbone.blocks[-1].requires_grad_(True)
    assert boundary(model, (16, 16)) is None


def test_a_kill_while_features_are_stored_leaves_a_run_that_ends_as_any_other(tmp_path):
    """SIGKILL when some arrays of some images are there and others are not."""
    options = ("train.head_start=false", "train.batch=1", "train.epochs=3")
    whole = spelt(tmp_path / "whole", LST, DEEP, *options, delay=0.02)
    run = spelt(tmp_path / "killed", LST, DEEP, *options, delay=0.02)
    (process,) = start(run, tmp_path / "said")
    deadline, indices = time.monotonic() + 60, []
    while len(indices) < 2 or not (run.out / "state.pt").is_file():
        assert process.exitcode is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
        indices = [*(tmp_path / "killed" / "features").glob("*.index")]
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    experiment.fit(run, resume=True)
    experiment.fit(whole)
    logs = [np.genfromtxt(each.out / "log.csv", delimiter=",", names=True) for each in (whole, run)]
    for name in ("train_loss", "val_loss", "val_miou"):
        np.testing.assert_array_equal(logs[0][name], logs[1][name])
    one, two = tensors(whole), tensors(run)
    assert one.keys() == two.keys()
    assert all(torch.equal(two[name], tensor) for name, tensor in one.items())


@pytest.mark.parametrize("stop", [1, 4])
def test_of_an_image_whose_arrays_are_not_all_there_all_are_computed_again(tmp_path, monkeypatch, stop):
    """As after a kill between two shelves."""
    run = spelt(tmp_path, LST, DEEP, "train.augment=none")
    model = assembled(run).eval()
    add, added = Shelf.add, []

    def die(self, *args):
        added.append(self.key)
        if len(added) > stop:
            raise SystemExit("killed")
        return add(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Shelf, "add", die)
        with pytest.raises(SystemExit):
            next(served(run, model)[1][0].epoch(0))
    plain, (train, _) = served(run, model)
    assert sum(len(shelf) > 0 for shelf, _, _ in train._arrays) == stop
    for one, two in zip(plain[0].epoch(0), train.epoch(0), strict=True):
        with torch.no_grad():
            torch.testing.assert_close(model(two), model(one), rtol=1e-4, atol=1e-5)
    assert {len(shelf) for shelf, _, _ in train._arrays} == {len(train.keys)}

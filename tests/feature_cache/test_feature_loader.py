"""Training on stored features against training without; what is computed when, and who shares it."""

import contextlib
import threading

import numpy as np
import pytest
import torch

from adapteo import experiment, headstart
from adapteo.assembly import adapt_model, assemble, loader
from adapteo.config import FeatureCaching
from adapteo.contracts import Method
from adapteo.data.loader import Reading, collate
from adapteo.feature_cache import with_features
from adapteo.model import Boundary, boundary
from toy import Toy, other, spell


class LastBlocks(Method):
    """Trains the last blocks, as they are."""

    def __init__(self, count=1):
        self.count = count

    def apply(self, backbone):
        backbone.blocks[-self.count :].requires_grad_(True)

    def parameters_formula(self, backbone):
        return sum(p.numel() for p in backbone.blocks[-self.count :].parameters())


def assembled(run, method=None):
    model = assemble(run).model
    if method is None:
        adapt_model(model, run, run.dataset.classes)
    else:
        model.backbone.requires_grad_(False)
        method.apply(model.backbone)
    return model


def served(run, model, said=None, untouched=False):
    bands = assemble(run).bands
    plain = (loader(run, "train", bands, shuffled=True), loader(run, "val", bands))
    notes = [] if said is None else said
    autocast = contextlib.nullcontext
    return plain, with_features(run, model, plain, untouched=untouched, autocast=autocast, note=notes.append)


def spelt(folder, *keys, store="float32", **toy):
    run = spell(folder / "run", "method=frozen", *keys, **toy)
    return other(run, run.out, cache_features=FeatureCaching(store=store, folder=folder / "features"))


@pytest.fixture
def computed(monkeypatch):
    """Number of images of each pass through the frozen part, without the blank ones that ask for shapes."""
    counts, reach = [], Boundary.reach

    def spy(self, model, batch):
        if batch.keys:
            counts.append(len(batch))
        return reach(self, model, batch)

    monkeypatch.setattr(Boundary, "reach", spy)
    return counts


@pytest.mark.parametrize(
    ("kind", "decoder"), [("segmentation", "linear"), ("segmentation", "unet"), ("classification", "linear")]
)
@pytest.mark.parametrize("trained", [0, 1, 3])
def test_logits_are_those_of_the_images(tmp_path, kind, decoder, trained):
    run = spelt(tmp_path, f"decoder={decoder}", "backbone.depth=5", kind=kind, side=24 if trained else 21)
    model = assembled(run, LastBlocks(trained) if trained else None).eval()
    plain, cached = served(run, model)
    for epoch in range(2):
        for one, two in zip(plain[0].epoch(epoch), cached[0].epoch(epoch), strict=True):
            assert one.keys == two.keys
            assert torch.equal(one.target, two.target)
            assert two.images.numel() == 0
            with torch.no_grad():
                torch.testing.assert_close(model(two), model(one), rtol=1e-4, atol=1e-5)


def test_gradients_of_the_trained_blocks_are_the_same(tmp_path):
    run = spelt(tmp_path, "decoder=unet", "backbone.depth=4")
    model = assembled(run, LastBlocks(2))
    plain, cached = served(run, model)
    grads = []
    for loaders in (plain, cached):
        model.eval()
        batch = next(loaders[0].epoch(0))
        run.task.loss(model(batch), batch.target, run.task.weight(batch.target)).backward()
        grads.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        model.zero_grad()
    assert grads[0].keys() == grads[1].keys()
    assert any(name.startswith("backbone.blocks.2") for name in grads[0])
    for key, value in grads[0].items():
        torch.testing.assert_close(grads[1][key], value, rtol=1e-4, atol=1e-7)


def test_each_look_is_computed_once_for_all_epochs_and_runs(tmp_path, computed):
    run = spelt(tmp_path, "train.seed=3")
    for _ in range(2):
        _, (train, val) = served(run, assembled(run))
        for epoch in range(30):
            list(train.epoch(epoch))
            list(val.epoch(epoch))
    looks = {(p, train.augment.element(3, e, p)) for e in range(30) for p in range(len(train.keys))}
    assert len(looks) > len(train.keys)
    assert sum(computed) == len(looks) + len(val.keys)


def test_a_second_run_reads_no_image_but_one_band_for_the_label(tmp_path, monkeypatch):
    run = spelt(tmp_path, "train.augment=none")
    first = [list(part.epoch(0)) for part in served(run, assembled(run))[1]]
    asked = []
    read = Toy.read
    monkeypatch.setattr(Toy, "read", lambda self, key, bands=None: asked.append(bands) or read(self, key, bands))
    _, parts = served(run, assembled(run))
    again = [list(part.epoch(0)) for part in parts]
    assert {len(bands) for bands in asked} == {1}
    asked.clear()
    list(parts[0].epoch(1))
    assert not asked, "labels are kept in memory"
    for one, two in zip(first[1], again[1], strict=True):
        assert torch.equal(one.stored[0], two.stored[0])
        assert torch.equal(one.target, two.target)


@pytest.mark.parametrize(
    "change",
    [
        {"train.bands": "[red,green,blue]"},
        {"train.statistics": "{blue: [0.1, 0.1], green: [0.1, 0.1], red: [0.2, 0.1]}"},
        {"dataset.noise": "0.02"},
        {"train.precision": "bf16"},
        {"backbone.depth": "3"},
        {"train.seed": "1"},  # other random weights
    ],
)
def test_what_changes_features_is_in_the_key(tmp_path, change):
    keys = []
    for overrides in ([], [f"{key}={value}" for key, value in change.items()]):
        run = spelt(tmp_path, *overrides)
        keys.append({shelf.key for shelf, _, _ in served(run, assembled(run))[1][0]._arrays})
    assert not keys[0] & keys[1]


def test_maps_are_shared_by_decoders_and_by_methods_that_train_later_blocks(tmp_path):
    keys = []
    for decoder, trained in (("unet", 0), ("linear", 0), ("unet", 2)):
        run = spelt(tmp_path, f"decoder={decoder}", "backbone.depth=4", "train.batch=3", "train.rate=1")
        method = LastBlocks(trained) if trained else None
        keys.append([shelf.key for shelf, _, _ in served(run, assembled(run, method))[1][0]._arrays])
    whole, linear, late = keys
    assert linear == whole[-1:]
    assert late[:2] == whole[:2]
    assert late[2] not in whole


def test_training_is_the_same_bit_for_bit_and_close_in_fewer_bytes(tmp_path):
    """With one image per batch, as sums over more depend on which images are computed together."""
    logs = {}
    for store in ("off", "float32", "bf16", "int8"):
        run = spell(tmp_path / store, "method=frozen", "train.batch=1", "train.head_start=false", counts=(4, 2, 1, 1))
        caching = "off" if store == "off" else FeatureCaching(store=store, folder=tmp_path / "features")
        experiment.fit(other(run, run.out, cache_features=caching))
        rows = np.genfromtxt(run.out / "log.csv", delimiter=",", names=True)
        logs[store] = np.stack([rows["train_loss"][1:], rows["val_loss"][1:], rows["val_miou"][1:]])
    np.testing.assert_array_equal(logs["float32"], logs["off"])
    np.testing.assert_allclose(logs["bf16"], logs["off"], rtol=0.01)
    np.testing.assert_allclose(logs["int8"], logs["off"], rtol=0.02)
    assert not np.array_equal(logs["bf16"], logs["off"])


def test_the_head_start_of_any_method_computes_what_is_not_there_yet(tmp_path, computed, monkeypatch):
    """LoRA trains from the first block on, so only its head start reads features, and all its runs share them."""
    monkeypatch.setattr(headstart, "STRENGTHS", (1e-1,))
    for index, keys in enumerate((["method=lora"], ["method=bitfit", "train.rate=0.1"])):
        run = other(spelt(tmp_path, *keys), tmp_path / str(index), epochs=1)
        experiment.fit(run)
        assert sum(computed) == len(run.dataset.split("train")) + len(run.dataset.split("val"))


def test_random_windows_are_not_stored_and_it_is_said(tmp_path):
    said = []
    run = spelt(tmp_path, "train.crop=8")
    _, (train, val) = served(run, assembled(run), said)
    assert next(train.epoch(0)).stored is None
    assert next(val.epoch(0)).stored is not None
    assert ["windows" in message for message in said] == [True]


def test_a_method_that_trains_the_first_block_is_not_cached(tmp_path):
    said = []
    run = spelt(tmp_path, "method=lora")
    plain, cached = served(run, assembled(run), said)
    assert cached == plain
    assert "lora" in said[0]


def test_images_of_another_size_come_as_they_are(tmp_path):
    run = spelt(tmp_path, "train.augment=none", odd=True, counts=(7, 4, 3, 3))
    model = assembled(run).eval()
    plain, cached = served(run, model)
    kinds = set()
    for epoch in range(3):
        for one, two in zip(plain[0].epoch(epoch), cached[0].epoch(epoch), strict=True):
            kinds.add(two.stored is None)
            assert torch.equal(one.target, two.target)
            with torch.no_grad():
                torch.testing.assert_close(model(two), model(one), rtol=1e-4, atol=1e-5)
    assert kinds == {True, False}


def test_beyond_the_limit_features_are_computed_and_it_is_said_once(tmp_path, computed):
    run, said = spelt(tmp_path, "train.augment=none"), []
    caching = FeatureCaching(folder=tmp_path / "small", limit=3000 / 2**30)
    run = other(run, run.out, cache_features=caching)
    model = assembled(run).eval()
    plain, (train, _) = served(run, model, said)
    for epoch in range(3):
        for one, two in zip(plain[0].epoch(epoch), train.epoch(epoch), strict=True):
            with torch.no_grad():
                torch.testing.assert_close(model(two), model(one), rtol=0.05, atol=0.02)
    assert len(said) == 1
    assert "limit" in said[0]
    assert sum(computed) > len(train.keys)
    assert sum(path.stat().st_size for path in (tmp_path / "small").glob("*.[vi]*")) <= 3000


def test_features_that_another_process_removes_are_computed_again(tmp_path, computed):
    run = spelt(tmp_path, "train.augment=none")
    model = assembled(run).eval()
    plain, (train, _) = served(run, model)
    list(train.epoch(0))
    samples = train._samples(train.order(1), 1, threading.Event())
    assert not any(sample.image.size for sample in samples)
    for path in (tmp_path / "features").iterdir():
        path.unlink()
    assert not train._arrays[0][0].has(b"x" * 16), "it takes notice"
    batch = train._batch(samples, train.order(1), 1)
    assert sum(computed) == 2 * len(train.keys)
    one = collate([plain[0]._sample(int(p), 1) for p in train.order(1)])
    assert torch.equal(one.target, batch.target)
    with torch.no_grad():
        torch.testing.assert_close(model(batch), model(one), rtol=1e-4, atol=1e-5)


def test_processes_take_their_shares_and_blanks_have_features(tmp_path):
    run = spelt(tmp_path, "train.augment=none", counts=(5, 4, 3, 3))
    model = assembled(run).eval()
    bands = assemble(run).bands
    for rank in range(2):
        part = loader(run, "train", bands)
        part.part, part.reading = (rank, 2), Reading(workers=2)
        val = loader(run, "val", bands)
        autocast = contextlib.nullcontext
        mine, _ = with_features(run, model, (part, val), untouched=False, autocast=autocast, note=print)
        batches = list(mine.epoch(0))
        assert len(batches) == 3
        assert all(len(batch.stored[0]) == 1 for batch in batches)
    assert batches[-1].keys == ("",)
    assert (batches[-1].target < 0).all()


def test_where_the_frozen_part_ends(tmp_path):
    model = assemble(spell(tmp_path / "a", "decoder=unet", "backbone.depth=4")).model
    assert boundary(model, (16, 16)) is None
    assert boundary(model, (16, 16), untouched=True).complete
    model.backbone.requires_grad_(False)
    assert boundary(model, (16, 16)).maps == (0, 1, 2, 3)
    model.backbone.norm.requires_grad_(True)
    assert boundary(model, (16, 16)).block == 3
    model.backbone.blocks[2].norm1.requires_grad_(True)
    found = boundary(model, (16, 16))
    assert (found.block, found.maps, found.complete) == (2, (0, 1), False)
    model.backbone.cls_token.requires_grad_(True)
    assert boundary(model, (16, 16)) is None


def test_auto_is_silent_and_off_is_off(tmp_path):
    said: list[str] = []
    run = spell(tmp_path / "a", "method=frozen", "train.cache_features=off")
    plain, cached = served(run, assembled(run), said)
    assert cached == plain
    run = spell(tmp_path / "a", "method=lora", "train.cache_features=auto")
    assert served(run, assembled(run), said)[1][0].augment is not None
    assert not said

"""DeCUR against stored outputs of torchgeo 0.8.1 (written by tools/golden_resnet.py), its contract, and whole runs."""

from functools import cache
from pathlib import Path

import pytest
import torch
from resnet_cases import DECUR, fill, images, sketch
from safetensors.torch import load_file, save_file

from adapteo import experiment, fitted, registry
from adapteo.backbones import _resnet
from adapteo.backbones.decur import WEIGHTS, DeCUR, DeCURResNet
from adapteo.bands import HLS6, SENTINEL2_L1C
from adapteo.checkpoint import load_adapter, load_base, read_state, save_adapter
from adapteo.contracts import Batch, StageBackbone, adapt, moving, trainable
from adapteo.decoders.linear import Linear
from adapteo.errors import ConfigError, DataError, WeightsError
from adapteo.model import Model, features, frozen_in_eval, predict_logits
from adapteo.peft.bitfit import BitFit
from adapteo.peft.frozen import Frozen
from adapteo.peft.full import Full
from adapteo.peft.lora import LoRA
from adapteo.peft.vpt import VPT
from toy import spell

GOLDEN = Path(__file__).parent / "golden" / "resnet.safetensors"
RUNNING = ("running_mean", "running_var", "num_batches_tracked")


@cache
def upstream():
    """A checkpoint as torchgeo's file is: 13 bands, no classifier."""
    with torch.device("meta"):
        backbone = DeCURResNet(SENTINEL2_L1C, (1, 2, 3, 4))
    return fill({name: tuple(value.shape) for name, value in backbone.unmap(backbone.state_dict()).items()})


def small(bands=HLS6, taps=(1, 2, 3, 4)):
    """One block per layer, for what does not depend on depth."""
    torch.manual_seed(0)
    return DeCURResNet(bands, taps, depths=(1, 1, 1, 1))


# ------------------------------------------------------------------------------------------ parity


@pytest.mark.parametrize("name", DECUR)
def test_every_map_equals_torchgeos(name):
    """The reference sees 13 bands, zeros where ours has none: a subset of bands is a subset of kernels."""
    backbone = DeCUR().build(DECUR[name]).eval()
    backbone.load_state_dict(backbone.remap(upstream()).state)
    with torch.no_grad():
        maps = backbone(Batch(images(name, len(DECUR[name])).unsqueeze(1)))
    stored = load_file(GOLDEN)
    for i, found in enumerate(maps):
        assert (sketch(found) - stored[f"decur/{name}/{i}"]).abs().max() < 1e-5


@pytest.mark.parametrize("classes", [0, 7])
def test_equals_timm_in_process(timm, classes):
    theirs = timm.create_model("resnet50", in_chans=13, num_classes=classes).eval()
    backbone = DeCUR().build(SENTINEL2_L1C).eval()
    remapped = backbone.remap(theirs.state_dict())
    backbone.load_state_dict(remapped.state)
    assert set(remapped.skipped) == ({"fc.weight", "fc.bias"} if classes else set())
    assert all("classifier" in reason for reason in remapped.skipped.values())
    given = images("all", 13)
    with torch.no_grad():
        expected, found = theirs.forward_features(given), backbone(Batch(given.unsqueeze(1)))[-1]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    again = timm.create_model("resnet50", in_chans=13, num_classes=0)
    again.load_state_dict(backbone.unmap(backbone.state_dict()))


# ------------------------------------------------------------------------------------------- facts


def test_facts():
    assert registry.load("backbones", "decur") is DeCUR
    with torch.device("meta"):
        all_bands, six = (DeCURResNet(bands, (1, 2, 3, 4)) for bands in (SENTINEL2_L1C, HLS6))
    assert sum(p.numel() for p in all_bands.parameters()) == 23_539_392
    classifier = 2048 * 1000 + 1000
    assert sum(p.numel() for p in six.parameters()) + classifier == 25_566_440  # arXiv 2504.17397
    assert isinstance(six, StageBackbone)
    assert (six.channels, six.strides, six.multiple) == ((256, 512, 1024, 2048), (4, 8, 16, 32), 32)
    assert (WEIGHTS.repo, WEIGHTS.licence) == ("torchgeo/decur", "Apache-2.0")
    assert WEIGHTS.file.startswith("rn50_ssl4eo-s12_ms_decur_ep100")


def test_reflectance_is_not_changed():
    reflectance = torch.rand(2, 1, 6, 8, 8)
    assert torch.equal(small().normalisation(reflectance), reflectance)


def test_it_accepts_the_bands_of_sentinel2():
    assert DeCUR().accepts(("vv", "red", "pan", "cirrus")) == ("red", "cirrus")
    assert DeCUR().accepts(SENTINEL2_L1C) == SENTINEL2_L1C


@pytest.mark.parametrize(
    ("bands", "frames", "said"),
    [
        (("red", "nir9"), 1, "no band 'nir9'; did you mean 'nir09'?"),
        ((), 1, "at least one band"),
        (("red", "red"), 1, "each once"),
        (("red",), 2, "1 date per image, not 2"),
    ],
)
def test_wrong_configuration_is_refused(bands, frames, said):
    with pytest.raises(ConfigError) as caught:
        DeCUR().build(bands, frames)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


@pytest.mark.parametrize(("dates", "bands"), [(2, 6), (1, 5)])
def test_images_that_do_not_fit_are_refused(dates, bands):
    with pytest.raises(DataError, match=f"{dates} dates and {bands} bands; built for 1 date and 6 bands"):
        small()(Batch(torch.zeros(1, dates, bands, 32, 32)))


@pytest.mark.parametrize(("method", "reason"), [(LoRA(), "linears"), (VPT(), "tokens")])
def test_methods_of_transformers_are_refused_with_the_reason(method, reason):
    with pytest.raises(ConfigError, match=f"acts on the {reason}") as caught:
        adapt(small(), method)
    assert "method: full" in str(caught.value)


# ---------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("bands", [SENTINEL2_L1C, HLS6, ("cirrus", "blue")])
def test_round_trip_is_exact(bands):
    backbone = small(bands)
    state = backbone.state_dict()
    written = backbone.unmap(state)
    assert written["conv1.weight"].shape == (64, 13, 7, 7)
    unseen = [i for i, band in enumerate(SENTINEL2_L1C) if band not in bands]
    assert not written["conv1.weight"][:, unseen].any()
    again = backbone.remap(written)
    assert again.skipped == {}
    assert again.state.keys() == state.keys()
    assert all(torch.equal(again.state[key], state[key]) for key in state)


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "module.encoder."])
def test_prefixes_of_trainers_and_missing_counters_do_no_harm(prefix):
    backbone = small()
    written = backbone.unmap(backbone.state_dict())
    bare = {f"{prefix}{key}": value for key, value in written.items() if not key.endswith("num_batches_tracked")}
    again = backbone.remap(bare)
    assert again.state.keys() == backbone.state_dict().keys()
    assert again.state["blocks.0.bn1.num_batches_tracked"] == 0
    assert torch.equal(again.state["blocks.4.layer4.0.bn3.weight"], written["layer4.0.bn3.weight"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("layer2.0.bn1.running_var"), "missing (1): layer2.0.bn1.running_var"),
        (lambda s: s.update({"layer9.weight": torch.zeros(1)}), "unknown (1): layer9.weight"),
        (lambda s: s.update({"conv1.weight": torch.zeros(64, 3, 7, 7)}), "(64, 3, 7, 7) instead of (64, 13, 7, 7)"),
    ],
)
def test_every_key_is_accounted_for(change, said):
    backbone = small()
    state = backbone.unmap(backbone.state_dict())
    change(state)
    with pytest.raises(WeightsError) as caught:
        backbone.remap(state)
    assert said in str(caught.value)
    assert "DeCUR" in str(caught.value)


def test_a_local_file_is_loaded_and_named(tmp_path):
    """As the authors' file is: pickled tensors, with the classifier that some trainers leave in it."""
    path = tmp_path / "rn50_ssl4eo-s12_ms_decur_ep100.pth"
    torch.save({"state_dict": {**upstream(), "fc.weight": torch.zeros(1)}}, path)
    backbone = DeCUR(weights=str(path)).build(("red", "blue"))
    base = load_base(backbone, str(path))
    expected = upstream()["conv1.weight"][:, [SENTINEL2_L1C.index("red"), SENTINEL2_L1C.index("blue")]]
    assert torch.equal(backbone.blocks[0].conv1.weight, expected)
    assert backbone.blocks[0].bn1.num_batches_tracked == 7
    assert (base.file, base.repo, base.licence) == (path.name, "torchgeo/decur", "Apache-2.0")
    assert base.skipped == (("fc.weight", "belongs to the classifier"),)


# ------------------------------------------------------------------------------ BatchNorm statistics


def step(method):
    """One training step of a whole model; statistics of all BatchNorms before and after."""
    backbone = adapt(small(("blue", "green", "red")), method)
    torch.manual_seed(1)
    model = Model(backbone, Linear().build(features(backbone), 2, dense=True), backbone.normalisation)
    frozen_in_eval(model)
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    optimiser = torch.optim.AdamW(trainable(model).values(), lr=1e-2)
    model(Batch(torch.rand(2, 1, 3, 64, 64))).square().mean().backward()
    optimiser.step()
    assert {name.rpartition(".")[2] for name in before} == set(RUNNING)
    return model, before, dict(backbone.named_buffers())


def test_a_frozen_network_keeps_its_statistics():
    """In arXiv 2504.17397 they move, as freezing by `requires_grad` alone does not stop them."""
    model, before, after = step(Frozen())
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert model.decoder.training


@pytest.mark.parametrize("method", [Full(), BitFit()])
def test_a_trained_network_moves_its_statistics_and_saves_them(tmp_path, method):
    model, before, after = step(method)
    assert not any(torch.equal(after[name], before[name]) for name in before)
    assert set(before) <= moving(model.backbone).keys()
    save_adapter(tmp_path / "adapter", model.backbone, method, model.decoder.state_dict(), {"base": None})
    fresh = adapt(small(("blue", "green", "red")), method)
    load_adapter(tmp_path / "adapter", fresh, method)
    again = fresh.state_dict()
    assert all(torch.equal(again[key], value) for key, value in model.backbone.state_dict().items())


# ---------------------------------------------------------------------------------------- whole runs


@pytest.fixture
def shallow(monkeypatch):
    """One block per layer, so that a run takes a second."""
    monkeypatch.setattr(_resnet.ResNet50.__init__, "__defaults__", ((1, 1, 1, 1),))


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_full_fine_tuning_trains_loads_and_merges(tmp_path, shallow, kind):
    """From random weights, whose base goes into the adapter, and from a file with more in it than is needed."""
    weights, head_start = "random", kind == "classification"  # 6 M parameters of the pixels' head would take a minute
    if kind == "classification":
        torch.manual_seed(5)
        source = DeCUR().build(SENTINEL2_L1C)
        weights = str(tmp_path / "decur.safetensors")
        extra = {"fc.weight": torch.ones(3)}
        save_file({**source.unmap(source.state_dict()), **extra}, weights)
    keys = ["method=full", "backbone=decur", f"backbone.weights={weights}", f"train.head_start={head_start}"]
    keys += ["train.epochs=1", "train.rate=1e-3"]
    trained = experiment.fit(spell(tmp_path / "run", *keys, kind=kind, side=64, counts=(4, 2, 2, 1)))
    loaded = fitted.load(tmp_path / "run")
    given = Batch(torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    logits = predict_logits(loaded.model, given)
    assert torch.equal(logits, predict_logits(trained.model, given))
    saved = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert saved.keys() == loaded.model.backbone.state_dict().keys()
    if not head_start:  # after one, epoch 0 takes part, and it may be the best on two images
        assert saved["blocks.0.bn1.num_batches_tracked"] > 0
        assert saved["blocks.4.layer4.0.bn3.running_mean"].any()

    merged = loaded.merge(tmp_path / "merged.safetensors")
    state = read_state(merged)
    assert state["conv1.weight"].shape == (64, 13, 7, 7)
    assert ("fc.weight" in state) == (kind == "classification")
    plain = DeCUR().build(("blue", "green", "red"))
    load_base(plain, str(merged))
    model = Model(plain, loaded.model.decoder, plain.normalisation)
    assert torch.equal(predict_logits(model, given), logits)

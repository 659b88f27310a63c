"""A trunk in fewer bytes: how many, how far off, and that gradients are exactly those of what is computed."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from adapteo import experiment, fitted, meter, quantise
from adapteo.assembly import assemble
from adapteo.bands import HLS6
from adapteo.checkpoint import load_base, read_state
from adapteo.contracts import Batch, adapt, merge, trainable
from adapteo.errors import AdaptEOError, ConfigError
from adapteo.model import predict_logits
from adapteo.peft.bitfit import BitFit
from adapteo.peft.dora import DoRA
from adapteo.peft.full import Full
from adapteo.peft.last_k import LastK
from adapteo.peft.lora import LoRA
from adapteo.peft.pissa import PiSSA
from adapteo.peft.ssf import SSF
from adapteo.quantise import FORMS, PackedLinear
from adapteo.vit import RoleLinear, set_memory
from tiny import TinyBackbone
from toy import spell

KINDS = tuple(FORMS)
GRADIENTS = {"bf16": 0.9999, "int8": 0.999, "nf4": 0.9}
"""Cosines on a tiny network of random weights; the pre-trained one is asked for more below."""


@pytest.fixture(params=KINDS)
def kind(request):
    return available(request.param)


def available(kind):
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    return kind


def vit(method=None, depth=2):
    torch.manual_seed(0)
    backbone = TinyBackbone(HLS6, depth=depth).eval()
    return backbone if method is None else moved(adapt(backbone, method))


def moved(backbone):
    """Off the start, where half of LoRA has no gradient."""
    for parameter in trainable(backbone).values():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return backbone


def batch():
    return Batch(torch.randn(2, 1, 6, 8, 16, generator=torch.Generator().manual_seed(1)))


def packed(backbone, kind):
    quantise.quantise(backbone, kind)
    return backbone


def layers(backbone):
    return {name: m for name, m in backbone.named_modules() if isinstance(m, PackedLinear)}


def cosine(a, b):
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


# ---------------------------------------------------------------------------------------- bytes and errors


@pytest.mark.parametrize(("kind", "expected"), [("bf16", 2 * 96 * 64), ("int8", 96 * 64 + 4 * 96), ("nf4", 3456)])
def test_bytes_of_a_weight(kind, expected):
    """NF4: half a byte for each of 96 · 64, and four for each block of 64."""
    linear = PackedLinear(RoleLinear("q", 64, 96), FORMS[available(kind)]())
    held = [p for name, p in linear.named_parameters() if name != "bias"]
    assert sum(p.nbytes for p in held) == expected
    assert not any(p.requires_grad for p in held)


def test_a_state_that_counts_what_is_held(kind):
    plain, backbone = vit(LoRA(rank=2)), vit(LoRA(rank=2))
    packed(backbone, kind)
    found = []
    for each in (plain, backbone):
        memory = meter.Memory()
        meter.count_state(each, torch.optim.AdamW(trainable(each).values()), memory)
        found.append(memory.weights)
    weights = sum(m.in_features * m.out_features for m in layers(backbone).values())
    rows = sum(m.out_features for m in layers(backbone).values())
    held = {"bf16": 2 * weights, "int8": weights + 4 * rows, "nf4": weights // 2 + 4 * weights // 64}[kind]
    assert len(layers(backbone)) == 12
    assert found[0] - found[1] == 4 * weights - held
    decoder = nn.Linear(2, 2)
    assert meter.parameters(backbone, decoder) == meter.parameters(plain, decoder)


def test_a_weight_is_off_by_half_a_step_at_most(kind):
    torch.manual_seed(0)
    linear = RoleLinear("q", 128, 48)
    linear.weight.data.mul_(torch.logspace(-3, 1, 48)[:, None])
    linear.weight.data[5] = 0.0
    found = PackedLinear(linear, FORMS[kind]()).weight
    weight = linear.weight.detach()
    blocks = weight.view(48, -1, 64).abs().amax(-1, keepdim=True).expand(-1, -1, 64).reshape(48, 128)
    bound = {
        "bf16": weight.abs() * 2**-8,  # 8 significant bits
        "int8": weight.abs().amax(1, keepdim=True) / 254,
        "nf4": blocks * 0.304 / 2,  # its widest gap is that of the two lowest levels
    }[kind]
    assert ((found - weight).abs() <= bound * (1 + 1e-5)).all()
    assert (found[5] == 0).all()


@pytest.mark.parametrize(("kind", "largest"), [("bf16", 1e-3), ("int8", 4e-3), ("nf4", 5e-2)])
def test_maps_of_pretrained_weights_are_hardly_off(kind, largest):
    """Measured 6e-4, 2.8e-3 and 3.6e-2; and so gradients of what trains point the same way."""
    from adapteo.backbones.nano import BACKBONE

    spec = BACKBONE()
    torch.manual_seed(0)
    exact = spec.build(("blue", "green", "red", "nir08"))
    load_base(exact, spec.weights)
    adapt(exact, LoRA()).eval()
    sample = Batch(torch.randn(1, 1, 4, 32, 32), dates=torch.tensor([[[2020.0, 180.0]]]), latlon=torch.zeros(1, 2))
    found = packed(copy.deepcopy(exact), available(kind))
    with torch.no_grad():
        for ours, theirs in zip(found(sample), exact(sample), strict=True):
            assert (ours - theirs).norm() < largest * theirs.norm()
    assert cosine(quantise.gradients(exact, sample), quantise.gradients(found, sample)) > 0.99


# ----------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("memory", ["fast", "lean", "leanest"])
@pytest.mark.parametrize("method", [LoRA(rank=2), LoRA(rank=2, targets=("q", "fc2")), BitFit(), PiSSA(rank=2), SSF()],
                         ids=["lora", "lora q fc2", "bitfit", "pissa", "ssf"])  # fmt: skip
@pytest.mark.parametrize("kind", ["bf16", "int8"])
def test_gradients_are_those_of_the_unpacked_weights(kind, memory, method):
    backbone = packed(vit(method), kind).double()
    plain = copy.deepcopy(backbone)
    quantise.restore(plain)
    assert layers(backbone)
    assert not layers(plain)
    set_memory(backbone, memory)
    sample = Batch(batch().images.double())
    torch.testing.assert_close(backbone(sample), plain.double()(sample), rtol=1e-10, atol=1e-10)
    ours, theirs = quantise.gradients(backbone, sample), quantise.gradients(plain, sample)
    assert ours.any()
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10 * float(theirs.abs().max()))


def test_nf4_gradients_are_those_of_the_unpacked_weights():
    backbone = packed(vit(LoRA(rank=2)), available("nf4"))
    plain = copy.deepcopy(backbone)
    quantise.restore(plain)
    set_memory(backbone, "leanest")
    ours, theirs = (quantise.gradients(each, batch()) for each in (backbone, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def test_gradients_in_mixed_precision(kind):
    backbone = packed(vit(LoRA(rank=2)), kind)
    exact = quantise.gradients(backbone, batch())
    for memory in ("fast", "lean", "leanest"):
        set_memory(backbone, memory)
        with torch.autocast("cpu", torch.bfloat16):
            found = quantise.gradients(backbone, batch())
        assert cosine(exact, found) > 0.99, memory


@pytest.mark.parametrize("memory", ["fast", "lean", "leanest"])
def test_nothing_is_kept_that_full_precision_does_not_keep(kind, memory):
    kept = []
    for backbone in (vit(LoRA(rank=2)), packed(vit(LoRA(rank=2)), kind)):
        set_memory(backbone, memory)
        counted = meter.Memory()
        with meter.count_activations(backbone, counted):
            backbone(batch())
        kept.append(counted.activations)
    assert kept[1] <= kept[0]


def test_gradients_agree_with_full_precision(kind):
    exact = vit(LoRA())
    found = packed(copy.deepcopy(exact), kind)
    assert cosine(quantise.gradients(exact, batch()), quantise.gradients(found, batch())) > GRADIENTS[kind]


def test_a_wrong_gradient_is_refused(monkeypatch):
    class Coarse(quantise.Int8):
        def pack(self, weight):
            return super().pack(weight.sign())

    quantise.quantise(vit(LoRA(rank=2)), "int8", batch())
    monkeypatch.setattr(quantise, "FORMS", {"int8": Coarse})
    with pytest.raises(AdaptEOError, match=r"train.trunk: int8: the gradients .*cosine 0\.\d\d\d; at least 0.99"):
        quantise.quantise(vit(LoRA(rank=2)), "int8", batch())


def test_the_check_leaves_no_trace():
    backbone = vit(LoRA(rank=2, dropout=0.5))
    backbone.train()
    before = torch.get_rng_state()
    quantise.quantise(backbone, "int8", batch())
    assert torch.equal(torch.get_rng_state(), before)
    assert backbone.training
    assert all(module.training for module in backbone.modules())
    assert all(parameter.grad is None for parameter in backbone.parameters())


@pytest.mark.filterwarnings("ignore")  # of what PyTorch's compiler does itself
@pytest.mark.parametrize("memory", ["fast", "lean"])
def test_compiled(memory):
    torch._dynamo.reset()
    backbone = packed(vit(LoRA(rank=2), depth=1), "int8")
    set_memory(backbone, memory)
    maps = torch.compile(backbone, backend="aot_eager")(batch())
    torch.testing.assert_close(maps, backbone(batch()))
    found = torch.autograd.grad(maps[-1].square().sum(), list(trainable(backbone).values()))
    exact = torch.autograd.grad(backbone(batch())[-1].square().sum(), list(trainable(backbone).values()))
    torch.testing.assert_close(found, exact)


# --------------------------------------------------------------------------------------------- what is held


def test_only_what_is_frozen():
    backbone = packed(vit(LastK(k=1)), "int8")
    assert {name.split(".")[1] for name in layers(backbone)} == {"0"}
    assert all(p.dtype == torch.float32 for p in trainable(backbone).values())


def test_what_a_method_rebuilds_stays():
    backbone = packed(vit(DoRA(rank=2, targets=("q",))), "int8")
    assert len(layers(backbone)) == 10
    assert not any(".q." in name for name in layers(backbone))


@pytest.mark.parametrize("method", [Full(), DoRA(rank=2)], ids=["full", "dora"])
def test_nothing_to_hold(method):
    with pytest.raises(ConfigError, match="there are none here"):
        quantise.quantise(vit(method), "int8")


def test_the_default_changes_nothing():
    backbone = vit(LoRA(rank=2))
    before = dict(backbone.named_modules())
    quantise.quantise(backbone, "fp32", batch())
    assert dict(backbone.named_modules()) == before


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Int8DynamicActivationInt8Weight", "silently wrong"),
        ("int8_dynamic_activation_int4_weight", "silently wrong"),
        ("Int4WeightOnly", "does not run"),
        ("fp4", "less exact"),
        ("int9", "did you mean 'int8'"),
    ],
)
def test_kinds_that_are_refused(tmp_path, kind, said):
    with pytest.raises(ConfigError, match=said) as error:
        spell(tmp_path, f"train.trunk={kind}")
    assert error.value.allowed == ("fp32", "bf16", "int8", "nf4")


def test_bitsandbytes_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    with pytest.raises(ConfigError, match="not installed") as error:
        quantise.quantise(vit(LoRA(rank=2)), "nf4")
    assert "adapteo[bitsandbytes]" in error.value.fix


def test_bitsandbytes_says_nothing_on_import():
    """It warns of kernels for whole products in 4 bits, which are not what it is used for."""
    pytest.importorskip("bitsandbytes")
    code = "import torch; from adapteo.quantise import NF4; NF4().pack(torch.ones(64, 64))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


# ------------------------------------------------------------------------------------------------ whole runs


def test_a_run_and_its_merged_checkpoint(tmp_path, kind):
    """Base weights that are nowhere else come back as they were held."""
    run = spell(tmp_path / "a", f"train.trunk={kind}", "train.epochs=1", "train.head_start=false")
    made = experiment.fit(run)
    images = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.2
    assert len(layers(made.model.backbone)) == 12
    assert made.card["trunk"] == json.loads((run.out / "run.json").read_text())["trunk"] == kind
    again = fitted.load(run.out)
    assert torch.equal(again.logits(images), made.logits(images))
    made.merge(tmp_path / "merged.safetensors")
    other = spell(tmp_path / "b", "method=frozen", f"backbone.weights={tmp_path / 'merged.safetensors'}")
    plain = assemble(other).model
    plain.decoder.load_state_dict(read_state(tmp_path / "merged_decoder.safetensors"))
    torch.testing.assert_close(predict_logits(plain, Batch(images)), made.logits(images), atol=1e-4, rtol=1e-4)


def test_a_stopped_run_goes_on_alike(tmp_path, monkeypatch):
    whole = experiment.fit(spell(tmp_path / "whole", "train.trunk=int8", "train.head_start=false"))
    run = spell(tmp_path / "parts", "train.trunk=int8", "train.head_start=false")
    save = experiment.Trainer._save

    def stop(trainer):
        save(trainer)
        if trainer.epoch == 1:
            trainer.stopping.set()

    with monkeypatch.context() as patched:
        patched.setattr(experiment.Trainer, "_save", stop)
        with pytest.raises(AdaptEOError, match="--resume"):
            experiment.fit(run)
    resumed = experiment.fit(run, resume=True)
    for name, value in trainable(whole.model).items():
        assert torch.equal(value, trainable(resumed.model)[name]), name


def test_merging_gives_plain_linears(kind):
    backbone = packed(vit(LoRA(rank=2)), kind)
    before = backbone(batch())
    merge(backbone)
    assert not layers(backbone)
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}
    torch.testing.assert_close(backbone(batch()), before, rtol=1e-4, atol=1e-4)

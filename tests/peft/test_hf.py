"""Every kind of HF peft: offered and right, or refused with the reason."""

import copy
import importlib.util
import inspect
import json
import sys

import pytest
import torch
from cases import batch, projected, stages, vit
from torch import nn

from adapteo.contracts import Composition, adapt, merge, trainable, trainable_count
from adapteo.errors import ConfigError
from adapteo.peft import hf
from adapteo.peft._hf_kinds import OFFERED, REFUSED
from adapteo.peft.hf import HF, HFLayer
from adapteo.peft.lora import LoRA
from adapteo.peft.lst import LST
from adapteo.peft.ssf import SSF
from adapteo.vit import RoleLinear

pytestmark = pytest.mark.usefixtures("recent")
SMALL = {"shira": {"r": 4}, "unilora": {"theta_d_length": 64}, "vblora": {"num_vectors": 16}, "lora": {"r": 4}}


@pytest.fixture(scope="module")
def recent(peft):
    if tuple(int(part) for part in peft.__version__.split(".")[:2]) < hf._OLDEST:
        pytest.skip(f"peft {peft.__version__} is older than the kinds that are offered")


def method(kind, **options):
    return HF(kind, {**SMALL.get(kind, {}), **options})


def run(backbone):
    with torch.no_grad():
        return torch.cat([m.flatten() for m in backbone.eval()(batch())])


def trained(backbone, steps=3):
    """Train; return the names of what has seen a gradient."""
    alive, parameters = set(), trainable(backbone)
    optimiser = torch.optim.AdamW(parameters.values(), lr=1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        projected(backbone(batch())).backward()
        alive |= {name for name, p in parameters.items() if p.grad is not None and p.grad.any()}
        optimiser.step()
    return alive


def test_each_kind_that_peft_has_is_offered_or_refused(peft):
    assert not OFFERED.keys() & REFUSED.keys()
    assert {kind.name.lower() for kind in peft.PeftType} <= OFFERED.keys() | REFUSED.keys()


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of FRoD's matrices, by PyTorch
@pytest.mark.parametrize("kind", OFFERED)
def test_a_kind_from_the_start_to_the_merged_model(kind):
    plain = vit()
    with torch.no_grad():
        for parameter in plain.blocks.parameters():
            if parameter.ndim == 1:  # biases off zero, as after pre-training; GLoRA scales them
                parameter.add_(torch.randn_like(parameter) * 0.1)
    torch.manual_seed(1)
    backbone = adapt(copy.deepcopy(plain), method(kind))
    before, start = run(plain), run(backbone)
    if method(kind).identity_at_start:
        torch.testing.assert_close(start, before, rtol=0, atol=1e-5)
    else:
        assert (start - before).abs().max() > 1e-5
    frozen = {name: value.clone() for name, value in backbone.state_dict().items() if "base_layer" in name}
    assert len(frozen) == 2 * 12
    assert trained(backbone.train()) == trainable(backbone).keys()
    assert all(torch.equal(value, backbone.state_dict()[name]) for name, value in frozen.items())
    after = run(backbone)
    assert (after - before).abs().max() > 1e-3
    torch.manual_seed(2)  # other draws than the first time
    again = adapt(copy.deepcopy(plain), method(kind))
    method(kind).load_adapter_state(again, method(kind).adapter_state(backbone))
    assert torch.equal(run(again), after)
    assert torch.equal(run(copy.deepcopy(backbone)), after)
    if OFFERED[kind].merges:
        merge(backbone)
        torch.testing.assert_close(run(backbone), after, rtol=1e-5, atol=1e-5 * after.abs().max().item())
        assert backbone.state_dict().keys() == plain.state_dict().keys()
    else:
        with pytest.raises(ConfigError, match="cannot be merged"):
            merge(backbone)


@pytest.mark.parametrize("kind", REFUSED)
def test_other_kinds_are_refused_with_the_reason(kind):
    with pytest.raises(ConfigError, match=f"is not offered: {REFUSED[kind][:20]}"):
        HF(kind)


def test_it_computes_what_peft_computes(peft):
    plain = vit()
    ours = adapt(copy.deepcopy(plain), HF("loha", {"r": 4, "alpha": 8}))
    theirs = copy.deepcopy(plain)
    names = [name for name, module in plain.named_modules() if isinstance(module, RoleLinear)]
    peft.inject_adapter_in_model(peft.LoHaConfig(r=4, alpha=8, target_modules=names), theirs)
    parameters = dict(theirs.named_parameters())
    with torch.no_grad():
        for name, value in trainable(ours).items():
            value.copy_(torch.randn_like(value))
            parameters[name.replace(".inner.", ".")].copy_(value)
    assert torch.equal(run(ours), run(theirs))


def test_only_targeted_linears_of_the_blocks_are_adapted():
    backbone = adapt(vit(), Composition((LST(), HF("oft", targets=("q", "fc2")))))
    found = [name for name, module in backbone.named_modules() if isinstance(module, HFLayer)]
    assert found == [f"blocks.{i}.{name}" for i in range(2) for name in ("attn.q", "mlp.fc2")]


@pytest.mark.parametrize("other", [LoRA(rank=2), SSF()])
def test_it_composes(other):
    together = Composition((HF("oft"), other))
    backbone = adapt(vit(), together)
    assert trained(backbone) == trainable(backbone).keys()
    after = run(backbone)
    torch.testing.assert_close(run(merge(backbone)), after, rtol=1e-4, atol=1e-4)


def test_a_linear_may_see_maps():
    """On ConvNeXt, for example; HF peft's OFT alone would take them for those of a convolution."""
    linear = RoleLinear("fc1", 8, 16)
    (layer,) = HF("oft").wrappers([linear])
    x = torch.randn(2, 3, 5, 8)
    torch.testing.assert_close(layer(x), linear(x))


def test_numbers_of_parameters():
    r, d = 4, 32
    assert trainable_count(adapt(vit(), HF("lora", {"r": r}))) == 2 * 18 * r * d
    assert trainable_count(adapt(vit(), HF("ia3"))) == 2 * (4 * d + 4 * d + 4 * d)
    assert trainable_count(adapt(vit(), HF("oft", {"oft_block_size": 8}))) == 2 * (9 * d // 8) * 8 * 7 // 2


def test_counting_leaves_the_generator_alone():
    torch.manual_seed(0)
    state, backbone = torch.get_rng_state(), vit()
    torch.set_rng_state(state)
    HF("loha").parameters_formula(backbone)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_plan_needs_no_memory():
    with torch.device("meta"):
        backbone = adapt(vit(), HF("oft"))
    assert {p.device.type for p in backbone.parameters()} == {"meta"}


def test_the_configuration_says_what_the_adapter_belongs_to(peft):
    written = HF("vera", {"r": 8}).adapter_config(vit())
    assert json.loads(json.dumps(written)) == {
        "peft_type": "ADAPTEO_HF_VERA", "kind": "vera", "options": {"r": 8}, "targets": [],
        "peft_version": peft.__version__, "base_model_name_or_path": None, "revision": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "ofd"}, "no kind 'ofd'.*oft"),
        ({"kind": "oft", "options": {"target_modules": "proj"}}, "which tensors"),
        ({"kind": "oft", "targets": ("patch_embed",)}, "have no 'patch_embed'"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_written(fields, words):
    with pytest.raises(ConfigError, match=words):
        HF(**fields)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (HF("oft", {"ranks": 4}), "no option 'ranks'"),
        (HF("lora", {"init_lora_weights": "pissa"}), "changes pre-trained weights"),
        (HF("miss", {"r": 33}), "does not act here"),
        (HF("lora", {"r": 0}), "does not act here"),
        (HF("oft", targets=("gate",)), "no linear for it"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_changed(made, words):
    plain = vit()
    backbone = copy.deepcopy(plain)
    with pytest.raises(ConfigError, match=words):
        adapt(backbone, made)
    assert all(torch.equal(p, q) for p, q in zip(backbone.parameters(), plain.parameters(), strict=True))
    assert not any(isinstance(module, HFLayer) for module in backbone.modules())


def test_convolutions_are_never_adapted():
    with pytest.raises(ConfigError, match="acts on the linears"):
        adapt(stages(), HF("oft"))
    backbone = adapt(vit(), HF("oft"))
    assert not any(isinstance(module, HFLayer) for module in backbone.patch_embed.modules())
    assert all(isinstance(m.inner.get_base_layer(), nn.Linear) for m in backbone.modules() if isinstance(m, HFLayer))


def test_peft_is_imported_when_it_is_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)  # so that its import fails
    spec = importlib.util.spec_from_file_location("hf_again", inspect.getsourcefile(HF))
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "hf_again", module)
    spec.loader.exec_module(module)
    assert module.METHOD("oft").mergeable


def test_an_older_peft_is_refused(peft, monkeypatch):
    monkeypatch.setattr(peft, "__version__", "0.12.0")
    with pytest.raises(ConfigError, match=r"from 0\.21 on, and 0\.12\.0 is installed"):
        adapt(vit(), HF("oft"))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match="needs the package peft") as caught:
        adapt(vit(), HF("oft"))
    assert "adapteo[peft]" in str(caught.value)


@pytest.mark.parametrize("error", ["ModuleNotFoundError('no Bloom', name='transformers')", "RuntimeError('no nms')"])
def test_a_package_that_cannot_be_imported_is_told_from_a_missing_one(error, tmp_path, monkeypatch):
    """As where transformers meets a torchvision that was built for another PyTorch."""
    (tmp_path / "peft.py").write_text(f"raise {error}\n")
    monkeypatch.delitem(sys.modules, "peft", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="is installed, but cannot be imported: no") as caught:
        adapt(vit(), HF("oft"))
    assert "torchvision" in str(caught.value)

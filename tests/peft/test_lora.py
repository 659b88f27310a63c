"""LoRA against its formula, the paper's counts and HF peft's own layers and files."""

import copy
import json
import math
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from adapteo.bands import HLS6
from adapteo.contracts import Backbone, Batch, Weights, adapt, merge, trainable, trainable_count
from adapteo.errors import ConfigError, WeightsError
from adapteo.peft.lora import LoRA, LoRALinear
from adapteo.vit import RoleLinear
from tiny import TinyBackbone


def plain(**kwargs) -> TinyBackbone:
    torch.manual_seed(0)
    return TinyBackbone(HLS6, **kwargs).eval()


def filled(backbone: Backbone) -> Backbone:
    """Give B something to say."""
    generator = torch.Generator().manual_seed(5)
    for parameter in trainable(backbone).values():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return backbone


def batch() -> Batch:
    return Batch(torch.randn(2, 1, 6, 8, 12, generator=torch.Generator().manual_seed(1)))


def projected(maps: list[torch.Tensor]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return sum((m * torch.randn(m.shape, generator=generator)).sum() for m in maps)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 4.0), (True, 8.0)])
def test_the_formula(rslora, scale):
    linear = RoleLinear("q", 6, 10).double()
    layer = LoRALinear(linear, 4, LoRA(rank=4, alpha=16, rslora=rslora).scale).double()
    nn.init.normal_(layer.lora_B)
    x = torch.randn(2, 3, 6, dtype=torch.double)
    delta = scale * torch.einsum("or,ri->oi", layer.lora_B, layer.lora_A)
    torch.testing.assert_close(layer(x), x @ (linear.weight + delta).T + linear.bias)
    torch.testing.assert_close(layer(x[0, 0]), layer(x)[0, 0])  # any number of leading dimensions


def test_gradients_are_those_of_the_formula():
    layer = LoRALinear(RoleLinear("q", 5, 4).requires_grad_(False), 2, 1.5).double()
    nn.init.normal_(layer.lora_B)
    assert torch.autograd.gradcheck(layer, torch.randn(2, 3, 5, dtype=torch.double, requires_grad=True))


def test_a_starts_as_a_linear_does_and_b_at_zero():
    layer = LoRALinear(RoleLinear("q", 64, 32), 16, 1.0)
    assert layer.lora_A.abs().max() <= 1 / math.sqrt(64)
    assert layer.lora_A.std().item() == pytest.approx(1 / math.sqrt(3 * 64), rel=0.1)
    assert not layer.lora_B.any()


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"preset": "paper"}, 2_064_384),  # arXiv 2504.17397
        ({"rank": 8, "targets": ("q", "k", "v", "proj", "fc1", "fc2")}, 18 * 8 * 768 * 12),
        ({"rank": 8, "targets": ("proj", "fc1", "fc2")}, 12 * 8 * 768 * 12),
    ],
)
def test_counts_of_a_vit_b(fields, count):
    with torch.device("meta"):
        backbone = TinyBackbone(HLS6, depth=12, dim=768)
        method = LoRA(**fields)
        assert method.parameters_formula(backbone) == count
        assert trainable_count(adapt(backbone, method)) == count


def test_the_paper_preset():
    assert LoRA(preset="paper") == LoRA(16, 16.0, 0.0, False, ("q", "v", "fc1", "fc2"), "paper")
    assert LoRA(preset="paper", rank=16, targets=("v", "q", "fc2", "fc1")).rank == 16  # saying the same is no conflict
    for conflict in ({"rank": 8}, {"dropout": 0.1}, {"rslora": True}, {"targets": ("q",)}):
        with pytest.raises(ConfigError, match="preset 'paper' sets"):
            LoRA(preset="paper", **conflict)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": 0}, "rank >= 1"),
        ({"alpha": 0}, "alpha > 0"),
        ({"dropout": 1.0}, "dropout"),
        ({"targets": ("fc3",)}, "did you mean 'fc"),
        ({"targets": ("q", "q")}, "twice"),
        ({"preset": "papr"}, "no preset 'papr'"),
    ],
)
def test_wrong_fields(fields, message):
    with pytest.raises(ConfigError, match=message):
        LoRA(**fields)


def test_a_target_that_the_backbone_lacks():
    backbone = plain()
    for block in backbone.blocks:
        block.mlp = nn.Identity()
    with pytest.raises(ConfigError, match="targets 'fc1'") as caught:
        adapt(backbone, LoRA(preset="paper"))
    assert caught.value.allowed == ("k", "proj", "q", "v")


def test_merge_rounds_once_in_half_precision():
    layer = LoRALinear(RoleLinear("v", 64, 64).bfloat16(), 8, 2.0)
    nn.init.normal_(layer.lora_B)
    exact = layer.inner.weight.double() + 2.0 * layer.lora_B.double() @ layer.lora_A.double()
    merged = layer.merged()
    assert type(merged) is RoleLinear
    assert merged.role == "v"
    assert (merged.weight.double() - exact).abs().max() <= 2.0**-8 * exact.abs().max()


def test_a_merged_model_saves_under_the_upstream_keys():
    backbone = filled(adapt(plain(), LoRA()))
    state = merge(backbone).unmap(backbone.state_dict())
    again = plain()
    again.load_state_dict(again.remap(state).state)
    torch.testing.assert_close(again(batch()), backbone(batch()))


def test_one_pass_over_the_output_only():
    """The low-rank term is accumulated by the multiplication itself: no multiply or add of its own."""
    layer = LoRALinear(RoleLinear("q", 8, 8).requires_grad_(False), 2, 0.5)
    x = torch.randn(4, 8, requires_grad=True)
    names = []
    queue = [layer(x).grad_fn]
    while queue:
        node = queue.pop()
        names.append(node.name())
        queue += [parent for parent, _ in node.next_functions if parent is not None]
    assert not [name for name in names if name.startswith(("Mul", "Add0", "AddBackward", "Copy"))]


# ------------------------------------------------------------------------------------------- HF peft


def write(folder, backbone: Backbone, method: LoRA) -> None:
    save_file(method.adapter_state(backbone), folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(method.adapter_config(backbone)))


FIELDS = [
    {"preset": "paper"},
    {"rank": 4, "alpha": 6.5, "rslora": True},
    {"rank": 3, "targets": ("k", "proj"), "dropout": 0.2},
]


@pytest.mark.parametrize("fields", FIELDS)
def test_hf_opens_our_file_with_equal_outputs_and_gradients(peft, fields, tmp_path):
    method = LoRA(**fields)
    ours = filled(adapt(plain(), method))
    write(tmp_path, ours, method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # missing or superfluous keys are warnings there
        theirs = peft.PeftModel.from_pretrained(plain(), tmp_path, is_trainable=True).eval()
    torch.testing.assert_close(theirs(batch()), ours(batch()), rtol=1e-6, atol=1e-6)
    projected(ours(batch())).backward()
    projected(theirs(batch())).backward()
    grads = {name.removesuffix(".default.weight"): p.grad for name, p in theirs.named_parameters() if p.requires_grad}
    assert grads.keys() == {f"base_model.model.{name}" for name in trainable(ours)}
    for name, parameter in trainable(ours).items():
        torch.testing.assert_close(parameter.grad, grads[f"base_model.model.{name}"], rtol=1e-4, atol=1e-5)


def test_dropout_draws_as_hf_does(peft):
    linear = RoleLinear("q", 32, 16)
    layer = LoRALinear(linear, 4, 2.0, dropout=0.5)
    nn.init.normal_(layer.lora_B)
    model = nn.Sequential(copy.deepcopy(linear))
    config = peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=0.5, target_modules=["0"])
    theirs = peft.get_peft_model(model, config)
    theirs.base_model.model[0].lora_A.default.weight.data.copy_(layer.lora_A)
    theirs.base_model.model[0].lora_B.default.weight.data.copy_(layer.lora_B)
    x = torch.randn(2, 5, 32)
    torch.manual_seed(7)
    expected = theirs.train()(x)
    torch.manual_seed(7)
    torch.testing.assert_close(layer.train()(x), expected)


@pytest.mark.parametrize("targets", [["q", "v", "fc1", "fc2"], r".*blocks\.\d+\.attn\.(q|proj)"])
def test_our_model_opens_a_file_that_hf_wrote(peft, targets, tmp_path):
    config = peft.LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=targets)
    theirs = filled(peft.get_peft_model(plain(), config)).eval()
    theirs.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    state = load_file(tmp_path / "adapter_model.safetensors")
    backbone = plain()
    method = LoRA.from_hf(backbone, written, state)
    assert (method.rank, method.alpha, method.rslora) == (4, 6.0, True)
    adapt(backbone, method)
    method.load_adapter_state(backbone, state)
    torch.testing.assert_close(backbone(batch()), theirs(batch()), rtol=1e-6, atol=1e-6)


def test_the_config_names_the_base_model_and_reads_back():
    backbone = plain()
    backbone.weights = Weights("lab/model", "model.pt", "Apache-2.0", revision="abc")
    method = LoRA(rank=4, alpha=8, targets=("q", "fc2"))
    config = method.adapter_config(backbone)
    assert config["base_model_name_or_path"] == "lab/model"
    assert config["revision"] == "abc"
    assert config["target_modules"] == [f"blocks.{i}.{name}" for i in (0, 1) for name in ("attn.q", "mlp.fc2")]
    adapt(backbone, method)
    assert method.adapter_config(backbone) == config
    assert LoRA.from_hf(plain(), config, method.adapter_state(backbone)) == method


def test_what_cannot_be_opened_says_why():
    backbone = adapt(plain(), LoRA())
    config, state = LoRA().adapter_config(backbone), LoRA().adapter_state(backbone)
    changes = (
        {"peft_type": "LOHA"},
        {"use_dora": True},
        {"bias": "all"},
        {"rank_pattern": {"q": 3}},
        {"init_lora_weights": "pissa"},
        {"invented_next_year": True},
    )
    for change in changes:
        with pytest.raises(WeightsError, match=str(next(iter(change.values())))[:4]):
            LoRA.from_hf(plain(), {**config, **change}, state)
    with pytest.raises(WeightsError, match="patch_embed"):
        LoRA.from_hf(plain(), config, {**state, "base_model.model.patch_embed.lora_A.weight": torch.zeros(1)})

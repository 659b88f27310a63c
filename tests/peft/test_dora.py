"""DoRA against its formula written out, and against HF peft's layer."""

import copy

import pytest
import torch
from cases import count_on_vit_b, gradients, vit
from torch import nn

from adapteo.contracts import adapt, trainable
from adapteo.errors import ConfigError
from adapteo.peft.dora import DoRA, DoRALinear
from adapteo.vit import RoleLinear


def layer(dtype: torch.dtype = torch.float64) -> DoRALinear:
    torch.manual_seed(0)
    made = DoRALinear(RoleLinear("q", 6, 5).to(dtype).requires_grad_(False), rank=2, scale=1.5)
    nn.init.normal_(made.lora_B)
    with torch.no_grad():
        made.magnitude.mul_(1.3)
    return made


def test_the_formula():
    made, x = layer(), torch.randn(2, 3, 6, dtype=torch.float64)
    turned = made.inner.weight + 1.5 * made.lora_B @ made.lora_A
    rows = [made.magnitude[i] * turned[i] / turned[i].square().sum().sqrt() for i in range(5)]
    torch.testing.assert_close(made(x), x @ torch.stack(rows).T + made.inner.bias)
    torch.testing.assert_close(made.merged()(x), made(x))


def test_equals_hf(peft):
    torch.manual_seed(0)
    linear = RoleLinear("q", 6, 5)
    config = peft.LoraConfig(r=2, lora_alpha=3, use_dora=True, target_modules=["0"])
    theirs = peft.get_peft_model(nn.Sequential(copy.deepcopy(linear)), config)
    tuned = theirs.base_model.model[0]
    ours = DoRALinear(linear.requires_grad_(False), rank=2, scale=1.5)
    nn.init.normal_(ours.lora_B)
    with torch.no_grad():
        ours.magnitude.mul_(1.3)
        tuned.lora_A.default.weight.copy_(ours.lora_A)
        tuned.lora_B.default.weight.copy_(ours.lora_B)
        tuned.lora_magnitude_vector.default.weight.copy_(ours.magnitude)
    x = torch.randn(4, 6)
    torch.testing.assert_close(ours(x), theirs(x))
    own = gradients(lambda: ours(x), [ours.lora_A, ours.lora_B, ours.magnitude])
    parts = [tuned.lora_A.default.weight, tuned.lora_B.default.weight, tuned.lora_magnitude_vector.default.weight]
    for mine, other in zip(own, gradients(lambda: theirs(x), parts), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_count_of_a_vit_b():
    assert count_on_vit_b(DoRA(rank=8)) == (18 * 8 + 9) * 768 * 12


def test_rows_of_zeros_stay_zeros():
    backbone = vit()
    backbone.blocks[0].attn.q.weight.data[0] = 0
    adapt(backbone, DoRA(rank=2))
    made = backbone.blocks[0].attn.q
    assert torch.isfinite(made(torch.randn(3, 32))).all()
    assert set(trainable(made)) == {"lora_A", "lora_B", "magnitude"}


@pytest.mark.parametrize("fields", [{"rank": 0}, {"alpha": 0.0}, {"targets": ("qq",)}, {"targets": ("q", "q")}])
def test_wrong_fields(fields):
    with pytest.raises(ConfigError):
        DoRA(**fields)

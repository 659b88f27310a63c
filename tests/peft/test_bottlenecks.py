"""Houlsby, Pfeiffer and AdaptFormer against the formulas of their papers."""

import pytest
import torch
from cases import count_on_vit_b, filled, vit
from torch import nn

from adapteo.contracts import adapt, trainable
from adapteo.errors import ConfigError
from adapteo.peft.adaptformer import AdaptFormer
from adapteo.peft.houlsby import Houlsby
from adapteo.peft.pfeiffer import Pfeiffer


def bottleneck(adapter: nn.Module, x: torch.Tensor, act: object) -> torch.Tensor:
    return act(x @ adapter.down.weight.T + adapter.down.bias) @ adapter.up.weight.T + adapter.up.bias


def test_adaptformer_adds_beside_the_mlp():
    plain, ours = vit().blocks[0], filled(adapt(vit(), AdaptFormer(width=5, scale=0.3))).blocks[0]
    x = torch.randn(2, 3, 32)
    y = x + plain.attn(plain.norm1(x))
    z = plain.norm2(y)
    expected = y + plain.mlp(z) + 0.3 * bottleneck(ours.mlp.adapter, z, torch.relu)
    torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_houlsby_adds_behind_attention_and_mlp(activation):
    act = {"gelu": nn.functional.gelu, "relu": torch.relu}[activation]
    plain, ours = vit().blocks[0], filled(adapt(vit(), Houlsby(width=5, activation=activation))).blocks[0]
    x = torch.randn(2, 3, 32)
    a = plain.attn(plain.norm1(x))
    y = x + a + bottleneck(ours.attn.proj.adapter, a, act)
    m = plain.mlp(plain.norm2(y))
    expected = y + m + bottleneck(ours.mlp.fc2.adapter, m, act)
    torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)


def test_pfeiffer_is_houlsby_without_the_first():
    plain, ours = vit().blocks[0], filled(adapt(vit(), Pfeiffer(width=5))).blocks[0]
    x = torch.randn(2, 3, 32)
    y = x + plain.attn(plain.norm1(x))
    m = plain.mlp(plain.norm2(y))
    expected = y + m + bottleneck(ours.mlp.fc2.adapter, m, torch.relu)
    torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("cls", "times"), [(AdaptFormer, 1), (Pfeiffer, 1), (Houlsby, 2)])
def test_counts_of_a_vit_b(cls, times):
    assert count_on_vit_b(cls(width=64)) == 12 * times * (2 * 64 * 768 + 64 + 768)


@pytest.mark.parametrize("cls", [AdaptFormer, Pfeiffer, Houlsby])
def test_up_starts_at_zero_and_down_does_not(cls):
    for name, parameter in trainable(adapt(vit(), cls())).items():
        assert parameter.any() == name.endswith("down.weight")


def test_wrong_fields():
    for make in (lambda: Houlsby(width=0), lambda: Pfeiffer(width=0), lambda: AdaptFormer(scale=0)):
        with pytest.raises(ConfigError):
            make()
    with pytest.raises(ConfigError, match="activation"):
        Houlsby(activation="tanh")

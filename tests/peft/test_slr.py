"""SLR against its formula, for linears and for convolutions."""

import pytest
import torch
from cases import count_on_vit_b, stages
from torch import nn

from adapteo.contracts import adapt, trainable
from adapteo.errors import ConfigError
from adapteo.peft.slr import SLR, SLRLayer
from adapteo.vit import RoleLinear


def made(inner: nn.Module) -> SLRLayer:
    torch.manual_seed(0)
    layer = SLRLayer(inner.double().requires_grad_(False), rank=2).double()
    for p in (layer.slr_B, layer.before, layer.after):
        nn.init.normal_(p)
    return layer


def test_the_formula_of_a_linear():
    layer = made(RoleLinear("q", 6, 5))
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    scaled = layer.before * x
    expected = layer.after * (layer.inner(scaled) + scaled @ layer.slr_A.T @ layer.slr_B.T)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.merged()(x), expected)


def test_the_formula_of_a_convolution():
    layer = made(nn.Conv2d(4, 3, 3, stride=2, padding=1))
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    scaled = layer.before[:, None, None] * x
    low = nn.functional.conv2d(scaled, layer.slr_A, None, 2, 1)
    term = nn.functional.conv2d(low, layer.slr_B[:, :, None, None])
    expected = layer.after[:, None, None] * (layer.inner(scaled) + term)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.merged()(x), expected)


def test_a_starts_normal_and_b_at_zero():
    torch.manual_seed(0)
    layer = SLRLayer(RoleLinear("q", 512, 16), rank=8)
    assert layer.slr_A.std().item() == pytest.approx(1, rel=0.05)
    assert not layer.slr_B.any()


def test_counts():
    assert count_on_vit_b(SLR(rank=8)) == 12 * 18 * 9 * 768
    assert sum(p.numel() for p in trainable(adapt(stages(), SLR(rank=2))).values()) == 2 * (9 * 8 + 16) + 8 + 16


def test_wrong_rank():
    with pytest.raises(ConfigError, match="rank"):
        SLR(rank=0)

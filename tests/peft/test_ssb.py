"""SSL and SSB against their formula and what follows from it."""

import pytest
import torch
from cases import count_on_vit_b, stages
from torch import nn

from adapteo.contracts import adapt, trainable
from adapteo.errors import ConfigError
from adapteo.peft.ssb import SSB, SidesScaled
from adapteo.vit import RoleLinear


def layer(side: str, inner: nn.Module | None = None) -> SidesScaled:
    torch.manual_seed(0)
    made = SidesScaled((inner or RoleLinear("q", 6, 5)).double().requires_grad_(False), side).double()
    for p in trainable(made).values():
        nn.init.uniform_(p, 0.5, 2)
    return made


@pytest.mark.parametrize("side", ["out", "in", "both"])
def test_the_formula(side):
    made = layer(side)
    left = torch.eye(5) if made.left is None else made.left.diag()
    right = torch.eye(6) if made.right is None else made.right.diag()
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    expected = x @ (left.double() @ made.inner.weight @ right.double()).T + made.inner.bias
    torch.testing.assert_close(made(x), expected)
    torch.testing.assert_close(made.merged()(x), expected, rtol=1e-14, atol=1e-14)


def test_a_convolution_is_scaled_by_channels():
    made = layer("both", nn.Conv2d(4, 3, 3, stride=2, padding=1, dilation=2))
    weight = torch.einsum("o,oihw,i->oihw", made.left, made.inner.weight, made.right)
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    expected = nn.functional.conv2d(x, weight, made.inner.bias, 2, 1, 2)
    torch.testing.assert_close(made(x), expected)
    torch.testing.assert_close(made.merged()(x), expected)


def test_the_rank_stays():
    inner = RoleLinear("q", 6, 5).double()
    inner.weight.data.copy_(torch.randn(5, 2).double() @ torch.randn(2, 6).double())
    assert torch.linalg.matrix_rank(layer("both", inner).merged().weight) == 2


def test_ssl_is_ssb_with_ones_and_sides_trade_factors():
    one, both = layer("out"), layer("both")
    x = torch.randn(3, 6, dtype=torch.float64)
    with torch.no_grad():
        both.left.copy_(one.left)
        both.right.fill_(1)
        torch.testing.assert_close(one(x), both(x))
        both.left.mul_(4)
        both.right.div_(4)
        torch.testing.assert_close(one(x), both(x))


def test_counts_of_a_vit_b():
    assert count_on_vit_b(SSB()) == 12 * 18 * 768
    assert count_on_vit_b(SSB(side="out")) == count_on_vit_b(SSB(side="in")) == 12 * 9 * 768


def test_the_convolution_that_reads_the_image_is_left_alone():
    assert list(trainable(adapt(stages(), SSB()))) == ["blocks.1.0.left", "blocks.1.0.right"]


def test_wrong_side():
    with pytest.raises(ConfigError, match="side"):
        SSB(side="left")

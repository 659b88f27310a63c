"""CP mode approximation: slices of one tensor."""

import pytest
import torch
from cases import count_on_vit_b, filled, vit
from torch import nn

from adapteo.contracts import adapt, trainable
from adapteo.errors import ConfigError
from adapteo.peft.cp import CP, CPLinear, Factors
from adapteo.vit import RoleLinear


def layers(backbone: nn.Module) -> list[CPLinear]:
    return [module for module in backbone.modules() if isinstance(module, CPLinear)]


def test_changes_are_slices_of_one_tensor():
    backbone = filled(adapt(vit(), CP(rank=3, scale=2.0))).double()
    shared = layers(backbone)[0].shared
    modes = torch.cat([layer.cp_p.flatten(0, 1) for layer in layers(backbone)])
    assert modes.shape == (24, 3)
    tensor = torch.einsum("mr,or,ir->moi", modes * shared.cp_lambda, shared.cp_V, shared.cp_U)
    start = 0
    for layer in layers(backbone):
        rows, columns = layer.cp_p.shape[:2]
        pieces = tensor[start : start + rows * columns].unflatten(0, (rows, columns))
        change = torch.cat([torch.cat(list(row), dim=1) for row in pieces])
        x = torch.randn(2, 3, layer.inner.in_features, dtype=torch.float64)
        expected = x @ (layer.inner.weight + 2 * change).T + layer.inner.bias
        torch.testing.assert_close(layer(x), expected)
        torch.testing.assert_close(layer.merged()(x), expected)
        start += rows * columns


def test_factors_are_shared_and_counted_once():
    backbone = adapt(vit(), CP(rank=3))
    assert len({id(layer.shared) for layer in layers(backbone)}) == 1
    assert len([name for name in trainable(backbone) if "cp_U" in name]) == 1


@pytest.mark.parametrize(("depth", "count"), [(12, 107_584), (24, 107_584 + 12 * 12 * 64)])
def test_counts_of_vits(depth, count):
    assert count_on_vit_b(CP(rank=64), depth) == count


def test_sides_without_a_common_width_share_their_greatest_divisor():
    linear = RoleLinear("fc2", 512, 192).double()
    layer = CPLinear(linear, Factors(64, 2, linear.weight), 1.0)
    nn.init.normal_(layer.shared.cp_V)
    assert layer.cp_p.shape == (3, 8, 2)
    x = torch.randn(4, 512, dtype=torch.float64)
    torch.testing.assert_close(layer.merged()(x), layer(x))


def test_wrong_fields():
    with pytest.raises(ConfigError, match="rank"):
        CP(rank=0)
    with pytest.raises(ConfigError, match="scale"):
        CP(scale=0)

"""The dense side network, against its formula step by step, on plain and hierarchical backbones."""

import copy

import pytest
import torch
import torch.nn.functional as F
from cases import batch, count_on_vit_b, filled, stages, vit

from adapteo.contracts import Batch, adapt
from adapteo.errors import ConfigError
from adapteo.peft.side import Side


def rung_by_hand(rung, given, before, kernel):
    """Next state and what is added to the map, from parameters alone, with maps ``(b, c, h, w)``."""

    def pointwise(linear, z):
        return torch.einsum("oi,bihw->bohw", linear.weight, z) + linear.bias[:, None, None]

    def normed(z, norm=None):
        centred = z - z.mean(1, keepdim=True)
        eps = 1e-6 if norm else 1e-5
        z = centred / (centred.square().mean(1, keepdim=True) + eps).sqrt()
        return z * norm.weight[:, None, None] + norm.bias[:, None, None] if norm else z

    z = pointwise(rung.read, normed(given))
    if before is not None:
        mu = 1 / (1 + torch.exp(-rung.gate.alpha / 0.1))
        factor = before.shape[2] // z.shape[2]
        z = mu * z + (1 - mu) * F.avg_pool2d(before, factor)
    for block in rung.blocks:
        near = F.conv2d(z, block.depthwise.weight, block.depthwise.bias, padding=kernel // 2, groups=z.shape[1])
        z = z + pointwise(block.contract, F.gelu(pointwise(block.expand, normed(near, block.norm))))
    return z, pointwise(rung.out.up, normed(z, rung.out.norm))


@pytest.mark.parametrize("make", [lambda: vit(depth=3), lambda: vit(frames=2), stages])
@torch.no_grad()
def test_the_maps_are_those_of_the_formula(make):
    method = Side(reduction=2, depth=2, kernel=3)
    plain = make().double()
    adapted = filled(adapt(copy.deepcopy(plain), method), 0.3)
    images = batch(16).images.double().expand(-1, plain.frames, -1, -1, -1)
    state = None
    for ours, given, rung in zip(adapted(Batch(images)), plain(Batch(images)), adapted.route.rungs, strict=True):
        state, added = rung_by_hand(rung, given, state, 3)
        torch.testing.assert_close(ours, given + added, rtol=1e-10, atol=1e-10)


def test_number_of_parameters_on_a_vit_b():
    rung = 768 * 96 + 96 + 8 * 96**2 + (49 + 8) * 96 + 96 * 768 + 768 + 2 * 96
    assert count_on_vit_b(Side()) == 4 * rung + 3


def test_later_maps_may_be_finer():
    side = adapt(stages(), Side(reduction=2, kernel=3)).route
    coarse, fine = torch.randn(1, 8, 2, 2), torch.randn(1, 16, 4, 4)
    assert [m.shape for m in side.go_on(stages(), (coarse, fine), None)] == [coarse.shape, fine.shape]


@pytest.mark.parametrize(("fields", "words"), [({"depth": 0}, "depth is 1 or more"), ({"kernel": 4}, "kernel is odd")])
def test_sizes_without_meaning_are_refused(fields, words):
    with pytest.raises(ConfigError, match=words):
        Side(**fields)

"""Rows and columns of a linear: what training the whole weight under a mask would do."""

import pytest
import torch
from cases import batch, count_on_vit_b, filled, gradients, vit
from torch import nn

from adapteo.contracts import adapt, trainable
from adapteo.errors import ConfigError
from adapteo.peft._parts import PartLinear
from adapteo.peft.apla import APLA
from adapteo.peft.rocoft import RoCoFT
from adapteo.vit import RoleLinear


@pytest.mark.parametrize("axis", [0, 1])
def test_gradients_are_slices_of_that_of_the_whole_weight(axis):
    torch.manual_seed(0)
    plain = RoleLinear("q", 6, 5).double()
    index = torch.tensor([0, 3])
    layer = PartLinear(plain, index, axis)
    x = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(layer(x), plain(x))
    (whole,) = gradients(lambda: plain(x), [plain.weight])
    (part,) = gradients(lambda: layer(x), [layer.part])
    torch.testing.assert_close(part, whole.index_select(axis, index))
    with torch.no_grad():
        layer.part.add_(1)
    moved = nn.functional.linear(x, plain.weight.detach().index_copy(axis, index, layer.part), plain.bias)
    torch.testing.assert_close(layer(x), moved)
    torch.testing.assert_close(layer.merged()(x), moved)


def test_columns_keep_only_their_inputs():
    layer = PartLinear(RoleLinear("q", 64, 64).requires_grad_(False), torch.arange(3), 1)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.shape) or t, lambda t: t):
        layer(torch.randn(10, 64))
    assert torch.Size([10, 64]) not in saved


def test_counts_of_a_vit_b():
    assert count_on_vit_b(RoCoFT(rank=3)) == 12 * 9 * 3 * 768
    assert count_on_vit_b(RoCoFT(rank=3, side="columns")) == 12 * 9 * 3 * 768
    assert count_on_vit_b(APLA()) == 12 * (768**2 + 768)
    assert count_on_vit_b(APLA(columns=32)) == 12 * 32 * 768


def test_apla_trains_projections_only():
    assert {name.rsplit(".", 2)[1] for name in trainable(adapt(vit(), APLA()))} == {"proj"}


def test_columns_follow_from_the_seed():
    def chosen(seed: int) -> list[list[int]]:
        backbone = adapt(vit(), APLA(columns=5, seed=seed))
        return [m.index.tolist() for m in backbone.modules() if isinstance(m, PartLinear)]

    assert chosen(0) == chosen(0) != chosen(1)
    assert chosen(0)[0] != chosen(0)[1]
    assert len(set(chosen(0)[0])) == 5


def test_all_columns_are_the_whole_weight():
    every, whole = adapt(vit(), APLA(columns=32)), vit()
    for layer, block in zip((b.attn.proj for b in filled(every).blocks), whole.blocks, strict=True):
        block.attn.proj.weight.data.copy_(layer.part)
    for x, y in zip(every(batch()), whole(batch()), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", [APLA(columns=33), RoCoFT(rank=33, targets=("q",))])
def test_more_than_there_are(method):
    with pytest.raises(ConfigError, match="that has 32"):
        adapt(vit(), method)


def test_wrong_fields():
    for make in (lambda: APLA(columns=0), lambda: RoCoFT(rank=0), lambda: RoCoFT(side="diagonal")):
        with pytest.raises(ConfigError):
            make()

"""Ladder side-tuning, against its formula step by step, and what it keeps of the trunk."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from cases import batch, count_on_vit_b, filled, projected, vit

from adapteo.contracts import Batch, Composition, adapt, trainable
from adapteo.errors import ConfigError
from adapteo.peft import _side
from adapteo.peft.lora import LoRA
from adapteo.peft.lst import LST
from adapteo.peft.side import Side
from adapteo.peft.vit_adapter import ViTAdapter
from adapteo.peft.vpt import VPT
from adapteo.vit import Block


def block_by_hand(block, x, heads):
    """A pre-norm transformer block from its parameters alone."""
    attn, mlp = block.attn, block.mlp
    normed = F.layer_norm(x, x.shape[-1:], block.norm1.weight, block.norm1.bias, 1e-6)
    q, k, v = (
        (normed @ m.weight.T + m.bias).unflatten(-1, (heads, -1)).transpose(1, 2) for m in (attn.q, attn.k, attn.v)
    )
    weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
    x = x + (weights @ v).transpose(1, 2).flatten(2) @ attn.proj.weight.T + attn.proj.bias
    normed = F.layer_norm(x, x.shape[-1:], block.norm2.weight, block.norm2.bias, 1e-6)
    return x + F.gelu(normed @ mlp.fc1.weight.T + mlp.fc1.bias) @ mlp.fc2.weight.T + mlp.fc2.bias


@torch.no_grad()
def test_the_maps_are_those_of_the_formula():
    plain = vit(depth=3, dim=64).double()
    adapted = filled(adapt(copy.deepcopy(plain), LST(reduction=2)), 0.3)
    images = Batch(batch().images.double())
    route = adapted.route
    x, grid = plain.embed(images)
    s = x @ route.down[0].weight.T + route.down[0].bias
    expected = []
    for index, trunk in enumerate(plain.blocks):
        x = trunk(x)
        mu = 1 / (1 + torch.exp(-route.gates[index].alpha / 0.1))
        mixed = mu * (x @ route.down[index + 1].weight.T + route.down[index + 1].bias) + (1 - mu) * s
        s = block_by_hand(route.blocks[index], mixed, heads=1)
        out = route.out[index]
        added = F.layer_norm(s, s.shape[-1:], out.norm.weight, out.norm.bias, 1e-6) @ out.up.weight.T + out.up.bias
        tapped = plain.norm(x) if index == 2 else x
        expected.append((tapped + added)[:, 1:].transpose(1, 2).unflatten(2, (grid.height, grid.width)))
    for ours, theirs in zip(adapted(images), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_number_of_parameters_on_a_vit_b():
    down, gates, blocks, out = 13 * (768 * 64 + 64), 12, 12 * (12 * 64**2 + 13 * 64), 4 * (64 * 768 + 768 + 2 * 64)
    assert count_on_vit_b(LST()) == down + gates + blocks + out == 1_439_820


def kept(backbone):
    """Shapes of what autograd keeps for the backward pass, beside parameters."""
    own = {id(p) for p in backbone.parameters()}
    shapes = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: shapes.append(tuple(t.shape)) if id(t) not in own else None, lambda t: t
    ):
        maps = backbone(batch())
    return shapes, maps


@pytest.mark.parametrize("method", [LST(), Side()])
def test_the_trunk_builds_no_graph(method):
    backbone = adapt(vit(depth=3, dim=96), method)
    stored, grid = backbone.route.reach(backbone, batch())
    assert not any(x.requires_grad for x in stored)
    shapes, maps = kept(backbone)
    hidden = 4 * backbone.dim
    assert shapes
    assert not any(hidden in shape for shape in shapes)  # no hidden layer of a block of the trunk
    ours = [m.detach() for m in backbone.route.go_on(backbone, tuple(x.clone() for x in stored), grid)]
    assert all(torch.equal(a, b) for a, b in zip(maps, ours, strict=True))


@pytest.mark.parametrize("method", [LST(), Side()])
def test_maps_that_nobody_reads_are_not_computed_and_the_others_are_the_same(method):
    backbone = filled(adapt(vit(depth=3), method))
    stored, grid = backbone.route.reach(backbone, batch())
    every = backbone.route.go_on(backbone, stored, grid)
    for read in ((), (1,), (0, 2)):
        found = backbone.route.go_on(backbone, stored, grid, read)
        for index, (one, other) in enumerate(zip(found, every, strict=True)):
            assert torch.equal(one, other) if index in read else one.shape == (2, 0, 1, 1)


@pytest.mark.parametrize("method", [LST(), Side()])
def test_in_several_processes_every_parameter_gets_a_gradient_from_one_map(method, monkeypatch):
    backbone = filled(adapt(vit(depth=3), method)).train()
    before = backbone(batch())[-1]
    monkeypatch.setattr(_side, "several_processes", lambda: True)
    last = backbone(batch())[-1]
    assert torch.equal(last, before)
    projected([last]).backward()
    assert all(p.grad is not None for p in trainable(backbone).values())


@pytest.mark.parametrize("method", [LST(), Side()])
def test_methods_inside_the_trunk_learn_through_it(method):
    backbone = filled(adapt(vit(), Composition((method, LoRA(rank=2)))))
    projected(backbone(batch())).backward()
    assert all(p.grad is not None and p.grad.any() for p in trainable(backbone).values())


def test_prompts_that_trail_stay_out_of_the_side_network():
    backbone = filled(adapt(vit(depth=3), Composition((LST(), VPT(prompts=2, deep=False)))))
    stored, grid = backbone.route.reach(backbone, batch())
    assert {x.shape[1] for x in stored} == {grid.prefix + grid.patches}
    assert [m.shape[2:] for m in backbone(batch())] == [(2, 4)] * 3


@pytest.mark.parametrize("other", [Side(), ViTAdapter(conv_width=8)])
def test_two_ways_beside_one_trunk_are_refused(other):
    with pytest.raises(ConfigError, match="only one of the two"):
        adapt(vit(), Composition((LST(), other)))


@pytest.mark.parametrize(
    ("dim", "reduction", "expected"), [(4, 1, 4), (32, 8, 32), (96, 2, 48), (100, 1, 96), (208, 1, 208)]
)
def test_widths_are_multiples_of_eight_that_heads_divide(dim, reduction, expected):
    blocks = adapt(vit(dim=dim), LST(reduction=reduction)).route.blocks
    assert {block.norm1.normalized_shape for block in blocks} == {(expected,)}
    assert all(isinstance(block, Block) and expected % block.attn.heads == 0 for block in blocks)


def test_sizes_below_one_are_refused():
    with pytest.raises(ConfigError, match="reduction is 1 or more, not 0"):
        LST(reduction=0)

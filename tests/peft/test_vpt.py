"""Prompts against the paper's counts, bound and placement."""

import math

import pytest
import torch
from torch import nn

from adapteo.bands import HLS6
from adapteo.contracts import Batch, adapt, merge, trainable, trainable_count
from adapteo.errors import ConfigError
from adapteo.peft.vpt import VPT
from tiny import TinyBackbone


def plain(**kwargs) -> TinyBackbone:
    torch.manual_seed(0)
    return TinyBackbone(HLS6, **kwargs).eval()


def batch(dtype: torch.dtype = torch.float32) -> Batch:
    return Batch(torch.randn(2, 1, 6, 8, 12, generator=torch.Generator().manual_seed(1)).to(dtype))


@pytest.mark.parametrize(
    ("dim", "depth", "deep", "count"),
    [(768, 12, True, 921_600), (1024, 24, True, 2_457_600), (768, 12, False, 76_800)],
)
def test_counts_of_vit_b_and_l(dim, depth, deep, count):
    with torch.device("meta"):
        backbone = TinyBackbone(HLS6, depth=depth, dim=dim)
        assert trainable_count(adapt(backbone, VPT(prompts=100, deep=deep))) == count


def in_the_middle(backbone: TinyBackbone, prompts: list[torch.Tensor], deep: bool) -> list[torch.Tensor]:
    """The published placement, written out: [class, prompts, patches], replaced (deep) or kept (shallow)."""
    tokens, grid = backbone.embed(batch(torch.float64))
    count, last, maps = len(prompts[0]), len(backbone.blocks) - 1, []
    for index, block in enumerate(backbone.blocks):
        if deep and index > 0:
            tokens = torch.cat([tokens[:, :1], tokens[:, 1 + count :]], 1)
        if deep or index == 0:
            tokens = torch.cat([tokens[:, :1], prompts[index].expand(len(tokens), -1, -1), tokens[:, 1:]], 1)
        tokens = block(tokens)
        if index in backbone.taps:
            patches = torch.cat([tokens[:, :1], tokens[:, 1 + count :]], 1)
            maps.append(grid.to_map(backbone.norm(patches) if index == last else patches))
    return maps


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("depth", [1, 3])
def test_prompts_behind_the_patches_equal_prompts_after_the_class_token(deep, depth):
    backbone = adapt(plain(depth=depth), VPT(prompts=5, deep=deep)).double()
    prompts = list(trainable(backbone).values())
    maps = in_the_middle(plain(depth=depth).double(), prompts, deep)
    torch.testing.assert_close(backbone(batch(torch.float64)), maps, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("real", "channels"), [(False, 3), (True, 6)])
def test_initial_values_are_uniform_within_the_published_bound(real, channels):
    backbone = plain()
    bound = math.sqrt(6 / (channels * 4**2 + 32))
    method = VPT(prompts=100, real_channels=real)
    assert method.bound(backbone) == pytest.approx(bound)
    values = torch.cat(list(trainable(adapt(backbone, method)).values()))
    assert values.abs().max() <= bound
    assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_blocks_see_new_prompts_each_and_the_length_is_restored():
    backbone = adapt(plain(depth=3), VPT(prompts=4, dropout=0.0))
    first, second, third = trainable(backbone).values()
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    tokens = torch.randn(2, 7, 32)
    assert backbone.blocks[1](tokens).shape == tokens.shape


def test_dropout_acts_on_prompts_in_training_only():
    backbone = adapt(plain(), VPT(prompts=50, dropout=0.5))
    assert all(map(torch.equal, backbone(batch()), backbone(batch())))
    backbone.train()
    assert not torch.equal(backbone(batch())[-1], backbone(batch())[-1])


def test_merging_says_what_to_do_instead():
    with pytest.raises(ConfigError, match="keep the adapter file"):
        merge(adapt(plain(), VPT()))


@pytest.mark.parametrize(("fields", "message"), [({"prompts": 0}, "at least 1"), ({"dropout": 1.0}, "dropout")])
def test_wrong_fields(fields, message):
    with pytest.raises(ConfigError, match=message):
        VPT(**fields)


def test_works_on_blocks_of_any_kind():
    backbone = plain()
    backbone.blocks = nn.ModuleList([nn.Linear(32, 32), nn.Linear(32, 32)])
    assert adapt(backbone, VPT())(batch())[-1].shape == (2, 32, 2, 3)

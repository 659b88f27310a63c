from itertools import pairwise

import pytest
import torch

from adapteo.contracts import Features
from adapteo.decoders._pyramid import Pyramid, norm_layer
from adapteo.decoders.unet import UNet
from adapteo.errors import ConfigError

NARROW = (16, 16, 8, 8)


def plain(patch=8, d=16, maps=4, grid=(4, 4), b=2):
    torch.manual_seed(0)
    return Features((d,) * maps, (patch,) * maps), [torch.randn(b, d, *grid) for _ in range(maps)]


@pytest.mark.parametrize("grid", [(4, 4), (5, 3), (1, 1), (1, 7)])
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_any_grid_gives_the_label_grid(grid, norm):
    features, maps = plain(grid=grid)
    module = UNet(NARROW, norm).build(features, 3, dense=True)
    for size in [(grid[0] * 8, grid[1] * 8), (grid[0] * 8 + 3, grid[1] * 8 - 1)]:
        assert module(maps, size).shape == (2, 3, *size)


@pytest.mark.parametrize(
    ("patch", "strides"),
    [(16, (4, 8, 16, 32)), (8, (2, 4, 8, 16)), (4, (1, 2, 4, 8)), (2, (1, 2, 4)), (1, (1, 2)), (14, (3, 7, 14, 28))],
)
def test_pyramid_strides_never_fall_below_a_pixel(patch, strides):
    features, maps = plain(patch, grid=(6, 4))
    pyramid = Pyramid(features)
    assert pyramid.features.strides == strides
    levels = pyramid(maps)
    assert [level.shape[1] for level in levels] == list(pyramid.features.channels)
    assert levels[-1].shape[2:] == (3, 2)
    for finer, coarser in pairwise(levels):
        assert finer.shape[2:] == (coarser.shape[2] * 2, coarser.shape[3] * 2)


@pytest.mark.parametrize(
    ("count", "sources"), [(1, (0, 0, 0, 0)), (2, (0, 0, 1, 1)), (4, (0, 1, 2, 3)), (6, (0, 2, 3, 5))]
)
def test_levels_take_taps_in_order_whatever_their_number(count, sources):
    features, maps = plain(maps=count)
    pyramid = Pyramid(features)
    assert pyramid.sources == sources
    assert UNet(NARROW).build(features, 2, dense=True)(maps, (32, 32)).shape == (2, 2, 32, 32)


def test_native_stages_pass_unchanged():
    features = Features((8, 12, 20), (4, 8, 16))
    maps = [torch.randn(1, c, 32 // s, 48 // s) for c, s in zip(features.channels, features.strides, strict=True)]
    module = UNet((24, 16, 8)).build(features, 2, dense=True)
    assert not list(module.pyramid.parameters())
    assert all(a is b for a, b in zip(module.pyramid(maps), maps, strict=True))
    assert [block.conv1[0].in_channels for block in module.blocks] == [20 + 12, 24 + 8, 16]
    assert module(maps, (32, 48)).shape == (1, 2, 32, 48)


@pytest.mark.parametrize(
    ("dim", "widths"), [(128, [128, 64, 32, 16]), (768, [512, 256, 128, 64]), (32, [32, 16, 16, 16])]
)
def test_default_widths_follow_the_backbone_up_to_the_paper(dim, widths):
    module = UNet().build(Features((dim,) * 4, (16,) * 4), 2, dense=True)
    assert [block.conv2[0].out_channels for block in module.blocks] == widths


def test_group_norm_makes_images_independent_of_their_batch():
    features, maps = plain(b=3)
    module = UNet(NARROW).build(features, 2, dense=True)
    together = module(maps, (32, 32))
    alone = torch.cat([module([m[i : i + 1] for m in maps], (32, 32)) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_groups_keep_at_least_eight_channels():
    for channels in (8, 12, 16, 24, 36, 64, 100, 256, 512):
        groups = norm_layer("group", channels).num_groups
        assert channels / groups >= 8
        assert groups <= 32


def test_every_parameter_gets_a_gradient():
    features, maps = plain(grid=(5, 3))
    module = UNet().build(features, 3, dense=True)
    logits = module(maps, (40, 24))
    (logits * torch.randn_like(logits)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_wrong_configurations_say_what_to_do():
    features, _ = plain()
    with pytest.raises(ConfigError, match="decoder: linear"):
        UNet().build(features, 2, dense=False)
    with pytest.raises(ConfigError, match="2 values, but this backbone gives 4 scales"):
        UNet((16, 8)).build(features, 2, dense=True)
    with pytest.raises(ConfigError, match="did you mean 'batch'"):
        UNet(norm="bach")
    with pytest.raises(ConfigError, match="positive widths"):
        UNet(channels=(16, 0))

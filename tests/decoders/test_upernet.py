import pytest
import torch

from adapteo.contracts import Features
from adapteo.decoders.upernet import UPerNet
from adapteo.errors import ConfigError

STAGES = Features((6, 8, 10, 12, 14), (2, 4, 8, 16, 32))


def maps_of(features, size, b=1):
    torch.manual_seed(0)
    return [
        torch.randn(b, c, size[0] // s, size[1] // s) for c, s in zip(features.channels, features.strides, strict=True)
    ]


def test_a_cnn_is_read_from_stride_4():
    module = UPerNet(channels=8).build(STAGES, 2, dense=True)
    assert module.reads == (-4, -3, -2, -1)
    assert [lateral[0].in_channels for lateral in module.laterals] == [8, 10, 12]


@pytest.mark.parametrize(("width", "channels"), [(1024, 256), (128, 128), (8, 16)])
def test_the_width_follows_the_backbone_up_to_the_paper(width, channels):
    module = UPerNet().build(Features((width,) * 4, (16,) * 4), 2, dense=True)
    assert module.head.in_channels == channels


def test_parameter_formula():
    c, k, pools = 8, 3, (1, 2, 3, 6)
    module = UPerNet(channels=c, pools=pools).build(STAGES, k, dense=True)
    norm = 2 * c
    finer, coarsest = STAGES.channels[1:-1], STAGES.channels[-1]
    expected = len(pools) * (coarsest * c + norm) + (coarsest + len(pools) * c) * c * 9 + norm
    expected += sum(width * c + norm for width in finer) + len(finer) * (c * c * 9 + norm)
    expected += 4 * c * c * 9 + norm + c * k + k
    assert sum(p.numel() for p in module.parameters()) == expected


@pytest.mark.parametrize(("pools", "reaches"), [((), False), ((1,), True)])
def test_pooling_lets_every_place_see_the_whole_image(pools, reaches):
    """Layer norm, as group norm looks at the whole image by itself; the grid is wider than the convolutions reach."""
    module = UPerNet(channels=8, pools=pools, norm="layer").build(STAGES, 2, dense=True)
    maps = [m.requires_grad_() for m in maps_of(STAGES, (32, 640))]
    module(maps, (32, 640))[..., 0].sum().backward()
    assert bool(maps[-1].grad[..., -1].any()) is reaches


@torch.no_grad()
def test_features_stay_at_their_place_unless_corners_are_aligned():
    """Maps moved by one coarse cell give the same logits 32 pixels further, away from the border."""
    size = (32, 512)
    for aligned in (False, True):
        torch.manual_seed(1)
        module = UPerNet(channels=8, pools=(), norm="layer", align_corners=aligned).build(STAGES, 2, dense=True)
        maps = maps_of(STAGES, size)
        here = module(maps, size)[..., 192:288]
        rolled = [m.roll(32 // s, 3) for m, s in zip(maps, STAGES.strides, strict=True)]
        there = module(rolled, size)[..., 224:320]
        difference = float((here - there).abs().max() / here.std())
        assert (difference < 1e-3) is not aligned


def test_wrong_configurations_say_what_to_do():
    with pytest.raises(ConfigError, match=r"decoder\.channels is -1"):
        UPerNet(channels=-1)
    with pytest.raises(ConfigError, match=r"decoder\.pools is 0"):
        UPerNet(pools=(1, 0))

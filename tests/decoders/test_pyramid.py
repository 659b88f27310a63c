from itertools import pairwise

import pytest
import torch

from adapteo.contracts import Features
from adapteo.decoders._pyramid import Pyramid


def plain(patch=8, d=16, maps=4, grid=(4, 4), b=2):
    torch.manual_seed(0)
    return Features((d,) * maps, (patch,) * maps), [torch.randn(b, d, *grid) for _ in range(maps)]


@pytest.mark.parametrize(
    ("patch", "strides"),
    [(16, (4, 8, 16, 32)), (8, (2, 4, 8, 16)), (4, (1, 2, 4, 8)), (2, (1, 2, 4)), (1, (1, 2)), (14, (3, 7, 14, 28))],
)
def test_strides_never_fall_below_a_pixel(patch, strides):
    features, maps = plain(patch, grid=(6, 4))
    pyramid = Pyramid(features)
    assert not pyramid.native
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
    features, _ = plain(maps=count)
    assert Pyramid(features).sources == tuple(source - count for source in sources)


@pytest.mark.parametrize(("deepest", "levels"), [(None, 3), (2, 2), (4, 3)])
def test_native_maps_pass_unchanged(deepest, levels):
    features = Features((8, 12, 20), (4, 8, 16))
    maps = [torch.randn(1, c, 32 // s, 48 // s) for c, s in zip(features.channels, features.strides, strict=True)]
    pyramid = Pyramid(features, deepest=deepest)
    assert pyramid.native
    assert not list(pyramid.parameters())
    assert pyramid.features == Features(features.channels[-levels:], features.strides[-levels:])
    assert all(a is b for a, b in zip(pyramid(maps), maps[-levels:], strict=True))

import pytest
import torch
import torch.nn.functional as F

from adapteo.contracts import Features
from adapteo.decoders.linear import Linear


def maps_of(b=2, d=24, h=3, w=5):
    torch.manual_seed(0)
    return [torch.randn(b, d, h, w) for _ in range(2)]


def test_dense_gives_each_token_its_block_of_pixels():
    maps = maps_of()
    module = Linear().build(Features((24, 24), (8, 8)), outputs=3, dense=True)
    logits = module(maps, (24, 40))
    assert logits.shape == (2, 3, 24, 40)
    weight, bias = module.head.weight, module.head.bias
    block = torch.einsum("d,dkyx->kyx", maps[-1][1, :, 2, 4], weight) + bias[:, None, None]
    torch.testing.assert_close(logits[1, :, 16:24, 32:40], block)


def test_parameter_formula():
    features = Features((768,), (16,))
    dense = Linear().build(features, outputs=2, dense=True)
    assert sum(p.numel() for p in dense.parameters()) == 768 * 2 * 16**2 + 2
    assert sum(p.numel() for p in Linear().build(features, 10, False).parameters()) == 768 * 10 + 10


@pytest.mark.parametrize("dense", [True, False])
def test_linear_in_its_inputs(dense):
    first, second = maps_of(), [m.flip(0) for m in maps_of()]
    module = Linear().build(Features((24, 24), (8, 8)), 4, dense)
    mixed = [0.3 * a + 0.7 * b for a, b in zip(first, second, strict=True)]
    size = (24, 40)
    torch.testing.assert_close(module(mixed, size), 0.3 * module(first, size) + 0.7 * module(second, size))
    assert torch.equal(module.head(module.inputs(first)), module(first, size))


def test_per_image_is_the_linear_of_the_mean():
    maps = maps_of()
    module = Linear().build(Features((24, 24), (8, 8)), 4, dense=False)
    expected = F.linear(maps[-1].flatten(2).mean(2), module.head.weight, module.head.bias)
    torch.testing.assert_close(module(maps, (24, 40)), expected)


def test_padding_is_cut_and_other_grids_are_interpolated():
    maps = maps_of()
    module = Linear().build(Features((24, 24), (8, 8)), 3, dense=True)
    full = module(maps, (24, 40))
    assert torch.equal(module(maps, (21, 33)), full[:, :, :21, :33])
    doubled = F.interpolate(full, size=(48, 80), mode="bilinear")
    assert torch.equal(module(maps, (48, 80)), doubled)


def test_logits_start_at_the_scale_of_a_linear_layer():
    torch.manual_seed(0)
    module = Linear().build(Features((128,), (16,)), 10, dense=True)
    logits = module([torch.randn(4, 128, 4, 4)], (64, 64))
    assert 0.4 < float(logits.detach().std()) < 0.8

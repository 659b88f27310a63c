import pytest
import torch
import torch.nn.functional as F

from adapteo.contracts import Features
from adapteo.decoders.linear import Linear
from adapteo.errors import ConfigError

STAGES = Features((6, 8, 10, 12), (4, 8, 16, 32))


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


@pytest.mark.parametrize("fields", [None, {}, {"stride": 16}, {"stride": 4}, {"stride": 16, "upsampling": 4}])
def test_linear_in_its_inputs(fields):
    """None is for labels per image."""
    first, second = maps_of(), [m.flip(0) for m in maps_of()]
    module = Linear(**fields or {}).build(Features((24, 24), (8, 8)), 4, dense=fields is not None)
    mixed = [0.3 * a + 0.7 * b for a, b in zip(first, second, strict=True)]
    size = (24, 40)
    torch.testing.assert_close(module(mixed, size), 0.3 * module(first, size) + 0.7 * module(second, size))
    if not fields:
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


def stages(size, b=2):
    torch.manual_seed(0)
    return [torch.randn(b, c, size[0] // s, size[1] // s) for c, s in zip(STAGES.channels, STAGES.strides, strict=True)]


@pytest.mark.parametrize(("stride", "index"), [(4, -4), (8, -3), (16, -2), (32, -1), (None, -1), (64, -1), (2, -1)])
def test_the_map_of_the_wanted_stride_is_read_or_else_the_last(stride, index):
    module = Linear(stride).build(STAGES, 3, dense=True)
    assert module.reads == (index,)
    assert module.head.in_channels == STAGES.channels[index]
    assert module.head.kernel_size == (stride or 32,) * 2
    maps = stages((64, 128))
    if stride in STAGES.strides:
        assert module.inputs(maps) is maps[index]
    assert module(maps, (64, 128)).shape == (2, 3, 64, 128)


def test_of_several_maps_with_the_wanted_stride_the_last_is_read():
    assert Linear(8).build(Features((24,) * 4, (8,) * 4), 3, dense=True).reads == (-1,)


@pytest.mark.parametrize(("have", "want"), [(8, 16), (8, 32), (4, 16), (32, 16), (16, 4), (14, 16), (16, 14), (14, 7)])
def test_a_resized_map_keeps_places_and_means(have, want):
    """On a map that rises evenly, bilinear samples and means over cells both give the value at the centre of a cell."""
    module = Linear(want).build(Features((2,), (have,)), 3, dense=True)
    side = 112 if 14 in (have, want) else 128
    centres = (torch.arange(side // have) + 0.5) * have
    rising = torch.stack(torch.meshgrid(centres, 2 * centres, indexing="ij"))[None]
    found = module.inputs([rising])
    expected = (torch.arange(side // want) + 0.5) * want
    assert found.shape == (1, 2, side // want, side // want)
    border = max(1, have // want)  # there bilinear samples repeat the edge
    inner = slice(border, -border)
    torch.testing.assert_close(found[0, 0, inner, 0], expected[inner])
    torch.testing.assert_close(found[0, 1, 0, inner], 2 * expected[inner])


def test_every_token_counts_when_the_stride_grows():
    module = Linear(32).build(Features((1,), (4,)), 3, dense=True)
    x = torch.zeros(1, 1, 16, 16)
    for row in range(16):
        one = x.clone()
        one[0, 0, row, 3] = 64
        expected = torch.zeros(2, 2)
        expected[row // 8, 0] = 1
        assert torch.equal(module.inputs([one])[0, 0], expected)


def test_twice_the_stride_is_bilinear_as_well():
    x = torch.randn(2, 24, 6, 4)
    found = Linear(16).build(Features((24,), (8,)), 3, dense=True).inputs([x])
    torch.testing.assert_close(found, F.interpolate(x, scale_factor=0.5, mode="bilinear"))


@pytest.mark.parametrize(
    ("have", "want", "grid"), [(8, 16, (3, 5)), (14, 16, (3, 9)), (4, 32, (1, 1)), (16, 14, (1, 5))]
)
def test_a_map_that_is_not_covered_evenly_is_continued_by_its_edge(have, want, grid):
    """So the logits stay on their pixels: those of the continued map, cut to the labels."""
    torch.manual_seed(0)
    module = Linear(want).build(Features((3,), (have,)), 2, dense=True)
    x = torch.randn(1, 3, *grid)
    size = (grid[0] * have, grid[1] * have)
    wide = F.pad(x, (0, 16, 0, 16), mode="replicate")
    wide = wide[:, :, : (grid[0] + 16) // 8 * 8, : (grid[1] + 16) // 8 * 8]
    continued = module([wide], (wide.shape[2] * have, wide.shape[3] * have))
    logits = module([x], size)
    assert logits.shape == (1, 2, *size)
    torch.testing.assert_close(logits, continued[:, :, : size[0], : size[1]])


def test_the_papers_vit_adapter_head():
    """Stride 32, kernel 16, bilinear from half the resolution, as TerraTorch chains it."""
    module = Linear(upsampling=16).build(Features((12,) * 4, (4, 8, 16, 32)), 3, dense=True)
    x = torch.randn(2, 12, 3, 2)
    half = F.conv_transpose2d(x, module.head.weight, module.head.bias, stride=16)
    expected = F.interpolate(half, size=(96, 64), mode="bilinear")
    torch.testing.assert_close(module([x], (96, 64)), expected)
    assert sum(p.numel() for p in module.parameters()) == 12 * 3 * 16**2 + 3
    assert torch.equal(module([x], (90, 60)), module([x], (96, 64))[:, :, :90, :60])


@pytest.mark.parametrize("fields", [{}, {"stride": 16}, {"stride": 64}, {"stride": 24, "upsampling": 4}])
def test_logits_are_linear_in_the_map_and_nothing_but_the_head_is_trained(fields):
    """What the convex fit of the head start relies on."""
    assert Linear(**fields).linear
    module = Linear(**fields).build(STAGES, 3, dense=True).double()
    assert {id(p) for p in module.parameters()} == {id(module.head.weight), id(module.head.bias)}
    one = [m.double() for m in stages((64, 128))]
    other = [torch.randn_like(m) for m in one]
    mixed = [2 * a - 3 * b for a, b in zip(one, other, strict=True)]
    without = [module(maps, (64, 128)) - module.head.bias[:, None, None] for maps in (one, other, mixed)]
    torch.testing.assert_close(without[2], 2 * without[0] - 3 * without[1])


@pytest.mark.parametrize("field", ["stride", "upsampling"])
def test_fields_that_make_no_sense(field):
    with pytest.raises(ConfigError, match=rf"decoder\.{field} is -8"):
        Linear(**{field: -8})
    with pytest.raises(ConfigError, match=rf"decoder\.{field} is 8, but there is one label per image") as caught:
        Linear(**{field: 8}).build(STAGES, 3, dense=False)
    assert f"leave decoder.{field} out" in str(caught.value)

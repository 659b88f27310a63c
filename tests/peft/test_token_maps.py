"""Convpass and Mona: convolutions over the places of tokens, written out."""

import pytest
import torch
import torch.nn.functional as F
from cases import batch, count_on_vit_b, filled, vit
from torch import nn

from adapteo.bands import HLS6
from adapteo.contracts import Batch, Grid, adapt, trainable
from adapteo.errors import ConfigError
from adapteo.peft._token_map import over_places
from adapteo.peft.convpass import Bypass, Convpass
from adapteo.peft.mona import Mona, MonaAdapter
from adapteo.peft.vit_adapter import ViTAdapter
from tiny import TinyBackbone


@pytest.mark.parametrize("spatial_first", [True, False])
def test_every_token_sees_its_neighbours_of_its_own_date(spatial_first):
    grid = Grid(3, 4, prefix=1, stack=2, spatial_first=spatial_first)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 1 + 24 + 2, 5, generator=generator)  # class token, patches, two prompts
    convolve = nn.Conv2d(5, 5, 3, padding=1)
    out = over_places(tokens, grid, convolve)
    assert out.shape == tokens.shape
    for date in range(2):
        places = torch.empty(2, 5, 3, 4)
        found = torch.empty(2, 5, 3, 4)
        for i in range(3):
            for j in range(4):
                at = 1 + ((i * 4 + j) * 2 + date if spatial_first else (date * 3 + i) * 4 + j)
                places[:, :, i, j], found[:, :, i, j] = tokens[:, at], out[:, at]
        torch.testing.assert_close(found, convolve(places))
    for at in (0, 25, 26):
        torch.testing.assert_close(out[:, at], convolve(tokens[:, at, :, None, None])[:, :, 0, 0])


def placed(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (height, width))


def test_convpass_adds_beside_attention_and_mlp():
    ours, plain = filled(adapt(vit(), Convpass(width=3, scale=0.5))), vit().blocks[0]
    ours(batch())  # tells the grid of 2 x 4 patches
    block, x = ours.blocks[0], torch.randn(2, 9, 32)

    def bypass(layer: Bypass, z: torch.Tensor) -> torch.Tensor:
        low = F.gelu(layer.down(z))
        maps = layer.conv(placed(low, 2, 4)).flatten(2).transpose(1, 2)
        first = layer.conv(low[:, :1].transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
        return 0.5 * layer.up(F.gelu(torch.cat([first, maps], dim=1)))

    z = plain.norm1(x)
    y = x + plain.attn(z) + bypass(block.attn.adapter, z)
    z = plain.norm2(y)
    expected = y + plain.mlp(z) + bypass(block.mlp.adapter, z)
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


def test_mona_follows_attention_and_mlp():
    ours, plain = filled(adapt(vit(), Mona(width=4))), vit().blocks[0]
    ours(batch())
    block, x = ours.blocks[0], torch.randn(2, 9, 32)

    def mona(layer: MonaAdapter, y: torch.Tensor) -> torch.Tensor:
        low = layer.down(layer.normed * layer.norm(y) + layer.plain * y)
        parts = (placed(low, 2, 4), low[:, :1].transpose(1, 2)[..., None])
        done = []
        for part in parts:
            mixed = part + sum(conv(part) for conv in layer.depthwise) / 3
            done.append((mixed + layer.mix(mixed)).flatten(2).transpose(1, 2))
        return y + layer.up(F.gelu(torch.cat(done[::-1], dim=1)))

    y = mona(block.after_attention, x + plain.attn(plain.norm1(x)))
    expected = mona(block.after_mlp, y + plain.mlp(plain.norm2(y)))
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


def test_counts_of_a_vit_b():
    assert count_on_vit_b(Convpass(width=8)) == 12 * 2 * (2 * 8 * 768 + 9 * 64 + 2 * 8 + 768)
    adapter = 2 * 768 + 2 * 768 + (768 * 64 + 64) + (64 * 768 + 768) + (9 + 25 + 49) * 64 + 3 * 64 + 64 * 64 + 64
    assert count_on_vit_b(Mona(width=64)) == 24 * adapter


@pytest.mark.parametrize("method", [Convpass(), Mona(width=8)])
def test_any_size_of_image_one_after_the_other(method):
    torch.manual_seed(0)
    backbone = filled(adapt(TinyBackbone(HLS6, 2), method).eval())
    small, large = torch.randn(1, 2, 6, 8, 8), torch.randn(1, 2, 6, 16, 12)
    first = backbone(Batch(small))
    backbone(Batch(large))
    again = backbone(Batch(small))
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))


@pytest.mark.parametrize("method", [Convpass(), Mona(width=8)])
def test_a_block_that_was_not_told_and_another_way(method):
    with pytest.raises(ConfigError, match="not told"):
        adapt(vit(), method).blocks[0](torch.randn(1, 9, 32))
    with pytest.raises(ConfigError, match="leads another way"):
        adapt(adapt(vit(), ViTAdapter(conv_width=8)), method)


@pytest.mark.parametrize("method", [Convpass(), Mona(width=8)])
def test_only_the_up_projections_start_at_zero(method):
    for name, parameter in trainable(adapt(vit(), method)).items():
        if name.endswith((".up.weight", ".up.bias")):
            assert not parameter.any()


def test_wrong_fields():
    for make in (lambda: Convpass(width=0), lambda: Convpass(scale=0), lambda: Mona(width=0)):
        with pytest.raises(ConfigError):
            make()

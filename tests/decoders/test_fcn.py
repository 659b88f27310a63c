import pytest
import torch

from adapteo.contracts import Features
from adapteo.decoders.fcn import FCN
from adapteo.errors import ConfigError


@pytest.mark.parametrize(("stride", "blocks"), [(1, 1), (2, 1), (4, 2), (8, 3), (14, 3), (16, 4), (32, 4)])
def test_blocks_go_as_far_as_the_pixels_and_the_paper(stride, blocks):
    assert len(FCN(channels=8).build(Features((16,), (stride,)), 2, dense=True).blocks) == blocks


@pytest.mark.parametrize(("width", "channels"), [(1024, 512), (768, 512), (128, 128), (8, 16)])
def test_the_width_follows_the_backbone_up_to_the_paper(width, channels):
    module = FCN(blocks=1).build(Features((width,), (16,)), 2, dense=True)
    assert module.head.in_channels == channels


def test_parameter_formula():
    d, c, k, n = 24, 16, 3, 4
    module = FCN(channels=c, blocks=n).build(Features((d,) * 2, (16,) * 2), k, dense=True)
    first, later = d * c * 4 + c, c * c * 4 + c
    expected = first + (n - 1) * later + n * (c * c * 9 + c + 2 * c) + c * k + k
    assert sum(p.numel() for p in module.parameters()) == expected


def test_a_shift_by_one_token_shifts_the_logits():
    """Away from the border, beyond the reach of four 3 x 3 convolutions (under one token each)."""
    torch.manual_seed(0)
    module = FCN(channels=8).build(Features((6,), (16,)), 2, dense=True)
    x = torch.randn(1, 6, 7, 7)
    here = module([x], (112, 112))[:, :, 32:-48, 32:-48]
    shifted = module([x.roll((1, 1), (2, 3))], (112, 112))[:, :, 48:-32, 48:-32]
    torch.testing.assert_close(here, shifted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("field", ["channels", "blocks"])
def test_wrong_configurations_say_what_to_do(field):
    with pytest.raises(ConfigError, match=rf"decoder\.{field} is 0"):
        FCN(**{field: 0})

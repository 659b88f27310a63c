import pytest
import torch

from adapteo.contracts import Features
from adapteo.decoders.unet import UNet
from adapteo.errors import ConfigError


def test_blocks_join_the_maps_of_a_cnn():
    features = Features((8, 12, 20), (4, 8, 16))
    module = UNet((24, 16, 8)).build(features, 2, dense=True)
    assert [block.conv1[0].in_channels for block in module.blocks] == [20 + 12, 24 + 8, 16]


@pytest.mark.parametrize(
    ("strides", "asked", "finest"),
    [
        ((2, 4, 8, 16, 32), None, 1),
        ((2, 4, 8, 16, 32), False, 2),
        ((4, 8, 16, 32), None, 4),
        ((4, 8, 16, 32), True, 2),
        ((8, 8, 8, 8), None, 2),
    ],
)
def test_only_the_stem_of_a_cnn_is_upsampled_unless_asked(strides, asked, finest):
    """Stride of what the head sees; a plain ViT of patch 8 ends at stride 2 as TerraTorch's does."""
    features = Features((16,) * len(strides), strides)
    module = UNet(upsample_last=asked).build(features, 2, dense=True)
    seen = []
    module.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2:]))
    module([torch.randn(1, 16, 64 // s, 96 // s) for s in strides], (64, 96))
    assert seen == [(64 // finest, 96 // finest)]


@pytest.mark.parametrize(
    ("dim", "widths"), [(128, [128, 64, 32, 16]), (768, [512, 256, 128, 64]), (32, [32, 16, 16, 16])]
)
def test_default_widths_follow_the_backbone_up_to_the_paper(dim, widths):
    module = UNet().build(Features((dim,) * 4, (16,) * 4), 2, dense=True)
    assert [block.conv2[0].out_channels for block in module.blocks] == widths


def test_a_larger_last_convolution_keeps_the_size_and_sees_its_neighbours():
    module = UNet(head_kernel=3).build(Features((16,) * 4, (8,) * 4), 2, dense=True)
    assert module.head.weight.shape == (2, 16, 3, 3)
    assert module([torch.randn(1, 16, 4, 6)] * 4, (32, 48)).shape == (1, 2, 32, 48)


def test_wrong_configurations_say_what_to_do():
    features = Features((16,) * 4, (8,) * 4)
    with pytest.raises(ConfigError, match="2 values, but this backbone gives 4 scales"):
        UNet((16, 8)).build(features, 2, dense=True)
    with pytest.raises(ConfigError, match="positive widths"):
        UNet(channels=(16, 0))
    with pytest.raises(ConfigError, match="head_kernel is 2"):
        UNet(head_kernel=2)

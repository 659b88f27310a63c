import pytest
import torch

from adapteo.contracts import Features
from adapteo.decoders._layers import ChannelNorm, norm_layer, on_labels
from adapteo.decoders.fcn import FCN
from adapteo.decoders.unet import UNet
from adapteo.decoders.upernet import UPerNet
from adapteo.errors import ConfigError


def test_groups_keep_at_least_eight_channels():
    for channels in (8, 12, 16, 24, 36, 64, 100, 256, 512):
        groups = norm_layer("group", channels).num_groups
        assert channels / groups >= 8
        assert groups <= 32


def test_layer_norm_is_over_the_channels_of_each_place():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 3, 5) * 2e-3 + 1e-3  # so small that ε matters
    norm = ChannelNorm(6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    expected = (x - mean) / (variance + 1e-6).sqrt() * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize("kind", ["group", "batch", "layer"])
def test_each_norm_starts_with_mean_0_and_variance_1(kind):
    torch.manual_seed(0)
    y = norm_layer(kind, 32)(torch.randn(4, 32, 8, 8) * 3 + 5).detach()
    assert abs(float(y.mean())) < 1e-5
    assert float(y.var()) == pytest.approx(1, abs=1e-2)


def test_logits_on_the_grid_are_not_touched():
    logits = torch.randn(1, 2, 4, 6)
    assert on_labels(logits, (4, 6)) is logits
    assert on_labels(logits, (8, 9)).shape == (1, 2, 8, 9)


@pytest.mark.parametrize("decoder", [UNet, FCN, UPerNet])
def test_hidden_layers_of_the_head(decoder):
    features = Features((16,) * 4, (8,) * 4)
    maps = [torch.randn(1, 16, 8, 8) for _ in range(4)]
    plain, deep = (decoder(head_channels=w).build(features, 2, dense=True).eval() for w in ((), (12, 6)))
    assert [layer[0].out_channels for layer in deep.hidden] == [12, 6]
    assert deep.head.in_channels == 6
    assert not any(key.startswith("hidden") for key in plain.state_dict()), "files without them stay as they are"
    seen = []
    deep.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert deep(maps, (64, 64)).shape == (1, 2, 64, 64)
    assert (seen[0] >= 0).all(), "ReLU comes last"
    with pytest.raises(ConfigError, match="head_channels is 0"):
        decoder(head_channels=(0,))

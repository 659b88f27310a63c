import pytest
import torch

from adapteo.decoders._layers import ChannelNorm, norm_layer, on_labels


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

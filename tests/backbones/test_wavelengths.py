"""The transformer that writes kernels, against PyTorch's own layer; and what builds and images are refused."""

import pytest
import torch
from torch import nn

from adapteo.backbones._wavelengths import (
    CODE_WIDTH,
    LEARNED_TOKENS,
    KernelGenerator,
    check_build,
    only_date,
    published_name,
    with_wavelength,
)
from adapteo.errors import ConfigError, DataError
from adapteo.vit import fuse_qkv


def generator():
    torch.manual_seed(0)
    made = KernelGenerator(kernel=24, dim=10).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return made


def test_the_layer_is_pytorchs_under_its_published_names():
    ours = generator()
    theirs = nn.TransformerEncoderLayer(CODE_WIDTH, 4, dropout=0.0, activation="gelu", dtype=torch.float64)
    state = {f"g.layer.{name}": value for name, value in ours.layer.state_dict().items()}
    renamed = {published_name(name, "encoder"): value for name, value in fuse_qkv(state).items()}
    theirs.load_state_dict({name.removeprefix("g.encoder.layers.0."): value for name, value in renamed.items()})
    x = torch.randn(2, 7, CODE_WIDTH, dtype=torch.float64)
    torch.testing.assert_close(ours.layer(x), theirs(x.transpose(0, 1)).transpose(0, 1), atol=1e-12, rtol=0)


def test_names_outside_the_layer_stay():
    assert published_name("patch_embed.fclayer.l1.weight", "encoder") == "patch_embed.fclayer.l1.weight"
    assert published_name("weight_generator.weight_tokens", "encoder") == "weight_generator.weight_tokens"


def test_each_wavelength_gets_the_kernel_of_its_own_code_and_residual():
    ours = generator()
    codes = torch.randn(3, CODE_WIDTH, dtype=torch.float64)
    kernels, bias = ours(codes)
    assert kernels.shape == (3, 24)
    assert bias.shape == (10,)
    tokens = ours.layer(torch.cat([ours.weight_tokens, codes, ours.bias_token])[None])[0]
    expected = (tokens[LEARNED_TOKENS + 1] + codes[1]) @ ours.fc_weight.weight.T + ours.fc_weight.bias
    torch.testing.assert_close(kernels[1], expected)
    torch.testing.assert_close(bias, ours.fc_bias(tokens[LEARNED_TOKENS + 3]))


def test_the_order_of_wavelengths_does_not_matter():
    ours = generator()
    codes = torch.randn(4, CODE_WIDTH, dtype=torch.float64)
    order = [2, 0, 3, 1]
    kernels, bias = ours(codes)
    shuffled, same = ours(codes[order])
    torch.testing.assert_close(shuffled, kernels[order])
    torch.testing.assert_close(same, bias)


def test_bands_with_a_wavelength():
    assert with_wavelength(("ndvi", "red", "elevation", "vv", "lwir11", "x")) == ("red", "vv", "lwir11")


@pytest.mark.parametrize(
    ("bands", "frames", "said"),
    [
        ((), 1, "at least one band"),
        (("red", "red"), 1, "each once"),
        (("red", "ndvi"), 1, "bands with a wavelength, not 'ndvi'"),
        (("red", "nir8"), 1, "did you mean 'nir"),
        (("red",), 2, "takes 1 date per image, not 2"),
        (("red",), 0, "not 0"),
    ],
)
def test_builds_that_cannot_be_are_refused(bands, frames, said):
    with pytest.raises(ConfigError) as caught:
        check_build("Clay", bands, frames)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 1, 2, 20, 16), "crop them to 16 x 16, or pad them to 24 x 16"),
        ((1, 2, 2, 16, 16), "2 dates and 2 bands; built for 1 date and 2 bands"),
        ((1, 1, 3, 16, 16), "1 dates and 3 bands"),
    ],
)
def test_images_that_do_not_fit_are_refused(shape, said):
    with pytest.raises(DataError, match=said):
        only_date(torch.zeros(shape), ("red", "green"), 8)

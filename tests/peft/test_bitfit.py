"""BitFit trains the biases it says, and refuses backbones without."""

import pytest
import torch
from torch import nn

from adapteo.bands import HLS6
from adapteo.contracts import adapt, trainable, trainable_count
from adapteo.errors import ConfigError
from adapteo.peft.bitfit import BitFit
from adapteo.vit import Block
from tiny import TinyBackbone


def test_count_of_a_vit_b():
    with torch.device("meta"):
        backbone = TinyBackbone(HLS6, depth=12, dim=768)
        assert trainable_count(adapt(backbone, BitFit())) == 12 * 11 * 768 + 768
        assert trainable_count(adapt(backbone, BitFit(embedding=True))) == 12 * 11 * 768 + 2 * 768


def test_only_biases():
    names = trainable(adapt(TinyBackbone(HLS6), BitFit()))
    assert all(name.endswith(".bias") for name in names)
    assert "blocks.0.norm1.bias" in names
    assert "norm.bias" in names
    assert "patch_embed.bias" not in names


def test_a_backbone_without_biases_is_refused():
    backbone = TinyBackbone(HLS6)
    backbone.blocks = nn.ModuleList([Block(32, 4)])
    for module in backbone.blocks.modules():
        if isinstance(module, nn.Linear):
            module.bias = None
    with pytest.raises(ConfigError, match="6 of the 8"):
        adapt(backbone, BitFit())

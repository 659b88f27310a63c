"""(IA)³ against its formula and HF peft's layers."""

import copy

import pytest
import torch
from cases import batch, count_on_vit_b, filled, vit
from torch import nn

from adapteo.contracts import adapt, trainable
from adapteo.errors import ConfigError
from adapteo.peft.ia3 import IA3


def test_keys_and_values_by_output_and_the_mlp_by_its_hidden_layer():
    plain, ours = vit(), filled(adapt(vit(), IA3()))
    block, tuned = plain.blocks[0], ours.blocks[0]
    x = torch.randn(2, 3, 32)
    torch.testing.assert_close(tuned.attn.k(x), tuned.attn.k.gamma * block.attn.k(x))
    torch.testing.assert_close(tuned.attn.v(x), tuned.attn.v.gamma * block.attn.v(x))
    hidden = nn.functional.gelu(block.mlp.fc1(x))
    torch.testing.assert_close(tuned.mlp(x), block.mlp.fc2(tuned.mlp.fc2.gamma * hidden))
    assert {name.rsplit(".", 2)[1] for name in trainable(ours)} == {"k", "v", "fc2"}


def test_equals_hf(peft):
    """HF peft scales before it adds the bias of an output, so the biases of k and v are zero here."""
    base = vit()
    for block in base.blocks:
        nn.init.zeros_(block.attn.k.bias)
        nn.init.zeros_(block.attn.v.bias)
    names = r".*blocks\.\d+\.(attn\.(k|v)|mlp\.fc2)"
    config = peft.IA3Config(target_modules=names, feedforward_modules=r".*mlp\.fc2")
    theirs = peft.get_peft_model(copy.deepcopy(base), config).eval()
    ours = filled(adapt(copy.deepcopy(base), IA3()))
    layers = dict(theirs.named_modules())
    for name, gamma in trainable(ours).items():
        layer = layers[f"base_model.model.{name.removesuffix('.gamma')}"]
        layer.ia3_l.default.data.copy_(gamma.view_as(layer.ia3_l.default))
    for mine, other in zip(ours(batch()), theirs(batch()), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


def test_counts_of_a_vit_b():
    assert count_on_vit_b(IA3()) == 12 * 6 * 768
    assert count_on_vit_b(IA3(targets=("q", "k", "v", "proj", "fc1", "fc2"))) == 12 * 12 * 768


def test_wrong_target():
    with pytest.raises(ConfigError, match="did you mean"):
        IA3(targets=("vv",))

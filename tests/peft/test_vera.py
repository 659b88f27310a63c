"""VeRA against its formula and HF peft's layer."""

import pytest
import torch
from cases import count_on_vit_b, filled, vit
from torch import nn

from adapteo.contracts import adapt, trainable
from adapteo.errors import ConfigError
from adapteo.peft.vera import VeRA, VeRALinear


def layers(backbone: nn.Module) -> list[VeRALinear]:
    return [module for module in backbone.modules() if isinstance(module, VeRALinear)]


def test_the_formula_with_the_first_rows_and_columns():
    for layer in layers(filled(adapt(vit(), VeRA(rank=5)))):
        columns, rows = layer.inner.in_features, layer.inner.out_features
        a, b = layer.shared.vera_A[:, :columns], layer.shared.vera_B[:rows]
        delta = torch.einsum("o,or,r,ri->oi", layer.vera_u, b, layer.vera_d, a)
        x = torch.randn(2, 3, columns)
        expected = x @ (layer.inner.weight + delta).T + layer.inner.bias
        torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_matrices_are_shared_and_neither_trained_nor_stored():
    backbone = adapt(vit(), VeRA(rank=5)).double()
    assert len({id(layer.shared.vera_A) for layer in layers(backbone)}) == 1
    assert layers(backbone)[0].shared.vera_A.shape == (5, 128)
    assert layers(backbone)[0].shared.vera_B.shape == (128, 5)
    assert not [name for name in backbone.state_dict() if "vera_A" in name or "vera_B" in name]
    assert {name.rpartition(".")[2] for name in trainable(backbone)} == {"vera_d", "vera_u"}


def test_equals_hf(peft):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6))
    config = peft.VeraConfig(r=4, target_modules=["0"], projection_prng_key=1)
    theirs = peft.get_peft_model(model, config)
    tuned = theirs.base_model.model[0]
    backbone = vit()
    adapt(backbone, VeRA(rank=4))
    ours = layers(backbone)[0]
    with torch.no_grad():
        nn.init.normal_(tuned.vera_lambda_b.default)
        nn.init.normal_(tuned.vera_lambda_d.default)
        ours.inner = tuned.base_layer
        ours.shared.vera_A, ours.shared.vera_B = tuned.vera_A.default, tuned.vera_B.default
        ours.vera_u, ours.vera_d = tuned.vera_lambda_b.default, tuned.vera_lambda_d.default
    x = torch.randn(4, 6)
    torch.testing.assert_close(ours(x), theirs(x))


def test_count_of_a_vit_b():
    assert count_on_vit_b(VeRA(rank=256, targets=("q", "k", "v"))) == 12 * 3 * (256 + 768)
    assert count_on_vit_b(VeRA(rank=16)) == 12 * (6 * 16 + 9 * 768)


def test_wrong_rank():
    with pytest.raises(ConfigError, match="rank"):
        VeRA(rank=0)

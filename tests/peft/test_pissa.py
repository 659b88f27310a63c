"""PiSSA starts at the principal part of each weight, and its file is plain LoRA of twice the rank."""

import pytest
import torch
from cases import batch, filled, vit

from adapteo.contracts import adapt
from adapteo.errors import ConfigError
from adapteo.peft.lora import LoRA
from adapteo.peft.pissa import PiSSA, PiSSALinear
from adapteo.vit import RoleLinear


def test_starts_at_the_best_approximation_of_its_rank():
    torch.manual_seed(0)
    layer = PiSSALinear(RoleLinear("q", 12, 9).double(), rank=4, scale=2.0)
    weight = layer.inner.weight.detach()
    values = torch.linalg.svdvals(weight)
    rest = weight - 2.0 * layer.lora_B @ layer.lora_A
    torch.testing.assert_close(torch.linalg.matrix_norm(rest, 2), values[4])  # Eckart, Young
    torch.testing.assert_close(rest.square().sum(), values[4:].square().sum())
    torch.testing.assert_close(layer.lora_A.norm(dim=1), layer.lora_B.norm(dim=0))  # shared evenly


def test_trains_the_principal_part_of_the_frozen_rest():
    torch.manual_seed(0)
    layer = PiSSALinear(RoleLinear("q", 12, 9).double(), rank=4, scale=2.0)
    rest = layer.inner.weight - 2.0 * layer.start_B @ layer.start_A
    with torch.no_grad():
        layer.lora_A.add_(torch.randn(4, 12))
    x = torch.randn(3, 12, dtype=torch.float64)
    expected = x @ (rest + 2.0 * layer.lora_B @ layer.lora_A).T + layer.inner.bias
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.merged()(x), expected)


@pytest.mark.parametrize("fields", [{"rank": 4}, {"rank": 3, "alpha": 5.0, "rslora": True, "targets": ("q", "fc2")}])
def test_its_file_is_lora_on_the_plain_backbone(fields):
    method = PiSSA(**fields)
    ours = filled(adapt(vit(), method))
    state, config = method.adapter_state(ours), method.adapter_config(ours)
    plain = LoRA.from_hf(vit(), config, state)
    assert plain.rank == 2 * method.rank
    assert plain.scale == pytest.approx(method.scale)
    theirs = adapt(vit(), plain)
    plain.load_adapter_state(theirs, state)
    torch.testing.assert_close(theirs(batch()), ours(batch()), rtol=1e-5, atol=1e-5)


def test_a_file_restores_exactly_whatever_the_signs_of_the_singular_vectors():
    method = PiSSA(rank=4)
    ours = filled(adapt(vit(), method))
    other = adapt(vit(), method)
    for layer in other.modules():
        if isinstance(layer, PiSSALinear):
            layer.start_A.neg_()
            layer.start_B.neg_()
    method.load_adapter_state(other, method.adapter_state(ours))
    assert all(torch.equal(x, y) for x, y in zip(other(batch()), ours(batch()), strict=True))


def test_a_rank_above_the_number_of_singular_values():
    with pytest.raises(ConfigError, match="rank 33 exceeds the 32"):
        adapt(vit(), PiSSA(rank=33))

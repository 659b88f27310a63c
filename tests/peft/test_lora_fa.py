"""LoRA-FA is LoRA whose A is drawn again instead of trained and stored."""

import pytest
import torch
from cases import count_on_vit_b, vit
from torch import nn

from adapteo.contracts import adapt, trainable
from adapteo.errors import ConfigError
from adapteo.peft.lora_fa import LoRAFA, LoRAFALinear
from adapteo.vit import RoleLinear


def test_the_formula():
    a = torch.randn(2, 6)
    layer = LoRAFALinear(RoleLinear("q", 6, 5), a, 1.5)
    nn.init.normal_(layer.lora_B)
    x = torch.randn(4, 6)
    expected = x @ (layer.inner.weight + 1.5 * layer.lora_B @ a).T + layer.inner.bias
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.merged()(x), expected)


def test_a_follows_from_the_seed_alone():
    def matrices(seed: int, drawn_before: int) -> list[torch.Tensor]:
        torch.manual_seed(drawn_before)
        backbone = adapt(vit(), LoRAFA(rank=3, seed=seed))
        return [m.lora_A for m in backbone.modules() if isinstance(m, LoRAFALinear)]

    first, again, other = matrices(0, 1), matrices(0, 2), matrices(1, 1)
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert not any(torch.equal(x, y) for x, y in zip(first, other, strict=True))
    assert not torch.equal(first[0], first[1])


def test_inputs_are_not_kept():
    layer = LoRAFALinear(RoleLinear("q", 64, 64).requires_grad_(False), torch.randn(2, 64), 1.0)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.shape) or t, lambda t: t):
        layer(torch.randn(10, 64))
    assert torch.Size([10, 2]) in saved
    assert torch.Size([10, 64]) not in saved


def test_count_of_a_vit_b():
    assert count_on_vit_b(LoRAFA(rank=8)) == 9 * 8 * 768 * 12
    assert all(name.endswith("lora_B") for name in trainable(adapt(vit(), LoRAFA())))


def test_wrong_rank():
    with pytest.raises(ConfigError, match="rank"):
        LoRAFA(rank=0)

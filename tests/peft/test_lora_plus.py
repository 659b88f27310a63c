"""LoRA+ is LoRA with two rates."""

import pytest
import torch
from cases import vit

from adapteo.contracts import adapt, trainable
from adapteo.errors import ConfigError
from adapteo.peft.lora import LoRA
from adapteo.peft.lora_plus import LoRAPlus
from adapteo.train import _decay_groups


def test_every_b_learns_faster_and_nothing_else():
    method = LoRAPlus(rank=2, ratio=8)
    backbone = adapt(vit(), method)
    factors = method.rate_factors(backbone)
    assert factors == {name: 8 for name in trainable(backbone) if name.endswith("lora_B")}
    assert len(factors) == 12


def test_one_step_of_the_optimiser_moves_b_by_its_rate():
    method = LoRAPlus(rank=2, ratio=8)
    backbone = adapt(vit(), method)
    before = {name: p.detach().clone() for name, p in trainable(backbone).items()}
    optimiser = torch.optim.AdamW(_decay_groups(trainable(backbone), 1e-3, 0.0, method.rate_factors(backbone)))
    for p in trainable(backbone).values():
        p.grad = torch.ones_like(p)
    optimiser.step()
    for name, p in trainable(backbone).items():  # Adam's first step has the size of the rate
        rate = 8e-3 if name.endswith("lora_B") else 1e-3
        torch.testing.assert_close(before[name] - p, torch.full_like(p, rate), rtol=1e-3, atol=1e-6)


def test_groups_without_factors_are_as_before():
    parameters = trainable(adapt(vit(), LoRA(rank=2)))
    (group,) = _decay_groups(parameters, 1e-3, 0.01)
    assert [id(p) for p in group["params"]] == [id(p) for p in parameters.values()]
    assert (group["lr"], group["weight_decay"]) == (1e-3, 0.01)


def test_files_are_lora_s():
    ours, plain = LoRAPlus(rank=2), LoRA(rank=2)
    backbone = adapt(vit(), ours)
    other = adapt(vit(), plain)
    assert ours.adapter_config(backbone) == plain.adapter_config(other)
    plain.load_adapter_state(other, ours.adapter_state(backbone))


def test_wrong_ratio():
    with pytest.raises(ConfigError, match="ratio"):
        LoRAPlus(ratio=0)

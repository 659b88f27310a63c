"""Norm tuning trains norms and nothing else."""

import pytest
from cases import count_on_vit_b, stages, vit
from torch import nn

from adapteo.contracts import adapt, moving, trainable
from adapteo.errors import ConfigError
from adapteo.peft.norm import Norm


def test_count_of_a_vit_b():
    assert count_on_vit_b(Norm()) == 12 * 4 * 768 + 2 * 768


def test_only_norms():
    names = trainable(adapt(vit(), Norm()))
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in names} == {"norm1", "norm2", "norm"}


def test_statistics_of_batch_norms_move_and_are_stored():
    backbone = adapt(stages(), Norm())
    assert {name.rpartition(".")[2] for name in moving(backbone)} == {
        *("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }


def test_a_backbone_without_norms_is_refused():
    backbone = vit()
    backbone.blocks = nn.ModuleList([nn.Linear(32, 32)])
    backbone.norm = nn.Identity()
    with pytest.raises(ConfigError, match="acts on the norms"):
        adapt(backbone, Norm())

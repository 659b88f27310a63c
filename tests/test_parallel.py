"""One process that plans does not wait for the others, which compute nothing then."""

import pytest
import torch
import torch.distributed as dist

from adapteo.parallel import alone, several_processes
from adapteo.peft._batch_norm import SharedBatchNorm2d
from adapteo.tracing import without_values


@pytest.fixture
def two(monkeypatch):
    """As in one of two processes, where the other one does not answer."""
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)

    def waits(value):
        raise TimeoutError("nobody answers")

    monkeypatch.setattr(dist, "all_reduce", waits)


def test_one_process():
    assert not several_processes()


def test_one_of_two(two):
    assert several_processes()
    with alone():
        assert not several_processes()
        with alone():
            pass
        assert not several_processes()
    assert several_processes()


def test_alone_ends_with_a_failure(two):
    with pytest.raises(ValueError, match="plan"), alone():
        raise ValueError("plan")
    assert several_processes()


def test_a_step_without_values_waits_for_nobody(two):
    norm = SharedBatchNorm2d(3)
    with pytest.raises(TimeoutError):
        norm(torch.randn(2, 3, 4, 4))
    with without_values():
        assert SharedBatchNorm2d(3)(torch.randn(2, 3, 4, 4)).shape == (2, 3, 4, 4)

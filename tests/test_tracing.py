"""What is alive and what is computed, by hand and by PyTorch's own counter; nothing without values stays behind."""

import gc

import torch
from torch.utils.flop_counter import FlopCounterMode

from adapteo.tracing import Counter, NoDraws, without_values


def test_alive_by_hand():
    """exp keeps its result (y), which is alive to the end with x; the cosine lives until the sum is done."""
    x = torch.zeros(1000)
    with Counter([x, None]) as counter:
        y = x.exp()
        z = y.cos()
        z.sum()
        assert counter.now == 3 * 4000
        del z
        assert counter.now == 2 * 4000
        y.view(10, 100).t()
        y.add_(1)
        assert counter.now == 2 * 4000, "views and results in place are no new memory"
    assert counter.peak == 3 * 4000 + 4


def test_operations_are_those_of_pytorchs_counter():
    """And products in place beside them, which it leaves out; attention on CPUs it does not know."""
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 5))
    x, y = torch.rand(2, 3, 8, 8), torch.rand(2, 5)
    with FlopCounterMode(display=False) as theirs, Counter() as ours:
        net(x).sum().backward()
    assert ours.products + ours.convolutions == theirs.get_total_flops()
    assert ours.convolutions == 2 * 2 * 36 * 8 * 27 * 2  # images are given no gradient
    with Counter() as counter:
        y.addmm_(torch.rand(2, 7), torch.rand(7, 5))
        torch.nn.functional.scaled_dot_product_attention(*(torch.rand(1, 2, 6, 4) for _ in range(3)))
    assert counter.products == 2 * 2 * 7 * 5 + 2 * 2 * 2 * 6 * 6 * 4


def test_what_was_there_counts_until_it_goes():
    x, y = torch.zeros(100), torch.zeros(50)
    with Counter([x, x.view(10, 10), y]) as counter:
        assert counter.now == counter.peak == 600
        del y
        assert counter.now == 400


def test_no_start_values_are_drawn_where_there_are_none():
    real = torch.nn.Linear(3, 2)
    with NoDraws(), torch.device("meta"):
        made = torch.nn.Linear(3, 2)
        real.weight.detach().fill_(1.0)
    assert made.weight.is_meta
    assert (real.weight == 1).all(), "real tensors are filled as ever"


def test_without_values_nothing_is_allocated_and_the_collector_comes_back():
    with without_values():
        huge = torch.empty(2**20, 2**20)
        assert huge.untyped_storage().nbytes() == 2**42
    assert gc.isenabled()
    assert type(torch.empty(1)) is torch.Tensor

"""Schedules against PyTorch's own, and which epoch is the best."""

import math

import pytest
import torch

from adapteo._schedule import Best, Schedule
from adapteo.config import Train


def torch_rates(make, losses):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, rates = make(optimiser), []
    for loss in losses:
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step(*loss)
    return rates


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_plateau_is_that_of_pytorch(patience):
    random = torch.Generator().manual_seed(0)
    losses = [(float(x),) for x in torch.rand(60, generator=random) + torch.linspace(1, 0.2, 60)]
    theirs = torch_rates(
        lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, factor=0.3, patience=patience, eps=0), losses
    )
    ours = Schedule(Train(plateau_patience=patience, plateau_factor=0.3), 1)
    rates = []
    for (loss,) in losses:
        rates.append(ours.factor(0))
        ours.epoch_done(loss)
        again = Schedule(ours.train, 1)
        again.restore(ours.state())
        ours = again
    assert rates == pytest.approx(theirs)
    assert len(set(rates)) > 3


def test_cosine_is_that_of_pytorch():
    theirs = torch_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20), [()] * 20)
    ours = Schedule(Train(schedule="cosine"), 20)
    ours.epoch_done(1.0)
    assert [ours.factor(step) for step in range(20)] == pytest.approx(theirs)
    assert ours.factor(25) == 0


@pytest.mark.parametrize("name", ["plateau", "cosine", "constant"])
def test_warm_up_rises_to_the_whole_rate(name):
    schedule = Schedule(Train(schedule=name), 1000, warmup=4)
    assert [schedule.factor(step) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert schedule.factor(4) == 1.0


@pytest.mark.parametrize("higher", [True, False])
def test_the_best_score_and_the_lower_loss_at_a_tie(higher):
    best, sign = Best(higher), 1 if higher else -1
    offers = [(0.5, 1.0, True), (0.6, 2.0, True), (0.6, 2.0, False), (0.6, 1.5, True), (0.4, 0.1, False)]
    for epoch, (score, loss, better) in enumerate(offers):
        assert best.offer(epoch, sign * score, loss, {"epoch": epoch}) is better
    assert (best.epoch, best.stale, best.metrics) == (3, 1, {"epoch": 3})
    again = Best(higher)
    again.restore(best.state())
    assert again == best


def test_scores_that_are_not_defined():
    best = Best(True)
    assert best.offer(0, math.nan, 2.0, {}), "something is better than nothing"
    assert not best.offer(1, math.nan, 3.0, {})
    assert best.offer(2, math.nan, 1.0, {})
    assert best.offer(3, 0.1, 9.0, {}), "a score is better than none"
    assert not best.offer(4, math.nan, 0.0, {})
    assert (best.epoch, best.stale) == (3, 1)

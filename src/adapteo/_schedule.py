"""How the learning rate moves, and when to stop: two small pieces of state that a resumed run restores."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapteo.config import Train


@dataclass
class Schedule:
    """A factor on the learning rates.

    "plateau" follows torch's ReduceLROnPlateau (mode min, relative threshold 1e-4), "cosine" falls to 0 over all steps.

    Attributes:
        train: the run's training configuration.
        total_steps: optimiser steps of the whole run.
        warmup: optimiser steps over which the factor rises linearly from 0.
    """

    train: Train
    total_steps: int
    warmup: int = 0
    plateau: float = 1.0
    best: float = math.inf
    stalled: int = 0

    def factor(self, step: int) -> float:
        """Return what the rates are multiplied by at optimiser step ``step`` (from 0)."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.train.schedule == "cosine":
            past = max(0, step - self.warmup) / max(1, self.total_steps - self.warmup)
            return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, past)))
        return warm * self.plateau

    def epoch_done(self, validation_loss: float) -> None:
        """Tell the validation loss of an epoch."""
        if self.train.schedule != "plateau":
            return
        if validation_loss < self.best * (1 - 1e-4):
            self.best, self.stalled = validation_loss, 0
        else:
            self.stalled += 1
        if self.stalled > self.train.plateau_patience:
            self.plateau *= self.train.plateau_factor
            self.stalled = 0

    def state(self) -> dict[str, float]:
        """Return what `restore` needs."""
        return {"plateau": self.plateau, "best": self.best, "stalled": self.stalled}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the state of an earlier run."""
        self.plateau, self.best, self.stalled = state["plateau"], state["best"], int(state["stalled"])


@dataclass
class Best:
    """The best validation score so far, and since how many epochs it has stood.

    Attributes:
        higher: True when a higher score is better.
        score, loss: of the best epoch; a tie in the score is broken by the loss.
        epoch: number of finished epochs at the best; 0 is the state before training.
    """

    higher: bool
    score: float = math.nan
    loss: float = math.inf
    epoch: int = -1
    stale: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    def offer(self, epoch: int, score: float, loss: float, metrics: Mapping[str, float]) -> bool:
        """Tell the score of an epoch; return whether it is the best."""
        if not self._better(score, loss):
            self.stale += 1
            return False
        self.score, self.loss, self.epoch, self.stale, self.metrics = score, loss, epoch, 0, dict(metrics)
        return True

    def _better(self, score: float, loss: float) -> bool:
        """Any state is better than none, a score than NaN, and a lower loss than a higher one at the same score."""
        if self.epoch < 0 or math.isnan(self.score) != math.isnan(score):
            return self.epoch < 0 or math.isnan(self.score)
        sign = 1.0 if self.higher else -1.0
        same = score == self.score or math.isnan(score)
        return loss < self.loss if same else sign * score > sign * self.score

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs."""
        return dict(vars(self))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the state of an earlier run."""
        vars(self).update(state)

"""Regression: one value per pixel; squared, absolute and Huber loss, RMSE, MAE and R²."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adapteo.errors import ConfigError
from adapteo.tasks import _losses


@dataclass(frozen=True)
class Regression(_losses.TermLoss):
    """One value per pixel. Logits ``(b, 1, h, w)``, target ``(b, h, w)`` with NaN where it is not known.

    Attributes:
        losses: "mse", "mae", "huber", or a sum of them.
        delta: error from which "huber" grows linearly, in units of the target.
    """

    dense: ClassVar[bool] = True
    monitor: ClassVar[str] = "rmse"
    higher_is_better: ClassVar[bool] = False

    losses: str = "mse"
    delta: float = 1.0

    def __post_init__(self) -> None:
        if self.delta <= 0:
            raise ConfigError(f"task.delta is {self.delta}", fix="give an error above 0, in units of the target")
        self.chosen()

    def outputs(self, classes: Sequence[str]) -> int:
        """One channel, whatever the classes."""
        return 1

    def predict(self, logits: Tensor) -> Tensor:
        """Values ``(b, h, w)`` float32."""
        return logits.float().squeeze(1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Values ``(b, 1, h, w)`` float32; there are no probabilities."""
        return logits.float()

    def statistics(self, logits: Tensor, target: Tensor) -> Tensor:
        """Per image n, Σe, Σe², Σ|e|, Σy, Σy² over its known pixels, e = prediction − truth y: ``(b, 6)``."""
        known = ~target.isnan()
        truth = target.double().nan_to_num()
        error = torch.where(known, self.predict(logits).double() - truth, 0)
        parts = (known.double(), error, error.square(), error.abs(), truth, truth.square())
        return torch.stack([part.flatten(1).sum(1) for part in parts], dim=1)

    def metrics(self, statistics: Tensor, classes: Sequence[str]) -> dict[str, Tensor]:
        """Give "rmse", "mae", "bias" (mean of prediction − truth) in units of the target, and "r2".

        R² = 1 − Σe² / Σ(y − ȳ)², NaN when the truth does not vary.
        """
        n, e, e2, absolute, y, y2 = statistics.unbind(-1)
        spread = y2 - y.square() / n
        # What is left of a constant truth after the subtraction is rounding, not variance.
        spread = torch.where(spread > 1e-12 * y2, spread, torch.nan)
        return {"rmse": (e2 / n).sqrt(), "mae": absolute / n, "r2": 1 - e2 / spread, "bias": e / n}

    def terms(self) -> dict[str, _losses.Term]:
        """Squared, absolute and Huber error, divided by the known pixels."""
        return {name: _losses.Distance(name, self.delta) for name in ("mse", "mae", "huber")}


TASK = Regression

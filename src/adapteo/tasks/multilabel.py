"""Multi-label classification: any number of labels per image; binary cross-entropy and focal loss, F1."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adapteo.errors import ConfigError
from adapteo.tasks import _losses
from adapteo.tasks._confusion import per_class, rates


@dataclass(frozen=True)
class Multilabel(_losses.TermLoss):
    """Any number of labels per image. Logits ``(b, k)``, target ``(b, k)`` of 0 and 1; below 0 or NaN is not known.

    Mean average precision is not among the metrics: it ranks all images, so it is no function of sums over images.

    Attributes:
        losses: "bce", "focal", or "bce+focal".
        pos_weights: weight of the positive labels of each class, in the order of the classes; None for 1 each.
        gamma: how much "focal" turns to hard labels; 0 makes it "bce".
        threshold: probability from which a label is predicted.
    """

    dense: ClassVar[bool] = False
    monitor: ClassVar[str] = "f1"

    losses: str = "bce"
    pos_weights: tuple[float, ...] | None = None
    gamma: float = 2.0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        _losses.check_gamma(self.gamma)
        if not 0 < self.threshold < 1:
            raise ConfigError(f"task.threshold is {self.threshold}", fix="give a probability between 0 and 1")
        self.chosen()

    def outputs(self, classes: Sequence[str]) -> int:
        """One logit per class.

        Raises:
            ConfigError: when the weights do not fit the classes.
        """
        _losses.check_class_weights(self.pos_weights, "pos_weights", classes)
        return len(classes)

    def predict(self, logits: Tensor) -> Tensor:
        """Labels ``(b, k)`` int64 of 0 and 1."""
        return (self.probabilities(logits) >= self.threshold).long()

    def probabilities(self, logits: Tensor) -> Tensor:
        """Sigmoid ``(b, k)`` float32."""
        return logits.float().sigmoid()

    def statistics(self, logits: Tensor, target: Tensor) -> Tensor:
        """True positives, false positives, false negatives and true negatives by class: ``(b, 4 k)``."""
        predicted, truth, known = self.predict(logits) == 1, target > 0.5, target >= 0
        counts = (predicted & truth, predicted & ~truth, ~predicted & truth, ~predicted & ~truth)
        return torch.cat([count & known for count in counts], dim=1).double()

    def metrics(self, statistics: Tensor, classes: Sequence[str]) -> dict[str, Tensor]:
        """Give "f1" (mean over classes), "f1_micro", "accuracy" (share of labels), …, and "f1/forest", ….

        A class that neither occurs nor is predicted is NaN and left out of means (scikit-learn and torchmetrics count
        it as 0 here).
        """
        tp, fp, fn, tn = statistics.unflatten(-1, (4, len(classes))).unbind(-2)
        by_class = rates(tp, fp, fn)
        micro = rates(tp.sum(-1), fp.sum(-1), fn.sum(-1))
        del by_class["iou"]
        overall = {
            "f1": by_class["f1"].nanmean(-1),
            "f1_micro": micro["f1"],
            "accuracy": (tp + tn).sum(-1) / statistics.sum(-1),
            "precision": by_class["precision"].nanmean(-1),
            "recall": by_class["recall"].nanmean(-1),
        }
        return overall | per_class(by_class, classes)

    def terms(self) -> dict[str, _losses.Term]:
        """Binary cross-entropy and focal loss, divided by the known labels."""
        return {
            "bce": _losses.BinaryCrossEntropy(self.pos_weights),
            "focal": _losses.BinaryCrossEntropy(self.pos_weights, self.gamma),
        }


TASK = Multilabel

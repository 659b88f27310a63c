"""Segmentation: one class per pixel; cross-entropy, dice and focal loss, IoU from confusion matrices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from adapteo.tasks import _losses
from adapteo.tasks._confusion import class_metrics, confusion, most_likely, square


@dataclass(frozen=True)
class Segmentation(_losses.TermLoss):
    """One class per pixel. Logits ``(b, k, h, w)``, target ``(b, h, w)`` int64 with `IGNORE`.

    Attributes:
        losses: "ce", "dice", "focal", or a sum of them such as "ce+dice".
        class_weights: weight of each class in "ce" and "focal", in the order of the classes; None for 1 each.
        gamma: how much "focal" turns to hard pixels; 0 makes it "ce".
    """

    dense: ClassVar[bool] = True
    monitor: ClassVar[str] = "miou"

    losses: str = "ce"
    class_weights: tuple[float, ...] | None = None
    gamma: float = 2.0

    def __post_init__(self) -> None:
        _losses.check_gamma(self.gamma)
        self.chosen()

    def outputs(self, classes: Sequence[str]) -> int:
        """One channel per class.

        Raises:
            ConfigError: when the class weights do not fit the classes.
        """
        _losses.check_class_weights(self.class_weights, "class_weights", classes)
        return len(classes)

    def predict(self, logits: Tensor) -> Tensor:
        """Class indices ``(b, h, w)``."""
        return most_likely(logits)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax over classes ``(b, k, h, w)`` float32."""
        return logits.float().softmax(1)

    def statistics(self, logits: Tensor, target: Tensor) -> Tensor:
        """Confusion matrix of each image, flat, rows truth: ``(b, k²)``."""
        return confusion(self.predict(logits), target, logits.shape[1])

    def metrics(self, statistics: Tensor, classes: Sequence[str]) -> dict[str, Tensor]:
        """Give "miou", "f1", "accuracy", "mean_accuracy", "precision", "recall", and "iou/water", "f1/water", …."""
        overall, by_class = class_metrics(statistics, classes)
        order = ("miou", "f1", "accuracy", "mean_accuracy", "precision", "recall")
        return {name: overall[name] for name in order} | by_class

    def confusion(self, statistics: Tensor, classes: Sequence[str]) -> Tensor:
        """Confusion matrix ``(..., k, k)`` in pixels, rows truth."""
        return square(statistics, classes)

    def terms(self) -> dict[str, _losses.Term]:
        """Cross-entropy and focal loss, divided by labelled pixels or their class weights; dice by labelled images."""
        return {
            "ce": _losses.CrossEntropy(self.class_weights),
            "dice": _losses.Dice(),
            "focal": _losses.CrossEntropy(self.class_weights, gamma=self.gamma),
        }


TASK = Segmentation

"""Classification: one class per image; cross-entropy and focal loss, accuracy and F1 from confusion matrices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from adapteo.errors import ConfigError
from adapteo.tasks import _losses
from adapteo.tasks._confusion import class_metrics, confusion, most_likely, square


@dataclass(frozen=True)
class Classification(_losses.TermLoss):
    """One class per image. Logits ``(b, k)``, target ``(b,)`` int64 with `IGNORE`.

    Attributes:
        losses: "ce" or "focal", or "ce+focal".
        class_weights: weight of each class, in the order of the classes; None for 1 each.
        label_smoothing: share of each label that is spread over all classes, in "ce" (arXiv 1512.00567).
        gamma: how much "focal" turns to hard images; 0 makes it "ce".
    """

    dense: ClassVar[bool] = False
    monitor: ClassVar[str] = "accuracy"

    losses: str = "ce"
    class_weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    gamma: float = 2.0

    def __post_init__(self) -> None:
        _losses.check_gamma(self.gamma)
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"task.label_smoothing is {self.label_smoothing}", fix="give a share from 0 to below 1")
        self.chosen()

    def outputs(self, classes: Sequence[str]) -> int:
        """One logit per class.

        Raises:
            ConfigError: when the class weights do not fit the classes.
        """
        _losses.check_class_weights(self.class_weights, "class_weights", classes)
        return len(classes)

    def predict(self, logits: Tensor) -> Tensor:
        """Class indices ``(b,)``."""
        return most_likely(logits)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax over classes ``(b, k)`` float32."""
        return logits.float().softmax(1)

    def statistics(self, logits: Tensor, target: Tensor) -> Tensor:
        """Confusion matrix of each image (a single 1, or nothing), flat, rows truth: ``(b, k²)``."""
        return confusion(self.predict(logits), target, logits.shape[1])

    def metrics(self, statistics: Tensor, classes: Sequence[str]) -> dict[str, Tensor]:
        """Give "accuracy", "f1", "mean_accuracy", "precision", "recall", and "f1/forest", "recall/forest", …."""
        overall, by_class = class_metrics(statistics, classes)
        order = ("accuracy", "f1", "mean_accuracy", "precision", "recall")
        by_class = {name: values for name, values in by_class.items() if not name.startswith("iou/")}
        return {name: overall[name] for name in order} | by_class

    def confusion(self, statistics: Tensor, classes: Sequence[str]) -> Tensor:
        """Confusion matrix ``(..., k, k)`` in images, rows truth."""
        return square(statistics, classes)

    def terms(self) -> dict[str, _losses.Term]:
        """Cross-entropy and focal loss, divided by the labelled images or their class weights."""
        return {
            "ce": _losses.CrossEntropy(self.class_weights, smoothing=self.label_smoothing),
            "focal": _losses.CrossEntropy(self.class_weights, gamma=self.gamma),
        }


TASK = Classification

"""Loss, prediction and metrics."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor


class Task(ABC):
    """Loss, prediction and metrics. Concrete ones are frozen dataclasses.

    Losses are sums with a separate weight, so that the mean over several micro-batches or processes is exactly the
    mean over all their samples. Metrics are functions of *statistics*, one row of additive numbers per image: tables by
    group are sums over a group's rows, bootstrap intervals sums over resampled rows, and no image is looked at twice.
    """

    dense: ClassVar[bool]
    """True when there is a label per pixel."""
    monitor: ClassVar[str]
    """Name of the metric that picks the best checkpoint."""
    higher_is_better: ClassVar[bool] = True

    @abstractmethod
    def outputs(self, classes: Sequence[str]) -> int:
        """Number of output channels of the decoder."""

    @abstractmethod
    def weight(self, target: Tensor) -> Tensor:
        """Normaliser of each loss term for this target: ``(terms,)``; depends on nothing but the target."""

    @abstractmethod
    def loss(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Loss of a batch, its terms divided by ``weight`` (of this batch, or summed over several): scalar."""

    @abstractmethod
    def predict(self, logits: Tensor) -> Tensor:
        """Turn logits into what a map holds: class index, label vector, or value."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits into probabilities of the same shape (values themselves for regression)."""

    @abstractmethod
    def statistics(self, logits: Tensor, target: Tensor) -> Tensor:
        """One row of additive statistics per image: ``(b, k)`` float64."""

    @abstractmethod
    def metrics(self, statistics: Tensor, classes: Sequence[str]) -> dict[str, Tensor]:
        """Turn statistics ``(..., k)`` into named metrics, each ``(...)``; per-class ones are named ``iou/water``.

        NaN where a metric is not defined (a class that neither occurs nor is predicted).
        """

    def confusion(self, statistics: Tensor, classes: Sequence[str]) -> Tensor | None:
        """Confusion matrix ``(..., k, k)``, rows truth, that the statistics hold; None for a task without one."""
        return None

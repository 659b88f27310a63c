"""Loss terms. Each is a sum over its items and, apart from it, the number that the sum is divided by.

The divisor depends on the target alone, so it can be added up over micro-batches and processes before the first
backward pass, and the loss of the parts is then exactly the loss of the whole:

    loss = Σ over terms  total(logits, target) / weight(target)

All terms compute in float32 where the precision of the logits is less.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from adapteo.contracts import IGNORE, Task
from adapteo.errors import ConfigError, closest


class Term(Protocol):
    """One summand of a loss."""

    def weight(self, target: Tensor) -> Tensor:
        """Divisor of the term for this target: scalar."""

    def total(self, logits: Tensor, target: Tensor) -> Tensor:
        """Undivided term: scalar."""


class TermLoss(Task):
    """A task whose loss is the sum of terms that its user chooses by name in `losses`, such as "ce+dice"."""

    losses: str

    @abstractmethod
    def terms(self) -> dict[str, Term]:
        """Terms that may be named in `losses`."""

    def chosen(self) -> tuple[Term, ...]:
        """Terms that are named in `losses`.

        Raises:
            ConfigError: unknown term, or one named twice.
        """
        return choose(self.losses, self.terms())

    def weight(self, target: Tensor) -> Tensor:
        """Divisors of the terms: ``(terms,)`` float64, in which counts of pixels stay exact."""
        return torch.stack([term.weight(target).double() for term in self.chosen()])

    def loss(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Sum of the terms, each divided by its weight; 0 with a gradient of 0 where nothing is labelled."""
        logits = logits if logits.dtype == torch.float64 else logits.float()
        divisors = weight.masked_fill(weight == 0, 1).to(logits.dtype)
        parts = [term.total(logits, target) / divisor for term, divisor in zip(self.chosen(), divisors, strict=True)]
        return torch.stack(parts).sum()


def choose(loss: str, available: dict[str, Term]) -> tuple[Term, ...]:
    """Look up the terms of a loss written as ``"ce"`` or ``"ce+dice"``.

    Raises:
        ConfigError: unknown term, or one named twice.
    """
    names = [name.strip() for name in loss.split("+")]
    for name in names:
        if name not in available:
            raise ConfigError(
                f"there is no loss '{name}'{closest(name, available)}",
                allowed=available,
                fix="change task.losses; several are joined by +",
            )
    if len(set(names)) < len(names):
        raise ConfigError(f"task.losses '{loss}' names a term twice", fix="name each once")
    return tuple(available[name] for name in names)


def check_class_weights(given: Sequence[float] | None, key: str, classes: Sequence[str]) -> None:
    """Refuse weights that do not fit the classes.

    Raises:
        ConfigError: not one per class, negative, or all zero.
    """
    if given is None:
        return
    if len(given) != len(classes):
        raise ConfigError(
            f"task.{key} has {len(given)} values for {len(classes)} classes",
            fix=f"give one each, in this order: {', '.join(classes)}",
        )
    if min(given) < 0 or max(given) <= 0:
        raise ConfigError(f"task.{key} is {list(given)}", fix="weights are at least 0, and one must be above")


def check_gamma(gamma: float) -> None:
    """Refuse a negative gamma.

    Raises:
        ConfigError: it is negative.
    """
    if gamma < 0:
        raise ConfigError(f"task.gamma is {gamma}", fix="give 0 or more; 2 is usual")


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy over classes; with gamma > 0 the focal loss (arXiv 1708.02002): w_y (1 − p_y)^γ (−log p_y).

    Logits ``(b, k, ...)``, target ``(b, ...)`` int64 with `IGNORE`. Items are pixels or images, divided by the sum of
    their class weights, as `torch.nn.CrossEntropyLoss` does.
    """

    class_weights: tuple[float, ...] | None = None
    smoothing: float = 0.0
    gamma: float = 0.0

    def weight(self, target: Tensor) -> Tensor:
        """Sum of the class weights of the labelled items; their number without class weights."""
        labelled = target != IGNORE
        if self.class_weights is None:
            return labelled.sum()
        by_class = torch.tensor(self.class_weights, dtype=torch.float64, device=target.device)
        return (by_class[target.clamp(min=0)] * labelled).sum()

    def total(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum over the labelled items."""
        by_class = None if self.class_weights is None else logits.new_tensor(self.class_weights)
        # Reduced here and not by cross_entropy, whose own reduction over images is not deterministic on CUDA.
        if self.gamma == 0:
            return F.cross_entropy(
                logits, target, by_class, ignore_index=IGNORE, reduction="none", label_smoothing=self.smoothing
            ).sum()
        nll = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
        items = _focus(nll, self.gamma) * nll
        return (items if by_class is None else items * by_class[target.clamp(min=0)]).sum()


@dataclass(frozen=True)
class Dice:
    """Soft dice per image over the classes that occur in it: mean of 1 − 2 Σ p g / (Σ p + Σ g)  (arXiv 1606.04797).

    Per image and not per batch, so that the loss does not depend on which images meet in a batch; a class that does
    not occur has no overlap to measure, and its false positives lower p of the classes that do.
    Logits ``(b, k, h, w)``, target ``(b, h, w)``; divided by the number of images with any label.
    """

    def weight(self, target: Tensor) -> Tensor:
        """Number of images with a labelled pixel."""
        return (target != IGNORE).flatten(1).any(1).sum()

    def total(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum over images."""
        k = logits.shape[1]
        truth = target.unsqueeze(1) == torch.arange(k, device=target.device).view(1, k, 1, 1)
        p = logits.softmax(1) * (target != IGNORE).unsqueeze(1)
        overlap, predicted, size = (p * truth).sum((2, 3)), p.sum((2, 3)), truth.sum((2, 3))
        occurs = size > 0
        dice = 1 - 2 * overlap / torch.where(occurs, predicted + size, 1)
        return ((dice * occurs).sum(1) / occurs.sum(1).clamp(min=1)).sum()


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Cross-entropy of independent labels; with gamma > 0 its focal form.

    Logits and target ``(b, k)``, a target below 0 or NaN is not known; divided by the number of known labels.
    """

    pos_weights: tuple[float, ...] | None = None
    gamma: float = 0.0

    def weight(self, target: Tensor) -> Tensor:
        """Number of known labels."""
        return (target >= 0).sum()

    def total(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum over the known labels."""
        known = target >= 0
        truth = torch.where(known, target, 0).to(logits.dtype)
        nll = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        items = nll if self.gamma == 0 else _focus(nll, self.gamma) * nll
        if self.pos_weights is not None:
            items = items * (1 + (logits.new_tensor(self.pos_weights) - 1) * truth)
        return torch.where(known, items, 0).sum()


@dataclass(frozen=True)
class Distance:
    """Distance of values: "mse" e², "mae" |e|, "huber" e²/2 below delta and delta (|e| − delta/2) above.

    Logits ``(b, 1, h, w)``, target ``(b, h, w)`` with NaN where unknown; divided by the number of known pixels.
    """

    kind: str
    delta: float = 1.0

    def weight(self, target: Tensor) -> Tensor:
        """Number of known pixels."""
        return (~target.isnan()).sum()

    def total(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum over the known pixels."""
        known = ~target.isnan()
        error = torch.where(known, logits.squeeze(1) - target.nan_to_num(), 0)
        if self.kind == "mse":
            return error.square().sum()
        if self.kind == "mae":
            return error.abs().sum()
        return F.huber_loss(error, torch.zeros_like(error), reduction="sum", delta=self.delta)


def _focus(nll: Tensor, gamma: float) -> Tensor:
    """Focal factor (1 − p)^γ from −log p; kept off 0, where the power has no gradient for γ < 1."""
    return (-torch.expm1(-nll)).clamp(min=1e-8) ** gamma

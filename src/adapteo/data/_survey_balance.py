"""How often a training window is seen, so that rare classes and small scenes count as much as others. No torch."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

Balance = Literal["classes", "scenes", "both"]
CAP = 10.0
"""A window is seen at most so many times as often as on average: a few windows seen again and again are learned by
heart."""


def window_weights(counts: np.ndarray, scenes: Sequence[int], balance: Balance) -> np.ndarray:
    """Weight of each window; the mean is 1.

    For classes, a window's labelled pixels count as the inverse of their class's share, and their mean is its weight:
    where windows hold one class each, and none reaches the cap, all classes are seen equally often. For scenes, each
    scene is seen equally often; for both, classes are balanced within each scene's share.

    Args:
        counts: labelled pixels ``(n, k)`` by window and class.
        scenes: ``(n,)`` number of the scene of each window.
        balance: what is balanced.
    """
    weights = np.ones(len(counts))
    if balance in ("classes", "both"):
        share = counts.sum(axis=0) / counts.sum()
        inverse = np.divide(1.0, share, out=np.zeros_like(share), where=share > 0)
        weights = (counts * inverse).sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
    if balance in ("scenes", "both"):
        _, number = np.unique(np.asarray(scenes), return_inverse=True)
        weights = weights / np.bincount(number, weights)[number]
    return _capped(weights / weights.mean())


def seen_shares(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of each class ``(k,)`` in the labelled pixels that a training sees."""
    seen = (counts * weights[:, None]).sum(axis=0)
    return np.asarray(seen / seen.sum())


def balance_note(balance: Balance, classes: Sequence[str], counts: np.ndarray, weights: np.ndarray) -> str:
    """Shares of the classes before and after balancing, for people."""
    before, after = seen_shares(counts, np.ones(len(counts))), seen_shares(counts, weights)
    told = (f"{n} {b:.1%} ({a:.1%})" for n, a, b in zip(classes, before, after, strict=True))
    return f"balance: {balance}: share of the labels seen in training (without): {', '.join(told)}"


def _capped(weights: np.ndarray) -> np.ndarray:
    """Cut weights at `CAP` times the mean, and give what is cut off to the others."""
    top = np.zeros(len(weights), bool)
    while (new := (weights > CAP) & ~top).any():
        top |= new
        rest = ~top
        weights = np.where(top, CAP, weights)
        weights[rest] *= (len(weights) - CAP * top.sum()) / weights[rest].sum()
    return weights

"""Accuracy and area from an error matrix, after Olofsson et al. 2014 (doi:10.1016/j.rse.2014.02.015).

With n_ij samples of map class i and reference class j, n_i. of map class i, and the share W_i of class i in the map:

    p_ij    = W_i n_ij / n_i.                                                          (4)
    O       = sum_j p_jj             V(O)   = sum_i W_i² U_i (1 - U_i) / (n_i. - 1)    (1), (5)
    U_i     = p_ii / p_i.            V(U_i) = U_i (1 - U_i) / (n_i. - 1)               (2), (6)
    P_j     = p_jj / p_.j            V(P_j) as (7), with N_.j from (8)                 (3)
    p_.k    = sum_i W_i n_ik / n_i.                                                    (9)
    S(p_.k) = sqrt(sum_i (W_i p_ik - p_ik²) / (n_i. - 1))                              (10)
    A_k     = A p_.k                 S(A_k) = A S(p_.k),  A_k ± 1.96 S(A_k)            (11), (12)

The numbers in brackets are the paper's. Rows are strata: the map's classes. Where samples were drawn over the whole
map, how many fall into each class is chance, and the variance of means of indicators has a second term (Cochran 1977,
Sampling Techniques, eq. 5A.42):

    V(p_.k) = sum_i W_i s_ik² / n + sum_i (1 - W_i) s_ik² / n²,   s_ik² = n_i. / (n_i. - 1) p (1 - p),  p = n_ik / n_i.
"""

from dataclasses import dataclass

import numpy as np

_Z = 1.96
"""Half width of the 95 % interval in standard errors, as in the paper."""


@dataclass(frozen=True)
class Value:
    """An estimate.

    Attributes:
        value: NaN when it is not defined.
        error: standard error; NaN when it is not known.
    """

    value: float
    error: float

    @property
    def half(self) -> float:
        """Half width of the 95 % interval."""
        return _Z * self.error

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval; may be below 0, as it is with a normal approximation."""
        return self.value - self.half

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.value + self.half


@dataclass(frozen=True)
class Accuracy:
    """What an error matrix says.

    Attributes:
        overall: overall accuracy.
        users, producers: by class.
        areas: by class, in the unit of the mapped areas.
        proportions: ``(k, k)`` estimated share of the area (4).
    """

    overall: Value
    users: tuple[Value, ...]
    producers: tuple[Value, ...]
    areas: tuple[Value, ...]
    proportions: np.ndarray


def assess(counts: np.ndarray, mapped: np.ndarray, *, random: bool = False) -> Accuracy:
    """Estimate accuracy and areas.

    Classes of the map without a sample are left out: the estimates are of the rest of the map. What depends on a class
    with one sample has no standard error.

    Args:
        counts: ``(k, k)`` samples, map classes in rows, reference classes in columns.
        mapped: ``(k,)`` area of each class in the map, in any unit.
        random: samples were drawn over the whole map, not by class.
    """
    counts = np.asarray(counts, np.float64)
    samples = counts.sum(1)
    sampled = samples > 0
    area = np.where(sampled, mapped, 0.0)
    total = float(area.sum())
    weight = area / total if total else np.zeros(len(area))
    inner = counts / np.where(sampled, samples, 1.0)[:, None]  # n_ij / n_i.
    p = weight[:, None] * inner
    with np.errstate(divide="ignore", invalid="ignore"):
        user = np.where(sampled, np.diag(inner), np.nan)
        producer = np.diag(p) / p.sum(0)
        # Indicators' variances within strata, divided by the samples; unknown for one sample, unless there is no area.
        spread = inner * (1 - inner) / np.where(samples > 1, samples - 1, np.nan)[:, None]
        spread = np.where((weight == 0)[:, None], 0.0, spread)
        parts = weight[:, None] ** 2 * spread
        if random:
            n = samples.sum()
            s2 = spread * samples[:, None]
            parts = weight[:, None] * s2 / n + (1 - weight)[:, None] * np.where((weight > 0)[:, None], s2, 0) / n**2
        overall = Value(float(np.diag(p).sum()) if total else np.nan, float(np.sqrt(np.diag(parts).sum())))
        of_user = np.sqrt(np.where(samples > 1, user * (1 - user) / (samples - 1), np.nan))
        of_producer = np.sqrt(_producer_variance(area, p.sum(0) * total, producer, inner, samples))
    shares, of_share = p.sum(0), np.sqrt(parts.sum(0))
    return Accuracy(
        overall,
        _values(user, of_user),
        _values(producer, of_producer),
        _values(shares * total if total else np.full(len(area), np.nan), of_share * total),
        p,
    )


def _producer_variance(
    area: np.ndarray, truth: np.ndarray, producer: np.ndarray, inner: np.ndarray, samples: np.ndarray
) -> np.ndarray:
    """Equation (7): ``area`` is N_i., ``truth`` N_.j of (8)."""
    spread = inner * (1 - inner) / np.where(samples > 1, samples - 1, np.nan)[:, None]
    spread = np.where((area == 0)[:, None], 0.0, spread)
    own = area**2 * (1 - producer) ** 2 * np.diag(spread)
    others = area[:, None] ** 2 * spread
    np.fill_diagonal(others, 0.0)
    return (own + producer**2 * others.sum(0)) / truth**2


def _values(numbers: np.ndarray, errors: np.ndarray) -> tuple[Value, ...]:
    return tuple(Value(*pair) for pair in zip(numbers.tolist(), errors.tolist(), strict=True))

"""CP mode approximation: the changes of all weights are one tensor of low rank.

    ΔW_m = s V diag(λ ⊙ p_m) Uᵀ,   U (D × R), V (D × R) and λ shared by all layers, p_m of each matrix of D × D

Y. Zhai, H. Wang et al.: When Parameter-efficient Tuning Meets General-purpose Vision-language Models (PETAL),
arXiv 2312.12458, after Aurora, NeurIPS 2023, arXiv 2305.08381.

Weights of several times D are cut into matrices of D × D, each with its own p: 12 per block of a ViT. Where widths
differ, D is the greatest common divisor of in and out, and each D has its own U, V and λ. Only V starts at zero: were
λ and p zero together, no gradient would ever reach any of them.
"""

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapteo.contracts import Backbone, Facts, Wrapper
from adapteo.errors import ConfigError
from adapteo.peft._targets import OnLinears
from adapteo.vit import RoleLinear


class Factors(nn.Module):
    """What all layers of one width share.

    Attributes:
        cp_U: ``(D, R)`` random; cp_V: ``(D, R)``, zero at the start; cp_lambda: ``(R,)``, 1 at the start.
    """

    def __init__(self, width: int, rank: int, like: Tensor) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.cp_U = nn.Parameter(like.new_empty(width, rank).uniform_(-bound, bound))
        self.cp_V = nn.Parameter(like.new_zeros(width, rank))
        self.cp_lambda = nn.Parameter(like.new_ones(rank))


class CPLinear(Wrapper):
    """A frozen linear with its slices of the shared tensor, ``(..., a D) -> (..., c D)``.

    Attributes:
        cp_p: ``(c, a, R)``, normal with deviation 1.
    """

    inner: nn.Linear

    def __init__(self, inner: nn.Linear, shared: Factors, scale: float) -> None:
        super().__init__()
        self.inner, self.shared, self.scale = inner, shared, scale
        width, rank = shared.cp_U.shape
        cuts = inner.out_features // width, inner.in_features // width
        self.cp_p = nn.Parameter(inner.weight.new_empty(*cuts, rank).normal_())
        self.train(inner.training)

    def forward(self, x: Tensor) -> Tensor:
        """Add the slices."""
        modes = self.scale * self.cp_p * self.shared.cp_lambda
        low = x.unflatten(-1, (self.cp_p.shape[1], -1)) @ self.shared.cp_U.to(x.dtype)
        mixed = torch.einsum("...ar,car->...cr", low, modes.to(low.dtype))
        term = (mixed @ self.shared.cp_V.t().to(mixed.dtype)).flatten(-2)
        out: Tensor = self.inner(x)
        return out + term.to(out.dtype)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return the plain linear with the slices added, in at least float32."""
        plain = copy.deepcopy(self.inner)
        exact = torch.promote_types(plain.weight.dtype, torch.float32)
        modes = self.scale * self.cp_p.to(exact) * self.shared.cp_lambda.to(exact)
        u, v = self.shared.cp_U.to(exact), self.shared.cp_V.to(exact)
        delta = torch.einsum("vr,car,ur->cvau", v, modes, u).reshape(plain.weight.shape)
        plain.weight.copy_(plain.weight.to(exact) + delta)
        return plain


@dataclass(frozen=True)
class CP(OnLinears):
    """CP mode approximation: trains one low-rank tensor that changes all linears of attention and MLP.

    Attributes:
        rank: R.
        scale: s, factor of the change.
        targets: roles of the linears to adapt (q, k, v, proj, fc1, fc2, gate); all that there are when none is named.
    """

    rank: int = 64
    scale: float = 1.0
    targets: tuple[str, ...] = ()

    facts = Facts(
        family="low-rank",
        parameters="2 D R + R + 12 L R: 107,584 for a ViT-B with R = 64, hardly more for deeper ones",
        cost="about LoRA's of rank 64",
        use="when adapter files must be small and networks are deep",
        evidence="arXiv 2312.12458",
    )

    def __post_init__(self) -> None:
        if self.rank < 1 or self.scale <= 0:
            raise ConfigError(f"cp needs rank >= 1 and scale > 0, not rank {self.rank}, scale {self.scale}")
        self.check_targets()

    def wrappers(self, linears: Sequence[RoleLinear]) -> Iterable[Wrapper]:
        """See `CPLinear`; layers of one width share their factors."""
        shared: dict[int, Factors] = {}
        for linear in linears:
            width = _width(linear)
            if width not in shared:
                shared[width] = Factors(width, self.rank, linear.weight)
            yield CPLinear(linear, shared[width], self.scale)

    def added(self, linear: RoleLinear) -> int:
        """Of p alone: R for each matrix of D x D."""
        return self.rank * linear.weight.numel() // _width(linear) ** 2

    def parameters_formula(self, backbone: Backbone) -> int:
        """Sum over widths D of 2 D R + R, and R for each matrix of D x D: 2 D R + R + 12 L R on a plain ViT."""
        every = {_width(linear) for _, _, linear in self.chosen(backbone)}
        return super().parameters_formula(backbone) + sum(2 * d * self.rank + self.rank for d in every)


def _width(linear: nn.Linear) -> int:
    return math.gcd(linear.in_features, linear.out_features)


METHOD = CP

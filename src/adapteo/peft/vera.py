"""VeRA: two trained vectors between random matrices that all layers share.

    y = W x + b + diag(u) B diag(d) A x,     A (r × in), B (out × r) random, frozen and shared,  u = 0 at the start

D. J. Kopiczko, T. Blankevoort, Y. M. Asano: VeRA: Vector-based Random Matrix Adaptation, ICLR 2024, arXiv 2310.11454.

Layers of different sizes take the first columns of A and the first rows of B. Both are drawn on the CPU by a generator
of their own from `seed`; adapter files hold the vectors alone.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Facts, Wrapper
from adapteo.errors import ConfigError
from adapteo.peft._projections import drawn
from adapteo.peft._targets import OnLinears
from adapteo.vit import RoleLinear

_START = 0.1


class Projections(nn.Module):
    """A ``(r, widest in)`` and B ``(widest out, r)``; one instance for all layers."""

    vera_A: Tensor
    vera_B: Tensor

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.register_buffer("vera_A", a, persistent=False)
        self.register_buffer("vera_B", b, persistent=False)


class VeRALinear(Wrapper):
    """A frozen linear with a term of shared random matrices, ``(..., in) -> (..., out)``.

    Attributes:
        vera_d: ``(r,)``, 0.1 at the start.
        vera_u: ``(out,)``, 0 at the start.
    """

    inner: nn.Linear

    def __init__(self, inner: nn.Linear, shared: Projections) -> None:
        super().__init__()
        self.inner, self.shared = inner, shared
        self.vera_d = nn.Parameter(inner.weight.new_full((len(shared.vera_A),), _START))
        self.vera_u = nn.Parameter(inner.weight.new_zeros(inner.out_features))
        self.train(inner.training)

    def forward(self, x: Tensor) -> Tensor:
        """Add the term."""
        a, b = self.shared.vera_A[:, : self.inner.in_features], self.shared.vera_B[: self.inner.out_features]
        out: Tensor = self.inner(x)
        low = F.linear(x, a) * self.vera_d
        return out + F.linear(low.to(b.dtype), b) * self.vera_u

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return the plain linear with W + diag(u) B diag(d) A."""
        plain = copy.deepcopy(self.inner)
        exact = torch.promote_types(plain.weight.dtype, torch.float32)
        a = self.shared.vera_A[:, : self.inner.in_features].to(exact)
        b = self.shared.vera_B[: self.inner.out_features].to(exact)
        delta = self.vera_u.to(exact)[:, None] * ((b * self.vera_d.to(exact)) @ a)
        plain.weight.copy_(plain.weight.to(exact) + delta)
        return plain


@dataclass(frozen=True)
class VeRA(OnLinears):
    """VeRA: trains two vectors per linear between shared random matrices.

    Attributes:
        rank: r; may be large, as the matrices are not trained.
        targets: roles of the linears to adapt (q, k, v, proj, fc1, fc2, gate); all that there are when none is named.
        seed: of the random matrices; the adapter needs the same one.
    """

    rank: int = 256
    targets: tuple[str, ...] = ()
    seed: int = 0

    default_rate = 1e-2
    facts = Facts(
        family="low-rank",
        parameters="r + out per linear: 6 r + 9 D per block",
        cost="0.745 of full fine-tuning's arithmetic at rank 256, as the random matrices are wide",
        use="when adapter files must be tiny; LoRA is more accurate",
        evidence="0.354 against 0.478 (LoRA) in HF peft's benchmark: it did not pay off there",
    )

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"vera needs rank >= 1, not {self.rank}", fix="see `method.rank`")
        self.check_targets()

    def wrappers(self, linears: Sequence[RoleLinear]) -> Iterable[Wrapper]:
        """See `VeRALinear`; A and B are large enough for the widest of them."""
        widest_in = max(linear.in_features for linear in linears)
        widest_out = max(linear.out_features for linear in linears)
        a, b = drawn((self.rank, widest_in), self.seed, 0), drawn((widest_out, self.rank), self.seed, 1)
        like = linears[0].weight
        shared = Projections(a.to(like), b.to(like))
        return (VeRALinear(linear, shared) for linear in linears)

    def added(self, linear: RoleLinear) -> int:
        """Of the two vectors: r + out."""
        return self.rank + linear.out_features


METHOD = VeRA

"""DoRA: direction by LoRA, magnitude by a number per output.

    y = m ⊙ (W + s B A) x / c + b,     c = norm of each row of W + s B A,     B = 0 and m = c at the start

S.-Y. Liu et al.: DoRA: Weight-Decomposed Low-Rank Adaptation, ICML 2024, arXiv 2402.09353.

As in its section 4.3, c is a constant for the gradient, which saves memory and hardly changes the result. Each pass
computes c, so a pass over B A is paid, whatever the batch.
"""

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Facts, Wrapper
from adapteo.errors import ConfigError
from adapteo.peft._targets import OnLinears
from adapteo.vit import RoleLinear


class DoRALinear(Wrapper):
    """A frozen linear whose rows are turned by a low-rank term and have trained norms, ``(..., in) -> (..., out)``."""

    inner: nn.Linear
    rebuilds = True

    def __init__(self, inner: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        self.inner, self.scale = inner, scale
        weight = inner.weight
        self.lora_A = nn.Parameter(weight.new_empty(rank, inner.in_features))
        self.lora_B = nn.Parameter(weight.new_zeros(inner.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.magnitude = nn.Parameter(self._norms().clone())
        self.train(inner.training)

    @torch.no_grad()
    def _norms(self) -> Tensor:
        weight = self.inner.weight
        exact = torch.promote_types(weight.dtype, torch.float32)
        turned = weight.to(exact) + self.scale * (self.lora_B.to(exact) @ self.lora_A.to(exact))
        norms = torch.linalg.vector_norm(turned, dim=1)
        return norms.clamp_min(torch.finfo(norms.dtype).tiny).to(weight.dtype)  # rows of zeros stay zeros

    def forward(self, x: Tensor) -> Tensor:
        """Turn and stretch."""
        turned = F.linear(x, self.inner.weight) + self.scale * F.linear(F.linear(x, self.lora_A), self.lora_B)
        out = turned * (self.magnitude / self._norms()).to(turned.dtype)
        return out if self.inner.bias is None else out + self.inner.bias.to(turned.dtype)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return the plain linear with the rebuilt weight, computed in at least float32 and rounded once."""
        plain = copy.deepcopy(self.inner)
        exact = torch.promote_types(plain.weight.dtype, torch.float32)
        turned = plain.weight.to(exact) + self.scale * (self.lora_B.to(exact) @ self.lora_A.to(exact))
        plain.weight.copy_((self.magnitude / self._norms()).to(exact)[:, None] * turned)
        return plain


@dataclass(frozen=True)
class DoRA(OnLinears):
    """DoRA: trains the direction of weights by a low-rank term and their magnitude by a number per output.

    Attributes:
        rank: r.
        alpha: α; the term is scaled by α / r.
        targets: roles of the linears to adapt (q, k, v, proj, fc1, fc2, gate); all that there are when none is named.
    """

    rank: int = 16
    alpha: float = 16.0
    targets: tuple[str, ...] = ()

    order = 5
    facts = Facts(
        family="low-rank",
        parameters="r (in + out) + out per linear: (18 r + 9) D per block",
        cost="37.6 D numbers of activations per token, 2.3 times full fine-tuning's: the dearest of the family",
        use="small ranks, when memory does not matter; else LoRA",
        evidence="0.469 against 0.478 (LoRA) and 0.513 (rsLoRA) in HF peft's benchmark: it did not pay off there",
    )

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ConfigError(f"dora needs rank >= 1 and alpha > 0, not rank {self.rank}, alpha {self.alpha}")
        self.check_targets()

    def wrappers(self, linears: Sequence[RoleLinear]) -> Iterable[Wrapper]:
        """See `DoRALinear`."""
        return (DoRALinear(linear, self.rank, self.alpha / self.rank) for linear in linears)

    def added(self, linear: RoleLinear) -> int:
        """Of A, B and m: r (in + out) + out."""
        return self.rank * (linear.in_features + linear.out_features) + linear.out_features


METHOD = DoRA

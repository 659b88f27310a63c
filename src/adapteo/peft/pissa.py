"""PiSSA: LoRA that starts from the largest singular directions of the weight.

    W = U S Vᵀ,   s B₀ A₀ = U_r S_r V_rᵀ,   y = (W − s B₀ A₀) x + b + s B A x,   A = A₀ and B = B₀ at the start

F. Meng, Z. Wang, M. Zhang: PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models,
NeurIPS 2024, arXiv 2404.02948.

The residual W − s B₀ A₀ is never stored: W stays as it is, and −s B₀ A₀ is added beside the trained term. So W keeps
its bits, and the adapter file is plain LoRA of rank 2r, [A; A₀] and [B, −B₀], which HF peft opens on the plain
backbone; it does not depend on how another machine would choose the signs of singular vectors.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Backbone, Facts, Wrapper, copy_exactly
from adapteo.errors import ConfigError
from adapteo.lean import Affine
from adapteo.peft.lora import LoRA, LoRALinear
from adapteo.vit import RoleLinear


class PiSSALinear(LoRALinear):
    """`LoRALinear` that starts at the principal part of the weight and subtracts that part.

    Attributes:
        start_A, start_B: A₀ ``(r, in)`` and B₀ ``(out, r)``.
    """

    keeps = ("start_A", "start_B")
    start_A: Tensor
    start_B: Tensor

    def __init__(self, inner: nn.Linear, rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__(inner, rank, scale, dropout)
        a, b = _principal(inner.weight, rank, scale)
        with torch.no_grad():
            self.lora_A.copy_(a)
            self.lora_B.copy_(b)
        self.register_buffer("start_A", self.lora_A.detach().clone())
        self.register_buffer("start_B", self.lora_B.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Add the trained term and subtract the one it started from."""
        rows = x.reshape(-1, x.shape[-1])
        out: Tensor = self.inner(rows)
        dropped = self.dropout(rows)
        low = F.linear(dropped, torch.cat([self.lora_A, self.start_A]))
        wide = torch.cat([self.lora_B, -self.start_B], dim=1)
        out = out.addmm_(low, wide.t().to(out.dtype), alpha=self.scale)
        return out.view(*x.shape[:-1], out.shape[-1])

    def affine(self) -> Affine | None:
        """What it computes, for `adapteo.lean`: two terms as one of rank 2r."""
        plain = super().affine()
        if plain is None:
            return None
        up = torch.cat([self.lora_B, -self.start_B], dim=1)
        return plain._replace(down=torch.cat([self.lora_A, self.start_A]), up=up)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return the plain linear with W + s (B A − B₀ A₀)."""
        plain = super().merged()
        assert isinstance(plain, nn.Linear), "LoRALinear merges into a linear"
        exact = torch.promote_types(plain.weight.dtype, torch.float32)
        start = self.scale * (self.start_B.to(exact) @ self.start_A.to(exact))
        plain.weight.copy_(plain.weight.to(exact) - start)
        return plain


def _principal(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """Return A₀ and B₀ with s B₀ A₀ the best approximation of rank r, the singular values shared evenly."""
    exact = torch.promote_types(weight.dtype, torch.float32)
    u, s, vh = torch.linalg.svd(weight.detach().to(exact), full_matrices=False)
    root = (s[:rank] / scale).sqrt()
    return root[:, None] * vh[:rank], u[:, :rank] * root


@dataclass(frozen=True)
class PiSSA(LoRA):
    """PiSSA: LoRA that starts from the principal singular directions of each weight.

    Attributes:
        rank: r; at most the smaller side of the weights.
        alpha: α; the term is scaled by α / r, and its start divided by that.
        dropout: share of the term's input that is dropped in training; costs memory for the masks.
        rslora: scale by α / √r instead.
        targets: roles of the linears to adapt (q, k, v, proj, fc1, fc2, gate); all that there are when none is named.
        preset: "paper" for r = 16, α = 16 on q, v, fc1 and fc2.
    """

    default_rate = 2e-4
    facts = Facts(
        family="low-rank",
        parameters="r (in + out) per linear: 18 r D per block",
        cost="as LoRA of twice the rank; one singular value decomposition per linear at the start",
        use="short trainings, where LoRA's start from zero costs steps",
        evidence="72.9 against 67.7 (LoRA) on GSM8K with Mistral-7B (arXiv 2404.02948, abstract)",
    )

    def wrappers(self, linears: Sequence[RoleLinear]) -> Iterable[Wrapper]:
        """See `PiSSALinear`."""
        for linear in linears:
            self._check_rank(linear)
            yield PiSSALinear(linear, self.rank, self.scale, self.dropout)

    def _check_rank(self, linear: nn.Linear) -> None:
        if self.rank > min(linear.weight.shape):
            raise ConfigError(
                f"pissa's rank {self.rank} exceeds the {min(linear.weight.shape)} singular values of a weight",
                fix="see `method.rank`",
            )

    def adapter_state(self, backbone: Backbone) -> dict[str, Tensor]:
        """LoRA of rank 2r that adds the same to the plain backbone, under HF peft's keys."""
        out = {}
        for name, layer in backbone.named_modules():
            if isinstance(layer, PiSSALinear):
                a, b = torch.cat([layer.lora_A, layer.start_A]), torch.cat([layer.lora_B, -layer.start_B], dim=1)
                out[f"base_model.model.{name}.lora_A.weight"] = a.detach().cpu().contiguous()
                out[f"base_model.model.{name}.lora_B.weight"] = b.detach().cpu().contiguous()
        return out

    def load_adapter_state(self, backbone: Backbone, state: Mapping[str, Tensor]) -> None:
        """Take the trained and the starting matrices out of an adapter file.

        Raises:
            WeightsError: when a tensor is missing, superfluous or of another shape; nothing is copied then.
        """
        into = self.adapter_state(backbone)
        copy_exactly(into, state)
        with torch.no_grad():
            for name, layer in backbone.named_modules():
                if isinstance(layer, PiSSALinear):
                    a = into[f"base_model.model.{name}.lora_A.weight"]
                    b = into[f"base_model.model.{name}.lora_B.weight"]
                    for tensor, part in zip((layer.lora_A, layer.start_A), a.chunk(2), strict=True):
                        tensor.copy_(part)
                    layer.lora_B.copy_(b[:, : self.rank])
                    layer.start_B.copy_(-b[:, self.rank :])

    def adapter_config(self, backbone: Backbone) -> dict[str, object]:
        """HF peft's adapter_config.json of the LoRA of rank 2r."""
        alpha = self.alpha * (math.sqrt(2) if self.rslora else 2)
        return LoRA.adapter_config(replace(self, rank=2 * self.rank, alpha=alpha, preset=None), backbone)


METHOD = PiSSA

"""SLR: a low-rank term between two scales.

    y = s₂ ⊙ (W (s₁ ⊙ x) + b + B A (s₁ ⊙ x)),   A ~ N(0, 1), B = 0, s₁ = s₂ = 1 at the start

L. Scheibenreif, M. Mommert, D. Borth: Parameter Efficient Self-Supervised Geospatial Domain Adaptation, CVPR 2024.

A convolution gets a low-rank term of two: A with its kernel and stride to r channels, B with a kernel of one pixel.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapteo.contracts import Backbone, Facts, Method, Wrapper
from adapteo.errors import ConfigError
from adapteo.peft._affine import along, channel_axis, scale_columns, scale_rows
from adapteo.peft._targets import apply_weight, linears_and_convolutions, widths


class SLRLayer(Wrapper):
    """A frozen linear or convolution with a trained low-rank term and scales on both sides.

    Attributes:
        slr_A: ``(r, in)`` or ``(r, in, k, k)``, normal with deviation 1.
        slr_B: ``(out, r)``, zero at the start.
        before, after: ``(in,)`` and ``(out,)``, 1 at the start.
    """

    inner: nn.Linear | nn.Conv2d

    def __init__(self, inner: nn.Linear | nn.Conv2d, rank: int) -> None:
        super().__init__()
        self.inner = inner
        self.axis = channel_axis(inner)
        weight, (inputs, outputs) = inner.weight, widths(inner)
        self.slr_A = nn.Parameter(weight.new_empty(rank, *weight.shape[1:]).normal_())
        self.slr_B = nn.Parameter(weight.new_zeros(outputs, rank))
        self.before = nn.Parameter(weight.new_ones(inputs))
        self.after = nn.Parameter(weight.new_ones(outputs))
        self.train(inner.training)

    def forward(self, x: Tensor) -> Tensor:
        """Scale, apply both, scale."""
        x = x * along(self.before, self.axis).to(x.dtype)
        low = apply_weight(self.inner, x, self.slr_A)
        if self.axis == 1:
            term = torch.einsum("brhw,or->bohw", low, self.slr_B.to(low.dtype))
        else:
            term = low @ self.slr_B.t().to(low.dtype)
        out: Tensor = self.inner(x) + term
        return out * along(self.after, self.axis).to(out.dtype)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return the plain layer with diag(s₂) (W + B A) diag(s₁) and s₂ b, computed in at least float32."""
        plain = copy.deepcopy(self.inner)
        exact = torch.promote_types(plain.weight.dtype, torch.float32)
        term = torch.einsum("or,r...->o...", self.slr_B.to(exact), self.slr_A.to(exact))
        new = plain.weight.to(exact) + term
        scale_rows(new, self.after)
        scale_columns(new, self.before)
        plain.weight.copy_(new)
        if plain.bias is not None:
            scale_rows(plain.bias, self.after)
        return plain


@dataclass(frozen=True)
class SLR(Method):
    """SLR: trains a low-rank term and scales on both sides of each linear and convolution.

    Attributes:
        rank: r.
    """

    rank: int = 8

    order = 4
    default_rate = 1e-3
    facts = Facts(
        family="low-rank",
        parameters="r (in + out) + in + out per linear; a convolution of k x k: r (k² in + out) + in + out",
        cost="about as LoRA with twice the activations, for the scales",
        use="imagery far from pre-training: other sensors, other bands",
        evidence="made for and tested on remote sensing imagery (Scheibenreif et al., CVPR 2024)",
    )

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"slr needs rank >= 1, not {self.rank}", fix="see `method.rank`")

    def apply(self, backbone: Backbone) -> None:
        """Wrap the layers.

        Raises:
            ConfigError: when there is no linear or convolution.
        """
        for parent, name, layer in linears_and_convolutions(backbone, self):
            setattr(parent, name, SLRLayer(layer, self.rank))

    def parameters_formula(self, backbone: Backbone) -> int:
        """Sum of r (k² in + out) + in + out: L · 18 (r + 1) D on a plain ViT."""
        total = 0
        for _, _, layer in linears_and_convolutions(backbone, self):
            inputs, outputs = widths(layer)
            total += self.rank * (layer.weight[0].numel() + outputs) + inputs + outputs
        return total


METHOD = SLR

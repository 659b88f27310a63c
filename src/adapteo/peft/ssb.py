"""SSL and SSB: one or both sides of each weight are scaled.

    y = diag(d_l) W diag(d_r) x + b,     d = 1 at the start;   SSL: `side: out` (d_r stays 1),  SSB: `side: both`

C. Si, X. Yang, W. Shen: See Further for Parameter Efficient Fine-tuning by Standing on the Shoulders of Decomposition,
arXiv 2407.05417.

The rank of W stays. (c d_l, d_r / c) is the same function for any c, which averages of adapters must mind. The authors'
code for SSL scales columns where the text scales rows: `side: in`.
"""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from adapteo.contracts import Backbone, Facts, Method, Wrapper
from adapteo.errors import ConfigError
from adapteo.peft._affine import along, channel_axis, scale_columns, scale_rows
from adapteo.peft._targets import apply_weight, linears_and_convolutions, widths

SIDES = ("out", "in", "both")


class SidesScaled(Wrapper):
    """A linear or convolution whose weight is scaled on one or both sides.

    Attributes:
        left: ``(out,)`` or None; right: ``(in,)`` or None; 1 at the start.
    """

    inner: nn.Linear | nn.Conv2d
    rebuilds = True

    def __init__(self, inner: nn.Linear | nn.Conv2d, side: str) -> None:
        super().__init__()
        self.inner = inner
        self.axis = channel_axis(inner)
        inputs, outputs = widths(inner)
        self.left = nn.Parameter(inner.weight.new_ones(outputs)) if side != "in" else None
        self.right = nn.Parameter(inner.weight.new_ones(inputs)) if side != "out" else None
        self.train(inner.training)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the input, multiply, scale the output, add the bias."""
        if self.right is not None:
            x = x * along(self.right, self.axis).to(x.dtype)
        out = apply_weight(self.inner, x, self.inner.weight)
        if self.left is not None:
            out = out * along(self.left, self.axis).to(out.dtype)
        bias = self.inner.bias
        return out if bias is None else out + along(bias, self.axis).to(out.dtype)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return the plain layer with the scaled weight."""
        plain = copy.deepcopy(self.inner)
        if self.left is not None:
            scale_rows(plain.weight, self.left)
        if self.right is not None:
            scale_columns(plain.weight, self.right)
        return plain


@dataclass(frozen=True)
class SSB(Method):
    """SSL and SSB: trains scales of the outputs, the inputs, or both, of each linear and convolution.

    Attributes:
        side: "out" (SSL), "in" or "both" (SSB).
    """

    side: Literal["out", "in", "both"] = "both"

    order = 5
    default_rate = 5e-3
    facts = Facts(
        family="scaling",
        parameters="out, in or both per weight: 18 D per block (16 D where q, k and v share d_r)",
        cost="full fine-tuning's activations, 2/3 of its arithmetic; nothing after merging",
        use="few labels; convolutional networks",
        evidence="147 k, 393 k and 655 k parameters for ViT-B, L and H with fused qkv (arXiv 2407.05417)",
    )

    def __post_init__(self) -> None:
        if self.side not in SIDES:
            raise ConfigError(f"ssb's side is '{self.side}'", allowed=SIDES)

    def apply(self, backbone: Backbone) -> None:
        """Wrap the layers.

        Raises:
            ConfigError: when there is no linear or convolution.
        """
        for parent, name, layer in linears_and_convolutions(backbone, self):
            setattr(parent, name, SidesScaled(layer, self.side))

    def parameters_formula(self, backbone: Backbone) -> int:
        """Sum of out, in or both: L · 18 D on a plain ViT with both."""
        sizes = [widths(layer) for _, _, layer in linears_and_convolutions(backbone, self)]
        return sum((inputs if self.side != "out" else 0) + (outs if self.side != "in" else 0) for inputs, outs in sizes)


METHOD = SSB

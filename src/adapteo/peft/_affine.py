"""Scale and shift of a layer's output channels, and of its inputs; they merge into the layer's own tensors."""

import copy

import torch
from torch import Tensor, nn

from adapteo.contracts import Wrapper


def channel_axis(layer: nn.Module) -> int:
    """Axis of the channels in what a layer takes and returns: 1 for PyTorch's and timm's "…2d", else the last."""
    return 1 if "2d" in type(layer).__name__ else -1


def along(values: Tensor, axis: int) -> Tensor:
    """Shape a vector of channels so that it multiplies maps ``(b, c, h, w)`` (axis 1) or tokens (axis -1)."""
    return values.view(-1, 1, 1) if axis == 1 else values


def width_of(layer: nn.Module) -> int:
    """Number of output channels of a linear, a convolution or a norm."""
    return len(own(layer)["weight"])


def own(layer: nn.Module) -> dict[str, nn.Parameter]:
    """Weight and, where there is one, bias of a layer."""
    return dict(layer.named_parameters(recurse=False))


class Scaled(Wrapper):
    """A layer whose output is ``gamma · y + beta``; either may be absent.

    Attributes:
        gamma, beta: ``(channels,)``, at the start 1 and 0.
    """

    def __init__(self, inner: nn.Module, *, shift: bool) -> None:
        super().__init__()
        self.inner = inner
        like = own(inner)["weight"]
        self.axis = channel_axis(inner)
        self.gamma = nn.Parameter(like.new_ones(len(like)))
        self.beta = nn.Parameter(like.new_zeros(len(like))) if shift else None
        self.train(inner.training)

    def forward(self, x: Tensor) -> Tensor:
        """Scale, then shift."""
        out: Tensor = self.inner(x)
        out = out * along(self.gamma, self.axis).to(out.dtype)
        return out if self.beta is None else out + along(self.beta, self.axis).to(out.dtype)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return the plain layer with weight γ W and bias γ b + β, computed in at least float32."""
        plain = copy.deepcopy(self.inner)
        tensors = own(plain)
        scale_rows(tensors["weight"], self.gamma)
        if "bias" in tensors:
            scale_rows(tensors["bias"], self.gamma)
            if self.beta is not None:
                tensors["bias"].add_(self.beta)
        return plain


@torch.no_grad()
def scale_rows(tensor: Tensor, factors: Tensor) -> None:
    """Multiply each row (first axis) in place, in at least float32."""
    exact = torch.promote_types(tensor.dtype, torch.float32)
    tensor.copy_(tensor.to(exact) * factors.to(exact).view(-1, *[1] * (tensor.ndim - 1)))


@torch.no_grad()
def scale_columns(tensor: Tensor, factors: Tensor) -> None:
    """Multiply each column (second axis) in place, in at least float32."""
    exact = torch.promote_types(tensor.dtype, torch.float32)
    tensor.copy_(tensor.to(exact) * factors.to(exact).view(-1, *[1] * (tensor.ndim - 2)))

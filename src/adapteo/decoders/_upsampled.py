"""A 3 × 3 convolution of ``[nearest(x, 2), skip]`` that never makes the joined map, for U-Nets.

Doubling by nearest neighbour and then convolving with w is one transposed convolution of stride 2 whose kernel k,
4 × 4, is w folded over the pixels that have the same value; in one dimension

    k = [w₂, w₁ + w₂, w₀ + w₁, w₀]

which takes 4 products per output where the 3 × 3 kernel takes 9, and the half of the map that is four times too large
is neither written nor kept for backward. This is the sub-pixel view of W. Shi et al. (arXiv 1609.07009), used in the
other direction. The sums are the same in another order, so results differ by rounding.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input, conv2d_weight

_PLACES = 512  # of the coarse map, over the batch; with fewer, folding the weights takes longer than it saves


def joined_convolution(x: Tensor, skip: Tensor, weight: Tensor) -> Tensor:
    """Convolve a map that is doubled and joined with a finer one, with zeros around it.

    Args:
        x: ``(b, c, h, w)``.
        skip: ``(b, d, H, W)``; the doubled map is brought to H × W if it has another size.
        weight: ``(outputs, c + d, 3, 3)``.

    Returns:
        ``(b, outputs, H, W)``.
    """
    batch, _, height, width = x.shape
    doubled = tuple(skip.shape[2:]) == (2 * height, 2 * width)
    if doubled and x.device.type == "cpu" and batch * height * width >= _PLACES:  # measured on CPUs only
        out: Tensor = _Joined.apply(x, skip, weight)
        return out
    return F.conv2d(torch.cat([F.interpolate(x, size=skip.shape[2:], mode="nearest"), skip], 1), weight, padding=1)


class _Joined(Function):
    """Keeps the two maps as they came, and the weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, skip: Tensor, weight: Tensor) -> Tensor:
        """See `joined_convolution`."""
        ctx.save_for_backward(x, skip, weight)
        coarse, fine = _parts(weight, x.shape[1])
        y = F.conv2d(skip, fine, padding=1)
        return y.add_(F.conv_transpose2d(x, coarse, stride=2, padding=1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """A transposed convolution's gradients are those of the convolution that it transposes, exchanged."""
        x, skip, weight = (saved.to(grad.dtype) for saved in ctx.saved_tensors)
        grad = grad.contiguous(memory_format=torch.channels_last if skip.stride(1) == 1 else torch.contiguous_format)
        coarse, fine = _parts(weight, x.shape[1])
        to_x = to_skip = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = F.conv2d(grad, coarse, stride=2, padding=1)
        if ctx.needs_input_grad[1]:
            to_skip = conv2d_input(skip.shape, fine, grad, padding=1)
        if ctx.needs_input_grad[2]:
            to_weight = torch.empty_like(weight)
            to_weight[:, : x.shape[1]] = _unfolded(conv2d_weight(grad, coarse.shape, x, stride=2, padding=1))
            to_weight[:, x.shape[1] :] = conv2d_weight(skip, fine.shape, grad, padding=1)
        return to_x, to_skip, to_weight


def _parts(weight: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Kernels ``(channels, outputs, 4, 4)`` for the coarse map and ``(outputs, rest, 3, 3)`` for the fine one."""
    layout = torch.channels_last if weight.stride(1) == 1 else torch.contiguous_format
    fine = weight[:, channels:].contiguous(memory_format=layout)
    return _folded(weight[:, :channels]).contiguous(memory_format=layout), fine


def _folded(weight: Tensor) -> Tensor:
    """From ``(outputs, inputs, 3, 3)`` to ``(inputs, outputs, 4, 4)``."""
    for axis in (2, 3):
        first, middle, last = weight.unbind(axis)
        weight = torch.stack([last, middle + last, first + middle, first], axis)
    return weight.transpose(0, 1)


def _unfolded(kernel: Tensor) -> Tensor:
    """The transpose of `_folded`, which brings gradients back."""
    kernel = kernel.transpose(0, 1)
    for axis in (2, 3):
        a, b, c, d = kernel.unbind(axis)
        kernel = torch.stack([c + d, b + c, a + b], axis)
    return kernel

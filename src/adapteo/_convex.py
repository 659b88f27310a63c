"""Fit of a linear layer by L-BFGS, in coordinates in which it needs tens of iterations instead of thousands.

    min_w  L(w) + λ/2 ‖D w‖²                D = root mean square of each channel, S = mean(x xᵀ) over the features x
    w = D⁻¹ P u,   P Pᵀ = (γ D⁻¹ S D⁻¹ + λ I)⁻¹

Features of a backbone are strongly correlated, so that L bends a million times more in some directions than in others.
Per output its Hessian is about γ S: exactly for squared errors, and up to the spread of p (1 − p) for classes. In the
coordinates u it is about the identity, which is what L-BFGS starts from. γ is measured, along one random direction.
The minimum is the same: only the way there changes. An offset is a weight on a channel that is 1, without penalty.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

_SCALE = 1e8  # of the loss: PyTorch's L-BFGS learns nothing from steps that are worth less than 1e-10
_PROBE = 0.1  # change of the logits in the step that measures γ
_LEAST_CURVATURE = 1e-6  # of a loss that does not bend, such as absolute errors


@dataclass(frozen=True)
class Moments:
    """Mean of x and of x xᵀ over features x ``(channels,)``; float64 on the CPU, as not every device factorises."""

    first: Tensor
    second: Tensor


def minimise(
    head: nn.Linear | nn.ConvTranspose2d,
    loss: Callable[[], Tensor],
    moments: Moments,
    strength: float,
    max_iterations: int,
) -> int:
    """Fit a layer in place, starting from the weights that it has.

    Args:
        head: with offsets; the blocks of a transposed convolution do not overlap.
        loss: computes L with the layer as it is, and adds its gradient to those of the layer.
        moments: of what the layer sees.
        strength: λ.
        max_iterations: it stops there, or when the gradient or the change of the loss is within rounding.

    Returns:
        L-BFGS iterations.
    """
    problem = _Problem(head, loss, moments, strength)
    variables = [start.requires_grad_() for start in problem.start]
    optimiser = torch.optim.LBFGS(
        variables,
        max_iter=max_iterations,
        max_eval=2 * max_iterations,
        tolerance_grad=1e-9 * _SCALE,
        tolerance_change=1e-16 * _SCALE,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        value, gradients = problem.evaluate([variable.detach() for variable in variables])
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.grad = gradient * _SCALE
        return value * _SCALE

    optimiser.step(cast(Callable[[], Any], closure))
    problem.place([variable.detach() for variable in variables])
    head.zero_grad(set_to_none=True)
    return int(optimiser.state[variables[0]]["n_iter"])


class _Problem:
    """The loss and its penalty as a function of u.

    Weights are seen as a matrix ``(channels, columns)``. A linear layer has a column per output, and its offsets are
    one more row. In a transposed convolution all columns of an output, one per pixel of a block, share the offset: it
    is a variable of its own.
    """

    def __init__(
        self, head: nn.Linear | nn.ConvTranspose2d, loss: Callable[[], Tensor], moments: Moments, strength: float
    ) -> None:
        assert head.bias is not None, "linear decoders have offsets"
        self.head, self.loss, self.bias = head, loss, head.bias
        self.shared = isinstance(head, nn.ConvTranspose2d)
        second, penalty = moments.second, torch.full_like(moments.first, strength)
        if not self.shared:
            row = moments.first[None]
            second = torch.cat([torch.cat([second, row.T], 1), torch.cat([row, torch.ones_like(row[:, :1])], 1)])
            penalty = torch.cat([penalty, penalty.new_zeros(1)])
        scale = second.diagonal().clamp(min=1e-12).sqrt()
        correlation = second / scale / scale[:, None]
        curvature = self._curvature(correlation, scale)
        lower = torch.linalg.cholesky(curvature * correlation + torch.diag(penalty))
        inverse = torch.linalg.solve_triangular(lower, torch.eye(len(scale), dtype=scale.dtype), upper=False)
        self.forth = self._like_weights(inverse.T / scale[:, None])
        self.pull = self._like_weights(inverse * penalty @ inverse.T)
        self.stretch = (curvature * self._matrix(head.weight).shape[1] / len(self.bias)) ** 0.5
        weights, *offsets = self._joined(head.weight.detach(), self.bias.detach())
        self.start = [self._like_weights(lower.T * scale) @ weights, *(offset * self.stretch for offset in offsets)]

    def evaluate(self, variables: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Value and gradient at u."""
        self.place(variables)
        value, (gradient, *others) = self._loss_and_gradient()
        pull = self.pull @ variables[0]
        value = value + 0.5 * (variables[0] * pull).sum()
        return value, [self.forth.T @ gradient + pull, *(other / self.stretch for other in others)]

    def place(self, variables: list[Tensor]) -> None:
        """Put the weights of u into the layer."""
        weights, *offsets = variables
        self._put([self.forth @ weights, *(offset / self.stretch for offset in offsets)])

    def _curvature(self, correlation: Tensor, scale: Tensor) -> float:
        """Measure γ: how the gradient changes along a random direction."""
        here = self._joined(self.head.weight.detach().clone(), self.bias.detach().clone())
        direction = torch.randn(here[0].shape, generator=torch.Generator().manual_seed(0), dtype=scale.dtype)
        square = float((direction * (correlation @ direction)).sum())
        length = _PROBE / (square / direction.shape[1]) ** 0.5
        step = self._like_weights(length * direction / scale[:, None])
        _, before = self._loss_and_gradient()
        self._put([here[0] + step, *here[1:]])
        _, after = self._loss_and_gradient()
        self._put(here)
        change = float(((after[0] - before[0]) * step).sum())
        return max(change / (length**2 * square), _LEAST_CURVATURE)

    def _loss_and_gradient(self) -> tuple[Tensor, list[Tensor]]:
        self.head.zero_grad(set_to_none=True)
        value = self.loss()
        assert self.head.weight.grad is not None, "the loss is back-propagated"
        assert self.bias.grad is not None, "the loss is back-propagated"
        return value, self._joined(self.head.weight.grad, self.bias.grad)

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.view(len(weight), -1) if self.shared else weight.T

    def _joined(self, weight: Tensor, bias: Tensor) -> list[Tensor]:
        matrix = self._matrix(weight)
        return [matrix, bias] if self.shared else [torch.cat([matrix, bias[None]])]

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        weights, offsets = values if self.shared else (values[0][:-1], values[0][-1])
        self._matrix(self.head.weight).copy_(weights)
        self.bias.copy_(offsets)

    def _like_weights(self, matrix: Tensor) -> Tensor:
        return matrix.to(self.head.weight.dtype).to(self.head.weight.device)  # in this order: MPS has no float64

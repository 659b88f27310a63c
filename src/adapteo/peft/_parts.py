"""A linear of which some rows or columns are trained, without the gradient of the whole weight."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Wrapper


class PartLinear(Wrapper):
    """A frozen linear with some rows (outputs) or columns (inputs) of its weight trained, ``(..., in) -> (..., out)``.

    Attributes:
        part: the trained rows ``(n, in)`` or columns ``(out, n)``; they start as they were pre-trained.
        index: ``(n,)`` which ones.
        axis: 0 for rows, 1 for columns.
    """

    inner: nn.Linear
    index: Tensor
    rebuilds = True

    def __init__(self, inner: nn.Linear, index: Tensor, axis: int) -> None:
        super().__init__()
        self.inner, self.axis = inner, axis
        self.register_buffer("index", index.to(inner.weight.device), persistent=False)
        self.part = nn.Parameter(inner.weight.detach().index_select(axis, self.index).clone())
        self.train(inner.training)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the part has moved by; the product with the whole weight is that of the frozen one."""
        out: Tensor = self.inner(x)
        moved = self.part - self.inner.weight.index_select(self.axis, self.index)
        if self.axis == 1:
            return out + F.linear(x.index_select(-1, self.index), moved)
        return out.index_add(out.ndim - 1, self.index, F.linear(x, moved).to(out.dtype))

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return the plain linear with the part in its place."""
        plain = copy.deepcopy(self.inner)
        plain.weight.index_copy_(self.axis, self.index, self.part)
        return plain

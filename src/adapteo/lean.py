"""Exact gradients with less memory: what is cheap to compute again is not kept for the backward pass.

Autograd keeps every tensor that a gradient may need. In a transformer block with adapters that is 16 times the block's
input (D numbers per token): the inputs of the norms (2), their outputs (2), q, k, v (3), the attention's output (1),
the MLP's hidden layer before and after its activation (8). Norms and activation cost one pass over memory to compute
again, and 10 D are left (`normed_linears`, `normed_branch`). Computing the hidden layer and the attention again as
well, for two thirds of a forward pass, leaves the inputs of the norms alone: 2 D.

For a linear with a low-rank term, y = W x + b + s B A x, and its gradient dy:

    dx = Wᵀ dy + s Aᵀ Bᵀ dy,   dA = s (Bᵀ dy) xᵀ,   dB = s dy (A x)ᵀ,   dW = dy xᵀ,   db = dy

These are the gradients of E. J. Hu et al. (arXiv 2106.09685), in the order of products that is cheapest for r much
smaller than the width (A. Cherniuk et al.: Run LoRA Run, arXiv 2312.03415). Norm and activation are differentiated by
autograd itself on what was computed again, so that whatever they are, the result is exact. Gradients go to whatever
asks for them: full fine-tuning needs 10 D instead of 16 D just as well.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Memory = Literal["fast", "lean", "leanest"]
"""What the backward pass computes again: nothing; norms and activations; the hidden layers and the attention too."""


Unpack = Callable[[torch.dtype], Tensor]
"""Makes a weight ``(out, in)`` in a type from the form that it is held in."""


class Affine(NamedTuple):
    """``y = weight x + bias + scale up down x``; without the low-rank term `down` and `up` are None.

    A frozen weight that is held in another form (`adapteo.quantise`) is None here, and `unpack` makes it for each
    product; nothing keeps it from the forward to the backward pass.
    """

    weight: Tensor | None
    bias: Tensor | None
    down: Tensor | None = None
    up: Tensor | None = None
    scale: float = 1.0
    unpack: Unpack | None = None

    def dense(self, kind: torch.dtype) -> Tensor:
        """The weight in a type."""
        if self.unpack is not None:
            return self.unpack(kind)
        assert self.weight is not None, "a weight is held in one form or the other"
        return self.weight.to(kind)


class _Rest(NamedTuple):
    """Of an `Affine` what is no tensor."""

    scale: float
    unpack: Unpack | None


@dataclass(frozen=True)
class _Norm:
    """A LayerNorm without its parameters."""

    shape: tuple[int, ...]
    eps: float

    def __call__(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        return F.layer_norm(x, self.shape, weight, bias, self.eps)


@dataclass(frozen=True)
class _Autocast:
    """Mixed precision as it was in the forward pass; the backward pass runs outside of it."""

    device: str
    dtype: torch.dtype | None

    @classmethod
    def of(cls, x: Tensor) -> "_Autocast":
        device = x.device.type
        on = torch.is_autocast_enabled(device)
        return cls(device, torch.get_autocast_dtype(device) if on else None)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Compute as in the forward pass."""
        if self.dtype is None:
            yield
        else:
            with torch.autocast(self.device, self.dtype, cache_enabled=False):
                yield

    def cast(self, x: Tensor) -> Tensor:
        """To the type that products are computed in."""
        return x if self.dtype is None else x.to(self.dtype)


def affine_of(module: nn.Module) -> Affine | None:
    """What a module computes, when it is a linear that says so itself (``module.affine()``), else None."""
    tell: Callable[[], Affine | None] | None = getattr(module, "affine", None)
    return tell() if callable(tell) else None


def normed_linears(x: Tensor, norm: nn.Module, linears: Sequence[nn.Module]) -> tuple[Tensor, ...] | None:
    """Outputs of several linears of a norm's output, each ``(..., out)``; only `x` ``(..., in)`` is kept for backward.

    Returns:
        None when the norm is no plain LayerNorm, or a linear is more than an `Affine`.
    """
    found = _plain(norm, linears)
    if found is None:
        return None
    shared, tensors = found
    out: tuple[Tensor, ...] = _NormedLinears.apply(x, *shared, *tensors)
    return out


def normed_branch(
    x: Tensor,
    norm: nn.Module,
    hidden: Sequence[nn.Module],
    combine: Callable[..., Tensor],
    last: nn.Module,
    keep_hidden: bool,
) -> Tensor | None:
    """Half a transformer block: ``last(combine(*(f(norm(x)) for f in hidden)))``, ``(..., in)`` to ``(..., out)``.

    For backward `x` is kept, and with `keep_hidden` the outputs of the hidden linears. An MLP combines by its
    activation; attention combines q, k and v.

    Args:
        x: ``(..., in)``.
        norm: a LayerNorm.
        hidden: linears of its output.
        combine: from their outputs ``(..., h)`` to the input of `last`; without parameters and random numbers.
        last: a linear.
        keep_hidden: False to compute the hidden linears again.

    Returns:
        None when the norm is no plain LayerNorm, or a linear is more than an `Affine`.
    """
    found = _plain(norm, (*hidden, last))
    if found is None:
        return None
    shared, tensors = found
    out: Tensor = _NormedBranch.apply(x, *shared, combine, keep_hidden, *tensors)
    return out


def _plain(norm: nn.Module, linears: Sequence[nn.Module]) -> tuple[tuple[Any, ...], list[Tensor | None]] | None:
    """What the functions get: the norm with what is no tensor of the linears, and their tensors; see above for None."""
    parts = [affine_of(linear) for linear in linears]
    if type(norm) is not nn.LayerNorm or any(part is None for part in parts):
        return None
    tensors, rests = _flat([part for part in parts if part is not None])
    return (norm.weight, norm.bias, _Norm(tuple(norm.normalized_shape), norm.eps), rests), tensors


def recomputed(function: Callable[[Tensor], Tensor], x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """``function(x)``, of which only `x` is kept: the backward pass computes it all again.

    Args:
        function: without random numbers.
        x: its input.
        parameters: that the function uses and that may ask for gradients.
    """
    out: Tensor = _Recomputed.apply(function, x, *parameters)
    return out


# ------------------------------------------------------------------------------------------- functions


class _NormedLinears(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        norm: _Norm,
        rests: tuple[_Rest, ...],
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        ctx.norm, ctx.rests, ctx.autocast = norm, rests, _Autocast.of(x)
        ctx.save_for_backward(x, gamma, beta, *tensors)
        ctx.set_materialize_grads(False)
        rows = norm(x, gamma, beta).flatten(0, -2)
        parts = _grouped(tensors, rests)
        return tuple(_forward(rows, part, ctx.autocast).view(*x.shape[:-1], -1) for part in parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, gamma, beta, *tensors = ctx.saved_tensors
        inner = _Inner(ctx, x, gamma, beta)
        parts, needs = _grouped(tensors, ctx.rests), _fours(ctx.needs_input_grad[5:])
        of_norm, of_parts = inner.backward(grads, parts, needs)
        return (*of_norm, None, None, *of_parts)


class _NormedBranch(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        norm: _Norm,
        rests: tuple[_Rest, ...],
        combine: Callable[..., Tensor],
        keep_hidden: bool,
        *tensors: Tensor | None,
    ) -> Tensor:
        ctx.norm, ctx.rests, ctx.combine, ctx.autocast = norm, rests, combine, _Autocast.of(x)
        *firsts, last = _grouped(tensors, rests)
        rows = norm(x, gamma, beta).flatten(0, -2)
        hidden = [_forward(rows, part, ctx.autocast).view(*x.shape[:-1], -1) for part in firsts]
        del rows
        ctx.kept = len(hidden) if keep_hidden else 0
        ctx.save_for_backward(x, gamma, beta, *tensors, *(hidden if keep_hidden else ()))
        return _forward(combine(*hidden).flatten(0, -2), last, ctx.autocast).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        x, gamma, beta, *tensors = saved[: len(saved) - ctx.kept]
        *firsts, last = _grouped(tensors, ctx.rests)
        *first_needs, last_need = _fours(ctx.needs_input_grad[7:])
        inner = _Inner(ctx, x, gamma, beta)
        deeper = inner.wanted or any(any(need) for need in first_needs)
        hidden = saved[len(saved) - ctx.kept :]
        with torch.enable_grad(), ctx.autocast.again():
            if not ctx.kept:
                with torch.no_grad():
                    hidden = [_forward(inner.rows, part, ctx.autocast).view(*x.shape[:-1], -1) for part in firsts]
            leaves = [each.detach().requires_grad_(deeper) for each in hidden]
            combined = ctx.combine(*leaves)
        d_combined, of_last = _backward(
            grad.flatten(0, -2), ctx.autocast.cast(combined.detach().flatten(0, -2)), last, (deeper, *last_need), None
        )
        if d_combined is None:
            return (None,) * 7 + (None,) * (4 * len(firsts)) + tuple(of_last)
        d_hidden = torch.autograd.grad(combined, leaves, d_combined.view(combined.shape).to(combined.dtype))
        del combined, leaves, d_combined
        of_norm, of_firsts = inner.backward(d_hidden, firsts, first_needs)
        return (*of_norm, None, None, None, None, *of_firsts, *of_last)


class _Recomputed(Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[[Tensor], Tensor], x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.function, ctx.autocast = function, _Autocast.of(x)
        ctx.save_for_backward(x, *parameters)
        return function(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:]
        with torch.enable_grad(), ctx.autocast.again():
            leaf = x.detach().requires_grad_(needs[0])
            # Through a view, as hooks on modules cannot be put on leaves while gradients are asked for one by one.
            out = ctx.function(leaf.view_as(leaf))
        wanted = [each for each, need in zip((leaf, *parameters), needs, strict=True) if need]
        found = iter(torch.autograd.grad(out, wanted, grad, allow_unused=True))
        return (None, *(next(found) if need else None for need in needs))


class _Inner:
    """The norm's output, computed again, and the way back through the norm."""

    def __init__(self, ctx: Any, x: Tensor, gamma: Tensor | None, beta: Tensor | None) -> None:
        self.needs = ctx.needs_input_grad[:3]
        self.wanted = any(self.needs)
        with torch.enable_grad(), ctx.autocast.again():
            self._leaves = [
                None if each is None else each.detach().requires_grad_(need)
                for each, need in zip((x, gamma, beta), self.needs, strict=True)
            ]
            self._out = ctx.norm(*self._leaves)
        self.rows = ctx.autocast.cast(self._out.detach().flatten(0, -2))

    def backward(
        self, grads: Sequence[Tensor | None], parts: Sequence[Affine], needs: Sequence[Sequence[bool]]
    ) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """Gradients of x, gamma and beta, and of the tensors of the linears, from those of the linears' outputs."""
        d_rows, of_parts = None, list[Tensor | None]()
        for dy, part, need in zip(grads, parts, needs, strict=True):
            of_part: list[Tensor | None] = [None] * 4
            if dy is not None:
                d_rows, of_part = _backward(dy.flatten(0, -2), self.rows, part, (self.wanted, *need), d_rows)
            of_parts += of_part
        found: list[Tensor | None] = [None, None, None]
        if d_rows is not None and self.wanted:
            asked = [(i, leaf) for i, leaf in enumerate(self._leaves) if leaf is not None and self.needs[i]]
            of_asked = torch.autograd.grad(
                self._out, [leaf for _, leaf in asked], d_rows.view(self._out.shape).to(self._out.dtype)
            )
            for (i, _), each in zip(asked, of_asked, strict=True):
                found[i] = each
        return found, of_parts


# ------------------------------------------------------------------------------------------ one linear


def _forward(rows: Tensor, part: Affine, autocast: _Autocast) -> Tensor:
    """``(n, in)`` to ``(n, out)``; the low-rank term is added while it is being multiplied."""
    weight = part.weight if part.weight is not None else part.dense(autocast.dtype or rows.dtype)
    out = F.linear(rows, weight, part.bias)
    del weight
    if part.down is None or part.up is None:
        return out
    low = F.linear(rows, part.down)
    return out.addmm_(low, autocast.cast(part.up).t(), alpha=part.scale)


def _backward(
    dy: Tensor, rows: Tensor, part: Affine, needs: Sequence[bool], d_rows: Tensor | None
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Gradients of one linear.

    Args:
        dy: ``(n, out)``.
        rows: its input ``(n, in)``, in the type that products are computed in.
        part: the linear.
        needs: whether input, weight, bias, down and up ask for a gradient.
        d_rows: gradient of the input from other linears, to which this one's is added in place.

    Returns:
        Gradient of the input, and of weight, bias, down and up.
    """
    to_rows, to_weight, to_bias, to_down, to_up = needs
    kind = rows.dtype
    dy = dy.to(kind)
    d_weight = (dy.t() @ rows).to(part.weight.dtype) if to_weight and part.weight is not None else None
    d_bias = dy.sum(0, dtype=part.bias.dtype) if to_bias and part.bias is not None else None
    d_down = d_up = None
    if to_rows:
        weight = part.dense(kind)
        d_rows = dy @ weight if d_rows is None else d_rows.addmm_(dy, weight)
        del weight
    if part.down is not None and part.up is not None:
        down, up = part.down.to(kind), part.up.to(kind)
        if to_up:
            d_up = (dy.t() @ (rows @ down.t())).mul_(part.scale).to(part.up.dtype)
        if to_down or to_rows:
            d_low = (dy @ up).mul_(part.scale)
            d_down = (d_low.t() @ rows).to(part.down.dtype) if to_down else None
            d_rows = d_rows.addmm_(d_low, down) if to_rows and d_rows is not None else d_rows
    return d_rows, [d_weight, d_bias, d_down, d_up]


def _flat(parts: Sequence[Affine]) -> tuple[list[Tensor | None], tuple[_Rest, ...]]:
    return [tensor for part in parts for tensor in part[:4]], tuple(_Rest(part.scale, part.unpack) for part in parts)


def _grouped(tensors: Sequence[Tensor | None], rests: Sequence[_Rest]) -> list[Affine]:
    fours = zip(_fours(tensors), rests, strict=True)
    return [Affine(weight, bias, down, up, *rest) for (weight, bias, down, up), rest in fours]


def _fours(values: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [tuple(values[i : i + 4]) for i in range(0, len(values), 4)]

"""Multi-scale deformable attention: each query reads a few places of a pyramid, which it chooses itself.

    y(q) = W_o · [ Σ_l Σ_p  A_mlp · V_ml( r + Δ_mlp / size_l ) ]_m + b_o       heads m, levels l, points p
    V = W_v x + b_v,   Δ = W_Δ q + b_Δ (in cells of level l),   A = softmax over l and p of W_A q + b_A

V_ml(·) is the bilinear value of a level at a place, zero outside. X. Zhu et al.: Deformable DETR: Deformable
Transformers for End-to-End Object Detection, ICLR 2021, arXiv 2010.04159, equation 3.

The cost is linear in the number of queries, where that of full attention is quadratic. Places are kept in float32 also
in bfloat16, which could not tell neighbouring cells of a large map apart.
"""

import importlib
import importlib.util
import math
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from adapteo.errors import ConfigError

EXTENSION = "MultiScaleDeformableAttention"
"""The compiled operator of Deformable DETR, used where it is installed and the tensors are on a CUDA device."""
_MOST_AT_ONCE = 64  # images per launch of the compiled operator; has to divide the batch

Size = tuple[int, int]
"""Height and width of a level in cells."""


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention; parameters are named as in the published code.

    Args:
        dim: width d of queries and values.
        heads: divides d and the width of the values.
        levels: of the pyramid.
        points: places per query, head and level.
        ratio: width of the values over d.

    Raises:
        ConfigError: when the heads do not divide both widths.
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int, ratio: float) -> None:
        super().__init__()
        inner = int(dim * ratio)
        if inner < 1 or dim % heads or inner % heads:
            raise ConfigError(
                f"{heads} heads do not divide a width of {dim} and values of width {inner}",
                fix="see `heads` and `value_ratio` of the method",
            )
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, inner)
        self.output_proj = nn.Linear(inner, dim)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Start as published: head m looks in the direction 2π m / M, its point p p + 1 cells away, all alike."""
        angles = torch.arange(self.heads, dtype=torch.float32) * (2 * math.pi / self.heads)
        rays = torch.stack([angles.cos(), angles.sin()], dim=-1)
        rays = rays / rays.abs().amax(-1, keepdim=True)  # onto a square, so that steps end on cells
        steps = torch.arange(1, self.points + 1, dtype=torch.float32)
        offsets = rays[:, None, None] * steps[:, None]
        self.sampling_offsets.bias.copy_(offsets.expand(-1, self.levels, -1, -1).flatten())
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
        for zero in (
            self.sampling_offsets.weight,
            self.attention_weights.weight,
            self.attention_weights.bias,
            self.value_proj.bias,
            self.output_proj.bias,
        ):
            nn.init.zeros_(zero)

    def forward(self, query: Tensor, reference: Tensor, pyramid: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Attend.

        Args:
            query: ``(b, q, d)``.
            reference: ``(q, 2)``, x and y of each query as shares of the image, see `cell_centres`.
            pyramid: ``(b, n, d)``, the cells of all levels one after the other, row by row.
            sizes: of the levels; their products add up to n.

        Returns:
            ``(b, q, d)``.
        """
        b, q, _ = query.shape
        shape = (b, q, self.heads, self.levels, self.points)
        exact = torch.promote_types(query.dtype, torch.float32)
        offsets = self.sampling_offsets(query).to(exact).view(*shape, 2)
        extent = reference.new_tensor([(w, h) for h, w in sizes], dtype=exact).view(-1, 1, 2)
        locations = reference.to(exact).view(1, q, 1, 1, 1, 2) + offsets / extent
        weights = self.attention_weights(query).to(exact).view(*shape[:3], -1).softmax(-1).view(shape)
        value = self.value_proj(pyramid).view(b, pyramid.shape[1], self.heads, -1)
        out: Tensor = self.output_proj(sample(value, sizes, locations, weights).to(value.dtype))
        return out


def cell_centres(sizes: Sequence[Size], device: torch.device) -> Tensor:
    """Centres of the cells of all levels, ``(n, 2)`` float32: x and y as shares of the image's width and height."""
    centres = []
    for h, w in sizes:
        y = (torch.arange(h, device=device, dtype=torch.float32) + 0.5) / h
        x = (torch.arange(w, device=device, dtype=torch.float32) + 0.5) / w
        centres.append(torch.stack([x.expand(h, w), y[:, None].expand(h, w)], dim=-1).view(-1, 2))
    return torch.cat(centres)


def sample(value: Tensor, sizes: Sequence[Size], locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of values at places.

    Args:
        value: ``(b, n, m, c)``, cells by head.
        sizes: of the l levels, with n cells altogether.
        locations: ``(b, q, m, l, p, 2)``, x and y as shares of the image; outside of 0..1 there are zeros.
        weights: ``(b, q, m, l, p)``.

    Returns:
        ``(b, q, m * c)`` in the dtype of the locations.
    """
    value = value.to(locations.dtype)
    if value.is_cuda and not torch.compiler.is_compiling() and (extension := _extension()) is not None:
        out: Tensor = Compiled.apply(extension, value, tuple(sizes), locations, weights)
        return out
    # The samples are p times as large as what they add up to, and cheap: they are taken again in the backward pass.
    again: Tensor = checkpoint(
        sample_by_grid, value, sizes, locations, weights, use_reentrant=False, preserve_rng_state=False
    )
    return again


def sample_by_grid(value: Tensor, sizes: Sequence[Size], locations: Tensor, weights: Tensor) -> Tensor:
    """`sample` in plain PyTorch; each level is added up before the next one, so that only its own samples are held."""
    b, _, m, c = value.shape
    q = locations.shape[1]
    levels = value.permute(0, 2, 3, 1).reshape(b * m, c, -1).split([h * w for h, w in sizes], dim=2)
    grids = (2 * locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # (l, b m, q, p, 2), -1..1
    shares = weights.permute(3, 0, 2, 1, 4).flatten(1, 2).unsqueeze(2)  # (l, b m, 1, q, p)
    total = value.new_zeros(b * m, c, q)
    for level, size, grid, share in zip(levels, sizes, grids.unbind(), shares.unbind(), strict=True):
        found = F.grid_sample(level.unflatten(2, size), grid, "bilinear", "zeros", align_corners=False)
        total = total + (found * share).sum(-1)
    return total.view(b, m * c, q).transpose(1, 2)


class Compiled(torch.autograd.Function):
    """`sample` by the compiled operator, which knows float32 and float64 only."""

    @staticmethod
    def forward(
        ctx: Any, extension: Any, value: Tensor, sizes: tuple[Size, ...], locations: Tensor, weights: Tensor
    ) -> Tensor:
        shapes = torch.tensor(sizes, device=value.device)
        starts = shapes.prod(1).cumsum(0) - shapes.prod(1)
        ctx.extension = extension
        ctx.at_once = next(n for n in range(min(len(value), _MOST_AT_ONCE), 0, -1) if len(value) % n == 0)
        inputs = (value.contiguous(), shapes, starts, locations.contiguous(), weights.contiguous())
        ctx.save_for_backward(*inputs)
        out: Tensor = extension.ms_deform_attn_forward(*inputs, ctx.at_once)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.extension.ms_deform_attn_backward(*ctx.saved_tensors, gradient.contiguous(), ctx.at_once)
        value, locations, weights = found
        return None, value, None, locations, weights


@cache
def _extension() -> ModuleType | None:
    return importlib.import_module(EXTENSION) if importlib.util.find_spec(EXTENSION) else None

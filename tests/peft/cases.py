"""What the tests of single methods share: a tiny ViT, a tiny convolutional network, images, and values to look for."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from adapteo.bands import HLS6
from adapteo.contracts import Backbone, Batch, Method, adapt, trainable
from tiny import TinyBackbone, TinyStages


def vit(**fields: int) -> TinyBackbone:
    torch.manual_seed(0)
    return TinyBackbone(HLS6, **fields).eval()


def stages() -> TinyStages:
    torch.manual_seed(0)
    return TinyStages(HLS6).eval()


def filled(backbone: Backbone, spread: float = 0.1) -> Backbone:
    """Move all that is trained off its start."""
    generator = torch.Generator().manual_seed(5)
    for parameter in trainable(backbone).values():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * spread)
    return backbone


def batch(side: int = 8) -> Batch:
    return Batch(torch.randn(2, 1, 6, side, side + 8, generator=torch.Generator().manual_seed(1)))


def projected(maps: list[Tensor]) -> Tensor:
    """A loss whose gradient is zero nowhere by construction."""
    generator = torch.Generator().manual_seed(2)
    return sum((m * torch.randn(m.shape, generator=generator)).sum() for m in maps)


def count_on_vit_b(method: Method, depth: int = 12) -> int:
    """Number of parameters on a ViT-B by building it, without memory."""
    with torch.device("meta"):
        backbone = TinyBackbone(HLS6, depth=depth, dim=768)
        adapt(backbone, method)  # which compares with the closed formula
    return sum(p.numel() for p in trainable(backbone).values())


def gradients(forward: Callable[[], Tensor], parameters: list[nn.Parameter]) -> list[Tensor]:
    """Gradients of a random projection of an output."""
    out = forward()
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(3), dtype=out.dtype)
    return list(torch.autograd.grad((out * weights).sum(), parameters))

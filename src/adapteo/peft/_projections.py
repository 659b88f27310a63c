"""Frozen random matrices that are drawn again instead of being stored."""

import math

import torch
from torch import Tensor


def drawn(shape: tuple[int, int], *seeds: int) -> Tensor:
    """Kaiming-uniform matrix ``(rows, columns)``, values in ±1 / √columns, as nn.Linear starts.

    Always on the CPU in float32, from a generator of its own, so that the same seeds give the same matrix everywhere.
    """
    mixed = 0
    for number in (*seeds, *shape):
        mixed = (mixed * 1_000_003 + number + 1) % 2**63
    generator = torch.Generator().manual_seed(mixed)
    bound = 1 / math.sqrt(shape[1])
    return torch.empty(shape, device="cpu").uniform_(-bound, bound, generator=generator)

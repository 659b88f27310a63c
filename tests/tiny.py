"""A backbone small enough for any test, written against the contract only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapteo.contracts import (
    Backbone,
    BackboneSpec,
    Batch,
    Grid,
    Normalisation,
    Remapped,
    StageBackbone,
    TokenBackbone,
    default_taps,
)
from adapteo.vit import Block, PatchConv2d, fuse_qkv, init_weights, split_qkv


class TinyBackbone(TokenBackbone):
    """Plain ViT with a class token: dim 32, 4 heads, patch 4, no position code."""

    def __init__(self, bands: Sequence[str], frames: int = 1, depth: int = 2, dim: int = 32) -> None:
        super().__init__()
        self.bands = tuple(bands)
        self.dim, self.patch, self.frames = dim, 4, frames
        self.taps = default_taps(depth)
        self.patch_embed = PatchConv2d(len(bands), dim, 4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, 4) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.apply(init_weights)

    def embed(self, batch: Batch) -> tuple[Tensor, Grid]:
        b, t, c, h, w = batch.images.shape
        x = self.patch_embed(batch.images.reshape(b * t, c, h, w))
        grid = Grid(x.shape[2], x.shape[3], prefix=1, stack=t)
        x = x.flatten(2).transpose(1, 2).reshape(b, -1, self.dim)
        return torch.cat([self.cls_token.expand(b, -1, -1), x], dim=1), grid

    @property
    def normalisation(self) -> Normalisation:
        n = len(self.bands)
        return Normalisation((0.1,) * n, (0.05,) * n)

    def remap(self, state: Mapping[str, Tensor]) -> Remapped:
        return Remapped(split_qkv(state))

    def unmap(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return fuse_qkv(state)


class TinyStages(StageBackbone):
    """Two convolutional stages of strides 4 and 8 with BatchNorm."""

    def __init__(self, bands: Sequence[str]) -> None:
        super().__init__()
        self.bands, self.widths, self.reductions, self.taps = tuple(bands), (8, 16), (4, 8), (0, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
            for inputs, outputs, stride in ((len(bands), 8, 4), (8, 16, 2))
        )
        self.norm = nn.Identity()

    @property
    def normalisation(self) -> Normalisation:
        n = len(self.bands)
        return Normalisation((0.1,) * n, (0.05,) * n)

    def remap(self, state: Mapping[str, Tensor]) -> Remapped:
        return Remapped(dict(state))

    def unmap(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(state)


@dataclass(frozen=True)
class TinySpec(BackboneSpec):
    """Tiny backbone for tests."""

    weights: str = "random"
    depth: int = 2

    def accepts(self, bands: Sequence[str]) -> tuple[str, ...]:
        return tuple(bands)

    def build(self, bands: Sequence[str], frames: int = 1) -> Backbone:
        return TinyBackbone(bands, frames, self.depth)


@dataclass(frozen=True)
class TinyStagesSpec(BackboneSpec):
    """Tiny hierarchical backbone for tests."""

    weights: str = "random"

    def accepts(self, bands: Sequence[str]) -> tuple[str, ...]:
        return tuple(bands)

    def build(self, bands: Sequence[str], frames: int = 1) -> Backbone:
        return TinyStages(bands)

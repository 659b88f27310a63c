"""UPerNet: a feature pyramid whose coarsest level sees the whole image, all levels fused on the finest grid.

    p_n = conv3([x_n, up(conv1(mean over s × s cells of x_n)) for s in pools])     pyramid pooling (arXiv 1612.01105)
    p_i = conv1(x_i) + up(p_{i+1})                                                 top-down path (arXiv 1612.03144)
    y   = conv3([conv3(p_1), up(conv3(p_2)), …, up(p_n)])                          fusion; a 1×1 convolution, bilinear

Each conv is followed by norm and ReLU; up is bilinear to the size of where it goes. UPerNet: arXiv 1807.10221; with
batch norm and aligned corners it computes what TerraTorch's ``UperNetDecoder`` does, the "UperNet" of arXiv 2504.17397,
without aligned corners what segmentation_models.pytorch's ``UPerNetDecoder`` does after its layer norms of the inputs.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Decoder, DecoderSpec, Features
from adapteo.decoders._layers import (
    check_dense,
    check_dropout,
    check_norm,
    check_positive,
    check_widths,
    conv_norm_relu,
    hidden_layers,
    laid_like,
    on_labels,
    pixel_head,
)
from adapteo.decoders._pyramid import Pyramid


@dataclass(frozen=True)
class UPerNet(DecoderSpec):
    """Feature pyramid with context of the whole image, four scales fused; for labels per pixel only.

    Attributes:
        channels: width of all levels; the paper's is 256. None follows the backbone's width, at most 256.
        pools: numbers of cells per side over which the coarsest map is averaged; the paper's.
        norm: "group" does not depend on the batch; "batch" is the paper's, and trains on batches of at least 2;
            "layer" normalises each place by itself.
        dropout: part of the features before the last convolution that is set to 0 in training.
        head_channels: widths of 3 × 3 convolutions with ReLU before the last one; none by default.
        align_corners: true is the paper's: maps are enlarged so that the centres of the corner cells meet, which moves
            coarse features outwards by up to half a coarse cell. False keeps every feature at its place.
    """

    channels: int | None = None
    pools: tuple[int, ...] = (1, 2, 3, 6)
    norm: str = "group"
    dropout: float = 0.0
    head_channels: tuple[int, ...] = ()
    align_corners: bool = False

    def __post_init__(self) -> None:
        check_norm(self.norm)
        check_dropout(self.dropout)
        check_widths("head_channels", self.head_channels)
        check_positive("channels", self.channels)
        for cells in self.pools:
            check_positive("pools", cells)

    def build(self, features: Features, outputs: int, dense: bool) -> Decoder:
        """Build the module; of a CNN's maps it takes the four coarsest, as UPerNet does (strides 4 to 32).

        Raises:
            ConfigError: labels per image.
        """
        check_dense("upernet", dense)
        pyramid = Pyramid(features, self.norm, deepest=4)
        return laid_like(
            features, UPerNetDecoder(pyramid, self.channels or min(256, max(16, features.channels[-1])), outputs, self)
        )


class UPerNetDecoder(Decoder):
    """The module: `pyramid`, `pools` and their `context`, `laterals`, `smooth`, `fusion`, `head`."""

    def __init__(self, pyramid: Pyramid, channels: int, outputs: int, spec: UPerNet) -> None:
        super().__init__()
        norm = spec.norm
        self.pyramid = pyramid
        self.reads = tuple(sorted(set(pyramid.sources)))
        self.align_corners = spec.align_corners
        *finer, coarsest = pyramid.features.channels
        self.pools = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(cells), conv_norm_relu(coarsest, channels, 1, norm))
            for cells in spec.pools
        )
        self.context = conv_norm_relu(coarsest + len(spec.pools) * channels, channels, 3, norm)
        self.laterals = nn.ModuleList(conv_norm_relu(width, channels, 1, norm) for width in finer)
        self.smooth = nn.ModuleList(conv_norm_relu(channels, channels, 3, norm) for _ in finer)
        self.fusion = conv_norm_relu((len(finer) + 1) * channels, channels, 3, norm)
        self.hidden = hidden_layers(channels, spec.head_channels)
        self.dropout = nn.Dropout(spec.dropout)
        self.head = pixel_head((channels, *spec.head_channels)[-1], outputs)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Return logits ``(b, k, *size)``."""
        *finer, coarsest = self.pyramid(maps)
        pooled = [self._enlarge(pool(coarsest), coarsest) for pool in self.pools]
        level = self.context(torch.cat([coarsest, *pooled], dim=1))
        levels = [level]
        for x, lateral, smooth in zip(finer[::-1], self.laterals[::-1], self.smooth[::-1], strict=True):
            here = lateral(x)
            level = here + self._enlarge(level, here)
            levels.append(smooth(level))
        fused = self.fusion(torch.cat([self._enlarge(x, levels[-1]) for x in levels[::-1]], dim=1))
        return on_labels(self.head(self.dropout(self.hidden(fused))), size)

    def _enlarge(self, x: Tensor, like: Tensor) -> Tensor:
        if x.shape[2:] == like.shape[2:]:
            return x
        return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=self.align_corners)


DECODER = UPerNet

"""U-Net: from the coarsest map to the finest, each step upsampled and joined with the next finer map.

    x ← ConvNormReLU(ConvNormReLU([nearest(x, size of skip), skip]))   at last a 1×1 convolution, bilinear to the labels

U-Net: arXiv 1505.04597. Blocks are named and shaped as in segmentation_models.pytorch's ``UnetDecoder``, the decoder of
arXiv 2504.17397 (there inside TerraTorch's ``UNetDecoder``). The last block has no skip.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Decoder, DecoderSpec, Features
from adapteo.decoders._layers import (
    check_dense,
    check_dropout,
    check_norm,
    check_widths,
    conv_norm_relu,
    hidden_layers,
    laid_like,
    on_labels,
    pixel_head,
)
from adapteo.decoders._pyramid import Pyramid
from adapteo.decoders._upsampled import joined_convolution
from adapteo.errors import ConfigError


@dataclass(frozen=True)
class UNet(DecoderSpec):
    """U-Net with skip connections over all scales; finer outlines than `linear`, for labels per pixel only.

    Attributes:
        channels: width of each block, coarse to fine, one per scale; the paper's is (512, 256, 128, 64). None follows
            the backbone's width d: (d, d/2, d/4, d/8), at most the paper's and at least 16, so that a small backbone
            does not get a decoder larger than itself.
        norm: "group" does not depend on the batch; "batch" is the paper's, and trains on batches of at least 2;
            "layer" normalises each place by itself.
        dropout: part of the features before the last convolution that is set to 0 in training.
        head_channels: widths of 3 × 3 convolutions with ReLU before the last one; none by default.
        upsample_last: whether the last block, which has no skip, doubles the size. None is true for a CNN whose finest
            map has stride 2, so that it ends on the pixels as segmentation_models.pytorch's Unet does, else false.
        head_kernel: side of the last convolution, odd; 3 in segmentation_models.pytorch's Unet.
    """

    channels: tuple[int, ...] | None = None
    norm: str = "group"
    dropout: float = 0.0
    head_channels: tuple[int, ...] = ()
    upsample_last: bool | None = None
    head_kernel: int = 1

    def __post_init__(self) -> None:
        check_norm(self.norm)
        check_dropout(self.dropout)
        check_widths("head_channels", self.head_channels)
        if self.channels is not None and (not self.channels or min(self.channels) < 1):
            raise ConfigError(f"decoder.channels is {list(self.channels)}", fix="give positive widths, coarse to fine")
        if self.head_kernel < 1 or self.head_kernel % 2 == 0:
            raise ConfigError(f"decoder.head_kernel is {self.head_kernel}", fix="give an odd number, 1 or 3")

    def build(self, features: Features, outputs: int, dense: bool) -> Decoder:
        """Build the module.

        Raises:
            ConfigError: labels per image, or not one width per scale.
        """
        check_dense("unet", dense)
        pyramid = Pyramid(features, self.norm)
        levels = len(pyramid.features.channels)
        width = features.channels[-1]
        channels = self.channels or tuple(max(16, min(512, width) >> i) for i in range(levels))
        if len(channels) != levels:
            raise ConfigError(
                f"decoder.channels has {len(channels)} values, but this backbone gives {levels} scales",
                fix=f"give {levels} widths, coarse to fine, or leave decoder.channels out",
            )
        return laid_like(features, UNetDecoder(pyramid, channels, outputs, self))


class UNetDecoder(Decoder):
    """The module: `pyramid`, one of `blocks` per scale, `head`."""

    def __init__(self, pyramid: Pyramid, channels: tuple[int, ...], outputs: int, spec: UNet) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.reads = tuple(sorted(set(pyramid.sources)))
        stem = pyramid.native and pyramid.features.strides[0] == 2
        self.upsample_last = stem if spec.upsample_last is None else spec.upsample_last
        coarsest, *skips = reversed(pyramid.features.channels)
        inputs = (coarsest, *channels[:-1])
        self.blocks = nn.ModuleList(
            UNetBlock(wide, skip, narrow, spec.norm)
            for wide, skip, narrow in zip(inputs, (*skips, 0), channels, strict=True)
        )
        self.hidden = hidden_layers(channels[-1], spec.head_channels)
        self.dropout = nn.Dropout(spec.dropout)
        self.head = pixel_head((*channels, *spec.head_channels)[-1], outputs, spec.head_kernel)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Return logits ``(b, k, *size)``."""
        x, *skips = reversed(self.pyramid(maps))
        for block, skip in zip(self.blocks, skips, strict=False):
            x = block(x, skip)
        if self.upsample_last:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        return on_labels(self.head(self.dropout(self.hidden(self.blocks[-1](x, None)))), size)


class UNetBlock(nn.Module):
    """Bring to the size of the skip, join, convolve twice: ``(b, inputs, h, w) -> (b, outputs, H, W)``."""

    def __init__(self, inputs: int, skip: int, outputs: int, norm: str) -> None:
        super().__init__()
        self.conv1 = conv_norm_relu(inputs + skip, outputs, 3, norm)
        self.conv2 = conv_norm_relu(outputs, outputs, 3, norm)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """Apply; the last block has no skip, and keeps the size."""
        convolution, *rest = self.conv1
        assert isinstance(convolution, nn.Conv2d), "a block begins with its convolution"
        x = convolution(x) if skip is None else joined_convolution(x, skip, convolution.weight)
        for layer in rest:
            x = layer(x)
        out: Tensor = self.conv2(x)
        return out


DECODER = UNet

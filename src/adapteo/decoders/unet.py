"""U-Net: from the coarsest map to the finest, each step upsampled and joined with the next finer map.

    x ← ConvNormReLU(ConvNormReLU([nearest(x, size of skip), skip]))   at last a 1×1 convolution, bilinear to the labels

U-Net: arXiv 1505.04597. Blocks are named and shaped as in segmentation_models.pytorch's ``UnetDecoder``, the decoder of
arXiv 2504.17397; like there, the last block has no skip and does not upsample.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import DecoderSpec, Features
from adapteo.decoders._pyramid import Pyramid, check_norm, norm_layer
from adapteo.errors import ConfigError


@dataclass(frozen=True)
class UNet(DecoderSpec):
    """U-Net with skip connections over four scales; finer outlines than `linear`, for labels per pixel only.

    Attributes:
        channels: width of each block, coarse to fine, one per scale; the paper's is (512, 256, 128, 64). None follows
            the backbone's width d: (d, d/2, d/4, d/8), at most the paper's and at least 16, so that a small backbone
            does not get a decoder larger than itself.
        norm: "group" does not depend on the batch; "batch" is the paper's, and trains on batches of at least 2.
    """

    channels: tuple[int, ...] | None = None
    norm: str = "group"

    def __post_init__(self) -> None:
        check_norm(self.norm)
        if self.channels is not None and (not self.channels or min(self.channels) < 1):
            raise ConfigError(f"decoder.channels is {list(self.channels)}", fix="give positive widths, coarse to fine")

    def build(self, features: Features, outputs: int, dense: bool) -> nn.Module:
        """Build the module.

        Raises:
            ConfigError: labels per image, or not one width per scale.
        """
        if not dense:
            raise ConfigError("the unet decoder makes a map, but there is one label per image", fix="decoder: linear")
        pyramid = Pyramid(features, self.norm)
        levels = len(pyramid.features.channels)
        width = features.channels[-1]
        channels = self.channels or tuple(max(16, min(512, width) >> i) for i in range(levels))
        if len(channels) != levels:
            raise ConfigError(
                f"decoder.channels has {len(channels)} values, but this backbone gives {levels} scales",
                fix=f"give {levels} widths, coarse to fine, or leave decoder.channels out",
            )
        return UNetDecoder(pyramid, channels, outputs, self.norm)


class UNetDecoder(nn.Module):
    """The module: `pyramid`, one of `blocks` per scale, `head`."""

    def __init__(self, pyramid: Pyramid, channels: tuple[int, ...], outputs: int, norm: str = "group") -> None:
        super().__init__()
        self.pyramid = pyramid
        coarsest, *skips = reversed(pyramid.features.channels)
        inputs = (coarsest, *channels[:-1])
        self.blocks = nn.ModuleList(
            UNetBlock(wide, skip, narrow, norm)
            for wide, skip, narrow in zip(inputs, (*skips, 0), channels, strict=True)
        )
        self.head = nn.Conv2d(channels[-1], outputs, 1)
        self.blocks.apply(_init)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Return logits ``(b, k, *size)``."""
        x, *skips = reversed(self.pyramid(maps))
        for block, skip in zip(self.blocks, (*skips, None), strict=True):
            x = block(x, skip)
        logits: Tensor = self.head(x)
        if logits.shape[2:] == size:
            return logits
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


class UNetBlock(nn.Module):
    """Upsample to the skip's size, join, convolve twice: ``(b, inputs, h, w) -> (b, outputs, h', w')``."""

    def __init__(self, inputs: int, skip: int, outputs: int, norm: str) -> None:
        super().__init__()
        self.conv1 = _conv(inputs + skip, outputs, norm)
        self.conv2 = _conv(outputs, outputs, norm)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """Apply; without a skip the size stays."""
        if skip is not None:
            x = torch.cat([F.interpolate(x, size=skip.shape[2:], mode="nearest"), skip], dim=1)
        out: Tensor = self.conv2(self.conv1(x))
        return out


def _conv(inputs: int, outputs: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), norm_layer(norm, outputs), nn.ReLU(inplace=True)
    )


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")


DECODER = UNet

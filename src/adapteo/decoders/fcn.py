"""Fully convolutional network: the last map, doubled again and again until it is on the pixels.

    x ← GELU(norm(conv3(deconv2(x))))   n times, then a 1×1 convolution, bilinear to the labels

After arXiv 1411.4038; this form, with layer norm over the channels, is TerraTorch's ``FCNDecoder``, the "FCN" of
arXiv 2504.17397. It reads no map but the last one.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from adapteo.contracts import Decoder, DecoderSpec, Features
from adapteo.decoders._layers import (
    check_dense,
    check_dropout,
    check_norm,
    check_positive,
    check_widths,
    hidden_layers,
    laid_like,
    norm_layer,
    on_labels,
    pixel_head,
)


@dataclass(frozen=True)
class FCN(DecoderSpec):
    """Convolutions that double the last map up to the pixels; at 512 channels about 20 times the work of `unet`.

    For labels per pixel only.

    Attributes:
        channels: width of all blocks; the paper's is 512. None follows the backbone's width, at most 512.
        blocks: how often the map is doubled; the paper's is 4. None is as often as the pixels allow (stride 16: 4,
            stride 8: 3), at most 4: a further block would make four times as many places, finer than the labels.
        norm: "layer" is the paper's and normalises each place by itself; "group" does so for an image; "batch" depends
            on the batch.
        dropout: part of the features before the last convolution that is set to 0 in training.
        head_channels: widths of 3 × 3 convolutions with ReLU before the last one; none by default.
    """

    channels: int | None = None
    blocks: int | None = None
    norm: str = "layer"
    dropout: float = 0.0
    head_channels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_norm(self.norm)
        check_dropout(self.dropout)
        check_widths("head_channels", self.head_channels)
        check_positive("channels", self.channels)
        check_positive("blocks", self.blocks)

    def build(self, features: Features, outputs: int, dense: bool) -> Decoder:
        """Build the module.

        Raises:
            ConfigError: labels per image.
        """
        check_dense("fcn", dense)
        width = features.channels[-1]
        blocks = self.blocks or min(4, max(1, features.strides[-1].bit_length() - 1))
        return laid_like(features, FCNDecoder(width, self.channels or min(512, max(16, width)), blocks, outputs, self))


class FCNDecoder(Decoder):
    """The module: `blocks` that double the size each, and `head`."""

    reads = (-1,)

    def __init__(self, inputs: int, channels: int, blocks: int, outputs: int, spec: FCN) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(_block(channels if index else inputs, channels, spec.norm) for index in range(blocks))
        )
        self.hidden = hidden_layers(channels, spec.head_channels)
        self.dropout = nn.Dropout(spec.dropout)
        self.head = pixel_head((channels, *spec.head_channels)[-1], outputs)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Return logits ``(b, k, *size)``."""
        return on_labels(self.head(self.dropout(self.hidden(self.blocks(maps[-1])))), size)


def _block(inputs: int, channels: int, norm: str) -> nn.Sequential:
    """Double the size, ``(b, inputs, h, w) -> (b, channels, 2h, 2w)``; batch norm makes a bias before it pointless."""
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, channels, 2, 2),
        nn.Conv2d(channels, channels, 3, padding=1, bias=norm != "batch"),
        norm_layer(norm, channels),
        nn.GELU(),
    )


DECODER = FCN

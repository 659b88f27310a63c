"""One linear map from the last features to the labels; the smallest decoder.

    dense       logits = W * features, W a transposed convolution with kernel = stride = s      d·k·s² + k parameters
    per image   logits = W · mean(features) + b                                                d·k + k parameters

The "linear" decoder of arXiv 2504.17397, minimal so that differences come from the backbone;
d channels of the last map, k outputs, s its stride in pixels.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import DecoderSpec, Features


@dataclass(frozen=True)
class Linear(DecoderSpec):
    """One linear map from the last features to the labels; the choice for a linear probe."""

    linear: ClassVar[bool] = True

    def build(self, features: Features, outputs: int, dense: bool) -> nn.Module:
        """Build `PixelLinear` for labels per pixel, `ImageLinear` for labels per image."""
        channels, stride = features.channels[-1], features.strides[-1]
        return PixelLinear(channels, outputs, stride) if dense else ImageLinear(channels, outputs)


class PixelLinear(nn.Module):
    """Each token becomes a block of s × s pixels. Nothing but `head` stands between features and logits."""

    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.head = nn.ConvTranspose2d(channels, outputs, stride, stride)
        _init(self.head, channels)

    def inputs(self, maps: list[Tensor]) -> Tensor:
        """Return what `head` is linear in: the last map ``(b, d, h, w)``."""
        return maps[-1]

    @torch.no_grad()
    def absorb(self, scale: Tensor) -> None:
        """Change the weights so that features give the logits that ``features / scale[:, None, None]`` gave."""
        self.head.weight /= scale.view(-1, 1, 1, 1)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Return logits ``(b, k, *size)``."""
        return _fit(self._expand(self.inputs(maps)), size, self.stride)

    def _expand(self, features: Tensor) -> Tensor:
        """Compute ``self.head(features)`` as one product of matrices, twice as fast as PyTorch's general kernel."""
        b, _, h, w = features.shape
        s = self.stride
        blocks = features.flatten(2).transpose(1, 2) @ self.head.weight.flatten(1)
        logits = blocks.view(b, h, w, -1, s, s).permute(0, 3, 1, 4, 2, 5).reshape(b, -1, h * s, w * s)
        assert self.head.bias is not None, "the head is built with a bias"
        return logits + self.head.bias.to(logits.dtype).view(-1, 1, 1)


class ImageLinear(nn.Module):
    """Logits of the whole image from the mean over its last map."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(channels, outputs)
        _init(self.head, channels)

    def inputs(self, maps: list[Tensor]) -> Tensor:
        """Return what `head` is linear in: the mean features ``(b, d)``."""
        return maps[-1].mean((2, 3))

    @torch.no_grad()
    def absorb(self, scale: Tensor) -> None:
        """Change the weights so that features give the logits that ``features / scale`` gave."""
        self.head.weight /= scale

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Return logits ``(b, k)``; the size is of no interest."""
        logits: Tensor = self.head(self.inputs(maps))
        return logits


def _init(head: nn.ConvTranspose2d | nn.Linear, inputs: int) -> None:
    """Draw weights with the variance of a linear layer.

    PyTorch's default for transposed convolutions takes ``outputs · s²`` for the number of inputs; as the blocks do not
    overlap, it is the number of channels.
    """
    bound = 1 / math.sqrt(inputs)
    nn.init.uniform_(head.weight, -bound, bound)
    if head.bias is not None:
        nn.init.zeros_(head.bias)


def _fit(logits: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Bring logits to the label grid; does nothing when they are on it already.

    A surplus of less than one token is the padding of an image whose side the stride does not divide, and is cut off.
    """
    surplus = [have - want for have, want in zip(logits.shape[2:], size, strict=True)]
    if all(0 <= extra < stride for extra in surplus):
        return logits[:, :, : size[0], : size[1]]
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


DECODER = Linear

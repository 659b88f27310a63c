"""What several decoders are made of: normalisations, convolution blocks, the way to the label grid, field checks."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Decoder, Features
from adapteo.errors import ConfigError, closest

NORMS = ("group", "batch", "layer")


def check_norm(kind: str) -> None:
    """Refuse a norm that there is not.

    Raises:
        ConfigError: unknown kind.
    """
    if kind not in NORMS:
        raise ConfigError(f"there is no norm '{kind}'{closest(kind, NORMS)}", allowed=NORMS, fix="change decoder.norm")


def check_positive(field: str, value: int | None) -> None:
    """Refuse a count or width below 1; None stands for a default.

    Raises:
        ConfigError: the value is 0 or negative.
    """
    if value is not None and value < 1:
        raise ConfigError(f"decoder.{field} is {value}", fix=f"give a positive number, or leave decoder.{field} out")


def check_dropout(rate: float) -> None:
    """Refuse a dropout that keeps nothing, or is no probability.

    Raises:
        ConfigError: not in 0 ≤ rate < 1.
    """
    if not 0 <= rate < 1:
        raise ConfigError(f"decoder.dropout is {rate}", fix="give a probability from 0 (none) to below 1, e.g. 0.1")


def check_widths(field: str, widths: Sequence[int]) -> None:
    """Refuse widths below 1.

    Raises:
        ConfigError: one of them is 0 or negative.
    """
    for width in widths:
        check_positive(field, width)


def check_dense(name: str, dense: bool) -> None:
    """Refuse labels per image, for decoders that make maps only.

    Raises:
        ConfigError: labels per image.
    """
    if not dense:
        raise ConfigError(f"the {name} decoder makes a map, but there is one label per image", fix="decoder: linear")


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each place of ``(b, c, h, w)``, with ε = 10⁻⁶ as in vision transformers."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; shape and meaning of the axes stay."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def norm_layer(kind: str, channels: int) -> nn.Module:
    """Make a normalisation of ``(b, channels, h, w)``.

    "group" (arXiv 1803.08494) computes each image by itself, so that accumulation and several processes give what one
    large batch gives. A group has at least 8 channels: with one channel each it would erase how bright an image is.
    "layer" computes each place by itself. "batch" is BatchNorm.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "layer":
        return ChannelNorm(channels)
    return nn.GroupNorm(math.gcd(channels, 32 if channels >= 256 else max(1, channels // 8)), channels)


def conv_norm_relu(inputs: int, outputs: int, kernel: int, norm: str) -> nn.Sequential:
    """Make a convolution that keeps the size, without bias as the norm has one, then norm and ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, norm_layer(norm, outputs), nn.ReLU(inplace=True))


def laid_like(features: Features, decoder: Decoder) -> Decoder:
    """Let the weights of convolutions lie as the maps do, channels last for those of a transformer, which are tokens.

    Otherwise PyTorch copies them into that layout forward and backward (a tenth to a third of the time of the U-Net on
    a CPU, `benchmarks/step_parts.py`). The maps of a CNN, whose strides differ, have channels first.
    """
    if len(set(features.strides)) == 1:
        nn.Module.to(decoder, memory_format=torch.channels_last)  # type: ignore[call-overload]  # its stub lacks this
    return decoder


def channels_last(maps: Tensor) -> Tensor:
    """Maps ``(b, c, h, w)`` with channels last; a copy only when they lie otherwise, as features from a file do."""
    return maps if maps.stride(1) == 1 else maps.contiguous(memory_format=torch.channels_last)


def pixel_head(channels: int, outputs: int, kernel: int = 1) -> nn.Conv2d:
    """Make the convolution from features to logits, 1 × 1 unless another odd side is asked for."""
    head = nn.Conv2d(channels, outputs, kernel, padding=kernel // 2)
    nn.init.xavier_uniform_(head.weight)
    assert head.bias is not None, "the head is built with a bias"
    nn.init.zeros_(head.bias)
    return head


def hidden_layers(channels: int, widths: Sequence[int]) -> nn.Sequential:
    """Make 3 × 3 convolutions with ReLU, one per width, that keep the size; nothing for no widths."""
    layers = nn.Sequential()
    for inputs, outputs in pairwise((channels, *widths)):
        conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
        layers.append(nn.Sequential(conv, nn.ReLU(inplace=True)))
    return layers


def on_labels(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring logits ``(b, k, h, w)`` to the label grid, bilinearly, when they are not on it already."""
    if tuple(logits.shape[2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)

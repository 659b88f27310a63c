"""One linear map from one feature map to the labels; the smallest decoder.

    dense       logits = W * features, W a transposed convolution with kernel = stride = u      d·k·u² + k parameters
    per image   logits = W · mean(features) + b                                                d·k + k parameters

The "linear" decoder of arXiv 2504.17397 (TerraTorch's ``LinearDecoder``), minimal so that differences come from the
backbone; d channels of the map, k outputs. u is the map's stride in pixels unless another one is asked for: the logits
are then brought to the pixels bilinearly. All of it is linear, so that fitting `head` stays a convex problem.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Decoder, DecoderSpec, Features
from adapteo.decoders._layers import check_positive
from adapteo.errors import ConfigError


@dataclass(frozen=True)
class Linear(DecoderSpec):
    """One linear map from the last features to the labels; the choice for a linear probe.

    Attributes:
        stride: bring the features to this output stride in pixels before the linear map, so that methods and backbones
            whose last maps have different strides are compared at the same one (the paper compares stride 32 with 16
            and 8). The map of the backbone that has this stride is taken, or else the last one resized: averaged over
            cells when coarser by a whole number, bilinearly otherwise. None takes the last map as it is.
        upsampling: pixels per side that each feature becomes (TerraTorch's ``upsampling_size``); None is as many as its
            stride. With fewer, the logits are enlarged bilinearly: the paper's ViT-Adapter has stride 32 and 16 here.
    """

    stride: int | None = None
    upsampling: int | None = None
    linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("stride", self.stride)
        check_positive("upsampling", self.upsampling)

    def build(self, features: Features, outputs: int, dense: bool) -> Decoder:
        """Build `PixelLinear` for labels per pixel, `ImageLinear` for labels per image.

        Raises:
            ConfigError: a stride or an upsampling for labels per image, which are read from the mean.
        """
        if dense:
            return PixelLinear(features, outputs, self.stride, self.upsampling)
        for field in ("stride", "upsampling"):
            if getattr(self, field) is not None:
                raise ConfigError(
                    f"decoder.{field} is {getattr(self, field)}, but there is one label per image",
                    fix=f"leave decoder.{field} out; it is for labels per pixel",
                )
        return ImageLinear(features.channels[-1], outputs)


class PixelLinear(Decoder):
    """Each feature becomes a block of u × u logits. Nothing in here but `head` is trained, or not linear.

    Attributes:
        reads: index of the map that it reads, counted from the last, -1.
        native: stride of that map in pixels.
        stride: of the features that `head` sees.
        upsampling: u.
    """

    def __init__(
        self, features: Features, outputs: int, stride: int | None = None, upsampling: int | None = None
    ) -> None:
        super().__init__()
        strides = features.strides
        matching = [index for index in range(-len(strides), 0) if strides[index] == stride]
        source = matching[-1] if matching else -1
        self.reads = (source,)
        self.native = strides[source]
        self.stride = stride or self.native
        self.upsampling = upsampling or self.stride
        self.head = nn.ConvTranspose2d(features.channels[source], outputs, self.upsampling, self.upsampling)
        _init(self.head, features.channels[source])

    def inputs(self, maps: list[Tensor]) -> Tensor:
        """Return what `head` is linear in: ``(b, d, h, w)``, the map that is read at the stride that is asked for."""
        return _at_stride(maps[self.reads[0]], self.native, self.stride)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Return logits ``(b, k, *size)``."""
        features = self.inputs(maps)
        extent = (features.shape[2] * self.stride, features.shape[3] * self.stride)
        return _fit(self._expand(features), extent, size, self.stride)

    def _expand(self, features: Tensor) -> Tensor:
        """Compute ``self.head(features)`` as one product of matrices, twice as fast as PyTorch's general kernel."""
        b, _, h, w = features.shape
        u = self.upsampling
        blocks = features.flatten(2).transpose(1, 2) @ self.head.weight.flatten(1)
        logits = blocks.view(b, h, w, -1, u, u).permute(0, 3, 1, 4, 2, 5).reshape(b, -1, h * u, w * u)
        assert self.head.bias is not None, "the head is built with a bias"
        return logits + self.head.bias.to(logits.dtype).view(-1, 1, 1)


class ImageLinear(Decoder):
    """Logits of the whole image from the mean over its last map."""

    reads = (-1,)

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(channels, outputs)
        _init(self.head, channels)

    def inputs(self, maps: list[Tensor]) -> Tensor:
        """Return what `head` is linear in: the mean features ``(b, d)``."""
        return maps[-1].mean((2, 3))

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Return logits ``(b, k)``; the size is of no interest."""
        logits: Tensor = self.head(self.inputs(maps))
        return logits


def _init(head: nn.ConvTranspose2d | nn.Linear, inputs: int) -> None:
    """Draw weights with the variance of a linear layer.

    PyTorch's default for transposed convolutions takes ``outputs · u²`` for the number of inputs; as the blocks do not
    overlap, it is the number of channels.
    """
    bound = 1 / math.sqrt(inputs)
    nn.init.uniform_(head.weight, -bound, bound)
    if head.bias is not None:
        nn.init.zeros_(head.bias)


def _at_stride(features: Tensor, have: int, want: int) -> Tensor:
    """Resize ``(b, d, h, w)`` from one stride to another; each new cell covers exactly ``want`` pixels per side.

    A map that no whole number of new cells covers is continued by its edge. Averages over cells rather than bilinear
    samples where that is possible, as beyond a factor of 2 the samples would leave tokens out; at 2 they are the same.
    """
    if have == want:
        return features
    height, width = features.shape[2:]
    step = want // math.gcd(have, want)
    if height % step or width % step:
        features = F.pad(features, (0, -width % step, 0, -height % step), mode="replicate")
    if want % have == 0:
        return F.avg_pool2d(features, want // have)
    size = [side * have // want for side in features.shape[2:]]
    resized = F.interpolate(features, size=size, mode="bilinear", align_corners=False)
    return resized[:, :, : -(-height * have // want), : -(-width * have // want)]


def _fit(logits: Tensor, extent: tuple[int, int], size: tuple[int, int], stride: int) -> Tensor:
    """Bring logits that cover ``extent`` pixels to the label grid; does nothing when they are on it already.

    A surplus of less than one feature is the padding of an image whose side the stride does not divide, and is cut off.
    """
    if not all(0 <= have - want < stride for have, want in zip(extent, size, strict=True)):
        extent = size
    if tuple(logits.shape[2:]) != tuple(extent):
        logits = F.interpolate(logits, size=extent, mode="bilinear", align_corners=False)
    return logits[:, :, : size[0], : size[1]]


DECODER = Linear

"""How features become bytes, and how far they are off when they come back.

float32     exact                                       4 bytes per value
bf16        |error| <= 2^-8 |value|, 0.4 %              2
int8        |error| <= max |channel of the image| / 254  1, and 4 per channel

Channels come last in the bytes, also those of maps: so tokens of transformers have them, whose maps are then stored and
read without being turned over, and so networks beside a trunk want them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


class Code(ABC):
    """A way of storing features: tokens ``(n, d)`` or maps ``(c, h, w)`` of an image.

    Attributes:
        error: what a value may be off by, in words.
    """

    error: str

    @abstractmethod
    def size(self, shape: torch.Size) -> int:
        """Bytes of an image's features ``shape``."""

    @abstractmethod
    def encode(self, values: Tensor) -> np.ndarray:
        """Turn ``(n, *shape)`` into bytes ``(n, size)``."""

    @abstractmethod
    def decode(self, rows: Sequence[np.ndarray] | np.ndarray, shape: torch.Size) -> Tensor:
        """Turn rows ``(size,)`` of images back, into float32; maps with channels next to each other in memory."""


class Plain(Code):
    """A floating-point type.

    Args:
        dtype: the type.
        error: see `Code`.
    """

    def __init__(self, dtype: torch.dtype, error: str) -> None:
        self.dtype, self.error = dtype, error

    def size(self, shape: torch.Size) -> int:
        """Bytes per value times values."""
        return shape.numel() * self.dtype.itemsize

    def encode(self, values: Tensor) -> np.ndarray:
        """Round to the nearest."""
        stored = _last(values.detach()).to("cpu", self.dtype).contiguous()
        return stored.view(torch.uint8).reshape(len(values), -1).numpy()

    def decode(self, rows: Sequence[np.ndarray] | np.ndarray, shape: torch.Size) -> Tensor:
        """Widen."""
        out = torch.empty(len(rows), shape.numel())
        for values, row in zip(out, _copied(rows), strict=True):
            values.copy_(row.view(self.dtype))
        return _first(out, shape)


class Int8(Code):
    """Whole numbers -127 .. 127 times a scale per image and channel.

    The scale lies in front of the values, as float32.
    """

    error = "at most the largest magnitude of the image's channel / 254"

    def size(self, shape: torch.Size) -> int:
        """A byte per value, four per channel."""
        return shape.numel() + 4 * _channels(shape)

    def encode(self, values: Tensor) -> np.ndarray:
        """Divide by the scale and round."""
        flat = _last(values.detach()).float().cpu().reshape(len(values), -1, _channels(values.shape[1:]))
        scale = flat.abs().amax(1, keepdim=True) / 127
        whole = (flat / scale.where(scale > 0, torch.ones(()))).round().to(torch.int8)
        parts = (scale.flatten(1).contiguous().view(torch.uint8), whole.flatten(1).contiguous().view(torch.uint8))
        return torch.cat(parts, 1).numpy()

    def decode(self, rows: Sequence[np.ndarray] | np.ndarray, shape: torch.Size) -> Tensor:
        """Multiply by the scale."""
        count = _channels(shape)
        out = torch.empty(len(rows), shape.numel() // count, count)
        for values, row in zip(out, _copied(rows), strict=True):
            scale, whole = row[: 4 * count].view(torch.float32), row[4 * count :].view(torch.int8)
            torch.mul(whole.view(-1, count), scale, out=values)
        return _first(out, shape)


CODES: Mapping[str, Code] = {
    "float32": Plain(torch.float32, "none"),
    "bf16": Plain(torch.bfloat16, "at most 2^-8 of the value (0.4 %)"),
    "int8": Int8(),
}


def _channels(shape: torch.Size) -> int:
    """Channels of tokens ``(n, d)`` or maps ``(c, h, w)``."""
    return shape[-1] if len(shape) == 2 else shape[0]


def _last(values: Tensor) -> Tensor:
    """Tokens as they are, and maps ``(n, c, h, w)`` as ``(n, h, w, c)``."""
    return values if values.ndim == 3 else values.permute(0, 2, 3, 1)


def _first(values: Tensor, shape: torch.Size) -> Tensor:
    """The contrary, of as many values for each image."""
    if len(shape) == 2:
        return values.view(len(values), *shape)
    channels, height, width = shape
    return values.view(len(values), height, width, channels).permute(0, 3, 1, 2)


def _copied(rows: Iterable[np.ndarray]) -> Iterable[Tensor]:
    """Each row as a tensor, one after the other in the same memory: small enough to stay near the processor.

    Rows are mapped from a file and cannot be written, which tensors must be.
    """
    place: np.ndarray | None = None
    for row in rows:
        if place is None:
            place = np.empty(row.shape, np.uint8)
        np.copyto(place, row)
        yield torch.from_numpy(place)

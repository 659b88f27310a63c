"""How features become bytes, and how far they are off when they come back.

float32     exact                                       4 bytes per value
bf16        |error| <= 2^-8 |value|, 0.4 %              2
int8        |error| <= max |channel of the image| / 254  1, and 4 per channel
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


class Code(ABC):
    """A way of storing features.

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
    def decode(self, rows: np.ndarray, shape: torch.Size) -> Tensor:
        """Turn them back, into float32."""


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
        stored = values.detach().to("cpu", self.dtype).contiguous()
        return stored.view(torch.uint8).reshape(len(values), -1).numpy()

    def decode(self, rows: np.ndarray, shape: torch.Size) -> Tensor:
        """Widen."""
        return torch.from_numpy(rows).view(self.dtype).float().reshape(len(rows), *shape)


class Int8(Code):
    """Whole numbers -127 .. 127 times a scale per image and channel: that of maps ``(c, h, w)``, of tokens ``(n, d)``.

    The scale lies in front of the values, as float32.
    """

    error = "at most the largest magnitude of the image's channel / 254"

    def size(self, shape: torch.Size) -> int:
        """A byte per value, four per channel."""
        return shape.numel() + 4 * shape[_channel(shape)]

    def encode(self, values: Tensor) -> np.ndarray:
        """Divide by the scale and round."""
        values = values.detach().float().cpu()
        axis = _channel(values.shape[1:]) + 1
        others = [i for i in range(1, values.ndim) if i != axis]
        scale = values.abs().amax(others, keepdim=True) / 127
        whole = (values / scale.where(scale > 0, torch.ones(()))).round().to(torch.int8)
        parts = (scale.flatten(1).contiguous().view(torch.uint8), whole.flatten(1).contiguous().view(torch.uint8))
        return torch.cat(parts, 1).numpy()

    def decode(self, rows: np.ndarray, shape: torch.Size) -> Tensor:
        """Multiply by the scale."""
        axis = _channel(shape)
        count = shape[axis]
        scale = torch.from_numpy(np.ascontiguousarray(rows[:, : 4 * count])).view(torch.float32)
        whole = torch.from_numpy(rows[:, 4 * count :]).view(torch.int8)
        spread = [count if i == axis else 1 for i in range(len(shape))]
        return whole.reshape(len(rows), *shape).float() * scale.view(len(rows), *spread)


CODES: Mapping[str, Code] = {
    "float32": Plain(torch.float32, "none"),
    "bf16": Plain(torch.bfloat16, "at most 2^-8 of the value (0.4 %)"),
    "int8": Int8(),
}


def _channel(shape: torch.Size) -> int:
    """Axis of the channels: the last of tokens ``(n, d)``, the first of maps ``(c, h, w)``."""
    return len(shape) - 1 if len(shape) == 2 else 0

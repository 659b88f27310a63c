"""From feature maps to the label grid."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn


@dataclass(frozen=True)
class Features:
    """What a decoder is told about the backbone: channels and stride in pixels of each map, last = deepest."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]


class Decoder(nn.Module, ABC):
    """Feature maps in, logits out.

    Attributes:
        reads: indices of the maps that it uses, counted from the last, -1. The others may come without channels,
            ``(b, 0, h_i, w_i)``, as they do from the head start, which stores no features in vain.
    """

    reads: tuple[int, ...]

    @abstractmethod
    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Compute logits.

        Args:
            maps: one ``(b, channels[i], h_i, w_i)`` per map of the backbone; they must not be changed.
            size: label grid, height and width.

        Returns:
            ``(b, outputs, *size)`` for labels per pixel, ``(b, outputs)`` for labels per image.
        """


class DecoderSpec(ABC):
    """Configuration of a decoder: a frozen dataclass whose fields are the keys a user may write."""

    linear: ClassVar[bool] = False
    """True when the logits are linear in the one map that the decoder reads, so that fitting it is a convex problem.

    Such a decoder trains nothing but ``head``, an attribute: an `nn.Linear`, or an `nn.ConvTranspose2d` whose blocks do
    not overlap, with offsets.
    """

    @abstractmethod
    def build(self, features: Features, outputs: int, dense: bool) -> Decoder:
        """Build the module for maps of these channels and strides.

        Args:
            features: of the backbone.
            outputs: channels of the logits.
            dense: True for labels per pixel, False for labels per image.

        Raises:
            ConfigError: the decoder cannot do that, or a field does not fit the backbone.
        """

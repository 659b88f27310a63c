"""From feature maps to the label grid."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import nn


@dataclass(frozen=True)
class Features:
    """What a decoder is told about the backbone: channels and stride in pixels of each map, last = deepest."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]


class DecoderSpec(ABC):
    """Configuration of a decoder: a frozen dataclass whose fields are the keys a user may write."""

    linear: ClassVar[bool] = False
    """True when the logits are linear in the last feature map, so that fitting the decoder is a convex problem.

    Such a module has a further method ``absorb(scale)``: with scale ``(channels,)``, change the weights so that
    features give the logits that features divided by the scale gave.
    """

    @abstractmethod
    def build(self, features: Features, outputs: int, dense: bool) -> nn.Module:
        """Build the module.

        Returns:
            A module with ``forward(maps, size)``: a list of feature maps ``(b, channels[i], h_i, w_i)`` and the label
            grid ``(h, w)`` to logits ``(b, outputs, h, w)`` when dense, else ``(b, outputs)``.
        """

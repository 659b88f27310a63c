"""The bottleneck that adapters are made of: D → n → D, zero at the start."""

import math
from collections.abc import Callable
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Wrapper
from adapteo.errors import ConfigError


class Bottleneck(nn.Module):
    """``up(act(down(x)))`` on the last axis, ``(..., D) -> (..., D)``.

    Attributes:
        down: Kaiming-uniform, bias 0; up: weight and bias 0, so that the block is the identity at the start.
    """

    activations: ClassVar[dict[str, Callable[[Tensor], Tensor]]] = {"relu": F.relu, "gelu": F.gelu}

    def __init__(self, dim: int, width: int, activation: str, like: Tensor) -> None:
        super().__init__()
        self.down, self.up = linear(dim, width, like), zeroed(linear(width, dim, like))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Apply."""
        out: Tensor = self.up(self.activations[self.activation](self.down(x)))
        return out


def linear(inputs: int, outputs: int, like: Tensor) -> nn.Linear:
    """Return a new linear, Kaiming-uniform with a = √5 and bias 0, drawn as ``like`` is stored."""
    made = nn.Linear(inputs, outputs, device=like.device, dtype=like.dtype)
    nn.init.kaiming_uniform_(made.weight, a=math.sqrt(5))
    nn.init.zeros_(made.bias)
    return made


def zeroed(layer: nn.Linear) -> nn.Linear:
    """Zero a layer, and return it."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Beside(Wrapper):
    """A module with an adapter in parallel: ``f(x) + s a(x)``."""

    def __init__(self, inner: nn.Module, adapter: nn.Module, scale: float) -> None:
        super().__init__()
        self.inner, self.adapter, self.scale = inner, adapter, scale
        self.train(inner.training)

    def forward(self, x: Tensor) -> Tensor:
        """Apply both."""
        out: Tensor = self.inner(x)
        return out + self.scale * self.adapter(x)

    def merged(self) -> nn.Module:
        """Refuse: an activation lies between."""
        raise not_mergeable("the adapter")


class Behind(Wrapper):
    """A linear with a bottleneck in series behind it: ``y + U act(D y)`` for its output y."""

    inner: nn.Linear

    def __init__(self, inner: nn.Linear, width: int, activation: str) -> None:
        super().__init__()
        self.inner = inner
        self.adapter = Bottleneck(inner.out_features, width, activation, inner.weight)
        self.train(inner.training)

    def forward(self, x: Tensor) -> Tensor:
        """Apply, then adapt."""
        out: Tensor = self.inner(x)
        return out + self.adapter(out)

    def merged(self) -> nn.Module:
        """Refuse: an activation lies between."""
        raise not_mergeable("the adapter")


def not_mergeable(what: str) -> ConfigError:
    """Why a bottleneck stays beside the network."""
    return ConfigError(
        f"{what} computes a non-linear function, so it cannot be merged into weights",
        fix="keep the adapter file, which predicts as it is; or train with `method: lora`, which merges",
    )


def check_width(title: str, width: int) -> None:
    """Refuse bottlenecks of no width.

    Raises:
        ConfigError: names the value.
    """
    if width < 1:
        raise ConfigError(f"{title}'s width is 1 or more, not {width}", fix="see `method.width`")


def serial_size(dim: int, width: int) -> int:
    """Number of parameters of a bottleneck: 2 n D + n + D."""
    return 2 * dim * width + width + dim

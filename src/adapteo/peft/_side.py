"""What networks beside a trunk share: how they take their place, their gates, and training on several devices.

Nothing of a side network enters the trunk. So a trunk without trained parameters builds no graph and keeps no
activations, and its outputs are a boundary: `SideRoute.reach` gives what can be stored, `go_on` what is trained.
"""

from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn

from adapteo.contracts import Backbone, SideRoute
from adapteo.errors import ConfigError
from adapteo.parallel import several_processes
from adapteo.vit import init_weights

TEMPERATURE = 0.1
EPS = 1e-6
_LEAST = 32


class Gate(nn.Module):
    """``μ a + (1 − μ) b`` with ``μ = sigmoid(α / T)``, T = 0.1; α is one number and starts at 0, so with half of each.

    Attributes:
        alpha: α, ``(1,)``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Mix two tensors of one shape."""
        share = torch.sigmoid(self.alpha / TEMPERATURE).to(a.dtype)
        return b + share * (a - b)


class Out(nn.Module):
    """``U LN(s)`` on the last axis, ``(..., w) -> (..., D)``; U and its bias are zero at the start."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.up = nn.Linear(width, dim)

    def forward(self, s: Tensor) -> Tensor:
        """Apply."""
        out: Tensor = self.up(self.norm(s))
        return out


def draw(route: SideRoute) -> None:
    """Draw initial values: Xavier-uniform linears, biases zero, and zero for what writes to the maps."""
    route.apply(init_weights)
    for module in route.modules():
        if isinstance(module, Out):
            nn.init.zeros_(module.up.weight)


def out_size(width: int, dim: int) -> int:
    """Number of parameters of `Out`: w D + D + 2 w."""
    return width * dim + dim + 2 * width


def side_width(dim: int, reduction: int) -> int:
    """Width of the side network beside a trunk of width ``dim``: D / r in eights, 32 or D at least."""
    return max(min(dim, _LEAST), dim // reduction // 8 * 8)


def check_sizes(title: str, **sizes: int) -> None:
    """Refuse sizes below 1.

    Raises:
        ConfigError: names the key and the value.
    """
    for key, value in sizes.items():
        if value < 1:
            raise ConfigError(f"{title}'s {key} is 1 or more, not {value}", fix=f"see `method.{key}`")


def lead(backbone: Backbone, route: SideRoute, title: str) -> None:
    """Put a route beside a trunk, on its device, in its type and mode.

    Raises:
        ConfigError: when another method leads its own way.
    """
    if backbone.route is not None:
        raise ConfigError(
            f"{title} stands beside the plain way through the backbone, and {type(backbone.route).__name__} leads "
            "another one",
            fix="use only one of the two methods",
        )
    like = next(backbone.blocks.parameters())
    backbone.route = route.train(backbone.training).to(like.device, like.dtype)


def unread(position: int, read: Collection[int] | None) -> bool:
    """Whether nobody reads a map, see `SideRoute.go_on`."""
    return read is not None and position not in read


def nothing(like: Tensor) -> Tensor:
    """In the place of a map that nobody reads: ``(b, 0, 1, 1)``."""
    return like.new_zeros(len(like), 0, 1, 1)


def touching(route: nn.Module, maps: list[Tensor], parts: Iterable[nn.Module]) -> list[Tensor]:
    """Return the maps, and in data-parallel training let each depend on all of these parts.

    It waits for all gradients, also where the decoder reads one of the maps only.
    """
    if not (route.training and several_processes()):
        return maps
    nothing = 0 * torch.stack([p.sum() for part in parts for p in part.parameters()]).sum()
    return [m + nothing.to(m.dtype) for m in maps]

"""Which layers of the blocks a method stands in for: linears by role, convolutions by what they read."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Backbone, Method, Wrapper
from adapteo.errors import ConfigError, closest
from adapteo.vit import ROLES, RoleLinear


class OnLinears(Method):
    """A method that stands in for linears of attention and MLP in the blocks, each for itself.

    Attributes:
        targets: roles; empty for those of `usual`.
        usual: roles when the user names none, as far as the backbone has them.
        needed: roles of which there must be one.
    """

    targets: tuple[str, ...] = ()
    usual: tuple[str, ...] = ROLES
    needed: tuple[str, ...] = ROLES
    order = 4

    @abstractmethod
    def wrappers(self, linears: Sequence[RoleLinear]) -> Iterable[Wrapper]:
        """What stands in for each of the linears, in their order."""

    @abstractmethod
    def added(self, linear: RoleLinear) -> int:
        """Number of parameters trained for a linear."""

    def check_targets(self) -> None:
        """Refuse targets that are no roles, or are named twice.

        Raises:
            ConfigError: names the target.
        """
        title = title_of(self)
        for role in self.targets:
            if role not in ROLES:
                raise ConfigError(f"{title}'s targets have no '{role}'{closest(role, ROLES)}", allowed=ROLES)
        if len(set(self.targets)) < len(self.targets):
            raise ConfigError(f"{title}'s targets name one twice: {', '.join(self.targets)}", fix="name each once")

    def apply(self, backbone: Backbone) -> None:
        """Stand in for the targeted linears of the blocks; nothing outside the blocks is touched.

        Raises:
            ConfigError: when the blocks have no linear for one of the targets.
        """
        chosen = self.chosen(backbone)
        for (parent, name, _), new in zip(chosen, self.wrappers([found[2] for found in chosen]), strict=True):
            setattr(parent, name, new)

    def parameters_formula(self, backbone: Backbone) -> int:
        """Sum over the targeted linears."""
        return sum(self.added(linear) for _, _, linear in self.chosen(backbone))

    def chosen(self, backbone: Backbone) -> list[tuple[nn.Module, str, RoleLinear]]:
        """Targeted linears, each with its parent and its name there.

        Raises:
            ConfigError: when the blocks have none for one of the targets.
        """
        linears = list(role_linears(backbone))
        roles = {linear.role for _, _, linear in linears}
        if not roles & set(self.needed):
            raise ConfigError(
                f"{title_of(self)} acts on the linears of {_words(self.needed)}, and "
                f"{type(backbone).__name__} has none",
                fix="choose another method (`method: full`, `frozen` or `ssf`), or a transformer",
            )
        for role in self.targets:
            if role not in roles:
                raise ConfigError(
                    f"{title_of(self)} targets '{role}', but the blocks of this backbone have no linear for it",
                    allowed=sorted(roles),
                    fix="see `method.targets`",
                )
        wanted = self.targets or self.usual
        return [found for found in linears if found[2].role in wanted]


def title_of(method: Method) -> str:
    """What users call a method: the name of its file."""
    return type(method).__module__.rpartition(".")[2]


def layers(root: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Every module below, each with its parent and its name there, without what methods have added."""
    for name, child in list(root.named_children()):
        if not isinstance(root, Wrapper) or name == "inner":
            yield root, name, child
            yield from layers(child)


def role_linears(backbone: Backbone) -> Iterator[tuple[nn.Module, str, RoleLinear]]:
    """Linears of the blocks that have a role, each with its parent and its name there."""
    for parent, name, child in list(layers(backbone.blocks)):
        if isinstance(child, RoleLinear):
            yield parent, name, child


def paths(backbone: Backbone, linears: Iterable[RoleLinear]) -> dict[str, RoleLinear]:
    """Linears by their path in the backbone, in its order."""
    wanted = set(linears)
    return {p: module for p, module in backbone.named_modules() if isinstance(module, RoleLinear) and module in wanted}


def mlps(backbone: Backbone, method: Method) -> list[tuple[nn.Module, str, nn.Module, RoleLinear]]:
    """MLPs of the blocks, each with its parent, its name there, and its last linear (fc2).

    Raises:
        ConfigError: when there is none.
    """
    last = {parent: linear for parent, _, linear in role_linears(backbone) if linear.role == "fc2"}
    found = [(parent, name, child, last[child]) for parent, name, child in layers(backbone.blocks) if child in last]
    if not found:
        raise ConfigError(
            f"{title_of(method)} acts on the MLPs of transformer blocks, and {type(backbone).__name__} has none",
            fix="choose another method (`method: full`, `frozen` or `ssf`), or a transformer",
        )
    return found


def convolutions(backbone: Backbone) -> Iterator[tuple[nn.Module, str, nn.Conv2d]]:
    """Convolutions of the blocks that mix all channels, without the first one, which reads the image."""
    first = True
    for parent, name, child in list(layers(backbone.blocks)):
        if isinstance(child, nn.Conv2d):
            reads_image, first = first and child.in_channels == len(backbone.bands), False
            plain = type(child) is nn.Conv2d and child.padding_mode == "zeros" and child.groups == 1
            if plain and not reads_image:
                yield parent, name, child


def linears_and_convolutions(backbone: Backbone, method: Method) -> list[tuple[nn.Module, str, nn.Linear | nn.Conv2d]]:
    """All that multiplies by a matrix in the blocks, each with its parent and its name there.

    Raises:
        ConfigError: when there is none.
    """
    found: list[tuple[nn.Module, str, nn.Linear | nn.Conv2d]] = [*role_linears(backbone), *convolutions(backbone)]
    if not found:
        raise ConfigError(
            f"{title_of(method)} acts on the linears and convolutions of the blocks, and {type(backbone).__name__} "
            "has none",
            fix="choose another method (`method: full` or `frozen`)",
        )
    return found


def apply_weight(layer: nn.Linear | nn.Conv2d, x: Tensor, weight: Tensor) -> Tensor:
    """Do what a layer does without its bias, with another weight of the same number of inputs and kernel."""
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation)
    return F.linear(x, weight)  # also where the layer is held in fewer bytes, and is no `nn.Linear` then


def widths(layer: nn.Linear | nn.Conv2d) -> tuple[int, int]:
    """Numbers of inputs and outputs."""
    return layer.weight.shape[1], layer.weight.shape[0]


def _words(roles: tuple[str, ...]) -> str:
    attention, mlp = bool({"q", "k", "v", "proj"} & set(roles)), bool({"fc1", "fc2", "gate"} & set(roles))
    return " and ".join(word for word, named in (("attention", attention), ("MLP", mlp)) if named)

"""How a backbone is adapted: methods, the wrappers they put in, and what is trained and saved of it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from adapteo.contracts.backbone import Backbone, TokenBackbone
from adapteo.errors import ConfigError, WeightsError

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Facts:
    """What a user wants to know before choosing a method; the generated page shows it.

    Attributes:
        family: "low-rank", "scaling", "selective", "adapter", "prompt", "side network" or "reference".
        parameters: trained numbers in words of the field: width D, blocks L, rank r …
        cost: in memory and arithmetic, against full fine-tuning.
        use: when to choose it.
        evidence: what was measured or published, with its source.
    """

    family: str
    parameters: str
    cost: str
    use: str
    evidence: str


class Wrapper(nn.Module, ABC):
    """A module that stands in for ``inner`` with the same signature and adds something trainable.

    Attributes:
        inner: what it stands in for; may be a wrapper of another method.
        rebuilds: it computes with the weight of `inner` instead of calling it, so `inner` must be a plain layer.
        keeps: names of its buffers that an adapter file needs beside what is trained.
    """

    inner: nn.Module
    rebuilds: ClassVar[bool] = False
    keeps: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def merged(self) -> nn.Module:
        """Return a plain module that computes the same.

        Raises:
            ConfigError: when this kind cannot be merged.
        """


class Method(ABC):
    """A way of adapting a backbone: a frozen dataclass whose fields are the keys a user may write.

    `apply` is called by `adapt` after everything has been frozen; it replaces modules by `Wrapper`s or unfreezes
    parameters. What is saved is what requires grad.
    """

    facts: ClassVar[Facts]
    identity_at_start: ClassVar[bool] = True
    mergeable: ClassVar[bool] = True
    order: ClassVar[int] = 0
    """Place in a composition: 0 unfreezes what is there, 1 leads a way of its own, 2 wraps blocks, 3 wraps MLPs or
    attention, 4 wraps single layers, 5 rebuilds their weights. So each finds the layers that it acts on."""
    default_rate: ClassVar[float] = 1e-3
    """Learning rate of AdamW when the user names none; the order of magnitude that searches find for this method."""

    @abstractmethod
    def apply(self, backbone: Backbone) -> None:
        """Add to, or unfreeze parts of, a frozen backbone, in place.

        Raises:
            ConfigError: when the backbone has nothing this method can act on.
        """

    @abstractmethod
    def parameters_formula(self, backbone: Backbone) -> int:
        """Number of trainable backbone parameters by closed formula, for an untouched backbone."""

    def rate_factors(self, backbone: Backbone) -> dict[str, float]:
        """Factors of the learning rate by name of a trained parameter of an adapted backbone; 1 for all others."""
        return {}

    def adapter_state(self, backbone: Backbone) -> dict[str, Tensor]:
        """Tensors of the adapter file of an adapted backbone: by default those of `stored`, detached, on the CPU."""
        return {name: value.detach().cpu().contiguous() for name, value in stored(backbone).items()}

    def load_adapter_state(self, backbone: Backbone, state: Mapping[str, Tensor]) -> None:
        """Copy the tensors of an adapter file into an adapted backbone, in place.

        Raises:
            WeightsError: when a tensor is missing, superfluous or of another shape; nothing is copied then.
        """
        copy_exactly(stored(backbone), state)

    def adapter_config(self, backbone: Backbone) -> dict[str, object]:
        """What the JSON beside the adapter file says about the method: by default its kind and its fields."""
        return {"peft_type": f"ADAPTEO_{type(self).__name__.upper()}", **vars(self)}


def adapt(backbone: Backbone, method: Method) -> Backbone:
    """Freeze a backbone, then let a method act on it, in place.

    Raises:
        ConfigError: when the method leaves nothing to train although its formula says otherwise.
    """
    backbone.requires_grad_(False)
    expected = method.parameters_formula(backbone)
    method.apply(backbone)
    found = trainable_count(backbone)
    if found != expected:
        raise ConfigError(
            f"{type(method).__name__} trains {found:,} parameters here, its formula says {expected:,}",
            fix="this is a bug in the method; please report it with the backbone's name",
        )
    return backbone


def merge(backbone: Backbone) -> Backbone:
    """Replace every wrapper by its plain equivalent, in place; inner wrappers first.

    Raises:
        ConfigError: when a wrapper cannot be merged, or the method runs a way of its own through the backbone.
    """
    if backbone.route is not None:
        raise ConfigError(
            f"{type(backbone.route).__name__} runs beside the backbone, so it cannot be merged into its weights",
            fix="keep the adapter file, which predicts as it is; or train with `method: lora`, which merges",
        )
    for parent, name, child in list(_children_depth_first(backbone)):
        if isinstance(child, Wrapper):
            setattr(parent, name, child.merged())
    return backbone


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Named parameters that require grad."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def moving(module: nn.Module) -> dict[str, Tensor]:
    """What training changes, by name: parameters that require grad, and running statistics of BatchNorms with some."""
    found: dict[str, Tensor] = dict(trainable(module))
    for path, layer in module.named_modules():
        if isinstance(layer, _BATCH_NORMS) and any(p.requires_grad for p in layer.parameters()):
            found |= {f"{path}.{name}": buffer for name, buffer in layer.named_buffers()}
    return found


def stored(module: nn.Module) -> dict[str, Tensor]:
    """What an adapter file holds, by name: what training changes, and buffers that wrappers keep."""
    found = moving(module)
    for path, wrapper in module.named_modules():
        if isinstance(wrapper, Wrapper):
            found |= {f"{path}.{name}": wrapper.get_buffer(name) for name in wrapper.keeps}
    return found


def tokens_of(backbone: Backbone, method: str) -> TokenBackbone:
    """Return the backbone as one of tokens, for methods that act on tokens.

    Raises:
        ConfigError: when it is a hierarchical network.
    """
    if not isinstance(backbone, TokenBackbone):
        raise ConfigError(
            f"{method} acts on the tokens of a plain transformer, and {type(backbone).__name__} is made of stages",
            fix="choose another method (`method: full`, `frozen` or `bitfit`), or a backbone of tokens",
        )
    return backbone


def trainable_count(module: nn.Module) -> int:
    """Number of parameters that require grad."""
    return sum(p.numel() for p in trainable(module).values())


def copy_exactly(into: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy a state into tensors of the same names and shapes, in place, or change nothing.

    Raises:
        WeightsError: when a tensor is missing, superfluous or of another shape.
    """
    missing, superfluous = sorted(into.keys() - state.keys()), sorted(state.keys() - into.keys())
    if missing or superfluous:
        kind, names = ("lacks", missing) if missing else ("has superfluous", superfluous)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise WeightsError(
            f"the adapter {kind} '{names[0]}'{more}; it was made with another method, other fields or another backbone",
            fix="give the method and the backbone that are written in the adapter's JSON file",
        )
    for name, tensor in into.items():
        if tensor.shape != state[name].shape:
            raise WeightsError(f"'{name}' is {tuple(state[name].shape)} in the adapter, {tuple(tensor.shape)} here")
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(state[name])


def replace_modules(root: nn.Module, kind: type[nn.Module], make: "ModuleMaker") -> int:
    """Replace each submodule of a kind for which ``make(module)`` is not None; return how many were replaced."""
    count = 0
    for parent, name, child in list(_children_depth_first(root)):
        if isinstance(child, kind) and (new := make(child)) is not None:
            setattr(parent, name, new)
            count += 1
    return count


class ModuleMaker(Protocol):
    """Takes a module and returns its replacement, or None to leave it."""

    def __call__(self, module: nn.Module, /) -> nn.Module | None:
        """Make the replacement."""


def _children_depth_first(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for name, child in module.named_children():
        yield from _children_depth_first(child)
        yield module, name, child

"""Several methods on one backbone: ``method: [lora, ssf]`` in YAML, ``Composition((LoRA(), SSF()))`` in Python.

Methods act in a canonical order, `Method.order` and then the name, so any order of writing gives the same model. Each
wraps what the former ones left, so numbers of parameters add. Two methods may not train the same tensor, nor both
rebuild one weight: what the sum of them should be is not defined.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from adapteo.contracts.backbone import Backbone
from adapteo.contracts.method import Facts, Method, Wrapper, trainable
from adapteo.errors import ConfigError


@dataclass(frozen=True)
class Composition(Method):
    """Several methods together, in any order.

    Attributes:
        methods: at least one; none twice.
    """

    methods: tuple[Method, ...]

    facts: ClassVar[Facts] = Facts(
        family="composition",
        parameters="the sum of its parts",
        cost="the sum of its parts",
        use="to combine families, e.g. low-rank terms with scaling or with adapters",
        evidence="conformance suite: any order gives the same model",
    )

    def __post_init__(self) -> None:
        """Put the methods in order.

        Raises:
            ConfigError: when there is none, one is named twice, or one is a composition itself.
        """
        ordered = tuple(sorted(self.methods, key=lambda method: (method.order, _title(method))))
        object.__setattr__(self, "methods", ordered)
        if not ordered:
            raise ConfigError("a composition of methods names none", fix="write `method: frozen` to train none")
        names = [_title(method) for method in ordered]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ConfigError(f"method names {twice} twice", fix="name it once, with all of its keys")
        if any(isinstance(method, Composition) for method in ordered):
            raise ConfigError("a composition holds methods, not compositions", fix="write one list of all of them")

    @property
    def identity_at_start(self) -> bool:  # type: ignore[override]  # a fact of the parts, not of the class
        """Whether all parts are the identity at the start."""
        return all(method.identity_at_start for method in self.methods)

    @property
    def mergeable(self) -> bool:  # type: ignore[override]
        """Whether all parts can be merged."""
        return all(method.mergeable for method in self.methods)

    @property
    def default_rate(self) -> float:  # type: ignore[override]
        """The lowest of the parts, which is safe for all."""
        return min(method.default_rate for method in self.methods)

    def apply(self, backbone: Backbone) -> None:
        """Let each method act in its turn.

        Raises:
            ConfigError: when one cannot act, two train the same tensor, or two rebuild the same weight.
        """
        owners: dict[nn.Parameter, Method] = {}
        for method in self.methods:
            for parameter in owners:
                parameter.requires_grad_(False)
            method.apply(backbone)
            for name, parameter in trainable(backbone).items():
                if parameter in owners:
                    raise ConfigError(
                        f"{_title(owners[parameter])} and {_title(method)} both train '{name}'",
                        fix="leave one of them out",
                    )
                owners[parameter] = method
        for parameter in owners:
            parameter.requires_grad_(True)
        _check_weights(backbone)

    def parameters_formula(self, backbone: Backbone) -> int:
        """Sum over the methods."""
        return sum(method.parameters_formula(backbone) for method in self.methods)

    def rate_factors(self, backbone: Backbone) -> dict[str, float]:
        """Those of all methods, multiplied."""
        factors: dict[str, float] = {}
        for method in self.methods:
            for name, value in method.rate_factors(backbone).items():
                factors[name] = factors.get(name, 1.0) * value
        return factors

    def adapter_config(self, backbone: Backbone) -> dict[str, object]:
        """Kinds and fields of all methods."""
        parts = [{"name": _title(method), **vars(method)} for method in self.methods]
        return {"peft_type": "ADAPTEO_COMPOSITION", "methods": parts}


def _title(method: Method) -> str:
    """What users call it: the name of its module."""
    return type(method).__module__.rpartition(".")[2]


def _check_weights(backbone: Backbone) -> None:
    """Refuse wrappers that rebuild a weight which another method rebuilds or trains."""
    for path, wrapper in backbone.named_modules():
        if not isinstance(wrapper, Wrapper) or not wrapper.rebuilds:
            continue
        weights = [p for name, p in wrapper.inner.named_parameters(recurse=False) if name == "weight"]
        if isinstance(wrapper.inner, Wrapper) or any(weight.requires_grad for weight in weights):
            raise ConfigError(
                f"two of the methods change the weight of '{path.replace('.inner', '')}' itself, "
                f"and {type(wrapper).__name__} needs it as it was pre-trained",
                fix="leave one of them out, or give them different `targets`",
            )

"""APLA: only the projection behind the attention is trained, or some of its columns.

    y = (W + ΔW) x + b + Δb     for attn.proj;  with `columns` = n: n random columns of W, and no bias

M. Sorkhei, E. Konuk, K. Smith, C. Matsoukas: APLA: A Simple Adaptation Method for Vision Transformers,
arXiv 2503.11335.

Which columns is drawn by a generator of its own from `seed`; adapter files hold their values alone.
"""

from dataclasses import dataclass

import torch

from adapteo.contracts import Backbone, Facts, Method
from adapteo.errors import ConfigError
from adapteo.peft._parts import PartLinear
from adapteo.peft._targets import role_linears
from adapteo.vit import RoleLinear


@dataclass(frozen=True)
class APLA(Method):
    """APLA: trains the projection behind the attention of each block.

    Attributes:
        columns: number of random columns of each projection that are trained; null for all of it, with its bias.
        seed: of the choice of columns; the adapter needs the same one.
    """

    columns: int | None = None
    seed: int = 0

    default_rate = 1e-4
    facts = Facts(
        family="selective",
        parameters="D² + D per block, or n D for n columns",
        cost="52.6 % less memory and 43 % less time than full fine-tuning, as the authors report",
        use="in place of full fine-tuning, with nothing added to the network",
        evidence="arXiv 2503.11335 (abstract)",
    )

    def __post_init__(self) -> None:
        if self.columns is not None and self.columns < 1:
            raise ConfigError(f"apla trains 1 column or more, not {self.columns}", fix="see `method.columns`")

    @property
    def order(self) -> int:  # type: ignore[override]  # whole tensors are unfrozen, columns need a wrapper
        """See `Method.order`."""
        return 0 if self.columns is None else 5

    def apply(self, backbone: Backbone) -> None:
        """Unfreeze the projections, or wrap them.

        Raises:
            ConfigError: when there is no attention, or a projection has fewer columns.
        """
        generator = torch.Generator().manual_seed(self.seed)
        for parent, name in _projections(backbone):
            linear = parent.get_submodule(name)
            assert isinstance(linear, RoleLinear), "found as such"
            if self.columns is None:
                linear.requires_grad_(True)
                continue
            if self.columns > linear.in_features:
                raise ConfigError(
                    f"apla is asked for {self.columns} columns of a projection that has {linear.in_features}",
                    fix="see `method.columns`; null trains all of it",
                )
            index = torch.randperm(linear.in_features, generator=generator, device="cpu")[: self.columns]
            setattr(parent, name, PartLinear(linear, index.sort().values, axis=1))

    def parameters_formula(self, backbone: Backbone) -> int:
        """L (D² + D), or L n D for n columns."""
        linears = [parent.get_submodule(name) for parent, name in _projections(backbone)]
        if self.columns is None:
            return sum(p.numel() for linear in linears for p in linear.parameters())
        return sum(self.columns * linear.out_features for linear in linears if isinstance(linear, RoleLinear))


def _projections(backbone: Backbone) -> list[tuple[torch.nn.Module, str]]:
    found = [(parent, name) for parent, name, linear in role_linears(backbone) if linear.role == "proj"]
    if not found:
        raise ConfigError(
            f"apla acts on the projection behind the attention, and {type(backbone).__name__} has none",
            fix="choose another method (`method: full`, `frozen` or `ssf`), or a transformer",
        )
    return found


METHOD = APLA

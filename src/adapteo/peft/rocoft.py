"""RoCoFT: the first rows or columns of each weight are trained.

    W = [R; W']  or  W = [C, W'],     R (r × in) or C (out × r) trained from its pre-trained values

M. Kowsher et al.: RoCoFT: Efficient Finetuning of Large Language Models with Row-Column Updates, arXiv 2410.10075.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from adapteo.contracts import Facts, Wrapper
from adapteo.errors import ConfigError
from adapteo.peft._parts import PartLinear
from adapteo.peft._targets import OnLinears
from adapteo.vit import RoleLinear


@dataclass(frozen=True)
class RoCoFT(OnLinears):
    """RoCoFT: trains the first rows or columns of the linears of attention and MLP.

    Attributes:
        rank: r, their number; at most as many as each weight has.
        side: "rows" (outputs) or "columns" (inputs).
        targets: roles of the linears to adapt (q, k, v, proj, fc1, fc2, gate); all that there are when none is named.
    """

    rank: int = 3
    side: Literal["rows", "columns"] = "rows"
    targets: tuple[str, ...] = ()

    order = 5
    facts = Facts(
        family="selective",
        parameters="r in (rows) or r out (columns) per linear: 9 r D per block",
        cost="2/3 of full fine-tuning's arithmetic; columns keep r numbers per token and linear",
        use="as LoRA, with nothing added to the network and nothing random",
        evidence="on par with LoRA on language tasks (arXiv 2410.10075, abstract)",
    )

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"rocoft needs rank >= 1, not {self.rank}", fix="see `method.rank`")
        if self.side not in ("rows", "columns"):
            raise ConfigError(f"rocoft's side is '{self.side}'", allowed=("rows", "columns"))
        self.check_targets()

    def wrappers(self, linears: Sequence[RoleLinear]) -> Iterable[Wrapper]:
        """See `PartLinear`."""
        axis = 0 if self.side == "rows" else 1
        for linear in linears:
            if self.rank > linear.weight.shape[axis]:
                raise ConfigError(
                    f"rocoft is asked for {self.rank} {self.side} of a weight that has {linear.weight.shape[axis]}",
                    fix="see `method.rank`",
                )
            yield PartLinear(linear, torch.arange(self.rank, device="cpu"), axis)

    def added(self, linear: RoleLinear) -> int:
        """Of rows r · in, of columns r · out."""
        return self.rank * (linear.in_features if self.side == "rows" else linear.out_features)


METHOD = RoCoFT

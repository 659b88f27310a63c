"""Pfeiffer adapters: one bottleneck behind the MLP of each block.

    y = MLP(x),   y' = y + U ReLU(D y),     U = 0 at the start

J. Pfeiffer et al.: AdapterFusion: Non-Destructive Task Composition for Transfer Learning, EACL 2021, arXiv 2005.00247.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from adapteo.contracts import Facts, Wrapper
from adapteo.peft._bottleneck import Behind, check_width, serial_size
from adapteo.peft._targets import OnLinears, title_of
from adapteo.vit import RoleLinear


@dataclass(frozen=True)
class Pfeiffer(OnLinears):
    """Pfeiffer adapters: trains one bottleneck behind the MLP of each block.

    Attributes:
        width: n, of the bottlenecks.
    """

    width: int = 64

    usual = ("fc2",)
    needed = usual
    order = 3
    mergeable = False
    facts = Facts(
        family="adapter",
        parameters="2 n D + n + D per block: 1.19 M for a ViT-B with n = 64",
        cost="2/3 of full fine-tuning's arithmetic and a little more; costs time in prediction too",
        use="as Houlsby with half of it; LoRA merges",
        evidence="the placement that a search over architectures found (arXiv 2005.00247)",
    )

    def __post_init__(self) -> None:
        check_width(title_of(self), self.width)

    def wrappers(self, linears: Sequence[RoleLinear]) -> Iterable[Wrapper]:
        """See `Behind`: the last linear of the MLP is where its output comes from."""
        return (Behind(linear, self.width, "relu") for linear in linears)

    def added(self, linear: RoleLinear) -> int:
        """Of one bottleneck: 2 n D + n + D."""
        return serial_size(linear.out_features, self.width)


METHOD = Pfeiffer

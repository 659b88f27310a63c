"""Houlsby adapters: a bottleneck behind the attention and one behind the MLP of each block.

    y = f(x),   y' = y + U act(D y)     for f = attention and f = MLP, before the residual;  U = 0 at the start

N. Houlsby et al.: Parameter-Efficient Transfer Learning for NLP, ICML 2019, arXiv 1902.00751.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from adapteo.contracts import Facts, Wrapper
from adapteo.errors import ConfigError
from adapteo.peft._bottleneck import Behind, check_width, serial_size
from adapteo.peft._targets import OnLinears, title_of
from adapteo.vit import RoleLinear


@dataclass(frozen=True)
class Houlsby(OnLinears):
    """Houlsby adapters: trains a bottleneck behind the attention and one behind the MLP of each block.

    Attributes:
        width: n, of the bottlenecks.
        activation: "gelu" or "relu".
    """

    width: int = 64
    activation: Literal["gelu", "relu"] = "gelu"

    usual = ("proj", "fc2")
    needed = ("proj",)
    order = 3
    mergeable = False
    facts = Facts(
        family="adapter",
        parameters="2 (2 n D + n + D) per block: 2.38 M for a ViT-B with n = 64",
        cost="2/3 of full fine-tuning's arithmetic and a little more; costs time in prediction too",
        use="to repeat published results; LoRA merges",
        evidence="within 0.4 points of full fine-tuning on GLUE with 3.6 % of the parameters (arXiv 1902.00751)",
    )

    def __post_init__(self) -> None:
        check_width(title_of(self), self.width)
        if self.activation not in ("gelu", "relu"):
            raise ConfigError(f"houlsby's activation is '{self.activation}'", allowed=("gelu", "relu"))

    def wrappers(self, linears: Sequence[RoleLinear]) -> Iterable[Wrapper]:
        """See `Behind`: the last linears of attention and MLP are where their outputs come from."""
        return (Behind(linear, self.width, self.activation) for linear in linears)

    def added(self, linear: RoleLinear) -> int:
        """Of one bottleneck: 2 n D + n + D."""
        return serial_size(linear.out_features, self.width)


METHOD = Houlsby

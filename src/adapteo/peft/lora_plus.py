"""LoRA+: LoRA whose B learns faster than its A.

    y = W x + b + s B A x,     rate of B = λ · rate of A

S. Hayou, N. Ghosh, B. Yu: LoRA+: Efficient Low Rank Adaptation of Large Models, ICML 2024, arXiv 2402.12354.

With one rate for both, the features of wide networks are learned at the wrong order of magnitude; the authors find λ
around 16. Files are those of LoRA.
"""

from dataclasses import dataclass

from adapteo.contracts import Backbone, Facts, trainable
from adapteo.errors import ConfigError
from adapteo.peft.lora import LoRA


@dataclass(frozen=True)
class LoRAPlus(LoRA):
    """LoRA+: LoRA whose second matrix has a higher learning rate.

    Attributes:
        rank: r; parameters grow with it, compute hardly.
        alpha: α; the term is scaled by α / r.
        dropout: share of the term's input that is dropped in training; costs memory for the masks.
        rslora: scale by α / √r instead, which keeps large ranks learning.
        targets: roles of the linears to adapt (q, k, v, proj, fc1, fc2, gate); all that there are when none is named.
        preset: "paper" for r = 16, α = 16 on q, v, fc1 and fc2.
        ratio: learning rate of B over that of A.
    """

    ratio: float = 16.0

    default_rate = 3e-4
    facts = Facts(
        family="low-rank",
        parameters="r (in + out) per linear: 18 r D per block",
        cost="as LoRA",
        use="when LoRA learns slowly, as with wide backbones or few steps",
        evidence="1 to 2 points and up to twice as fast as LoRA on language tasks (arXiv 2402.12354, abstract)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ratio <= 0:
            raise ConfigError(f"lora_plus's ratio is above 0, not {self.ratio}", fix="see `method.ratio`")

    def rate_factors(self, backbone: Backbone) -> dict[str, float]:
        """The ratio for each B."""
        return {name: self.ratio for name in trainable(backbone) if name.endswith(".lora_B")}


METHOD = LoRAPlus

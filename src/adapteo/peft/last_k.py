"""Last blocks: the last k blocks are trained, earlier ones more slowly.

    trained = θ of blocks L − k … L − 1 and of the last norm,     rate of block l = rate · decay^(L − 1 − l)

J. Yosinski et al.: How transferable are features in deep neural networks?, NeurIPS 2014, arXiv 1411.1792; rates that
decay with depth: H. Bao et al., BEiT, ICLR 2022, arXiv 2106.08254.

Nothing before the first trained block needs a gradient, so neither memory nor arithmetic is spent on it.
"""

from dataclasses import dataclass

from adapteo.contracts import Backbone, Facts, Method
from adapteo.errors import ConfigError


@dataclass(frozen=True)
class LastK(Method):
    """Last blocks: trains the last blocks or stages and the last norm, earlier ones more slowly.

    Attributes:
        k: number of blocks (of a plain transformer) or stages (of a hierarchical network).
        decay: factor of the rate from each block to the one before; 1 for the same rate in all.
    """

    k: int = 3
    decay: float = 0.75

    default_rate = 1e-4
    facts = Facts(
        family="selective",
        parameters="all of k blocks: about 12 k D²; 21.3 M for 3 blocks of a ViT-B",
        cost="1/3 + 2k / 3L of full fine-tuning's arithmetic, k / L of its activations",
        use="many labels near the pre-training imagery; features before can be cached",
        evidence="arXiv 1411.1792; decaying rates as in BEiT and MAE fine-tuning",
    )

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"last_k trains 1 block or more, not {self.k}", fix="see `method.k`")
        if not 0 < self.decay <= 1:
            raise ConfigError(f"last_k's decay is above 0 and at most 1, not {self.decay}", fix="see `method.decay`")

    def apply(self, backbone: Backbone) -> None:
        """Unfreeze the last blocks and the norm.

        Raises:
            ConfigError: when there are fewer blocks.
        """
        self._check(backbone)
        backbone.blocks[-self.k :].requires_grad_(True)
        backbone.norm.requires_grad_(True)

    def parameters_formula(self, backbone: Backbone) -> int:
        """Of k blocks and the norm: k (12 D² + 13 D) + 2 D on a plain ViT."""
        self._check(backbone)
        parts = (*backbone.blocks[-self.k :], backbone.norm)
        return sum(p.numel() for part in parts for p in part.parameters())

    def rate_factors(self, backbone: Backbone) -> dict[str, float]:
        """The decay, once per block after it."""
        last = len(backbone.blocks) - 1
        return {
            f"blocks.{index}.{name}": self.decay ** (last - index)
            for index in range(last + 1 - self.k, last + 1)
            for name, parameter in backbone.blocks[index].named_parameters()
            if parameter.requires_grad
        }

    def _check(self, backbone: Backbone) -> None:
        if self.k > len(backbone.blocks):
            raise ConfigError(
                f"last_k is asked for {self.k} blocks of a backbone that has {len(backbone.blocks)}",
                fix="see `method.k`, or use `method: full`",
            )


METHOD = LastK

"""Norm tuning: only the scales and shifts of the norms are trained.

    LN(x) = (γ + Δγ) ⊙ x̂ + (β + Δβ)

J. Frankle, D. J. Schwab, A. S. Morcos: Training BatchNorm and Only BatchNorm, ICLR 2021, arXiv 2003.00152 (random
features); B. Zhao et al.: Tuning LayerNorm in Attention, ICLR 2024, arXiv 2312.11420.

A ViT block of width D has 4 D such numbers; the last norm adds 2 D. BatchNorms also learn new statistics then.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from adapteo.contracts import Backbone, Facts, Method
from adapteo.errors import ConfigError

_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm)


@dataclass(frozen=True)
class Norm(Method):
    """Norm tuning: trains the scales and shifts of the norms in the blocks, and of the last norm."""

    facts = Facts(
        family="selective",
        parameters="scales and shifts of norms: 4 D per block and 2 D",
        cost="2/3 of full fine-tuning's arithmetic; activations without the inputs of linears",
        use="a cheap look at how far the imagery is from pre-training; with BatchNorm, new statistics",
        evidence="0.000 in HF peft's benchmark on mathematics: too little to learn a new skill",
    )

    def apply(self, backbone: Backbone) -> None:
        """Unfreeze the norms.

        Raises:
            ConfigError: when the blocks have none.
        """
        found = list(self._parameters(backbone))
        if not found:
            raise ConfigError(
                f"norm acts on the norms of the blocks, and {type(backbone).__name__} has none",
                fix="choose another method, for example `method: lora`",
            )
        for parameter in found:
            parameter.requires_grad_(True)

    def parameters_formula(self, backbone: Backbone) -> int:
        """Sum of the widths: L · 4 D + 2 D on a plain ViT."""
        return sum(parameter.numel() for parameter in self._parameters(backbone))

    def _parameters(self, backbone: Backbone) -> Iterator[nn.Parameter]:
        for root in (backbone.blocks, backbone.norm):
            for module in root.modules():
                if isinstance(module, _NORMS):
                    yield from module.parameters(recurse=False)


METHOD = Norm

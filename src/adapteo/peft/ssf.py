"""SSF: every layer's output is scaled and shifted.

    y = γ ⊙ f(x) + β     for each f: linear, convolution or norm of the blocks;  γ = 1, β = 0 at the start

D. Lian, D. Zhou, J. Feng, X. Wang: Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning,
NeurIPS 2022, arXiv 2210.08823.

A layer without bias is scaled only: a shift would need a bias to merge into, which the plain network lacks.
"""

from dataclasses import dataclass

from torch import nn

from adapteo.contracts import Backbone, Facts, Method
from adapteo.peft._affine import Scaled, own
from adapteo.peft._targets import layers
from adapteo.vit import RoleLinear

_NORMS = (nn.LayerNorm, nn.BatchNorm2d, nn.GroupNorm)


@dataclass(frozen=True)
class SSF(Method):
    """SSF: trains a scale and a shift behind every linear, convolution and norm of the blocks."""

    order = 4
    default_rate = 5e-3
    facts = Facts(
        family="scaling",
        parameters="two numbers per output channel: 22 D per block",
        cost="full fine-tuning's activations, 2/3 of its arithmetic; nothing after merging",
        use="few labels; networks without attention, where LoRA finds no linears",
        evidence="90.7 against 88.5 (full) on FGVC with ViT-B/16 (arXiv 2210.08823)",
    )

    def apply(self, backbone: Backbone) -> None:
        """Wrap the layers."""
        for parent, name, layer in _layers(backbone):
            setattr(parent, name, Scaled(layer, shift="bias" in own(layer)))

    def parameters_formula(self, backbone: Backbone) -> int:
        """Width of each layer, twice where it has a bias: L · 22 D on a plain ViT."""
        return sum(len(own(layer)["weight"]) * len(own(layer)) for _, _, layer in _layers(backbone))


def _layers(backbone: Backbone) -> list[tuple[nn.Module, str, nn.Module]]:
    kinds = (RoleLinear, nn.Conv2d, *_NORMS)
    return [found for found in layers(backbone.blocks) if isinstance(found[2], kinds) and own(found[2])]


METHOD = SSF

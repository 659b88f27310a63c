"""BitFit: only the biases are trained.

    y = Wx + (b + Δb),   LN(x) = γ x̂ + (β + Δβ)

E. Ben Zaken, S. Ravfogel, Y. Goldberg: BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked
Language-models, ACL 2022, arXiv 2106.10199.

A ViT block of width D has 11 D biases: q, k, v, projection (4 D), MLP (4 D + D), two LayerNorms (2 D); the last norm
adds D. The bias of k is among them, as published, although softmax cancels it: it adds the same number to all scores of
a query, so its gradient is rounding noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from adapteo.contracts import Backbone, Facts, Method
from adapteo.errors import ConfigError


@dataclass(frozen=True)
class BitFit(Method):
    """BitFit: trains the biases of linears and norms in the blocks, and of the last norm.

    Attributes:
        embedding: train the biases outside the blocks too: those of the patch embedding and of metadata encoders.
    """

    embedding: bool = False

    facts = Facts(
        family="selective",
        parameters="all biases: 11 D per block and D",
        cost="2/3 of full fine-tuning's arithmetic; activations without the inputs of linears",
        use="a cheap first look; backbones whose linears have biases",
        evidence="as accurate as other methods on VTAB-1k when all are tuned with care (arXiv 2409.16434, abstract)",
    )

    def apply(self, backbone: Backbone) -> None:
        """Unfreeze the biases.

        Raises:
            ConfigError: when most layers of the blocks have no bias, so that there is next to nothing to train.
        """
        layers = [m for m in backbone.blocks.modules() if isinstance(m, nn.Linear | nn.LayerNorm)]
        without = sum(layer.bias is None for layer in layers)
        if layers and 2 * without >= len(layers):  # a convolution's bias is that of its norm, so they do not count
            raise ConfigError(
                f"bitfit trains biases, and {without} of the {len(layers)} linears and norms in the blocks have none",
                fix="use another method for this backbone, for example `method: lora`",
            )
        for bias in self._biases(backbone):
            bias.requires_grad_(True)

    def parameters_formula(self, backbone: Backbone) -> int:
        """Sum of the widths of the biases: L · 11 D + D on a plain ViT."""
        return sum(bias.numel() for bias in self._biases(backbone))

    def _biases(self, backbone: Backbone) -> Iterator[nn.Parameter]:
        roots: tuple[nn.Module, ...] = (backbone,) if self.embedding else (backbone.blocks, backbone.norm)
        for root in roots:
            for name, parameter in root.named_parameters():
                if name.rpartition(".")[2] == "bias":
                    yield parameter


METHOD = BitFit

"""Convpass: a bottleneck with a convolution over the patches beside attention and MLP.

    y = f(x) + s U gelu(conv₃ₓ₃(gelu(D x)))     for f = attention and f = MLP, x behind the norm;  U = 0 at the start

S. Jie, Z.-H. Deng: Convolutional Bypasses Are Better Vision Transformer Adapters, arXiv 2207.07039.

Several dates or groups of channels are maps of their own; a class token is a map of one pixel, as published.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Backbone, Facts, GridReader, Method
from adapteo.errors import ConfigError
from adapteo.peft._bottleneck import Beside, check_width, linear, zeroed
from adapteo.peft._token_map import known_grid, over_places, plain_blocks
from adapteo.vit import Block


class Bypass(GridReader):
    """``up(gelu(conv(gelu(down(x)))))``, ``(b, n, D) -> (b, n, D)``."""

    def __init__(self, dim: int, width: int, like: Tensor) -> None:
        super().__init__()
        self.down, self.up = linear(dim, width, like), zeroed(linear(width, dim, like))
        self.conv = nn.Conv2d(width, width, 3, padding=1, device=like.device, dtype=like.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Apply."""
        low = over_places(F.gelu(self.down(x)), known_grid(self.grid), self.conv)
        out: Tensor = self.up(F.gelu(low))
        return out


@dataclass(frozen=True)
class Convpass(Method):
    """Convpass: trains a convolution over the patches in a bottleneck beside attention and MLP of each block.

    Attributes:
        width: n, of the bottlenecks.
        scale: s, factor of what they add.
    """

    width: int = 8
    scale: float = 1.0

    order = 3
    mergeable = False
    facts = Facts(
        family="adapter",
        parameters="2 (2 n D + 9 n² + 2 n + D) per block: 0.33 M for a ViT-B with n = 8",
        cost="2/3 of full fine-tuning's arithmetic and a little more; costs time in prediction too",
        use="dense tasks with few labels: neighbouring patches speak to each other",
        evidence="above modules made for language on VTAB-1k (arXiv 2207.07039, abstract)",
    )

    def __post_init__(self) -> None:
        check_width("convpass", self.width)
        if self.scale <= 0:
            raise ConfigError(f"convpass's scale is above 0, not {self.scale}", fix="see `method.scale`")

    def apply(self, backbone: Backbone) -> None:
        """Wrap attention and MLP of each block.

        Raises:
            ConfigError: when the backbone is hierarchical or its blocks are not those of `adapteo.vit`.
        """
        tokens = plain_blocks(backbone, "convpass")
        like = next(tokens.blocks.parameters())
        for block in [module for module in tokens.blocks.modules() if isinstance(module, Block)]:
            for name in ("attn", "mlp"):
                bypass = Bypass(tokens.dim, self.width, like)
                setattr(block, name, Beside(block.get_submodule(name), bypass, self.scale))

    def parameters_formula(self, backbone: Backbone) -> int:
        """2 L (2 n D + 9 n² + 2 n + D)."""
        tokens, n = plain_blocks(backbone, "convpass"), self.width
        return 2 * len(tokens.blocks) * (2 * n * tokens.dim + 9 * n * n + 2 * n + tokens.dim)


METHOD = Convpass

"""Mona: a scaled norm and depthwise convolutions of three sizes behind attention and MLP.

    z = D (s₁ ⊙ LN(x) + s₂ ⊙ x)
    z = z + (dw₃ₓ₃(z) + dw₅ₓ₅(z) + dw₇ₓ₇(z)) / 3
    x' = x + U gelu(z + conv₁ₓ₁(z))              x: the sum behind attention or MLP;  U = 0 at the start

D. Yin et al.: 5%>100%: Breaking Performance Shackles of Full Fine-Tuning on Visual Recognition Tasks, CVPR 2025,
arXiv 2408.08345.

Published for Swin; here for plain transformers. s₁ starts at 1e-6 and s₂ at 1. A class token is a map of one pixel.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Backbone, Facts, GridReader, Method, Wrapper
from adapteo.peft._bottleneck import check_width, linear, not_mergeable, zeroed
from adapteo.peft._token_map import known_grid, over_places, plain_blocks
from adapteo.vit import Block

_KERNELS = (3, 5, 7)
_START = 1e-6


class MonaAdapter(GridReader):
    """See the formula, ``(b, n, D) -> (b, n, D)``.

    Attributes:
        normed, plain: s₁ and s₂, ``(D,)``.
    """

    def __init__(self, dim: int, width: int, like: Tensor) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, device=like.device, dtype=like.dtype)
        self.normed = nn.Parameter(like.new_full((dim,), _START))
        self.plain = nn.Parameter(like.new_ones(dim))
        self.down, self.up = linear(dim, width, like), zeroed(linear(width, dim, like))
        self.depthwise = nn.ModuleList(
            nn.Conv2d(width, width, k, padding=k // 2, groups=width, device=like.device, dtype=like.dtype)
            for k in _KERNELS
        )
        self.mix = nn.Conv2d(width, width, 1, device=like.device, dtype=like.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions say."""
        low = self.down(self.norm(x) * self.normed.to(x.dtype) + x * self.plain.to(x.dtype))
        out: Tensor = self.up(F.gelu(over_places(low, known_grid(self.grid), self._convolve)))
        return x + out

    def _convolve(self, maps: Tensor) -> Tensor:
        summed = torch.stack([conv(maps) for conv in self.depthwise]).mean(0)
        mixed = maps + summed
        out: Tensor = mixed + self.mix(mixed)
        return out


class MonaBlock(Wrapper):
    """A transformer block with an adapter behind each of its two sums, ``(b, n, D) -> (b, n, D)``."""

    inner: Block

    def __init__(self, inner: Block, adapters: tuple[MonaAdapter, MonaAdapter]) -> None:
        super().__init__()
        self.inner = inner
        self.after_attention, self.after_mlp = adapters
        self.train(inner.training)

    def forward(self, x: Tensor) -> Tensor:
        """Attention, adapter, MLP, adapter."""
        x = self.after_attention(x + self.inner.attn(self.inner.norm1(x)))
        out: Tensor = self.after_mlp(x + self.inner.mlp(self.inner.norm2(x)))
        return out

    def merged(self) -> nn.Module:
        """Refuse: activations lie between."""
        raise not_mergeable("the adapter")


@dataclass(frozen=True)
class Mona(Method):
    """Mona: trains scaled norms and depthwise convolutions over the patches behind attention and MLP of each block.

    Attributes:
        width: n, of the bottlenecks.
    """

    width: int = 64

    order = 2
    mergeable = False
    facts = Facts(
        family="adapter",
        parameters="2 ((2 n + 5) D + n² + 88 n) per block: 2.7 M for a ViT-B with n = 64",
        cost="more than 2/3 of full fine-tuning's arithmetic: convolutions of up to 7 x 7 on every patch",
        use="dense tasks, when prediction may cost more",
        evidence="above full fine-tuning on COCO and ADE20K with Swin, as the only one of its kind (arXiv 2408.08345)",
    )

    def __post_init__(self) -> None:
        check_width("mona", self.width)

    def apply(self, backbone: Backbone) -> None:
        """Wrap the blocks.

        Raises:
            ConfigError: when the backbone is hierarchical or its blocks are not those of `adapteo.vit`.
        """
        tokens = plain_blocks(backbone, "mona")
        like = next(tokens.blocks.parameters())
        for index, block in enumerate(tokens.blocks):
            assert isinstance(block, Block), "plain blocks come first in a composition"
            adapters = (MonaAdapter(tokens.dim, self.width, like), MonaAdapter(tokens.dim, self.width, like))
            tokens.blocks[index] = MonaBlock(block, adapters)

    def parameters_formula(self, backbone: Backbone) -> int:
        """2 L ((2 n + 5) D + n² + 88 n)."""
        tokens, n = plain_blocks(backbone, "mona"), self.width
        return 2 * len(tokens.blocks) * ((2 * n + 5) * tokens.dim + n * n + 88 * n)


METHOD = Mona

"""Ladder side-tuning: a narrow transformer beside the frozen one reads every block and adds to its maps.

    s_0 = D_0 x_0                                               x_0: tokens before the first block, x_l: behind block l
    s_l = Block_l(μ_l D_l x_l + (1 − μ_l) s_{l−1}),   μ_l = sigmoid(α_l / 0.1),   α_l = 0 at the start
    map = x_l + U_l LN(s_l)                                     at the taps;  U_l = 0 at the start

Y.-L. Sung et al.: LST: Ladder Side-Tuning for Parameter and Memory Efficient Transfer Learning, NeurIPS 2022,
arXiv 2206.06522. D_l is D → w = D / r; Block_l is a transformer block of width w.

Nothing enters the trunk, which is neither differentiated nor kept for the backward pass. What differs from the paper:

- Each tap's map gets a projection of its own, since decoders of dense tasks read several, and it is added to the
  trunk's map instead of replacing it. So a decoder that was fitted on frozen features starts where it was fitted.
- Side blocks start at random (Xavier). The paper starts them with rows of the trunk's weights, chosen by their Fisher
  information. That takes labels and a backward pass through the whole trunk, which is the memory that this method is
  chosen to save, before a method is applied; and heads of the trunk do not fit into a narrower attention.
"""

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor, nn

from adapteo.contracts import Backbone, Batch, Facts, Grid, Method, SideRoute, TokenBackbone, TrunkReads, tokens_of
from adapteo.peft._side import EPS, Gate, Out, check_sizes, draw, lead, nothing, out_size, side_width, touching, unread
from adapteo.vit import Block

_HEAD_WIDTH = 32


@dataclass(frozen=True)
class LST(Method):
    """Ladder side-tuning: trains a narrow transformer beside the frozen one, which needs no backward pass.

    Attributes:
        reduction: r; the side network is D / r wide, in multiples of 8, but at least 32 (or as wide as the trunk). The
            paper has 8, with which a ViT-B takes 0.361 of full fine-tuning's arithmetic instead of 0.350.
    """

    reduction: int = 12

    mergeable = False
    order = 1
    facts = Facts(
        family="side network",
        parameters="(L + 1) D w + 12 L w² + k D w and smaller terms, w = D / r: 1.4 M for a ViT-B",
        cost="0.35 of full fine-tuning's arithmetic, a sixth of its activations",
        use="when memory is what lacks; labels per image; trunks too large to be differentiated",
        evidence="71.7 against full fine-tuning's 65.6 on VTAB-1k, and LoRA's 72.3 (V-PETL benchmark)",
    )

    def __post_init__(self) -> None:
        check_sizes("lst", reduction=self.reduction)

    def apply(self, backbone: Backbone) -> None:
        """Put the side network beside the blocks; they stay as they are.

        Raises:
            ConfigError: when the backbone is hierarchical, or another method leads its own way.
        """
        tokens = tokens_of(backbone, "lst")
        lead(tokens, LSTRoute(tokens, self.reduction), "lst")

    def parameters_formula(self, backbone: Backbone) -> int:
        """(L + 1)(D w + w) + L (12 w² + 13 w + 1) + k (w D + D + 2 w), with w = D / r and k taps."""
        tokens = tokens_of(backbone, "lst")
        d, count = tokens.dim, len(tokens.blocks)
        w = side_width(d, self.reduction)
        blocks = count * (12 * w * w + 13 * w + 1)
        return (count + 1) * (d * w + w) + blocks + len(tokens.taps) * out_size(w, d)


class LSTRoute(SideRoute):
    """See the formula.

    Attributes:
        down: D_0 … D_L.
        gates, blocks: of each block of the trunk.
        out: U LN of each tap.
    """

    def __init__(self, backbone: TokenBackbone, reduction: int) -> None:
        super().__init__()
        self.channels, self.strides = backbone.plain_channels(), backbone.plain_strides()
        dim, count = backbone.dim, len(backbone.blocks)
        width = side_width(dim, reduction)
        heads = next(n for n in range(max(1, width // _HEAD_WIDTH), 0, -1) if width % n == 0)
        self.down = nn.ModuleList(nn.Linear(dim, width) for _ in range(count + 1))
        self.gates = nn.ModuleList(Gate() for _ in range(count))
        self.blocks = nn.ModuleList(Block(width, heads, eps=EPS) for _ in range(count))
        self.out = nn.ModuleList(Out(width, dim) for _ in backbone.taps)
        draw(self)

    def reads(self, backbone: Backbone) -> TrunkReads:
        """What every block sees, and what is behind the last one."""
        return TrunkReads(blocks=tuple(range(len(backbone.blocks) + 1)))

    def reach(self, backbone: Backbone, batch: Batch) -> tuple[tuple[Tensor, ...], Grid | None]:
        """Tokens ``(b, n, d)`` before the first block and behind each; not those that methods let trail."""
        x, grid = backbone.enter(batch)
        seen, count = [x], x.shape[1]
        for index in range(len(backbone.blocks)):
            x, _ = backbone.advance(x, grid, index, index + 1)
            seen.append(x[:, :count])
        return tuple(seen), grid

    def go_on(
        self,
        backbone: Backbone,
        stored: tuple[Tensor, ...],
        grid: Grid | None,
        read: Collection[int] | None = None,
    ) -> list[Tensor]:
        """Climb the ladder."""
        assert grid is not None, "a backbone of tokens has a grid"
        side: Tensor = self.down[0](stored[0])
        maps: list[Tensor] = []
        rungs = zip(stored[1:], self.down[1:], self.gates, self.blocks, strict=True)
        for index, (x, down, gate, block) in enumerate(rungs):
            side = block(gate(down(x), side))
            if index not in backbone.taps:
                continue
            if unread(len(maps), read):
                maps.append(nothing(x))
                continue
            tapped = backbone.norm(x) if index == len(self.blocks) - 1 else x
            maps.append(grid.to_map(tapped + self.out[len(maps)](side)))
        return touching(self, maps, self.out)


METHOD = LST

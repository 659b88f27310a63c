"""Dense side network: convolutions beside a frozen trunk, from map to map, for tasks with a label per pixel.

    z_1 = R_1 LN(m_1)
    z_i = μ_i R_i LN(m_i) + (1 − μ_i) pool(z_{i−1}),   μ_i = sigmoid(α_i / 0.1),   α_i = 0 at the start
    z_i ← z_i + C gelu(E LN(dw_kxk(z_i)))              `depth` times
    m_i' = m_i + U_i LN(z_i)                           U_i = 0 at the start

m_i: the trunk's map of tap i, D channels; R_i: D → w = D / r; dw: depthwise convolution; E: w → 4 w, C: 4 w → w. `pool`
averages to the stride of the next map, which on a plain transformer is the same. The ladder is that of Y.-L. Sung et
al. (LST, NeurIPS 2022, arXiv 2206.06522) on maps, its rungs are the blocks of Z. Liu et al. (ConvNeXt, CVPR 2022,
arXiv 2201.03545); the combination is ours.

LST gives each token a narrow attention over all others; labels per pixel ask for neighbours, for which a convolution of
k x k is cheaper. Only the taps are read, which are the maps of the plain backbone: nothing else has to be stored where
features of the frozen trunk are kept. It works on any backbone, hierarchical ones too.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Backbone, Batch, Facts, Grid, Method, SideRoute, TrunkReads
from adapteo.errors import ConfigError
from adapteo.peft._side import EPS, Gate, Out, check_sizes, draw, lead, nothing, out_size, side_width, touching, unread

_EXPANSION = 4


@dataclass(frozen=True)
class Side(Method):
    """Dense side network: trains convolutions beside the frozen backbone, which needs no backward pass.

    Attributes:
        reduction: r; the side network is as wide as the channels of the first map over r, in
            multiples of 8, but at least 32 (or as wide as that map).
        depth: blocks per tap.
        kernel: side of the convolutions, odd.
    """

    reduction: int = 8
    depth: int = 1
    kernel: int = 7

    mergeable = False
    order = 1
    facts = Facts(
        family="side network",
        parameters="k taps of 2 D w + depth (8 w² + kernel² w) and smaller terms, w = D / r",
        cost="about 0.35 of full fine-tuning's arithmetic, a sixteenth of its activations",
        use="labels per pixel when memory or time is what lacks; long training on stored features",
        evidence="of another side network, E3VA: 49.6 mIoU on ADE20K, full fine-tuning 52.1 (V-PETL benchmark)",
    )

    def __post_init__(self) -> None:
        check_sizes("side", reduction=self.reduction, depth=self.depth, kernel=self.kernel)
        if self.kernel % 2 == 0:
            raise ConfigError(f"side's kernel is odd, not {self.kernel}", fix="see `method.kernel`")

    def apply(self, backbone: Backbone) -> None:
        """Put the side network beside the backbone, whose modules stay as they are.

        Raises:
            ConfigError: when another method leads its own way.
        """
        lead(backbone, SideNetwork(backbone, self), "side")

    def width(self, backbone: Backbone) -> int:
        """Channels of the side network: those of the first map over r."""
        return side_width(backbone.plain_channels()[0], self.reduction)

    def parameters_formula(self, backbone: Backbone) -> int:
        """Sum over taps of (D w + w) + depth (8 w² + (kernel² + 8) w) + (w D + D + 2 w), and a gate but for one."""
        w, channels = self.width(backbone), backbone.plain_channels()
        rung = self.depth * (2 * _EXPANSION * w * w + (self.kernel**2 + _EXPANSION + 4) * w)
        return sum(d * w + w + rung + out_size(w, d) for d in channels) + len(channels) - 1


class SeparableBlock(nn.Module):
    """``z + C gelu(E LN(dw(z)))``, ``(b, h, w, c) -> (b, h, w, c)``."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.expand = nn.Linear(width, _EXPANSION * width)
        self.contract = nn.Linear(_EXPANSION * width, width)

    def forward(self, z: Tensor) -> Tensor:
        """Mix neighbours, then channels."""
        near = self.depthwise(z.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = z + self.contract(F.gelu(self.expand(self.norm(near))))
        return out


class Rung(nn.Module):
    """One tap: what it reads, its blocks, and what it writes.

    Attributes:
        gate: None at the first tap, which has nothing before it.
        out: what is added to the map, from the next state.
    """

    def __init__(self, channels: int, width: int, method: Side, first: bool) -> None:
        super().__init__()
        self.read = nn.Linear(channels, width)
        self.gate = None if first else Gate()
        self.blocks = nn.Sequential(*(SeparableBlock(width, method.kernel) for _ in range(method.depth)))
        self.out = Out(width, channels)

    def forward(self, x: Tensor, before: Tensor | None, *, write: bool = True) -> tuple[Tensor, Tensor | None]:
        """From a map of the trunk and the side's state, ``(b, h, w, c)``, to the next state and, if asked, map."""
        read: Tensor = self.read(F.layer_norm(x, x.shape[-1:]))
        if self.gate is not None and before is not None:
            read = self.gate(read, _resized(before, (x.shape[1], x.shape[2])))
        state: Tensor = self.blocks(read)
        return state, x + self.out(state) if write else None


class SideNetwork(SideRoute):
    """See the formula.

    Attributes:
        rungs: one per tap.
    """

    def __init__(self, backbone: Backbone, method: Side) -> None:
        super().__init__()
        self.channels, self.strides = backbone.plain_channels(), backbone.plain_strides()
        width = method.width(backbone)
        self.rungs = nn.ModuleList(Rung(c, width, method, index == 0) for index, c in enumerate(self.channels))
        draw(self)

    def reads(self, backbone: Backbone) -> TrunkReads:
        """All maps."""
        return TrunkReads(maps=tuple(range(len(backbone.taps))))

    def reach(self, backbone: Backbone, batch: Batch) -> tuple[tuple[Tensor, ...], Grid | None]:
        """Maps of the plain backbone."""
        x, grid = backbone.enter(batch)
        return tuple(backbone.advance(x, grid)[1]), grid

    def go_on(
        self,
        backbone: Backbone,
        stored: tuple[Tensor, ...],
        grid: Grid | None,
        read: Collection[int] | None = None,
    ) -> list[Tensor]:
        """Climb from map to map."""
        state, maps = None, []
        for index, (rung, given) in enumerate(zip(self.rungs, stored, strict=True)):
            x = given.permute(0, 2, 3, 1)
            state, out = rung(x, state, write=not unread(index, read))
            maps.append(nothing(x) if out is None else out.permute(0, 3, 1, 2))
        return touching(self, maps, self.rungs)


def _resized(z: Tensor, size: tuple[int, int]) -> Tensor:
    """Average ``(b, h, w, c)`` over cells; enlarge bilinearly where a later map is finer."""
    if (z.shape[1], z.shape[2]) == size:
        return z
    maps = z.permute(0, 3, 1, 2)
    if z.shape[1] >= size[0] and z.shape[2] >= size[1]:
        maps = F.adaptive_avg_pool2d(maps, size)
    else:
        maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return maps.permute(0, 2, 3, 1)


METHOD = Side

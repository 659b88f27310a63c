"""The modules of ViT-Adapter (arXiv 2205.08534): spatial prior, injector, extractor, and where tokens and cells lie.

Shapes: b images, b' pyramids, q queries, n cells of a pyramid (all levels one after the other), d width.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Grid
from adapteo.peft._batch_norm import SharedBatchNorm2d
from adapteo.peft._deformable import DeformableAttention, Size, cell_centres


@dataclass(frozen=True)
class Widths:
    """Sizes of the exchange.

    Attributes:
        dim: width d of tokens and cells.
        heads, points, value_ratio: see `adapteo.peft._deformable.DeformableAttention`.
        hidden: width of the feed-forward networks; 0 for none.
    """

    dim: int
    heads: int
    points: int
    value_ratio: float
    hidden: int = 0

    def attention(self, levels: int) -> DeformableAttention:
        """Build an attention over so many levels."""
        return DeformableAttention(self.dim, self.heads, levels, self.points, self.value_ratio)


class SpatialPrior(nn.Module):
    """Images ``(b, c, h, w)`` to maps of strides 4, 8, 16, 32, each ``(b, d, …)``, by plain convolutions."""

    def __init__(self, inputs: int, width: int, dim: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_conv(inputs, width, 2), *_conv(width, width, 1), *_conv(width, width, 1), nn.MaxPool2d(3, 2, 1)
        )
        self.conv2 = nn.Sequential(*_conv(width, 2 * width, 2))
        self.conv3 = nn.Sequential(*_conv(2 * width, 4 * width, 2))
        self.conv4 = nn.Sequential(*_conv(4 * width, 4 * width, 2))
        self.fc1, self.fc2, self.fc3, self.fc4 = (nn.Conv2d(n * width, dim, 1) for n in (1, 2, 4, 4))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Each stage reads the one before."""
        c1 = self.stem(images)
        c2 = self.conv2(c1)
        c3 = self.conv3(c2)
        c4 = self.conv4(c3)
        return [self.fc1(c1), self.fc2(c2), self.fc3(c3), self.fc4(c4)]


class Interaction(nn.Module):
    """What is exchanged around one group of blocks."""

    def __init__(self, widths: Widths, extra: int) -> None:
        super().__init__()
        self.injector = Injector(widths)
        self.extractor = Extractor(widths)
        self.extra_extractors = nn.ModuleList(Extractor(widths) for _ in range(extra))

    def forward(
        self, tokens: Tensor, pyramid: Tensor, blocks: Iterable[nn.Module], places: "Places"
    ) -> tuple[Tensor, Tensor]:
        """Tokens of places ask the pyramid, the blocks act on all tokens, the cells of the pyramid ask back.

        Args:
            tokens: ``(b, t, d)``, with those that belong to no place.
            pyramid: cells ``(b', n, d)``.
            blocks: of the backbone.
            places: of tokens and cells.
        """
        asked = self.injector(places.queries(tokens), places.of_tokens, pyramid, places.sizes)
        tokens = places.replaced(tokens, asked)
        for block in blocks:
            tokens = block(tokens)
        features = places.features(tokens)
        for extractor in (self.extractor, *self.extra_extractors):
            pyramid = extractor(pyramid, places, features)
        return tokens, pyramid


class Injector(nn.Module):
    """``query + γ · attention``, γ = 0 at the start."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.query_norm, self.feat_norm = nn.LayerNorm(widths.dim), nn.LayerNorm(widths.dim)
        self.attn = widths.attention(levels=3)
        self.gamma = nn.Parameter(torch.zeros(widths.dim))

    def forward(self, query: Tensor, reference: Tensor, pyramid: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Queries ``(b, q, d)`` at ``reference`` ``(q, 2)`` read the pyramid ``(b, n, d)``."""
        found = self.attn(self.query_norm(query), reference, self.feat_norm(pyramid), sizes)
        return query + self.gamma * found


class Extractor(nn.Module):
    """``cells + attention``, and where it has a width, a feed-forward network after it."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.query_norm, self.feat_norm = nn.LayerNorm(widths.dim), nn.LayerNorm(widths.dim)
        self.attn = widths.attention(levels=1)
        self.ffn_norm = nn.LayerNorm(widths.dim) if widths.hidden else None
        self.ffn = ConvFFN(widths.dim, widths.hidden) if widths.hidden else None

    def forward(self, cells: Tensor, places: "Places", features: Tensor) -> Tensor:
        """Cells ``(b, n, d)`` of the pyramid read the features ``(b, h w, d)`` of the transformer."""
        found = self.attn(self.query_norm(cells), places.of_cells, self.feat_norm(features), [places.patches])
        cells = cells + found
        if self.ffn is None or self.ffn_norm is None:
            return cells
        return cells + self.ffn(self.ffn_norm(cells), places.sizes)


class ConvFFN(nn.Module):
    """Two linears with a depthwise convolution and GELU between; each level of the pyramid is convolved by itself."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = nn.ModuleDict({"dwconv": nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden)})
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, cells: Tensor, sizes: Sequence[Size]) -> Tensor:
        """``(b, n, d)`` to the same."""
        levels = self.fc1(cells).split([h * w for h, w in sizes], dim=1)
        conv = self.dwconv["dwconv"]
        mixed = [conv(to_map(x, size)).flatten(2).transpose(1, 2) for x, size in zip(levels, sizes, strict=True)]
        out: Tensor = self.fc2(F.gelu(torch.cat(mixed, dim=1)))
        return out


class Places:
    """Where tokens and cells lie, and how the dates of the tokens meet the pyramid.

    Attributes:
        by_date: True when each date has a pyramid of its own; b' is then b times the dates, otherwise b.
        patches: height and width of the grid of patches.
        sizes: of the levels of the pyramid.
        of_tokens: x and y of the queries that tokens make, ``(q, 2)``.
        of_cells: x and y of the cells of the pyramid, ``(n, 2)``.
    """

    def __init__(self, grid: Grid, by_date: bool, sizes: Sequence[Size], device: torch.device) -> None:
        self.grid, self.by_date, self.sizes = grid, by_date, sizes
        self.patches = (grid.height, grid.width)
        self.of_tokens = cell_centres([self.patches] * (1 if self.by_date else grid.stack), device)
        self.of_cells = cell_centres(sizes, device)

    def queries(self, tokens: Tensor) -> Tensor:
        """Tokens of places as queries ``(b', q, d)``."""
        layers = self._layers(tokens)
        return layers.flatten(0, 1) if self.by_date else layers.flatten(1, 2)

    def features(self, tokens: Tensor) -> Tensor:
        """Tokens of places as what a pyramid asks, ``(b', h w, d)``."""
        layers = self._layers(tokens)
        return layers.flatten(0, 1) if self.by_date else layers.mean(1)

    def replaced(self, tokens: Tensor, queries: Tensor) -> Tensor:
        """Invert `queries`; tokens before and behind those of places stay."""
        grid = self.grid
        layers = queries.reshape(len(tokens), grid.stack, -1, tokens.shape[-1])
        patches = (layers.transpose(1, 2) if grid.spatial_first else layers).flatten(1, 2)
        return torch.cat([tokens[:, : grid.prefix], patches, tokens[:, grid.prefix + grid.patches :]], dim=1)

    def _layers(self, tokens: Tensor) -> Tensor:
        """Tokens of places as ``(b, stack, h w, d)``."""
        grid = self.grid
        patches = tokens[:, grid.prefix : grid.prefix + grid.patches]
        if grid.spatial_first:
            return patches.unflatten(1, (-1, grid.stack)).transpose(1, 2)
        return patches.unflatten(1, (grid.stack, -1))


def _conv(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), SharedBatchNorm2d(outputs), nn.ReLU(inplace=True)


def init_adapter(module: nn.Module) -> None:
    """Start as published: convolutions by their outputs, linears near zero, attention as it starts itself."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, ConvFFN):
        for linear in (module.fc1, module.fc2):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)


def to_map(tokens: Tensor, size: Size) -> Tensor:
    """``(b, h w, d)`` to ``(b, d, h, w)``."""
    return tokens.transpose(1, 2).unflatten(2, size)

"""ViT-Adapter: a convolutional pyramid beside the transformer, which exchange features four times.

    c = [c2, c3, c4] = SpatialPrior(images) + level                               strides 8, 16, 32; c1 has 4
    x ← x + γ · DeformAttn(LN(x), LN(c));  x ← Blocks_i(x);  c ← c + DeformAttn(LN(c), LN(x))            i = 1 … 4
    maps = BatchNorm([up(c2) + c1, c2, c3, c4] + resized [x_1, x_2, x_3, x_4])                 strides 4, 8, 16, 32

Z. Chen et al.: Vision Transformer Adapter for Dense Predictions, ICLR 2023, arXiv 2205.08534. γ starts at 0, so the
transformer computes at first what it was trained for. Parameters are named as in TerraTorch, see `from_terratorch`.

What goes beyond it:

- Any patch size: the maps of the transformer are resized to the four strides. An image's sides must be multiples of 32
  and of the patch, so of 224 with patches of 14.
- Several dates. Where the backbone concatenates dates, each one has its own pyramid (with the same weights), exchanges
  with the tokens of its date, and the four maps are concatenated; dates meet in the transformer. Where the backbone
  averages its dates (or channel groups), there is one pyramid, the mean over the dates: each token asks it, and it asks
  the mean of the tokens of a place.
- The class token stays, as in pre-training, unless `class_token` is off.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Backbone, Batch, Facts, Method, Route, TokenBackbone, default_taps, tokens_of
from adapteo.errors import ConfigError, DataError
from adapteo.peft._batch_norm import SharedBatchNorm2d
from adapteo.peft._deformable import Size
from adapteo.peft._interaction import Interaction, Places, SpatialPrior, Widths, init_adapter, to_map
from adapteo.peft._side import touching

STRIDES = (4, 8, 16, 32)
PARTS = ("level_embed", "spm", "interactions", "up", "norm1", "norm2", "norm3", "norm4")
"""What is trained; TerraTorch's names as well."""
_EXTRA = 2  # extractors after the last interaction
_HEAD_WIDTH = 64
_WRAPPERS = ("module.", "model.", "encoder.", "backbone.", "_timm_module.")


@dataclass(frozen=True)
class ViTAdapter(Method):
    """ViT-Adapter: trains a convolutional pyramid beside the frozen transformer, with maps of strides 4, 8, 16 and 32.

    The defaults are those of arXiv 2504.17397, except that the class token stays (there: `class_token: false`). The
    `linear` decoder reads the map of stride 32, as there, unless it is told another stride.

    Attributes:
        conv_width: channels of the first convolutions; the later ones have 2 and 4 times as many.
        heads: of the deformable attention; None for one per 64 channels of the backbone, 12 for a ViT-B.
        points: places that each query reads, per head and level.
        value_ratio: width of the attention's values over that of the backbone.
        cffn: a convolutional feed-forward network after each extractor, as in arXiv 2205.08534.
        cffn_ratio: its width over that of the backbone.
        class_token: keep the tokens that belong to no place, where the backbone has some.
    """

    conv_width: int = 64
    heads: int | None = None
    points: int = 4
    value_ratio: float = 0.5
    cffn: bool = False
    cffn_ratio: float = 0.25
    class_token: bool = True

    identity_at_start = False
    mergeable = False
    order = 1
    default_rate = 7e-4
    facts = Facts(
        family="adapter",
        parameters="11.9 M for a ViT-B, 20.1 M for a ViT-L",
        cost="a convolutional pyramid beside the whole backbone, which keeps its activations",
        use="dense tasks with small objects, where maps of strides 4 to 32 help; a linear decoder reads the "
        "last of them, so set its `stride`",
        evidence="82.3 against LoRA's 61.2 on the held-out region of Sen1Floods11 for Prithvi 1.0 (arXiv 2504.17397)",
    )

    def __post_init__(self) -> None:
        for name in ("conv_width", "points", "heads", "value_ratio", "cffn_ratio"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"vit_adapter's {name} is above 0, not {value}", fix=f"see `method.{name}`")

    def apply(self, backbone: Backbone) -> None:
        """Give the backbone a route of its own; its modules stay as they are.

        Raises:
            ConfigError: when the backbone is no plain transformer, or the heads do not divide its width.
        """
        tokens = tokens_of(backbone, "vit_adapter")
        if tokens.route is not None:
            raise ConfigError(
                f"vit_adapter leads its own way through the backbone, which {type(tokens.route).__name__} does already",
                fix="use only one of the two methods",
            )
        like = next(tokens.blocks.parameters())
        route = ViTAdapterRoute(tokens, self).train(tokens.training)
        tokens.route = route.to(like.device, like.dtype)

    def heads_for(self, dim: int) -> int:
        """Heads for a backbone of width ``dim``: as configured, or the largest divisor of it up to ``dim / 64``."""
        if self.heads is not None:
            return self.heads
        inner = int(dim * self.value_ratio)
        return next(n for n in range(max(1, dim // _HEAD_WIDTH), 0, -1) if dim % n == 0 and inner % n == 0)

    def widths_for(self, dim: int) -> Widths:
        """Sizes of the exchange with a backbone of width ``dim``."""
        hidden = max(1, int(dim * self.cffn_ratio)) if self.cffn else 0
        return Widths(dim, self.heads_for(dim), self.points, self.value_ratio, hidden)

    def parameters_formula(self, backbone: Backbone) -> int:
        """Closed form in width D, bands B, convolutions C and n interactions of H heads, P points, values V, hidden F.

        9BC + 252C² + 26C + 11CD + 4D                        spatial prior
        4D² + 12D                                            level codes, upsampling, norms of the maps
        n (A(3) + 5D) + (n + 2) (A(1) + 4D + E)              injectors; extractors
        A(l) = 3lHP (D + 1) + 2VD + V + D,   E = 2FD + 11F + 3D with `cffn`, else 0
        """
        d, c, b = tokens_of(backbone, "vit_adapter").dim, self.conv_width, len(backbone.bands)
        n, samples = len(default_taps(len(backbone.blocks))), self.heads_for(d) * self.points
        inner, hidden = int(d * self.value_ratio), self.widths_for(d).hidden

        def attention(levels: int) -> int:
            return 3 * levels * samples * (d + 1) + 2 * inner * d + inner + d

        prior = 9 * b * c + 252 * c * c + 26 * c + 11 * c * d + 4 * d
        feed_forward = 2 * hidden * d + 11 * hidden + 3 * d if hidden else 0
        exchange = n * (attention(3) + 5 * d) + (n + _EXTRA) * (attention(1) + 4 * d + feed_forward)
        return prior + 4 * d * d + 12 * d + exchange


class ViTAdapterRoute(Route):
    """Images to four maps ``(b, channels[i], h / strides[i], w / strides[i])`` by transformer and pyramid.

    Attributes:
        spm: spatial prior.
        interactions: injector and extractor around each group of blocks.
        up, norm1 … norm4: make the maps of the pyramid.
    """

    strides = STRIDES
    multiple = STRIDES[-1]

    def __init__(self, backbone: TokenBackbone, method: ViTAdapter) -> None:
        super().__init__()
        d, widths = backbone.dim, method.widths_for(backbone.dim)
        count = len(default_taps(len(backbone.blocks)))
        self.channels = (backbone.plain_channels()[-1],) * len(STRIDES)
        self.class_token = method.class_token
        self.level_embed = nn.Parameter(torch.randn(3, d))
        self.spm = SpatialPrior(len(backbone.bands), method.conv_width, d)
        self.interactions = nn.ModuleList(
            Interaction(widths, extra=_EXTRA if index == count - 1 else 0) for index in range(count)
        )
        self.up = nn.ConvTranspose2d(d, d, 2, 2)
        self.norm1, self.norm2, self.norm3, self.norm4 = (SharedBatchNorm2d(d) for _ in STRIDES)
        self.apply(init_adapter)

    def forward(self, backbone: TokenBackbone, batch: Batch) -> list[Tensor]:
        """Run the blocks in groups, with an exchange before and after each.

        Raises:
            DataError: when a side is no multiple of 32 (`adapteo.model` pads).
        """
        _check_sides(batch.images)
        tokens, grid = backbone.embed(batch)
        if not self.class_token:
            tokens, grid = tokens[:, grid.prefix :], replace(grid, prefix=0)
        by_date = grid.merge == "concat" and grid.stack > 1
        fine, pyramid, sizes = self._pyramid(batch.images, by_date)
        places = Places(grid, by_date, sizes, pyramid.device)
        seen, start = [], 0
        for interaction, end in zip(self.interactions, default_taps(len(backbone.blocks)), strict=True):
            tokens, pyramid = interaction(tokens, pyramid, backbone.blocks[start : end + 1], places)
            seen.append(to_map(places.features(tokens), places.patches))
            start = end + 1
        maps = self._maps(fine, pyramid, sizes, seen)
        return [m.unflatten(0, (-1, grid.stack)).flatten(1, 2) for m in maps] if by_date else maps

    def _pyramid(self, images: Tensor, by_date: bool) -> tuple[Tensor, Tensor, list[Size]]:
        """Map of stride 4, ``(b', d, h / 4, w / 4)``, cells of strides 8, 16, 32, ``(b', n, d)``, and their sizes."""
        b, t = images.shape[:2]
        maps = self.spm(images.flatten(0, 1).to(self.level_embed.dtype))
        if not by_date and t > 1:
            maps = [m.unflatten(0, (b, t)).mean(1) for m in maps]
        cells = [m.flatten(2).transpose(1, 2) + code for m, code in zip(maps[1:], self.level_embed, strict=True)]
        return maps[0], torch.cat(cells, dim=1), [(m.shape[2], m.shape[3]) for m in maps[1:]]

    def _maps(self, fine: Tensor, pyramid: Tensor, sizes: Sequence[Size], seen: Sequence[Tensor]) -> list[Tensor]:
        """Add what the transformer saw, early for fine maps and late for coarse ones, and normalise."""
        cells = pyramid.split([h * w for h, w in sizes], dim=1)
        coarse = [to_map(x, size) for x, size in zip(cells, sizes, strict=True)]
        levels = [self.up(coarse[0]) + fine, *coarse]
        sources = [seen[math.ceil(len(seen) * n / len(levels)) - 1] for n in range(1, len(levels) + 1)]
        norms = (self.norm1, self.norm2, self.norm3, self.norm4)
        maps = [
            norm(level + _resized(source, (level.shape[2], level.shape[3])))
            for norm, level, source in zip(norms, levels, sources, strict=True)
        ]
        return touching(self, maps, (self.up, self.spm.fc1, *norms))


def from_terratorch(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of `ViTAdapter`'s adapter file out of a state dict of TerraTorch's Prithvi with ViT-Adapter.

    Takes the ``state_dict`` of a Lightning checkpoint as well; keys of the backbone, decoder and head are left out.
    """
    found = {}
    for key, value in state.items():
        name = key
        while prefix := next((p for p in _WRAPPERS if name.startswith(p)), ""):
            name = name.removeprefix(prefix)
        if name.partition(".")[0] in PARTS:
            found[f"route.{name}"] = value
    return found


def _check_sides(images: Tensor) -> None:
    h, w = images.shape[-2:]
    if h % STRIDES[-1] or w % STRIDES[-1]:
        raise DataError(
            f"images of {h} x {w} pixels do not divide into cells of {STRIDES[-1]}, which vit_adapter's last map has",
            fix="crop or pad them to multiples of `backbone.multiple`; `adapteo.model.Model` does",
        )


def _resized(x: Tensor, size: Size) -> Tensor:
    """Enlarge bilinearly, shrink by averages over cells (the same at a factor of 2), which leave nothing out."""
    if x.shape[2:] == size:
        return x
    if x.shape[2] >= size[0] and x.shape[3] >= size[1]:
        return F.adaptive_avg_pool2d(x, size)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


METHOD = ViTAdapter

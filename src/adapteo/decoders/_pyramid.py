"""Feature maps at several strides, for decoders that need them, from a backbone that may have only one.

A plain ViT gives all its maps at the stride of the patch. They become a pyramid by learned interpolation
(ViTDet's simple pyramid, arXiv 2203.16527, with one tap per level as in arXiv 2504.17397)::

    × 4   deconv 2 (d → d/2), norm, GELU, deconv 2 (d/2 → d/4)     stride patch / 4
    × 2   deconv 2 (d → d/2)                                       stride patch / 2
    × 1   as it is                                                 stride patch
    × ½   max-pool 2                                               stride patch · 2

Maps that have different strides already, as those of a CNN, pass unchanged. With batch norm this computes what
TerraTorch's ``LearnedInterpolateToPyramidal`` does, except that an odd side keeps its last row (it drops that of the
coarsest level).
"""

from torch import Tensor, nn

from adapteo.contracts import Features
from adapteo.decoders._layers import channels_last, norm_layer


class Pyramid(nn.Module):
    """Turns the maps of a backbone into one map per level, finest first.

    Args:
        features: of the backbone.
        norm: see `adapteo.decoders._layers.norm_layer`.
        deepest: take at most so many of the maps of a backbone that has different strides, the coarsest ones.

    Attributes:
        features: channels and strides of the levels.
        sources: index of the map that each level is made of, counted from the last, -1.
        native: True when the maps are the backbone's own.
    """

    def __init__(self, features: Features, norm: str = "group", deepest: int | None = None) -> None:
        super().__init__()
        self.native = len(set(features.strides)) > 1
        if self.native:
            count = min(deepest or len(features.strides), len(features.strides))
            self.sources = tuple(range(-count, 0))
            self.levels = nn.ModuleList(nn.Identity() for _ in self.sources)
            self.features = Features(features.channels[-count:], features.strides[-count:])
            return
        patch = features.strides[-1]
        scales = [scale for scale in (4, 2, 1, 0.5) if patch / scale >= 1]
        self.sources = _spread(len(features.channels), len(scales))
        widths = [features.channels[source] for source in self.sources]
        self.levels = nn.ModuleList(_level(width, scale, norm) for width, scale in zip(widths, scales, strict=True))
        self.features = Features(
            channels=tuple(_narrowed(width, scale) for width, scale in zip(widths, scales, strict=True)),
            strides=tuple(max(1, int(patch / scale)) for scale in scales),
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return one map ``(b, channels[i], h_i, w_i)`` per level."""
        pairs = zip(self.levels, self.sources, strict=True)
        return [level(maps[source] if self.native else channels_last(maps[source])) for level, source in pairs]


def _level(width: int, scale: float, norm: str) -> nn.Module:
    half, quarter = _narrowed(width, 2), _narrowed(width, 4)
    if scale == 4:
        return nn.Sequential(
            nn.ConvTranspose2d(width, half, 2, 2),
            norm_layer(norm, half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, 2),
        )
    if scale == 2:
        return nn.ConvTranspose2d(width, half, 2, 2)
    if scale == 1:
        return nn.Identity()
    return nn.MaxPool2d(2, 2, ceil_mode=True)  # ceil: a map of 1 × 1 keeps its token


def _narrowed(width: int, scale: float) -> int:
    return max(1, width // int(scale)) if scale > 1 else width


def _spread(maps: int, levels: int) -> tuple[int, ...]:
    """Choose a map for each level, early to late: 4 maps for 4 levels are -4 -3 -2 -1, 2 maps are -2 -2 -1 -1."""
    if levels == 1:
        return (-1,)
    return tuple(int(level * (maps - 1) / (levels - 1) + 0.5) - maps for level in range(levels))

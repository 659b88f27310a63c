"""Galileo: tokens per channel group, patch and date, of Sentinel-1, Sentinel-2 and terrain (arXiv 2502.09356).

    token[group, frame, place] = kernel[group] * patch + [ channel[group] | frame | month | place ]

Bands come in groups with a kernel each; a group takes part when all its bands are given, and attention mixes the tokens
of all groups, dates and places. Leaving a group out is the same as masking it in the published code. A feature map is
the mean over groups and dates at each place, which is the published pooling.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from adapteo.backbones._galileo_tokens import (
    BASE_PATCH,
    DEFAULT_MONTH,
    NDVI,
    SPACE_TIME,
    STATISTICS,
    TERRAIN,
    UNUSED,
    FlexiPatchEmbed,
    Group,
    month,
    month_table,
    ndvi,
    place_code,
    sincos,
)
from adapteo.backbones._keys import account, shapes
from adapteo.contracts import BackboneSpec, Batch, Grid, Normalisation, Remapped, TokenBackbone, Weights, default_taps
from adapteo.errors import ConfigError, DataError, closest
from adapteo.vit import Block, init_weights

MAX_FRAMES = 24
BASE_GSD = 10.0
_PARAMETERS = ("weight", "bias")


@dataclass(frozen=True)
class Size:
    """Width, number of blocks and number of heads of a variant."""

    dim: int
    depth: int
    heads: int


VARIANTS: Mapping[str, Size] = MappingProxyType(
    {"nano": Size(128, 4, 8), "tiny": Size(192, 12, 3), "base": Size(768, 12, 12)}
)


@dataclass(frozen=True)
class Galileo(BackboneSpec):
    """Galileo nano, tiny or base: Sentinel-1, Sentinel-2 and terrain, patches of 1 to 8 pixels, up to 24 dates.

    Attributes:
        variant: "nano" (1.0 M parameters), "tiny" (5.7 M) or "base" (87 M).
        patch: pixels per patch side, 1 to 8; smaller is finer and costs with the square.
        ndvi: add NDVI tokens when red and nir are given, as in pre-training; the published evaluation leaves them out.
        weights: "pretrained" (hub), "random", or the path of a published file or of the folder it is in.
    """

    variant: str = "nano"
    patch: int = BASE_PATCH
    ndvi: bool = True
    weights: str = "pretrained"

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ConfigError(
                f"there is no galileo '{self.variant}'{closest(self.variant, VARIANTS)}",
                allowed=VARIANTS,
                fix="change `variant` of the backbone",
            )
        if not 1 <= self.patch <= BASE_PATCH:
            raise ConfigError(
                f"galileo has no patches of {self.patch} pixels",
                allowed=range(1, BASE_PATCH + 1),
                fix="change `patch` of the backbone",
            )

    def accepts(self, bands: Sequence[str]) -> tuple[str, ...]:
        """Return the bands of complete groups, in the given order."""
        used = {band for group in self._groups(bands) for band in group.bands}
        return tuple(band for band in bands if band in used)

    def build(self, bands: Sequence[str], frames: int = 1) -> "GalileoEncoder":
        """Build the encoder for whole groups of bands (order free) and 1 to 24 dates.

        Raises:
            ConfigError: for a band that belongs to no complete group, a band named twice, or too many dates.
        """
        refused = [band for band in bands if band not in self.accepts(bands)]
        if refused or not bands:
            raise ConfigError(
                f"galileo cannot take {', '.join(refused) or 'no bands'}: it takes bands in whole groups",
                allowed=[" + ".join(group.bands) for group in (*SPACE_TIME[:-1], TERRAIN)],
                fix="leave the band out, or give the rest of its group",
            )
        if len(set(bands)) < len(bands):
            raise ConfigError(f"a band is named twice: {', '.join(bands)}", fix="name each band once")
        if not 1 <= frames <= MAX_FRAMES:
            raise ConfigError(f"galileo takes 1 to {MAX_FRAMES} dates, not {frames}", fix="use fewer dates")
        return GalileoEncoder(self, tuple(bands), self._groups(bands), frames)

    def _groups(self, bands: Sequence[str]) -> tuple[Group, ...]:
        candidates = (*SPACE_TIME, TERRAIN) if self.ndvi else (*SPACE_TIME[:-1], TERRAIN)
        return tuple(group for group in candidates if set(group.bands) <= set(bands))


BACKBONE = Galileo


class GalileoEncoder(TokenBackbone):
    """The published encoder, with the groups of the bands that it was built for; `Galileo` builds it.

    Images come z-scored (`normalisation`). The published code scales mean ± 2 standard deviations to 0..1 instead, so
    `embed` takes ``z / 4 + 1/2``; NDVI is not scaled, as there. It is computed from red and nir with the pre-training
    statistics, so with statistics of another dataset in place of `normalisation`, say ``ndvi: false``.
    """

    merges = "mean"
    pos_embed: Tensor
    month_embed: Tensor

    def __init__(self, spec: Galileo, bands: tuple[str, ...], groups: tuple[Group, ...], frames: int) -> None:
        super().__init__()
        size = VARIANTS[spec.variant]
        self.variant, self.bands, self.frames = spec.variant, bands, frames
        self.dim, self.patch, self.taps = size.dim, spec.patch, default_taps(size.depth)
        self.weights = Weights(
            repo="nasaharvest/galileo",
            file=f"models/{spec.variant}/encoder.pt",
            licence="MIT",
            revision="f039dd5dde966a931baeda47eb680fa89b253e4e",
        )
        self.groups = tuple(group for group in groups if group is not TERRAIN)
        self.terrain = TERRAIN in groups
        quarter = size.dim // 4
        self.register_buffer("pos_embed", sincos(quarter, torch.arange(MAX_FRAMES)))
        self.register_buffer("month_embed", month_table(quarter))
        self.s_t_channel_embed = nn.Parameter(torch.zeros(len(SPACE_TIME), quarter))
        self.space_time_embed = nn.ModuleDict(
            {g.key: FlexiPatchEmbed(g.channels, size.dim, spec.patch) for g in self.groups}
        )
        if self.terrain:
            self.sp_channel_embed = nn.Parameter(torch.zeros(3, quarter))
            self.space_embed = nn.ModuleDict({TERRAIN.key: FlexiPatchEmbed(TERRAIN.channels, size.dim, spec.patch)})
        self.blocks = nn.ModuleList(Block(size.dim, size.heads, eps=1e-5) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.dim)
        self.apply(init_weights)

    @property
    def normalisation(self) -> Normalisation:
        """Statistics of the pre-training set."""
        mean, std = zip(*(STATISTICS[band] for band in self.bands), strict=True)
        return Normalisation(mean, std)

    def embed(self, batch: Batch) -> tuple[Tensor, Grid]:
        """Tokens ``(b, n, d)``, ordered (date, group, place), then terrain.

        Raises:
            DataError: when a side is no multiple of the patch, or there are too many dates.
        """
        self._check(batch)
        _, t, _, height, width = batch.images.shape
        h, w = height // self.patch, width // self.patch
        table = self.s_t_channel_embed
        place = place_code(self.dim // 4, h, w, batch.gsd * self.patch / BASE_GSD, table.device).to(table.dtype)
        scaled = batch.images * 0.25 + 0.5
        tokens = []
        if self.groups:
            projected = [self.space_time_embed[g.key](self._inputs(g, batch.images, scaled)) for g in self.groups]
            tokens.append((torch.stack(projected, 2) + self._code(batch, place)).flatten(1, 3))
        if self.terrain:
            tokens.append(self._terrain_tokens(scaled, place))
        grid = Grid(h, w, stack=t * len(self.groups) + self.terrain, merge=self.merges)
        return torch.cat(tokens, 1) if len(tokens) > 1 else tokens[0], grid

    def remap(self, state: Mapping[str, Tensor]) -> Remapped:
        """Take the published keys; those of inputs that this instance does not have are skipped by name.

        Raises:
            WeightsError: lists the keys that are unknown, missing or of another shape.
        """
        superfluous = self._superfluous()
        return account(
            state,
            shapes(self),
            model=f"galileo {self.variant}",
            rename=_from_upstream,
            superfluous=lambda name: superfluous.get(name, ""),
            fix=lambda given: _fix(given, self.variant),
        )

    def unmap(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give the published keys back.

        Tensors that `remap` skipped are not here; ``{**published, **unmap(state)}`` is the complete checkpoint.
        """
        return {_to_upstream(key): value for key, value in state.items()}

    def _check(self, batch: Batch) -> None:
        _, t, _, height, width = batch.images.shape
        if height % self.patch or width % self.patch:
            raise DataError(
                f"images of {height} x {width} pixels do not divide into patches of {self.patch}",
                allowed=[f"patch: {p}" for p in range(1, BASE_PATCH + 1) if height % p == width % p == 0],
                fix="change `patch` of the backbone, or crop or pad the images",
            )
        if t > MAX_FRAMES:
            raise DataError(f"galileo takes at most {MAX_FRAMES} dates, not {t}", fix="use fewer dates")
        if batch.dates is not None and batch.dates.shape[1] != t:
            raise DataError(f"there are {batch.dates.shape[1]} dates for {t} images", fix="give one date per image")

    def _inputs(self, group: Group, images: Tensor, scaled: Tensor) -> Tensor:
        if group.key != NDVI:
            return self._select(scaled, group)
        physical = []
        for band in group.bands:
            mean, std = STATISTICS[band]
            physical.append(self._band(images, band) * std + mean)
        return ndvi(*physical).unsqueeze(2)

    def _select(self, images: Tensor, group: Group) -> Tensor:
        return torch.stack([self._band(images, band) for band in group.bands], 2)

    def _band(self, images: Tensor, band: str) -> Tensor:
        return images[:, :, self.bands.index(band)]

    def _code(self, batch: Batch, place: Tensor) -> Tensor:
        """What is added to the tokens: ``(b or 1, t, groups, h w, d)``, a quarter of the width per fact."""
        t = batch.images.shape[1]
        if batch.dates is None:
            months = self.month_embed[DEFAULT_MONTH].expand(1, t, -1)
        else:
            months = self.month_embed[month(batch.dates)]
        rows = [index for index, group in enumerate(SPACE_TIME) if group in self.groups]
        channel = torch.stack([self.s_t_channel_embed[row] for row in rows])
        shape = (len(months), t, len(rows), *place.shape)
        parts = (channel[:, None], self.pos_embed[:t, None, None], months[:, :, None, None], place)
        return torch.cat([part.expand(shape) for part in parts], -1)

    def _terrain_tokens(self, scaled: Tensor, place: Tensor) -> Tensor:
        """Tokens ``(b, h w, d)``: terrain does not change, so the first date has it, and its tokens carry no date."""
        projected = self.space_embed[TERRAIN.key](self._select(scaled[:, :1], TERRAIN)).squeeze(1)
        no_date = place.new_zeros(len(place), self.dim // 2)
        tokens: Tensor = projected + torch.cat([self.sp_channel_embed[0].expand_as(place), no_date, place], 1)
        return tokens

    def _superfluous(self) -> dict[str, str]:
        """Published keys that this instance has no use for, with the reason."""
        groups = [f"space_time_embed.{group.key}.proj" for group in SPACE_TIME if group not in self.groups]
        other = [f"{family}.{name}" for family, names in UNUSED.items() for name in names]
        channels = ["t_channel_embed", "st_channel_embed"]
        if not self.terrain:
            groups.append(f"space_embed.{TERRAIN.key}.proj")
            channels.append("sp_channel_embed")
        absent = {f"{layer}.{kind}": "its bands are not among the inputs" for layer in groups for kind in _PARAMETERS}
        unused = {f"{layer}.{kind}": "an input that has no band" for layer in other for kind in _PARAMETERS}
        return absent | unused | dict.fromkeys(channels, "no input of this kind")


def _from_upstream(key: str) -> str:
    key = key.replace(".backbone", "")  # which some published files have in their keys
    return "month_embed" if key == "month_embed.weight" else key


def _to_upstream(key: str) -> str:
    return "month_embed.weight" if key == "month_embed" else key


def _fix(given: Mapping[str, Tensor], variant: str) -> str:
    """Name the variant that the weights are of, when they are of another one."""
    dim = given["norm.weight"].numel() if "norm.weight" in given else 0
    depth = len({key.split(".")[1] for key in given if key.startswith("blocks.")})
    other = [name for name, size in VARIANTS.items() if (size.dim, size.depth) == (dim, depth) and name != variant]
    return f"they are those of `variant: {other[0]}`" if other else "give the published file of this variant"

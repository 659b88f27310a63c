"""Prithvi-EO 1.0 and 2.0: ViTs for HLS time series, by IBM and NASA (arXiv 2310.18660, 2412.02732).

    tokens = [cls, Conv3d(images) + position(x, y, t) + a · code(year, day) + b · code(latitude, longitude)]

The last two terms, with learned a and b, exist in the TL variants only. Pre-trained as masked autoencoders on
224 x 224 pixels of 30 m.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.backbones._keys import account
from adapteo.bands import HLS6
from adapteo.contracts import (
    Backbone,
    BackboneSpec,
    Batch,
    Grid,
    Normalisation,
    Remapped,
    TokenBackbone,
    Weights,
    default_taps,
)
from adapteo.errors import ConfigError, DataError, closest
from adapteo.vit import Block, PatchConv3d, check_patches, fuse_qkv, init_weights, sincos_1d, split_qkv

PRETRAINED_PIXELS = 224
MAX_FRAMES = 4
POSITIONS = ("recomputed", "interpolated")

# Mean and standard deviation of reflectance x 10,000 in the order of `HLS6`, by generation (config.json on the hub).
_STATISTICS = {
    "1": ((775.0, 1081.0, 1229.0, 2497.0, 2204.0, 1611.0), (1282.0, 1270.0, 1399.0, 1368.0, 1292.0, 1155.0)),
    "2": ((1087.0, 1342.0, 1433.0, 2734.0, 1958.0, 1363.0), (2248.0, 2179.0, 2178.0, 1850.0, 1242.0, 1049.0)),
}
_RENAMED = {
    "patch_embed.proj.weight": "patch_embed.weight",
    "patch_embed.proj.bias": "patch_embed.bias",
    "temporal_embed_enc.scale": "time_scale",
    "location_embed_enc.scale": "location_scale",
}
_UPSTREAM_NAMES = {ours: theirs for theirs, ours in _RENAMED.items()}
_PATCH_WEIGHT = "patch_embed.proj.weight"
_SCALES = ("temporal_embed_enc.scale", "location_embed_enc.scale")
_TASK_PARTS = ("neck.", "head.", "aux_heads.")
# Wrappers of the encoder in the MAE, in Lightning and DDP checkpoints, and in old files of TerraTorch.
_PREFIXES = ("module.", "model.", "backbone.", "encoder.", "_timm_module.")


@dataclass(frozen=True)
class Variant:
    """Facts of one published model.

    Attributes:
        name: as in the name of its hub repository.
        dim, depth, heads, patch: of the vision transformer; patch in pixels.
        weights: where they are.
    """

    name: str
    dim: int
    depth: int
    heads: int
    patch: int
    weights: Weights

    @property
    def metadata(self) -> bool:
        """Whether it was pre-trained with time and location ("TL")."""
        return self.name.endswith("-TL")

    @property
    def positions_per_side(self) -> int:
        """Patches per image side in pre-training."""
        return PRETRAINED_PIXELS // self.patch


def _variant(name: str, dim: int, depth: int, heads: int, patch: int = 16) -> Variant:
    generation, _, size = name.partition("-")
    file = f"Prithvi_EO_V{generation[0]}_{size.replace('-', '_')}.pt"
    weights = Weights(f"ibm-nasa-geospatial/Prithvi-EO-{name}", file, "Apache-2.0")
    return Variant(name, dim, depth, heads, patch, weights)


VARIANTS = {
    variant.name: variant
    for variant in (
        _variant("1.0-100M", 768, 12, 12),
        _variant("2.0-tiny-TL", 192, 12, 3),
        _variant("2.0-100M-TL", 768, 12, 12),
        _variant("2.0-300M", 1024, 24, 16),
        _variant("2.0-300M-TL", 1024, 24, 16),
        _variant("2.0-600M", 1280, 32, 16, patch=14),
        _variant("2.0-600M-TL", 1280, 32, 16, patch=14),
    )
}


class PrithviViT(TokenBackbone):
    """The encoder of Prithvi-EO.

    Args:
        variant: one of `VARIANTS`.
        bands: canonical names out of `HLS6`, in any order.
        frames: dates per image.
        metadata: whether dates and locations are encoded (TL variants).
        positions: see `Prithvi`.
        depth: fewer blocks than the variant has, for tests.
    """

    def __init__(
        self,
        variant: Variant,
        bands: Sequence[str],
        frames: int = 1,
        *,
        metadata: bool = False,
        positions: str = POSITIONS[0],
        depth: int | None = None,
    ) -> None:
        super().__init__()
        depth = depth or variant.depth
        self.variant, self.metadata, self.positions = variant, metadata, positions
        self.bands, self.frames = tuple(bands), frames
        self.dim, self.patch = variant.dim, variant.patch
        self.taps = default_taps(depth)
        self.weights = variant.weights
        self.patch_embed = PatchConv3d(len(bands), variant.dim, variant.patch)
        self.cls_token = nn.Parameter(torch.empty(1, 1, variant.dim))
        self.time_scale = nn.Parameter(torch.full((1,), 0.1)) if metadata else None
        self.location_scale = nn.Parameter(torch.full((1,), 0.1)) if metadata else None
        self.blocks = nn.ModuleList(Block(variant.dim, variant.heads, eps=1e-5) for _ in range(depth))
        self.norm = nn.LayerNorm(variant.dim, eps=1e-5)
        self._tables: dict[tuple[object, ...], Tensor] = {}
        self.apply(init_weights)
        nn.init.xavier_uniform_(self.patch_embed.weight.flatten(1))
        nn.init.normal_(self.cls_token, std=0.02)

    def embed(self, batch: Batch) -> tuple[Tensor, Grid]:
        """Turn normalised images ``(b, t, c, h, w)`` into a class token and ``t * h/patch * w/patch`` patch tokens.

        Dates or locations that are unknown (None, or NaN for single ones) add nothing to their tokens, as when the
        pre-training dropped them (arXiv 2412.02732).

        Raises:
            DataError: when the images do not have this instance's dates and bands, or sides that are no multiples of
                the patch (`adapteo.model` pads; here it would shift the map silently).
        """
        self._check(batch.images)
        height, width = (side // self.patch for side in batch.images.shape[-2:])
        grid = Grid(height, width, prefix=1, stack=self.frames)
        x = self.patch_embed(batch.images.transpose(1, 2).to(self.patch_embed.weight.dtype))
        x = x.flatten(2).transpose(1, 2) + self._position_table(grid)
        if self.time_scale is not None and batch.dates is not None:
            code = coordinate_code(batch.dates, self.dim).to(self.time_scale.dtype)
            x = x + (self.time_scale * code).repeat_interleave(height * width, dim=1)
        if self.location_scale is not None and batch.latlon is not None:
            code = coordinate_code(batch.latlon, self.dim).to(self.location_scale.dtype)
            x = x + (self.location_scale * code).unsqueeze(1)
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1), grid

    def _check(self, images: Tensor) -> None:
        _, t, c, h, w = images.shape
        if (t, c) != (self.frames, len(self.bands)):
            raise DataError(
                f"the images have {t} dates and {c} bands; built for {self.frames} dates and {len(self.bands)} bands",
                fix="build the backbone with the dataset's `frames` and bands",
            )
        check_patches(h, w, self.patch)

    def _position_table(self, grid: Grid) -> Tensor:
        """Position codes ``(patches, d)`` of a grid, kept for the grids seen last."""
        like = self.cls_token
        key = (grid.height, grid.width, like.device, like.dtype)
        if key not in self._tables:
            if len(self._tables) >= 8:
                self._tables.clear()
            shape = (self.frames, grid.height, grid.width)
            if self.positions == "interpolated":
                table = interpolated_positions(self.dim, shape, self.variant.positions_per_side)
            else:
                table = position_code(self.dim, shape)
            self._tables[key] = table.float().to(like)
        return self._tables[key]

    @property
    def normalisation(self) -> Normalisation:
        """Pre-training statistics of `bands` as reflectance."""
        mean, std = _STATISTICS[self.variant.name[0]]
        order = self._upstream_channels()
        return Normalisation(tuple(mean[i] / 1e4 for i in order), tuple(std[i] / 1e4 for i in order))

    def remap(self, state: Mapping[str, Tensor]) -> Remapped:
        """Translate a checkpoint of the encoder or of the whole masked autoencoder; takes the channels of `bands`.

        Raises:
            WeightsError: lists the keys that are missing, unknown or of another shape.
        """
        remapped = account(
            state,
            self._upstream_shapes(),
            model=f"Prithvi {self.variant.name}",
            rename=_without_prefixes,
            superfluous=self._superfluous,
            fix=self._likely_variant,
        )
        used = remapped.state
        used[_PATCH_WEIGHT] = used[_PATCH_WEIGHT][:, self._upstream_channels()]
        return Remapped(split_qkv({_RENAMED.get(name, name): value for name, value in used.items()}), remapped.skipped)

    def unmap(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate back to the keys of TerraTorch's encoder, which loads the result strictly.

        The patch embedding gets all six bands in upstream order, with zeros for bands this instance does not see, so
        that the checkpoint computes the same from six bands. ``pos_embed`` is that of the pre-training image size.
        Without `metadata` the result is an encoder without time and location.
        """
        out = fuse_qkv({_UPSTREAM_NAMES.get(name, name): value for name, value in state.items()})
        ours = out[_PATCH_WEIGHT]
        full = ours.new_zeros(len(ours), len(HLS6), *ours.shape[2:])
        full[:, self._upstream_channels()] = ours
        side = self.variant.positions_per_side
        table = position_code(self.dim, (self.frames, side, side)).to(ours)
        return {**out, _PATCH_WEIGHT: full, "pos_embed": F.pad(table, (0, 0, 1, 0)).unsqueeze(0)}

    def _upstream_channels(self) -> list[int]:
        return [HLS6.index(band) for band in self.bands]

    def _upstream_shapes(self) -> dict[str, tuple[int, ...]]:
        own = {name: value.to("meta") for name, value in self.state_dict().items()}
        return {name: tuple(value.shape) for name, value in self.unmap(own).items() if name != "pos_embed"}

    def _superfluous(self, name: str) -> str:
        """Why a key of an upstream checkpoint is not needed, or nothing."""
        if name.startswith("decoder") or "_dec." in name or name == "mask_token":
            return "belongs to a decoder"
        if name.startswith(_TASK_PARTS):
            return "belongs to the task that TerraTorch fine-tuned for"
        if name == "pos_embed":
            return "recomputed for the size of the image"
        if name in _SCALES and self.variant.metadata and not self.metadata:
            return "metadata is off"
        return ""

    def _likely_variant(self, given: Mapping[str, Tensor]) -> str:
        likely = [name for name, variant in VARIANTS.items() if _fits(variant, given) and name != self.variant.name]
        if likely and not _fits(self.variant, given):
            return f"it has the shape of {' and '.join(likely)}: change `variant` of the backbone"
        return "give a Prithvi checkpoint of this variant"


def _without_prefixes(key: str) -> str:
    while prefix := next((p for p in _PREFIXES if key.startswith(p)), ""):
        key = key.removeprefix(prefix)
    return key


def _fits(variant: Variant, given: Mapping[str, Tensor]) -> bool:
    """Whether the width and depth of a checkpoint are those of a variant."""
    norms = [value for name, value in given.items() if name.startswith("blocks.") and name.endswith(".norm1.weight")]
    return len(norms) == variant.depth and all(tuple(norm.shape) == (variant.dim,) for norm in norms)


def position_code(dim: int, shape: tuple[int, int, int]) -> Tensor:
    """Sine-cosine code of a ``(t, h, w)`` grid, float64 ``(t * h * w, dim)``: 6/16 of the width for x, 6 y, 4 t."""
    parts = []
    for axis, share in ((2, 6), (1, 6), (0, 4)):
        size = [1, 1, 1]
        size[axis] = shape[axis]
        code = sincos_1d(dim // 16 * share, torch.arange(shape[axis]))
        parts.append(code.view(*size, -1).expand(*shape, -1))
    return torch.cat(parts, dim=-1).flatten(0, 2)


def interpolated_positions(dim: int, shape: tuple[int, int, int], side: int) -> Tensor:
    """Codes of a ``(t, side, side)`` grid, stretched to ``(t, h, w)`` bicubically: float32 ``(t * h * w, dim)``."""
    t, h, w = shape
    table = position_code(dim, (t, side, side)).float().view(t, side, side, dim).permute(0, 3, 1, 2)
    stretched = F.interpolate(table, size=(h, w), mode="bicubic", align_corners=True)
    return stretched.permute(0, 2, 3, 1).reshape(t * h * w, dim)


def coordinate_code(pairs: Tensor, dim: int) -> Tensor:
    """Sine-cosine code of pairs ``(..., 2)``, year and day or latitude and longitude: ``(..., dim)``, 0 where unknown.

    In float32 with the upstream order of operations: at the year 2020 the rounding of the angle shows (1e-4), and the
    weights were trained with it.
    """
    quarter = dim // 4
    omega = 1.0 / 10000 ** (torch.arange(quarter, dtype=torch.float32, device=pairs.device) / quarter)
    known = pairs.isfinite().all(-1, keepdim=True)
    angles = torch.where(known, pairs, 0.0).float().unsqueeze(-1) * omega
    code = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
    return torch.where(known, code, 0.0)


@dataclass(frozen=True)
class Prithvi(BackboneSpec):
    """Prithvi-EO 1.0 and 2.0 (IBM, NASA): HLS time series of 1 to 4 dates in six bands, 6 M to 631 M parameters.

    Attributes:
        variant: one of `VARIANTS`, named as on the hub.
        metadata: encode dates and locations (variants that end in "-TL").
        positions: for other image sizes than 224: "recomputed" continues or cuts the grid of pre-training, patch by
            patch; "interpolated" stretches it over the image, as TerraTorch does when it is not told the size.
        weights: "pretrained", "random", or a path.
    """

    variant: str = "2.0-300M"
    metadata: bool = False
    positions: str = POSITIONS[0]
    weights: str = "pretrained"

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ConfigError(
                f"there is no Prithvi variant '{self.variant}'{closest(self.variant, VARIANTS)}", allowed=VARIANTS
            )
        if self.positions not in POSITIONS:
            raise ConfigError(
                f"positions cannot be '{self.positions}'{closest(self.positions, POSITIONS)}", allowed=POSITIONS
            )
        if self.metadata and not VARIANTS[self.variant].metadata:
            raise ConfigError(
                f"Prithvi {self.variant} knows no dates and locations, but `metadata` is on",
                allowed=[name for name, variant in VARIANTS.items() if variant.metadata],
                fix="set `metadata: false`, or take a variant with TL",
            )

    def accepts(self, bands: Sequence[str]) -> tuple[str, ...]:
        """Return those of the bands that are among the six of HLS, in the given order."""
        return tuple(band for band in bands if band in HLS6)

    def build(self, bands: Sequence[str], frames: int = 1) -> Backbone:
        """Build the encoder with random weights.

        Raises:
            ConfigError: no band, a band that is not among the six or named twice, or not 1 to 4 dates.
        """
        strange = [band for band in bands if band not in HLS6]
        if strange:
            raise ConfigError(
                f"Prithvi has no band '{strange[0]}'{closest(strange[0], HLS6)}",
                allowed=HLS6,
                fix="leave it out of the bands of the backbone",
            )
        if not bands or len(set(bands)) < len(bands):
            raise ConfigError(f"Prithvi needs at least one band, each once, not {list(bands)}", allowed=HLS6)
        if not 1 <= frames <= MAX_FRAMES:
            raise ConfigError(
                f"Prithvi takes 1 to {MAX_FRAMES} dates per image, not {frames}", fix="choose among the dataset's dates"
            )
        variant = VARIANTS[self.variant]
        return PrithviViT(variant, bands, frames, metadata=self.metadata, positions=self.positions)


BACKBONE = Prithvi

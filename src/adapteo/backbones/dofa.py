"""DOFA base and large: ViTs for any band of known wavelength (arXiv 2403.15356).

    tokens = [cls, 0.01 · kernel(λ) * images + position(x, y)]

The kernels are written by a small transformer from the wavelengths in nanometres (`_wavelengths`). Pre-trained as a
masked autoencoder on 224 x 224 pixels of Sentinel-1, Sentinel-2, Gaofen, NAIP and EnMAP.

The weights are those that torchgeo published on 2024-09-01 (pull request 2256). Earlier files of the same keys and
shapes (``dofa_base_patch16_224-7cc0f413.pth``, ``dofa_large_patch16_224-fbd47fa9.pth``) belong to another order of
the kernel's numbers and compute nonsense here; nothing in a file tells.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.backbones._wavelengths import (
    CODE_WIDTH,
    KernelGenerator,
    check_build,
    initialise_tokens,
    only_date,
    published_name,
    translate,
    with_wavelength,
)
from adapteo.bands import wavelengths
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
from adapteo.errors import ConfigError, WeightsError, closest
from adapteo.vit import Block, embed_patches, fuse_qkv, init_weights, sincos_1d

PATCH = 16
PRETRAINED_SIDE = 14
POSITIONS = ("recomputed", "interpolated")
_SCALE = 0.01

# Micrometres that the published examples use, where they differ from `adapteo.bands`. For radar it is the frequency in
# GHz, which the pre-training took for a wavelength.
_WAVELENGTHS = {"blue": 0.49, "rededge071": 0.705, "vv": 5.405, "vh": 5.405}
# Mean and standard deviation of the 8-bit images of the pre-training (``normalize_dataset.py`` of the published code).
_EIGHT_BIT = {
    "red": (114.1099739, 77.84352553),
    "green": (114.81779093, 69.96844919),
    "blue": (126.63977424, 67.42465279),
    "rededge071": (84.33539309, 64.57022983),
    "rededge075": (97.84789168, 61.72545487),
    "rededge078": (103.94461911, 61.34187099),
    "nir": (101.435633, 60.29744676),
    "swir16": (72.32804172, 47.88519516),
    "swir22": (56.66528851, 42.55886798),
}
# Reflectance per step of these images (SatlasPretrain, ``Normalization.md``): red, green and blue are those of ESA's
# true-colour image of level 1C, which saturates at 0.3558 (S2 MSI user guide); the others are stored numbers // 32.
_TRUE_COLOUR, _OTHERS = 0.3558 / 255, 32e-4

# Wrappers of the encoder in checkpoints of TerraTorch.
_PREFIXES = ("module.", "model.", "backbone.", "encoder.", "dofa_model.")
_TERRATORCH = "belongs to the task that TerraTorch fine-tuned for"
_SUPERFLUOUS = {
    "pos_embed": "recomputed for the size of the image",
    "mask_token": "stands for hidden patches in the pre-training",
    "projector.": "projects onto the teacher of the pre-training",
    "norm.": "the decoder of the pre-training saw it; torchgeo's files and TerraTorch's maps are without",
    "fc_norm.": "normalises the mean over the image for a classifier",
    "head.": "classifies, or belongs to the task that TerraTorch fine-tuned for",
    "decoder.": _TERRATORCH,
    "neck.": _TERRATORCH,
    "aux_heads.": _TERRATORCH,
}


@dataclass(frozen=True)
class Variant:
    """Facts of one published model: width, depth and heads of the vision transformer, and where the weights are."""

    name: str
    dim: int
    depth: int
    heads: int
    weights: Weights


def _variant(name: str, dim: int, depth: int, heads: int, digest: str) -> Variant:
    file = f"dofa_{name}_patch16_224-{digest}.pth"
    revision = "b8db318b64a90b9e085ec04ba8851233c5893666"
    return Variant(name, dim, depth, heads, Weights("torchgeo/dofa", file, "CC-BY-4.0", revision))


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        "base": _variant("base", 768, 12, 12, "a0275954"),
        "large": _variant("large", 1024, 24, 16, "0ff904d3"),
    }
)


class CodeBlock(nn.Module):
    """Two linears with ReLU behind each, and a residual, on codes of wavelengths ``(c, width)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, width)
        self.w2 = nn.Linear(width, width)

    def forward(self, codes: Tensor) -> Tensor:
        """Apply to each code."""
        return codes + F.relu(self.w2(F.relu(self.w1(codes))))


class DofaPatchEmbed(nn.Module):
    """Patch embedding of any bands, ``(b, c, h, w) -> (b, h / 16 · w / 16, d)``.

    The published convolution pads by one pixel, so each patch lies one pixel up and left of where its map has it, the
    first ones see a border of zeros, and the last row and column of the image are not seen.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight_generator = KernelGenerator(PATCH**2 * dim, dim)
        self.fclayer = CodeBlock(CODE_WIDTH)

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        """Embed with the kernels that belong to the codes ``(c, width)`` of the wavelengths."""
        weight, bias = self.weight_generator(self.fclayer(codes))
        kernels = weight.unflatten(1, (PATCH, PATCH, -1)).permute(3, 0, 1, 2) * _SCALE
        shifted = F.pad(images, (1, -1, 1, -1))
        return embed_patches(shifted, kernels, bias * _SCALE).flatten(2).transpose(1, 2)


class DofaViT(TokenBackbone):
    """The encoder of DOFA. There is no norm behind the last block, as in TerraTorch.

    Args:
        variant: one of `VARIANTS`.
        bands: canonical names of bands with a wavelength, in any order.
        positions: see `Dofa`.
        depth: fewer blocks than the variant has, for tests.
    """

    def __init__(
        self, variant: Variant, bands: Sequence[str], *, positions: str = POSITIONS[0], depth: int | None = None
    ) -> None:
        super().__init__()
        depth = depth or variant.depth
        self.variant, self.positions, self.bands = variant, positions, tuple(bands)
        self.wavelengths = tuple(_WAVELENGTHS.get(band) or wavelengths([band])[0] for band in bands)
        self.dim, self.patch, self.taps = variant.dim, PATCH, default_taps(depth)
        self.weights = variant.weights
        self.patch_embed = DofaPatchEmbed(variant.dim)
        self.cls_token = nn.Parameter(torch.empty(1, 1, variant.dim))
        self.blocks = nn.ModuleList(Block(variant.dim, variant.heads) for _ in range(depth))
        self.norm = nn.Identity()
        self.apply(init_weights)
        initialise_tokens(self)

    def embed(self, batch: Batch) -> tuple[Tensor, Grid]:
        """Turn normalised images ``(b, 1, c, h, w)`` into a class token and ``h / 16 · w / 16`` patch tokens.

        Raises:
            DataError: when the images do not have one date and this instance's bands, or sides that are no multiples
                of 16.
        """
        images = only_date(batch.images, self.bands, PATCH)
        grid = Grid(images.shape[-2] // PATCH, images.shape[-1] // PATCH, prefix=1)
        like = self.cls_token
        codes = wavelength_code(self.wavelengths, like.device).to(like.dtype)
        table = position_code(self.dim, grid.height, grid.width, self.positions, like.device).to(like.dtype)
        x = self.patch_embed(images.to(like.dtype), codes) + table
        return torch.cat([like.expand(len(x), -1, -1), x], dim=1), grid

    @property
    def normalisation(self) -> Normalisation:
        """Pre-training statistics of `bands`: reflectance of Sentinel-2 at the top of the atmosphere (level 1C).

        Raises:
            ConfigError: when there are none for a band; those of radar were published for 8-bit images whose scale is
                not known.
        """
        strange = [band for band in self.bands if band not in _EIGHT_BIT]
        if strange:
            raise ConfigError(
                f"DOFA has no pre-training statistics of '{strange[0]}' in our units",
                allowed=_EIGHT_BIT,
                fix="set `train.normalise: dataset`, or leave the band out",
            )
        step = {band: _TRUE_COLOUR if band in ("red", "green", "blue") else _OTHERS for band in self.bands}
        mean, std = zip(*([value * step[band] for value in _EIGHT_BIT[band]] for band in self.bands), strict=True)
        return Normalisation(mean, std)

    def remap(self, state: Mapping[str, Tensor]) -> Remapped:
        """Translate a file of torchgeo, or a checkpoint of TerraTorch.

        Raises:
            WeightsError: lists the keys that are missing, unknown or of another shape; or the positions are not the
                fixed ones.
        """
        remapped = translate(
            self,
            state,
            _upstream_name,
            model=f"DOFA {self.variant.name}",
            prefixes=_PREFIXES,
            superfluous=_SUPERFLUOUS,
            widths={name: variant.dim for name, variant in VARIANTS.items()},
        )
        for key in remapped.skipped:
            if key.endswith("pos_embed"):
                self._check_positions(state[key])
        return remapped

    def unmap(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate back to the keys of torchgeo's file, with ``pos_embed`` for 224 x 224 pixels."""
        out = {_upstream_name(name): value for name, value in fuse_qkv(state).items()}
        table = position_code(self.dim, PRETRAINED_SIDE, PRETRAINED_SIDE, POSITIONS[0], torch.device("cpu"))
        return {**out, "pos_embed": F.pad(table, (0, 0, 1, 0)).unsqueeze(0).to(out["cls_token"])}

    def _check_positions(self, table: Tensor) -> None:
        """Refuse positions that were trained, or forgotten, because they would be lost without a word."""
        side = math.isqrt(max(table.numel() // self.dim - 1, 1))
        given = table.detach().flatten().float()
        for kind in POSITIONS:
            fixed = F.pad(position_code(self.dim, side, side, kind, torch.device("cpu")), (0, 0, 1, 0)).flatten()
            if given.shape == fixed.shape and (given.is_meta or torch.allclose(given, fixed, atol=1e-2)):
                return
        raise WeightsError(
            "the `pos_embed` of these weights is not the fixed sine-cosine table of DOFA",
            fix="give the published file, or a checkpoint that was fine-tuned from it with fixed positions",
        )


def _upstream_name(name: str) -> str:
    """Name of a (fused) tensor in the published file."""
    return published_name(name, "transformer_encoder")


@lru_cache(maxsize=32)
def wavelength_code(micrometres: tuple[float, ...], device: torch.device) -> Tensor:
    """Sine-cosine code of wavelengths, float32 ``(c, CODE_WIDTH)``.

    Of nanometres, in float32 with the published order of operations: the rounding of an angle of 2000 shows (1e-4).
    """
    with torch.inference_mode(False):
        half = CODE_WIDTH // 2
        frequencies = 1.0 / 10000 ** (torch.arange(half) / (CODE_WIDTH / 2))
        angles = torch.outer(torch.tensor(micrometres) * 1000, frequencies)
        return torch.cat([angles.sin(), angles.cos()], dim=1).to(device)


@lru_cache(maxsize=32)
def position_code(dim: int, height: int, width: int, positions: str, device: torch.device) -> Tensor:
    """Sine-cosine code of a grid of patches, float32 ``(height · width, dim)``: x in the first half, y in the second.

    The table of masked autoencoders (arXiv 2111.06377); "interpolated" stretches the one of 14 x 14 bilinearly.
    """
    with torch.inference_mode(False):
        if positions == "interpolated":
            side = PRETRAINED_SIDE
            table = position_code(dim, side, side, POSITIONS[0], torch.device("cpu")).T.view(1, dim, side, side)
            stretched = F.interpolate(table, size=(height, width), mode="bilinear", align_corners=False)
            return stretched.flatten(2)[0].T.to(device)
        x = sincos_1d(dim // 2, torch.arange(width)).expand(height, -1, -1)
        y = sincos_1d(dim // 2, torch.arange(height))[:, None].expand(-1, width, -1)
        return torch.cat([x, y], dim=2).flatten(0, 1).float().to(device)


@dataclass(frozen=True)
class Dofa(BackboneSpec):
    """DOFA base and large: any band with a wavelength, patches of 16 pixels, one date, 111 M and 337 M parameters.

    Attributes:
        variant: "base" (111 M parameters) or "large" (337 M).
        positions: for other image sizes than 224: "recomputed" continues or cuts the grid of pre-training, patch by
            patch; "interpolated" stretches it over the image, as TerraTorch does.
        weights: "pretrained", "random", or a path.
    """

    variant: str = "base"
    positions: str = POSITIONS[0]
    weights: str = "pretrained"

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ConfigError(
                f"there is no DOFA variant '{self.variant}'{closest(self.variant, VARIANTS)}", allowed=VARIANTS
            )
        if self.positions not in POSITIONS:
            raise ConfigError(
                f"positions cannot be '{self.positions}'{closest(self.positions, POSITIONS)}", allowed=POSITIONS
            )

    def accepts(self, bands: Sequence[str]) -> tuple[str, ...]:
        """Return those of the bands that have a wavelength, in the given order."""
        return with_wavelength(bands)

    def build(self, bands: Sequence[str], frames: int = 1) -> Backbone:
        """Build the encoder with random weights.

        Raises:
            ConfigError: no band, one without wavelength or named twice, or several dates.
        """
        check_build("DOFA", bands, frames)
        return DofaViT(VARIANTS[self.variant], bands, positions=self.positions)


BACKBONE = Dofa

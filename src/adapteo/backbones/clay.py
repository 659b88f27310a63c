"""Clay v1 and v1.5: ViTs for any band of known wavelength, by the Clay Foundation (github.com/Clay-foundation/model).

    tokens = [cls, kernel(λ) * images + (position(x, y) · GSD | time | place)]

The kernels are written by a small transformer from the wavelengths in micrometres (`_wavelengths`). The last 8 of the
token's values get sine and cosine of week, hour, latitude and longitude, the others those of the patch's position in
metres. Pre-trained as masked autoencoders; v1 on 224 x 224 pixels, v1.5 on 256 x 256.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.backbones._clay_codes import place_code, position_code, time_code, wavelength_code
from adapteo.backbones._clay_sensors import RADAR, SENSORS
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
from adapteo.errors import ConfigError, closest
from adapteo.vit import Block, embed_patches, fuse_qkv, init_weights

PATCH = 8
METADATA_WIDTH = 8
_KERNEL_SCALE = 0.02
_BLOCK_NAMES = {
    "norm1": "0.norm",
    "attn.qkv": "0.to_qkv",
    "attn.proj": "0.to_out",
    "norm2": "1.net.0",
    "mlp.fc1": "1.net.1",
    "mlp.fc2": "1.net.3",
}
# Wrappers of the encoder in Lightning checkpoints of the pre-training and of TerraTorch.
_PREFIXES = ("module.", "model.", "backbone.", "encoder.", "clay_encoder.")
_SUPERFLUOUS = {
    "decoder.": "belongs to a decoder",
    "teacher.": "the teacher of the pre-training",
    "proj.": "projects onto the teacher of the pre-training",
    "mrl.": "Matryoshka heads of the pre-training",
    "neck.": "belongs to the task that TerraTorch fine-tuned for",
    "head.": "belongs to the task that TerraTorch fine-tuned for",
    "aux_heads.": "belongs to the task that TerraTorch fine-tuned for",
}


@dataclass(frozen=True)
class Variant:
    """Facts of one published model.

    Attributes:
        name: of the release.
        dim, depth, heads: of the vision transformer.
        weights: where they are.
        decibels: whether its radar statistics are in dB, as our units are.
    """

    name: str
    dim: int
    depth: int
    heads: int
    weights: Weights
    decibels: bool


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        variant.name: variant
        for variant in (
            Variant(
                "v1", 768, 12, 12, Weights("made-with-clay/Clay-legacy", "v1/clay-v1-base.ckpt", "Apache-2.0"), False
            ),
            Variant("v1.5", 1024, 24, 16, Weights("made-with-clay/Clay", "v1.5/clay-v1.5.ckpt", "Apache-2.0"), True),
        )
    }
)


class CodeBlock(nn.Module):
    """Two linears with GELU behind each, and a residual, on codes of wavelengths ``(c, width)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.l1 = nn.Linear(width, width)
        self.l2 = nn.Linear(width, width)

    def forward(self, codes: Tensor) -> Tensor:
        """Apply to each code."""
        return codes + F.gelu(self.l2(F.gelu(self.l1(codes))))


class ClayPatchEmbed(nn.Module):
    """Patch embedding of any bands, ``(b, c, h, w) -> (b, h / 8 · w / 8, d)``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight_generator = KernelGenerator(dim * PATCH**2, dim)
        self.fclayer = CodeBlock(CODE_WIDTH)

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        """Embed with the kernels that belong to the codes ``(c, width)`` of the wavelengths."""
        weight, bias = self.weight_generator(self.fclayer(codes))
        kernels = weight.unflatten(1, (-1, PATCH, PATCH)).transpose(0, 1) * _KERNEL_SCALE
        return embed_patches(images, kernels, bias).flatten(2).transpose(1, 2)


class ClayViT(TokenBackbone):
    """The encoder of Clay.

    Args:
        variant: one of `VARIANTS`.
        bands: canonical names of bands with a wavelength, in any order.
        sensor: one of `SENSORS`: whose wavelengths and statistics hold.
        metadata: whether dates and places are encoded.
        depth: fewer blocks than the variant has, for tests.
    """

    def __init__(
        self,
        variant: Variant,
        bands: Sequence[str],
        *,
        sensor: str = "sentinel2",
        metadata: bool = False,
        depth: int | None = None,
    ) -> None:
        super().__init__()
        depth = depth or variant.depth
        self.variant, self.sensor, self.metadata = variant, sensor, metadata
        self.bands = tuple(bands)
        self.wavelengths = tuple(SENSORS[sensor].wavelength(band) for band in bands)
        self.dim, self.patch, self.taps = variant.dim, PATCH, default_taps(depth)
        self.weights = variant.weights
        self.patch_embed = ClayPatchEmbed(variant.dim)
        self.cls_token = nn.Parameter(torch.empty(1, 1, variant.dim))
        self.blocks = nn.ModuleList(
            Block(variant.dim, variant.heads, qkv_bias=False, proj_bias=False, eps=1e-5) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(variant.dim)
        self.apply(init_weights)
        initialise_tokens(self)

    def embed(self, batch: Batch) -> tuple[Tensor, Grid]:
        """Turn normalised images ``(b, 1, c, h, w)`` into a class token and ``h / 8 · w / 8`` patch tokens.

        The ground sample distance of the batch always counts. Dates and places count with `metadata`; unknown ones
        (None or NaN) are zeros, as when the pre-training of v1.5 dropped them.

        Raises:
            DataError: when the images do not have one date and this instance's bands, or sides that are no multiples
                of 8.
        """
        images = only_date(batch.images, self.bands, PATCH)
        grid = Grid(images.shape[-2] // PATCH, images.shape[-1] // PATCH, prefix=1)
        like = self.cls_token
        codes = wavelength_code(self.wavelengths, like.device).to(like.dtype)
        places = position_code(self.dim - METADATA_WIDTH, grid.height, grid.width, batch.gsd, like.device)
        x = self.patch_embed(images.to(like.dtype), codes) + F.pad(places, (0, METADATA_WIDTH)).to(like.dtype)
        if self.metadata:
            known = self._metadata(batch).to(like)
            x = x + F.pad(known, (self.dim - METADATA_WIDTH, 0)).unsqueeze(1)
        return torch.cat([like.expand(len(x), -1, -1), x], dim=1), grid

    def _metadata(self, batch: Batch) -> Tensor:
        """Codes ``(b, 8)`` of time and place."""
        nothing = torch.zeros(len(batch), METADATA_WIDTH // 2, device=batch.images.device)
        time = nothing if batch.dates is None else time_code(batch.dates[:, 0])
        place = nothing if batch.latlon is None else place_code(batch.latlon)
        return torch.cat([time, place], dim=1)

    @property
    def normalisation(self) -> Normalisation:
        """Pre-training statistics of `bands` on `sensor`.

        Raises:
            ConfigError: when there are none for a band, or none in dB for radar.
        """
        sensor = SENSORS[self.sensor]
        pairs = []
        for band in self.bands:
            pair = sensor.statistics(band)
            if pair is None:
                raise ConfigError(
                    f"Clay has no pre-training statistics of '{band}' on {self.sensor}",
                    allowed=(*sensor.bands, *RADAR),
                    fix="set `train.normalise: dataset`, change `sensor` of the backbone, or leave the band out",
                )
            if band in RADAR and not self.variant.decibels:
                raise ConfigError(
                    f"Clay {self.variant.name} was pre-trained on radar power, and '{band}' is in decibels here",
                    fix="set `train.normalise: dataset`, or `variant: v1.5` of the backbone",
                )
            pairs.append(pair)
        mean, std = zip(*pairs, strict=True)
        return Normalisation(mean, std)

    def remap(self, state: Mapping[str, Tensor]) -> Remapped:
        """Translate a Lightning checkpoint of the pre-training, or one of TerraTorch.

        Raises:
            WeightsError: lists the keys that are missing, unknown or of another shape.
        """
        return translate(
            self,
            state,
            _upstream_name,
            model=f"Clay {self.variant.name}",
            prefixes=_PREFIXES,
            superfluous=_SUPERFLUOUS,
            widths={name: variant.dim for name, variant in VARIANTS.items()},
        )

    def unmap(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate back to the keys of the published encoder, which loads the result strictly.

        With ``model.encoder.`` before each key it replaces the encoder in a Lightning checkpoint.
        """
        return {_upstream_name(name): value for name, value in fuse_qkv(state).items()}


def _upstream_name(name: str) -> str:
    """Name of a (fused) tensor in the published encoder."""
    first, _, rest = name.partition(".")
    if first == "blocks":
        index, _, rest = rest.partition(".")
        layer, _, kind = rest.rpartition(".")
        return f"transformer.layers.{index}.{_BLOCK_NAMES[layer]}.{kind}"
    if first == "norm":
        return f"transformer.{name}"
    return published_name(name.replace("patch_embed.", "patch_embedding."), "encoder")


@dataclass(frozen=True)
class Clay(BackboneSpec):
    """Clay v1 and v1.5: any band with a wavelength, patches of 8 pixels, one date, 92 M and 311 M parameters.

    Attributes:
        variant: "v1" (92 M parameters) or "v1.5" (311 M).
        sensor: whose wavelengths and pre-training statistics hold: "sentinel2", "landsat8", "planetscope", "modis",
            "naip" or "linz"; Sentinel-1 goes with any.
        metadata: encode dates and places. The ground sample distance is always encoded.
        weights: "pretrained", "random", or a path.
    """

    variant: str = "v1.5"
    sensor: str = "sentinel2"
    metadata: bool = False
    weights: str = "pretrained"

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ConfigError(
                f"there is no Clay variant '{self.variant}'{closest(self.variant, VARIANTS)}", allowed=VARIANTS
            )
        if self.sensor not in SENSORS:
            raise ConfigError(
                f"Clay knows no sensor '{self.sensor}'{closest(self.sensor, SENSORS)}",
                allowed=SENSORS,
                fix="take the one with the nearest wavelengths, and `train.normalise: dataset`",
            )

    def accepts(self, bands: Sequence[str]) -> tuple[str, ...]:
        """Return those of the bands that have a wavelength, in the given order."""
        return with_wavelength(bands)

    def build(self, bands: Sequence[str], frames: int = 1) -> Backbone:
        """Build the encoder with random weights.

        Raises:
            ConfigError: no band, one without wavelength or named twice, or several dates.
        """
        check_build("Clay", bands, frames)
        return ClayViT(VARIANTS[self.variant], bands, sensor=self.sensor, metadata=self.metadata)


BACKBONE = Clay

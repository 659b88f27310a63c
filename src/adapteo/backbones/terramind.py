"""TerraMind 1.0: ViTs for Sentinel-2, Sentinel-1 and elevation together, by IBM, ESA and FZ Jülich (arXiv 2504.11171).

    tokens = [W_m · patch_m + mod_m + position(y, x)  for each modality m];   maps = mean over the modalities

One encoder sees the patches of all modalities side by side; there is no class token. Pre-trained on 224 x 224 pixels of
10 m. The bands decide the modalities: optical bands, ``vv`` and ``vh``, ``elevation``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.backbones._keys import account
from adapteo.bands import SENTINEL2_L1C, SENTINEL2_L2A
from adapteo.contracts import BackboneSpec, Batch, Grid, Normalisation, Remapped, TokenBackbone, Weights, default_taps
from adapteo.errors import ConfigError, DataError, closest
from adapteo.vit import Block, GatedMlp, PatchConv2d, fuse_qkv, init_weights, sincos_1d, split_qkv

PATCH, PRETRAINED_PIXELS = 16, 224
POSITIONS = ("recomputed", "interpolated")
_PREFIXES = ("module.", "model.", "backbone.")
_OTHER_PARTS = ("decoder", "mask_token", "tokenizer", "sampler", "head.", "aux_heads.", "neck.", "missing_mod_token")


@dataclass(frozen=True)
class Modality:
    """One kind of input with its own patch embedding.

    Attributes:
        key: its name in the checkpoint.
        bands: canonical names, in upstream order.
        mean, std: of the pre-training, in upstream units (terramind_register.py of TerraTorch 1.2.11).
        unit: upstream units per physical unit of ours.
    """

    key: str
    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    unit: float = 1.0


_L2A_MEAN = (1390.458, 1503.317, 1718.197, 1853.91, 2199.1, 2779.975, 2987.011, 3083.234, 3132.22, 3162.988, 2424.884, 1857.648)  # fmt: skip  # noqa: E501
_L2A_STD = (2106.761, 2141.107, 2038.973, 2134.138, 2085.321, 1889.926, 1820.257, 1871.918, 1753.829, 1797.379, 1434.261, 1334.311)  # fmt: skip  # noqa: E501
_L1C_MEAN = (2357.089, 2137.385, 2018.788, 2082.986, 2295.651, 2854.537, 3122.849, 3040.56, 3306.481, 1473.847, 506.07, 2472.825, 1838.929)  # fmt: skip  # noqa: E501
_L1C_STD = (1624.683, 1675.806, 1557.708, 1833.702, 1823.738, 1733.977, 1732.131, 1679.732, 1727.26, 1024.687, 442.165, 1331.411, 1160.419)  # fmt: skip  # noqa: E501

OPTICAL = {
    "l2a": Modality("untok_sen2l2a@224", SENTINEL2_L2A, _L2A_MEAN, _L2A_STD, 1e4),
    "l1c": Modality("untok_sen2l1c@224", SENTINEL2_L1C, _L1C_MEAN, _L1C_STD, 1e4),
}
RADAR = {
    "grd": Modality("untok_sen1grd@224", ("vv", "vh"), (-12.599, -20.293), (5.195, 5.89)),
    "rtc": Modality("untok_sen1rtc@224", ("vv", "vh"), (-10.93, -17.329), (4.391, 4.459)),
}
ELEVATION = Modality("untok_dem@224", ("elevation",), (670.665,), (951.272,))


@dataclass(frozen=True)
class Variant:
    """Facts of one published model; the larger two have gated MLPs and no biases at all."""

    name: str
    dim: int
    depth: int
    heads: int
    gated: bool

    @property
    def weights(self) -> Weights:
        """Where they are."""
        file = f"TerraMind_v1_{self.name}.pt"
        return Weights(f"ibm-esa-geospatial/TerraMind-1.0-{self.name}", file, "Apache-2.0")


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("tiny", 192, 12, 3, gated=False),
        Variant("small", 384, 12, 6, gated=False),
        Variant("base", 768, 12, 12, gated=True),
        Variant("large", 1024, 24, 16, gated=True),
    )
}


class ModalityEmbedding(nn.Module):
    """Patches of one modality to tokens; the learned vector says which modality they are of."""

    def __init__(self, modality: Modality, bands: Sequence[str], dim: int) -> None:
        super().__init__()
        self.modality, self.bands = modality, tuple(bands)
        self.proj = PatchConv2d(len(bands), dim, PATCH, bias=False)
        self.mod_emb = nn.Parameter(torch.empty(1, 1, dim))

    def forward(self, images: Tensor) -> Tensor:
        """Turn ``(b, c, h, w)`` into tokens ``(b, h/16 * w/16, d)`` without position."""
        tokens: Tensor = self.proj(images).flatten(2).transpose(1, 2) + self.mod_emb
        return tokens


class TerraMindViT(TokenBackbone):
    """The encoder of TerraMind.

    Args:
        variant: one of `VARIANTS`.
        bands: canonical names, those of one modality in any order and place.
        modalities: that the bands belong to.
        merge: how the maps of several modalities become one, "mean" or "concat".
        positions: see `TerraMind`.
        depth: fewer blocks than the variant has, for tests.
    """

    norm: nn.LayerNorm

    def __init__(
        self,
        variant: Variant,
        bands: Sequence[str],
        modalities: Sequence[Modality],
        *,
        merge: str = "mean",
        positions: str = POSITIONS[0],
        depth: int | None = None,
    ) -> None:
        super().__init__()
        depth = depth or variant.depth
        self.variant, self.positions, self.merges = variant, positions, merge
        self.bands, self.dim, self.patch = tuple(bands), variant.dim, PATCH
        self.taps, self.weights = default_taps(depth), variant.weights
        chosen = {m.key: [band for band in bands if band in m.bands] for m in modalities}
        self.embeddings = nn.ModuleDict(
            {m.key: ModalityEmbedding(m, chosen[m.key], self.dim) for m in modalities if chosen[m.key]}
        )
        self.blocks = nn.ModuleList(_block(variant) for _ in range(depth))
        self.norm = nn.LayerNorm(self.dim, eps=1e-6, bias=False)
        self._tables: dict[tuple[object, ...], Tensor] = {}
        self.apply(init_weights)
        for embedding in self._embeddings():
            nn.init.xavier_uniform_(embedding.proj.weight.flatten(1))
            nn.init.normal_(embedding.mod_emb, std=0.02)

    def _embeddings(self) -> list[ModalityEmbedding]:
        return [module for module in self.embeddings.children() if isinstance(module, ModalityEmbedding)]

    def embed(self, batch: Batch) -> tuple[Tensor, Grid]:
        """Turn normalised images ``(b, 1, c, h, w)`` into the tokens of one modality after the other.

        Raises:
            DataError: when the images do not have this instance's bands, or sides that are no multiples of 16.
        """
        _, t, c, h, w = batch.images.shape
        if (t, c) != (1, len(self.bands)):
            raise DataError(
                f"the images have {t} dates and {c} bands; built for 1 date and {len(self.bands)} bands",
                fix="build the backbone with the dataset's bands",
            )
        if h % PATCH or w % PATCH:
            raise DataError(f"images of {h} x {w} pixels cannot be cut into patches of {PATCH}", fix="pad or crop them")
        images = batch.images[:, 0].to(self.norm.weight.dtype)
        places = self._position_table(h // PATCH, w // PATCH)
        parts = [
            embedding(images[:, [self.bands.index(band) for band in embedding.bands]]) + places
            for embedding in self._embeddings()
        ]
        return torch.cat(parts, dim=1), Grid(h // PATCH, w // PATCH, stack=len(parts), merge=self.merges)

    def plain_channels(self) -> tuple[int, ...]:
        """Width of the tokens, times the modalities when they are concatenated."""
        width = self.dim * len(self.embeddings) if self.merges == "concat" else self.dim
        return (width,) * len(self.taps)

    def _position_table(self, height: int, width: int) -> Tensor:
        like = self.norm.weight
        key = (height, width, like.device, like.dtype)
        if key not in self._tables:
            if len(self._tables) >= 8:
                self._tables.clear()
            side = PRETRAINED_PIXELS // PATCH
            if self.positions == "interpolated" and (height, width) != (side, side):
                table = position_code(self.dim, side, side).float().view(1, side, side, -1).permute(0, 3, 1, 2)
                table = F.interpolate(table, size=(height, width), mode="bicubic", align_corners=False)
                table = table[0].flatten(1).t()
            else:
                table = position_code(self.dim, height, width)
            self._tables[key] = table.float().to(like)
        return self._tables[key]

    @property
    def normalisation(self) -> Normalisation:
        """Pre-training statistics of `bands`: reflectance, decibel, metres."""
        pairs: dict[str, tuple[float, float]] = {}
        for embedding in self._embeddings():
            m = embedding.modality
            facts = zip(m.bands, m.mean, m.std, strict=True)
            pairs |= {band: (mean / m.unit, std / m.unit) for band, mean, std in facts}
        mean, std = zip(*(pairs[band] for band in self.bands), strict=True)
        return Normalisation(tuple(mean), tuple(std))

    def remap(self, state: Mapping[str, Tensor]) -> Remapped:
        """Translate a checkpoint of the encoder or of the whole model; takes the modalities and bands of this instance.

        Raises:
            WeightsError: lists the keys that are missing, unknown or of another shape.
        """
        own = {name: value.to("meta") for name, value in self.state_dict().items()}
        expected = {name: tuple(value.shape) for name, value in self.unmap(own).items() if not _constant(name)}
        zeros = {_without_prefixes(key) for key, value in state.items() if not value.any()}

        def superfluous(name: str) -> str:
            if name.startswith("encoder_embeddings."):
                if name.endswith(".pos_emb"):
                    return "recomputed for the size of the image"
                return "" if name.split(".")[1] in self.embeddings else "belongs to a modality that is not used"
            if name.startswith(_OTHER_PARTS):
                return "belongs to a decoder, tokenizer or task"
            return "always zero" if _constant(name) and name in zeros else ""

        found = account(
            state,
            expected,
            model=f"TerraMind {self.variant.name}",
            fix="give a TerraMind 1.0 checkpoint of this variant",
            rename=_without_prefixes,
            superfluous=superfluous,
        )
        ours = {}
        for name, value in split_qkv(found.state).items():
            if name.endswith(".proj.weight") and name.startswith("encoder_embeddings."):
                embedding = self.embeddings[name.split(".")[1]]
                assert isinstance(embedding, ModalityEmbedding)
                value = _from_upstream(value, embedding)
            ours[_our_name(name)] = value
        return Remapped(ours, found.skipped)

    def unmap(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate back to the keys of TerraTorch's encoder, which loads the result strictly.

        Patch embeddings get all bands of their modality, with zeros for those that this instance does not see.
        """
        out = {}
        for name, value in fuse_qkv(state).items():
            if name.endswith(".proj.weight") and name.startswith("embeddings."):
                embedding = self.embeddings[name.split(".")[1]]
                assert isinstance(embedding, ModalityEmbedding)
                value = _to_upstream(value, embedding)
            out[_their_name(name)] = value
        side = PRETRAINED_PIXELS // PATCH
        for key in self.embeddings:
            out[f"encoder_embeddings.{key}.pos_emb"] = position_code(self.dim, side, side).float().unsqueeze(0)
        for name in [name for name in out if name.endswith(("norm1.weight", "norm2.weight", "encoder_norm.weight"))]:
            out[name.replace(".weight", ".bias")] = torch.zeros_like(out[name])
        return out


def _block(variant: Variant) -> Block:
    if not variant.gated:
        return Block(variant.dim, variant.heads, norm_bias=False)
    mlp = GatedMlp(variant.dim, variant.dim * 8 // 3, bias=False)  # two thirds of 4 d, for the third matrix
    return Block(variant.dim, variant.heads, mlp, qkv_bias=False, proj_bias=False, norm_bias=False)


def position_code(dim: int, height: int, width: int) -> Tensor:
    """Sine-cosine code of a grid, float64 ``(h * w, dim)``: half of the width for the row, half for the column."""
    rows, columns = (sincos_1d(dim // 2, torch.arange(n)) for n in (height, width))
    grid = torch.cat([rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], dim=-1)
    return grid.flatten(0, 1)


def _constant(name: str) -> bool:
    """Whether an upstream tensor is a buffer that never changes: positions, and the biases that norms do not have."""
    return name.endswith((".pos_emb", "norm1.bias", "norm2.bias", "encoder_norm.bias"))


def _without_prefixes(key: str) -> str:
    while prefix := next((p for p in _PREFIXES if key.startswith(p)), ""):
        key = key.removeprefix(prefix)
    return key


def _our_name(name: str) -> str:
    name = name.replace("encoder_embeddings.", "embeddings.").replace(".fc3.", ".gate.")
    return name.replace("encoder_norm.", "norm.").replace("encoder.", "blocks.")


def _their_name(name: str) -> str:
    first, dot, rest = name.partition(".")
    first = {"embeddings": "encoder_embeddings", "norm": "encoder_norm", "blocks": "encoder"}[first]
    return first + dot + rest.replace(".gate.", ".fc3.")


def _from_upstream(weight: Tensor, embedding: ModalityEmbedding) -> Tensor:
    """Turn ``(d, p · p · c)``, pixel by pixel, into the kernel ``(d, c, p, p)`` of this embedding's bands."""
    kernel = weight.view(len(weight), PATCH, PATCH, -1).permute(0, 3, 1, 2)
    return kernel[:, [embedding.modality.bands.index(band) for band in embedding.bands]].contiguous()


def _to_upstream(kernel: Tensor, embedding: ModalityEmbedding) -> Tensor:
    """Invert `_from_upstream`, with zeros for the bands that are not there."""
    full = kernel.new_zeros(len(kernel), len(embedding.modality.bands), PATCH, PATCH)
    full[:, [embedding.modality.bands.index(band) for band in embedding.bands]] = kernel
    return full.permute(0, 2, 3, 1).reshape(len(kernel), -1)


@dataclass(frozen=True)
class TerraMind(BackboneSpec):
    """TerraMind 1.0 (IBM, ESA): Sentinel-2, Sentinel-1 and elevation in one encoder, 6 M to 303 M parameters.

    Attributes:
        variant: "tiny", "small", "base" or "large".
        optical: product of the optical bands: "l2a" (surface reflectance) or "l1c" (top of atmosphere, with cirrus).
        radar: product of ``vv`` and ``vh`` in decibel: "grd" or "rtc" (terrain-corrected).
        merge: how the maps of several modalities become one: "mean", or "concat" in the channels.
        positions: for other image sizes than 224: "recomputed" continues or cuts the grid of pre-training;
            "interpolated" stretches it over the image, as TerraTorch does when it is not told the size.
        weights: "pretrained" (hub), "random", or the path of a local file or folder.
    """

    variant: Literal["tiny", "small", "base", "large"] = "base"
    optical: Literal["l2a", "l1c"] = "l2a"
    radar: Literal["grd", "rtc"] = "grd"
    merge: Literal["mean", "concat"] = "mean"
    positions: Literal["recomputed", "interpolated"] = "recomputed"
    weights: str = "pretrained"

    def __post_init__(self) -> None:
        choices = {
            "variant": tuple(VARIANTS),
            "optical": tuple(OPTICAL),
            "radar": tuple(RADAR),
            "merge": ("mean", "concat"),
            "positions": POSITIONS,
        }
        for name, allowed in choices.items():
            given = vars(self)[name]
            if given not in allowed:
                raise ConfigError(f"terramind's {name} is '{given}'{closest(given, allowed)}", allowed=allowed)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities that bands can belong to."""
        return OPTICAL[self.optical], RADAR[self.radar], ELEVATION

    def accepts(self, bands: Sequence[str]) -> tuple[str, ...]:
        """Return the bands of the chosen products, in the given order."""
        known = {band for modality in self.modalities for band in modality.bands}
        return tuple(band for band in bands if band in known)

    def build(self, bands: Sequence[str], frames: int = 1) -> TerraMindViT:
        """Build the module with random weights.

        Raises:
            ConfigError: several dates, or a band that is not accepted.
        """
        if frames != 1:
            raise ConfigError(
                f"terramind takes one date, the dataset has {frames}", fix="choose prithvi or galileo for time series"
            )
        taken = self.accepts(bands)
        if not taken or len(taken) < len(bands):
            left = [band for band in bands if band not in taken]
            allowed = [band for modality in self.modalities for band in modality.bands]
            raise ConfigError(f"terramind has no band {left or 'at all'}", allowed=allowed)
        return TerraMindViT(VARIANTS[self.variant], bands, self.modalities, merge=self.merge, positions=self.positions)


BACKBONE = TerraMind

"""Cases, weights and maps that `tools/golden_decoders.py` and `test_golden.py` make alike, without storing them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from zlib import crc32

import torch
from torch import Tensor

from adapteo.contracts import Features

CNN = (6, 8, 10, 12)
PAPER_UNET, PAPER_UPERNET = {"norm": "batch"}, {"norm": "batch", "align_corners": True}


@dataclass(frozen=True)
class Case:
    """One forward pass through a decoder with 3 outputs.

    Attributes:
        decoder: name of ours.
        peer: "terratorch" (its decoder with its neck, where it needs one, head and resizing), or "smp".
        channels, strides: of the maps.
        size: label grid in pixels.
        fields: of our decoder.
        training: batch statistics instead of stored ones.
    """

    decoder: str
    peer: str
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    size: tuple[int, int]
    fields: Mapping[str, object] = field(default_factory=dict)
    training: bool = False

    @property
    def name(self) -> str:
        fields = [f"{key}={value}".replace(" ", "") for key, value in self.fields.items()]
        spread = "-".join(map(str, self.channels)), "-".join(map(str, self.strides)), "x".join(map(str, self.size))
        return "_".join([self.decoder, self.peer, *spread, *fields, *(["training"] if self.training else [])])

    @property
    def features(self) -> Features:
        return Features(self.channels, self.strides)

    def maps(self, batch: int = 2) -> list[Tensor]:
        generator = _generator(self.name)
        return [
            torch.randn(batch, channels, *(math.ceil(side / stride) for side in self.size), generator=generator)
            for channels, stride in zip(self.channels, self.strides, strict=True)
        ]


def vit(decoder: str, size: tuple[int, int], *, width: int = 16, patch: int = 16, **options: object) -> Case:
    """Four taps of a plain ViT, for TerraTorch."""
    return Case(decoder, "terratorch", (width,) * 4, (patch,) * 4, size, **options)  # type: ignore[arg-type]


CASES = [
    vit("linear", (32, 48)),
    vit("linear", (32, 48), fields={"upsampling": 8}),
    Case("linear", "terratorch", (6,) * 4, (4, 8, 16, 32), (64, 96), {"upsampling": 16}),
    vit("fcn", (32, 48), fields={"channels": 8}),
    vit("fcn", (32, 48), fields={"channels": 8, "blocks": 2}),
    vit("fcn", (16, 24), patch=8, fields={"channels": 8, "blocks": 4}),
    vit("fcn", (32, 32), width=768, fields={"channels": 512, "blocks": 4}),
    vit("unet", (64, 96), fields={**PAPER_UNET, "channels": (16, 12, 8, 6)}),
    vit("unet", (64, 96), fields={**PAPER_UNET, "channels": (16, 12, 8, 6)}, training=True),
    vit("unet", (64, 64), width=768, fields={**PAPER_UNET, "channels": (512, 256, 128, 64)}),
    Case("unet", "terratorch", CNN, (4, 8, 16, 32), (64, 96), {**PAPER_UNET, "channels": (12, 10, 8, 6)}),
    Case(
        "unet",
        "terratorch",
        (4, *CNN),
        (2, 4, 8, 16, 32),
        (64, 96),
        {**PAPER_UNET, "channels": (12, 10, 8, 6, 4), "upsample_last": False},
    ),
    Case("unet", "smp", (4, *CNN), (2, 4, 8, 16, 32), (64, 96), {**PAPER_UNET, "channels": (12, 10, 8, 6, 4)}),
    vit("upernet", (64, 96), fields={**PAPER_UPERNET, "channels": 8}),
    vit("upernet", (64, 96), fields={**PAPER_UPERNET, "channels": 8}, training=True),
    vit("upernet", (32, 48), patch=8, fields={**PAPER_UPERNET, "channels": 8, "pools": (1, 4)}),
    vit("upernet", (64, 64), width=768, fields={**PAPER_UPERNET, "channels": 256}),
    Case("upernet", "terratorch", CNN, (4, 8, 16, 32), (64, 96), {**PAPER_UPERNET, "channels": 8}),
    Case("upernet", "smp", (4, *CNN), (2, 4, 8, 16, 32), (64, 96), {"norm": "batch", "channels": 8}),
]
NECK = [Case("pyramid", "terratorch", (width,) * 4, (16,) * 4, size) for width, size in ((8, (64, 96)), (20, (48, 80)))]
"""For the pyramid alone: an even grid and an odd one."""


def _generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(crc32(name.encode()))


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """Values for one of our keys, from a generator of its own, that keep features near variance 1."""
    noise = torch.randn(shape, generator=_generator(name))
    if name.endswith("running_var"):
        return noise.abs() + 0.5
    if noise.ndim == 1:
        return 0.1 * noise + (1 if name.endswith("weight") else 0)
    return noise * math.sqrt(2 / max(1, noise[0].numel()))


def fill(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights for all keys; the number of batches that batch norms have seen is of no effect."""
    return {
        name: torch.tensor(0) if name.endswith("num_batches_tracked") else weight(name, shape)
        for name, shape in shapes.items()
    }


def layer_norms(maps: list[Tensor]) -> list[Tensor]:
    """What segmentation_models.pytorch's UPerNet does to its maps first, with weights of 1 and 0."""
    return [torch.layer_norm(m.permute(0, 2, 3, 1), (m.shape[1],), eps=1e-6).permute(0, 3, 1, 2) for m in maps]


def digest(maps: list[Tensor]) -> Tensor:
    """Sums of each map, which tell whether another version of PyTorch draws other numbers: ``(maps, 2)`` float64."""
    return torch.stack([torch.stack([m.double().sum(), m.double().abs().sum()]) for m in maps])


def sketch(logits: Tensor) -> Tensor:
    """Logits at 16 places and eight random projections of each channel: ``(b, k, 24)``; the latter notice the rest."""
    flat = logits.flatten(2)
    places = torch.linspace(0, flat.shape[2] - 1, 16).long()
    projections = torch.randn(flat.shape[2], 8, generator=_generator("places")) / math.sqrt(flat.shape[2])
    return torch.cat([flat[..., places], flat @ projections], dim=2)

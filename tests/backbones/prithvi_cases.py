"""Cases, weights and inputs that `tools/golden_prithvi.py` and `test_prithvi.py` make alike, without storing them."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32

import torch
from torch import Tensor

from adapteo.backbones.prithvi import VARIANTS
from adapteo.bands import HLS6
from adapteo.contracts import Batch

REORDERED = ("swir22", "red", "nir08")


@dataclass(frozen=True)
class Case:
    """One forward pass. ``depth`` None is the variant's own; the sizes are in pixels."""

    variant: str
    frames: int = 1
    height: int = 96
    width: int = 96
    depth: int | None = None
    bands: tuple[str, ...] = HLS6
    metadata: bool = False
    positions: str = "recomputed"

    @property
    def name(self) -> str:
        parts = [self.variant, f"t{self.frames}", f"{self.height}x{self.width}", f"depth{self.depth or 'full'}"]
        parts += ["-".join(self.bands)] if self.bands != HLS6 else []
        parts += ["metadata"] if self.metadata else []
        parts += ["interpolated"] if self.positions == "interpolated" else []
        return "_".join(parts)


def _fast() -> list[Case]:
    """Full depth where that is cheap (tiny), one or two blocks of full width elsewhere."""
    tiny = "2.0-tiny-TL"
    cases = [Case(tiny, frames, 224, 224, depth=depth) for frames, depth in ((1, None), (2, 2), (3, 2), (4, 2))]
    cases += [Case(tiny, frames, metadata=frames == 4) for frames in (1, 2, 3, 4)]
    cases += [Case(tiny, frames, 64, 128, metadata=True) for frames in (1, 2, 3, 4)]
    cases += [Case(tiny, bands=REORDERED), Case(tiny, 2, bands=HLS6[::-1], metadata=True)]
    cases += [Case(tiny, 2, 64, 128, positions="interpolated"), Case(tiny, 3, 240, 208, 2, positions="interpolated")]
    cases += [Case(tiny, 3, 224, 224, 2, positions="interpolated", metadata=True)]
    for name, variant in VARIANTS.items():
        if name != tiny:
            p14 = variant.patch == 14
            cases.append(Case(name, 1, 224, 224, depth=1))
            cases.append(Case(name, 3, *((70, 126) if p14 else (64, 128)), depth=2, metadata=variant.metadata))
            cases.append(Case(name, 2, *((98, 98) if p14 else (96, 96)), depth=1, bands=REORDERED))
    cases.append(Case("2.0-600M", 2, 98, 70, depth=1, positions="interpolated"))
    return cases


def _full() -> list[Case]:
    """Every variant with all of its blocks."""
    sizes = {name: (70, 126) if variant.patch == 14 else (64, 128) for name, variant in VARIANTS.items()}
    return [Case(name, 4, *sizes[name], metadata=variant.metadata) for name, variant in VARIANTS.items()]


FAST, FULL = _fast(), _full()


def _generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(crc32(name.encode()))


def fill(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights for upstream keys, see `weight`."""
    return {name: weight(name, shape) for name, shape in shapes.items()}


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """Normal values for one upstream key, from a generator of its own; half as large at the ends of residual branches.

    So the values stay below about 10 over 32 blocks, and 1e-5 remains well above the rounding of float32.
    """
    noise = torch.randn(shape, generator=_generator(name))
    if name.endswith("scale"):
        return 0.5 + 0.1 * noise
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.1 * noise
    if name == "cls_token" or noise.ndim == 1:
        return 0.1 * noise
    gain = 0.5 if name.endswith(("attn.proj.weight", "mlp.fc2.weight")) else 1.0
    return noise * (gain / math.sqrt(noise[0].numel()))


def batch(case: Case) -> Batch:
    """Two normalised images with dates and places, or one when they are large."""
    size = 2 if case.height < 200 else 1
    generator = _generator(case.name)
    shape = (size, case.frames, len(case.bands), case.height, case.width)
    years = torch.randint(2015, 2025, (size, case.frames), generator=generator)
    days = torch.randint(1, 367, (size, case.frames), generator=generator)
    latlon = torch.rand(size, 2, generator=generator) * torch.tensor([180.0, 360.0]) - torch.tensor([90.0, 180.0])
    images = torch.randn(shape, generator=generator)
    return Batch(images, dates=torch.stack([years, days], dim=-1).float(), latlon=latlon)


def sketch(feature_map: Tensor) -> Tensor:
    """A few values of ``(b, c, h, w)`` and six random projections of each image: ``(b, 54)``.

    The values are those of 12 channels, the first, middle and last ones, at four places; the projections notice
    anything else.
    """
    _, c, h, w = feature_map.shape
    channels = [*range(4), *range(c // 2 - 2, c // 2 + 2), *range(c - 4, c)]
    places = torch.tensor([0, w - 1, (h // 2) * w + w // 2, h * w - 1])
    values = feature_map[:, channels].flatten(2)[..., places].flatten(1)
    weights = torch.randn(6, c, generator=_generator("channels")), torch.randn(6, h * w, generator=_generator("space"))
    projections = torch.einsum("bcs,kc,ks->bk", feature_map.flatten(2), *weights) / math.sqrt(c * h * w)
    return torch.cat([values, projections], dim=1)


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Fingerprint of a checkpoint's keys and shapes."""
    lines = (f"{name} {tuple(shape)}\n" for name, shape in sorted(shapes.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()

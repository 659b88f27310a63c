"""Cases, weights and inputs that the golden tools and the tests of Clay and DOFA make alike, without storing them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle, product
from zlib import crc32

import torch
from prithvi_cases import digest, sketch
from torch import Tensor

from adapteo.bands import HLS6, SENTINEL2_L2A
from adapteo.contracts import Batch

__all__ = ["CLAY", "CLAY_FULL", "DOFA", "DOFA_FULL", "Case", "batch", "digest", "fill", "sketch", "weight"]

TEN = (*SENTINEL2_L2A[1:9], *SENTINEL2_L2A[10:])
REORDERED = ("swir22", "red", "nir08")
RADAR = ("vh", "vv")
_LABELS = {TEN: "ten", HLS6: "hls6", REORDERED: "reordered", RADAR: "radar"}
_ENDS = ("attn.proj.weight", "mlp.fc2.weight", "to_out.weight", "net.3.weight", "out_proj.weight", "linear2.weight")


@dataclass(frozen=True)
class Case:
    """One forward pass. ``depth`` None is the variant's own; the sizes are in pixels."""

    variant: str
    height: int = 64
    width: int = 64
    depth: int | None = None
    bands: tuple[str, ...] = TEN
    gsd: float = 10.0
    metadata: bool = False
    sensor: str = "sentinel2"
    positions: str = "recomputed"

    @property
    def name(self) -> str:
        parts = [self.variant, f"{self.height}x{self.width}", f"depth{self.depth or 'full'}"]
        parts += [_LABELS.get(self.bands) or f"{len(self.bands)}bands"]
        parts += [f"gsd{self.gsd:g}"] if self.gsd != 10 else []
        parts += ["metadata"] if self.metadata else []
        parts += [self.sensor] if self.sensor != "sentinel2" else []
        parts += ["interpolated"] if self.positions == "interpolated" else []
        return "_".join(parts)


def _clay() -> list[Case]:
    """Both sizes, distances and kinds of metadata with bands in turn; oblong images; Landsat."""
    cases = []
    for variant, depth in (("v1", 2), ("v1.5", 1)):
        bands = cycle((TEN, REORDERED, HLS6))
        for side, gsd, metadata in product((64, 96), (10.0, 30.0), (False, True)):
            cases.append(Case(variant, side, side, depth, next(bands), gsd, metadata))
        cases += [Case(variant, 64, 96, depth, RADAR, metadata=True), Case(variant, 96, 32, depth, gsd=0.6)]
        cases += [Case(variant, 64, 64, depth, HLS6, 30.0, sensor="landsat8")]
    return cases


def _dofa() -> list[Case]:
    """Pre-training size and others, bands in turn, both kinds of positions."""
    base = [
        Case("base", 224, 224, 2, TEN[:7] + TEN[8:]),
        Case("base", 96, 96, 2, REORDERED),
        Case("base", 64, 128, 2, HLS6[::-1]),
        Case("base", 96, 96, 2, RADAR),
        Case("base", 32, 48, 2, SENTINEL2_L2A),
        Case("base", 96, 96, 2, HLS6, positions="interpolated"),
        Case("base", 240, 208, 1, REORDERED, positions="interpolated"),
    ]
    large = [Case("large", 224, 224, 1, HLS6), Case("large", 64, 128, 1, TEN), Case("large", 96, 96, 1, REORDERED)]
    return base + large


CLAY, DOFA = _clay(), _dofa()
CLAY_FULL = [Case("v1", 64, 96, metadata=True), Case("v1.5", 96, 64, metadata=True)]
DOFA_FULL = [Case("base", 96, 64), Case("large", 64, 96)]


def _generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(crc32(name.encode()))


def fill(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights for upstream keys, see `weight`."""
    return {name: weight(name, shape) for name, shape in shapes.items()}


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """Normal values for one upstream key, from a generator of its own; half as large at the ends of residual branches.

    Vectors are the weights of norms (about 1) or biases, and tokens are small.
    """
    noise = torch.randn(shape, generator=_generator(name))
    if noise.ndim == 1:
        return 1 + 0.1 * noise if name.endswith("weight") else 0.1 * noise
    if name.endswith("token") or name.endswith("tokens"):
        return 0.1 * noise
    return noise * ((0.5 if name.endswith(_ENDS) else 1.0) / math.sqrt(noise[0].numel()))


def batch(case: Case) -> Batch:
    """Two normalised images with dates and places, or one when they are large; one date is the 53rd week's."""
    size = 2 if case.height < 200 else 1
    generator = _generator(case.name)
    dates = torch.tensor([[[2021.0, 2.0]], [[2019.0, 200.0]]])[:size]
    latlon = torch.rand(size, 2, generator=generator) * torch.tensor([180.0, 360.0]) - torch.tensor([90.0, 180.0])
    images = torch.randn(size, 1, len(case.bands), case.height, case.width, generator=generator)
    return Batch(images, dates=dates, latlon=latlon, gsd=case.gsd)

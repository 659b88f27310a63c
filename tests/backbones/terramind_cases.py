"""Cases that `tools/golden_terramind.py` and `test_terramind.py` make alike; weights and sketches as for Prithvi."""

from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32

import torch
from prithvi_cases import weight
from torch import Tensor

from adapteo.backbones.terramind import VARIANTS, TerraMind, TerraMindViT
from adapteo.bands import SENTINEL2_L1C, SENTINEL2_L2A
from adapteo.contracts import Batch

RADAR, ELEVATION = ("vv", "vh"), ("elevation",)
SIX = ("swir22", "blue", "green", "red", "nir08", "swir16")


@dataclass(frozen=True)
class Case:
    """One forward pass; the bands stand modality by modality, in the order optical, radar, elevation."""

    variant: str
    bands: tuple[str, ...] = SENTINEL2_L2A
    height: int = 96
    width: int = 96
    depth: int | None = 2
    optical: str = "l2a"
    radar: str = "grd"
    merge: str = "mean"
    positions: str = "recomputed"

    @property
    def name(self) -> str:
        parts = (self.variant, "-".join(self.bands), f"{self.height}x{self.width}", self.depth or "full")
        return "_".join(map(str, (*parts, self.optical, self.radar, self.merge, self.positions)))


CASES = [
    Case("tiny", depth=None),
    Case("tiny", (*SENTINEL2_L2A, *RADAR, *ELEVATION), 224, 224, depth=None),
    Case("tiny", (*SENTINEL2_L1C, *RADAR), optical="l1c", radar="rtc", merge="concat"),
    Case("tiny", (*SIX, *ELEVATION), 64, 64),
    Case("tiny", RADAR, 64, 128, positions="interpolated"),
    Case("small", ("red", "vh"), 128, 128),
    Case("base", (*SENTINEL2_L2A, *RADAR), depth=None),
    Case("base", SIX, 64, 96, positions="interpolated"),
    Case("large"),
]


def fill(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights for upstream keys; the biases that norms do not have stay zero."""
    return {
        name: torch.zeros(shape) if "norm" in name and name.endswith(".bias") else weight(name, shape)
        for name, shape in shapes.items()
    }


def batch(case: Case) -> Batch:
    """Two normalised images, or one when they are large."""
    generator = torch.Generator().manual_seed(crc32(case.name.encode()))
    shape = (2 if case.height < 200 else 1, 1, len(case.bands), case.height, case.width)
    return Batch(torch.randn(shape, generator=generator))


def build_ours(case: Case, state: Mapping[str, Tensor] | None = None) -> TerraMindViT:
    """Our encoder with every block as a tap: with the weights of an upstream checkpoint, or without storage."""
    spec = TerraMind(case.variant, case.optical, case.radar, case.merge, case.positions)
    facts = VARIANTS[case.variant], case.bands, spec.modalities
    with torch.device("meta"):
        model = TerraMindViT(*facts, merge=case.merge, positions=case.positions, depth=case.depth)
    if state is not None:
        model.load_state_dict(model.remap(state).state, assign=True)
    model.taps = tuple(range(len(model.blocks)))
    return model.eval()

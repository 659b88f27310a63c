"""Cases, weights and inputs that `tools/golden_vit_adapter.py` and the tests make alike, without storing them."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32

import torch
from torch import Tensor

from adapteo.backbones.prithvi import PrithviViT, Variant
from adapteo.bands import HLS6
from adapteo.contracts import Batch, Weights
from adapteo.peft.vit_adapter import ViTAdapter


@dataclass(frozen=True)
class Case:
    """One forward and backward pass of Prithvi with ViT-Adapter; the sizes are in pixels."""

    dim: int = 64
    depth: int = 4
    heads: int = 4
    height: int = 64
    width: int = 96
    cffn: bool = False
    training: bool = False

    @property
    def name(self) -> str:
        parts = [f"d{self.dim}", f"depth{self.depth}", f"{self.height}x{self.width}"]
        parts += ["cffn"] if self.cffn else []
        return "_".join([*parts, "training" if self.training else "evaluation"])

    @property
    def method(self) -> ViTAdapter:
        return ViTAdapter(heads=self.heads, cffn=self.cffn, class_token=False)

    def backbone(self) -> PrithviViT:
        variant = Variant(
            "1.0-narrow", self.dim, self.depth, self.heads, 16, Weights("none", "none.safetensors", "CC0-1.0")
        )
        return PrithviViT(variant, HLS6)


CASES = [
    Case(),
    Case(training=True),
    Case(depth=8, height=96, width=32, cffn=True),
    Case(depth=8, height=96, width=64, cffn=True, training=True),
    Case(dim=768, depth=12, heads=12),
]


@dataclass(frozen=True)
class Places:
    """One call of the sampling alone: `sizes` of the levels, b images, q queries, m heads of c channels, p points."""

    sizes: tuple[tuple[int, int], ...] = ((6, 10), (3, 5), (2, 3))
    b: int = 2
    q: int = 7
    m: int = 3
    c: int = 5
    p: int = 4

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Values, places (some of them outside of 0..1) and weights."""
        cells, l = sum(h * w for h, w in self.sizes), len(self.sizes)  # noqa: E741
        value = noise("value", (self.b, cells, self.m, self.c))
        locations = 0.5 + 0.4 * noise("locations", (self.b, self.q, self.m, l, self.p, 2))
        weights = noise("weights", (self.b, self.q, self.m, l * self.p)).softmax(-1)
        return value, locations, weights.view(self.b, self.q, self.m, l, self.p)


SAMPLINGS = {"pyramid": Places(), "one level": Places(sizes=((4, 7),), q=40, p=3)}


def noise(name: str, shape: tuple[int, ...]) -> Tensor:
    """Normal values from a generator of this name."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(crc32(name.encode())))


def fill(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights for TerraTorch's keys: nothing is zero that is zero at the start, places spread over several cells."""
    return {name: _weight(name, shape) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...]) -> Tensor:
    values = noise(name, shape)
    if name.endswith("num_batches_tracked"):
        return torch.tensor(3)
    if name.endswith("running_var"):
        return 0.5 + values.abs()
    if name.endswith("sampling_offsets.bias"):
        return 2 * values
    if name.endswith("gamma"):
        return 0.5 + 0.1 * values
    if values.ndim == 1:
        return (1.0 if name.endswith("weight") else 0.0) + 0.1 * values
    gain = 0.5 if name.endswith(("attn.proj.weight", "mlp.fc2.weight")) else 1.0
    return values * (gain / math.sqrt(values[0].numel()))


def batch(case: Case) -> Batch:
    """Two normalised images."""
    return Batch(noise(case.name, (2, 1, len(HLS6), case.height, case.width)))


def loss(maps: list[Tensor]) -> Tensor:
    """A random projection of all maps, so that every parameter has a gradient."""
    return torch.stack([(m * noise(f"map {i}", tuple(m.shape))).mean() for i, m in enumerate(maps)]).sum()


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Fingerprint of keys and shapes."""
    lines = (f"{name} {shape}\n" for name, shape in sorted(shapes.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def sketch(name: str, tensor: Tensor) -> Tensor:
    """Twelve values and four random projections ``(16,)``; the projections notice anything else."""
    flat = tensor.detach().double().flatten()
    chosen = torch.linspace(0, len(flat) - 1, 12).long()
    directions = noise(f"direction {name}", (4, len(flat))).double() / math.sqrt(len(flat))
    return torch.cat([flat[chosen], directions @ flat]).float()

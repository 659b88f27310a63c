"""What the published Galileo and ours are compared on: the same seeded inputs and weights, on both sides."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

S1 = ("vv", "vh")
RGB = ("blue", "green", "red")
S2 = (*RGB, "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16", "swir22")
TERRAIN = ("elevation", "slope")
SIZES = {"nano": (128, 4, 8), "tiny": (192, 12, 3), "base": (768, 12, 12)}


@dataclass(frozen=True)
class Case:
    """One comparison; ``steps`` are numbers of blocks after which the tokens are compared as well."""

    name: str
    bands: tuple[str, ...]
    patch: int = 8
    height: int = 16
    width: int = 16
    frames: int = 1
    batch: int = 1
    gsd: float = 10.0
    dated: bool = False
    ndvi: bool = True
    variant: str = "nano"
    steps: tuple[int, ...] = ()


CASES = (
    Case("s2", S2, height=32, width=32, batch=2, dated=True),
    Case("rgb", RGB, height=64, width=64),
    Case("s1_s2_series", (*S1, *S2), patch=4, frames=3, batch=2, dated=True, steps=(1, 3)),
    Case("fine", S2, patch=2),
    Case("wide", RGB, height=64, width=32),
    Case("patch_5_gsd_20", (*RGB, "nir"), patch=5, height=20, width=20, gsd=20.0),
    Case("patch_7", S1, patch=7, height=14, width=14),
    Case("pixels", RGB, patch=1, height=4, width=4),
    Case("terrain", (*TERRAIN, *S1), patch=4, frames=2, dated=True),
    Case("terrain_only", TERRAIN),
    Case("two_years", RGB, patch=4, height=8, width=8, frames=24, dated=True),
    Case("without_ndvi", S2, ndvi=False),
)
RANDOM = (
    Case("random_nano", (*S1, *S2), patch=4, frames=3, dated=True),
    Case("random_nano_terrain", (*S2, *TERRAIN), patch=6, height=12, width=12),
    Case("random_tiny", S2, patch=4, frames=2, dated=True, variant="tiny"),
    Case("random_base", S2, dated=True, variant="base"),
)


def inputs(case: Case) -> tuple[Tensor, Tensor | None]:
    """Physical images ``(b, t, c, h, w)`` and dates ``(b, t, 2)``, one of which is unknown, from the case's name."""
    generator = torch.Generator().manual_seed(sum(case.name.encode()))
    images = torch.rand(case.batch, case.frames, len(case.bands), case.height, case.width, generator=generator)
    low, high = torch.tensor([_range(band) for band in case.bands]).T[:, :, None, None]
    images = low + images * (high - low)
    if not case.dated:
        return images, None
    day = torch.randint(1, 366, (case.batch, case.frames), generator=generator).float()
    dates = torch.stack([torch.full_like(day, 2021), day], -1)
    dates[-1, -1] = torch.nan
    return images, dates


def _range(band: str) -> tuple[float, float]:
    return {"vv": (-25.0, 0.0), "vh": (-30.0, -5.0), "elevation": (0.0, 2000.0), "slope": (0.0, 30.0)}.get(
        band, (0.0, 0.5)
    )


def random_state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Seeded weights for the sorted keys of a checkpoint."""
    generator = torch.Generator().manual_seed(7)
    return {
        key: torch.randn(shapes[key], generator=generator) * 0.1 + (".norm" in f".{key}" and key.endswith("weight"))
        for key in sorted(shapes)
    }


def published_shapes(variant: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a published checkpoint, written down independently of our code."""
    d, depth, _ = SIZES[variant]
    groups = {"S1": 2, "S2_RGB": 3, "S2_Red_Edge": 3, "S2_NIR_10m": 1, "S2_NIR_20m": 1, "S2_SWIR": 2, "NDVI": 1}
    shapes: dict[str, tuple[int, ...]] = {"pos_embed": (24, d // 4), "month_embed.weight": (12, d // 4)}
    shapes |= {f"{kind}_channel_embed": (n, d // 4) for kind, n in {"s_t": 7, "sp": 3, "t": 3, "st": 4}.items()}
    layers: dict[str, tuple[int, ...]] = {f"space_time_embed.{k}.proj": (d, n, 8, 8) for k, n in groups.items()}
    layers |= {f"space_embed.{k}.proj": (d, n, 8, 8) for k, n in {"SRTM": 2, "DW": 9, "WC": 5}.items()}
    layers |= {f"time_embed.{k}": (d, n) for k, n in {"ERA5": 2, "TC": 3, "VIIRS": 1}.items()}
    static = {"LS": 1, "location": 3, "DW_static": 9, "WC_static": 5}
    layers |= {f"static_embed.{k}": (d, n) for k, n in static.items()}
    for block in (f"blocks.{i}" for i in range(depth)):
        layers |= {f"{block}.attn.{role}": (d, d) for role in ("q", "k", "v", "proj")}
        layers |= {f"{block}.mlp.fc1": (4 * d, d), f"{block}.mlp.fc2": (d, 4 * d)}
        layers |= {f"{block}.norm1": (d,), f"{block}.norm2": (d,)}
    layers["norm"] = (d,)
    shapes |= {f"{key}.weight": shape for key, shape in layers.items()}
    return shapes | {f"{key}.bias": shape[:1] for key, shape in layers.items()}

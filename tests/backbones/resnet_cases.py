"""Cases, weights and inputs that `tools/golden_resnet.py` and the tests of ResNets make alike, without storing them."""

import math
from collections.abc import Mapping
from zlib import crc32

import torch
from torch import Tensor

from adapteo.bands import HLS6, SENTINEL2_L1C

SIZE = (64, 96)
DECUR = {"all": SENTINEL2_L1C, "reversed": SENTINEL2_L1C[::-1], "hls": HLS6, "two": ("swir22", "coastal")}
"""Bands by name of the case; the reference sees all 13, with zeros for the others."""
UNET = {"six": HLS6, "radar": ("vv", "vh")}
CLASSES, WIDTHS = 3, (256, 128, 64, 32, 16)


def _generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(crc32(name.encode()))


def fill(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights for the keys of a checkpoint, see `weight`."""
    return {name: weight(name, tuple(shape)) for name, shape in shapes.items()}


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """Values for one key, from a generator of its own; a quarter as large where a block ends.

    So the values stay below 10 over all blocks, and 1e-5 remains above the rounding of float32.
    """
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    noise = torch.randn(shape, generator=_generator(name))
    if name.endswith("running_var"):
        return 1 + 0.1 * noise.abs()
    if noise.ndim == 1:
        norm, ends = name.endswith("weight"), "bn3" in name or "downsample" in name
        return (0.25 if norm and ends else 1.0) * (norm + 0.1 * noise)
    return noise * math.sqrt(2 / noise[0].numel())


def images(name: str, bands: int) -> Tensor:
    """Two images ``(2, bands, h, w)``."""
    return torch.randn(2, bands, *SIZE, generator=_generator(name))


def sketch(feature_map: Tensor) -> Tensor:
    """A few values of ``(b, c, h, w)`` and six random projections of each image, which notice anything else."""
    _, c, h, w = feature_map.shape
    channels = sorted({0, 1, c // 2, c - 1} & set(range(c)))
    places = torch.tensor([0, w - 1, (h // 2) * w + w // 2, h * w - 1])
    values = torch.stack([feature_map[:, channel].flatten(1)[:, places] for channel in channels], 1).flatten(1)
    weights = torch.randn(6, c, generator=_generator("channels")), torch.randn(6, h * w, generator=_generator("space"))
    projections = torch.einsum("bcs,kc,ks->bk", feature_map.flatten(2), *weights) / math.sqrt(c * h * w)
    return torch.cat([values, projections], dim=1)

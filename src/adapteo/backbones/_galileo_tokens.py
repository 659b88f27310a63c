"""What a token of Galileo is made of: bands that share it, the kernel, and what it is told about where and when.

Everything here follows the published encoder (arXiv 2502.09356), whose weights were trained with exactly these codes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BASE_PATCH = 8
"""Pixels per side of the stored kernels."""
DEFAULT_MONTH = 5
"""June, counted from 0: what the published code takes when the date is unknown."""


@dataclass(frozen=True)
class Group:
    """Bands that share one token: their order is that of the kernel's input channels."""

    key: str
    bands: tuple[str, ...]

    @property
    def channels(self) -> int:
        """Input channels of the kernel; red and nir reach theirs as one index."""
        return 1 if self.key == NDVI else len(self.bands)


NDVI = "NDVI"
SPACE_TIME = (
    Group("S1", ("vv", "vh")),
    Group("S2_RGB", ("blue", "green", "red")),
    Group("S2_Red_Edge", ("rededge071", "rededge075", "rededge078")),
    Group("S2_NIR_10m", ("nir",)),
    Group("S2_NIR_20m", ("nir08",)),
    Group("S2_SWIR", ("swir16", "swir22")),
    Group(NDVI, ("red", "nir")),
)
TERRAIN = Group("SRTM", ("elevation", "slope"))

UNUSED = MappingProxyType(
    {
        "space_embed": ("DW.proj", "WC.proj"),
        "time_embed": ("ERA5", "TC", "VIIRS"),
        "static_embed": ("LS", "location", "DW_static", "WC_static"),
    }
)
"""Inputs of the published encoder that have no band here: land-cover maps, weather, night lights, population, place."""

STATISTICS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "vv": (-11.728724389184965, 4.887145774840316),
        "vh": (-18.85558188024017, 5.730270320384293),
        "blue": (0.13953408730676722, 0.09177041440370853),
        "green": (0.13384026921784578, 0.09132988423581528),
        "red": (0.134309883810357, 0.1092678723527555),
        "rededge071": (0.15438607982512297, 0.10472206083460424),
        "rededge075": (0.21862022069512263, 0.10480101611156767),
        "rededge078": (0.25250932853316694, 0.11436903026819996),
        "nir": (0.24103377187373408, 0.1098979177731649),
        "nir08": (0.2750285464668675, 0.1204472755085893),
        "swir16": (0.2234911100061487, 0.11459774063078878),
        "swir22": (0.14745311266077113, 0.09802429840007796),
        "elevation": (673.0152819503361, 983.0697298296237),
        "slope": (5.930092668915115, 8.167406789813247),
    }
)
"""Mean and standard deviation over the pre-training set (``config/normalization.json`` of the published code, MIT) in
our units: dB, reflectance, metres, degrees."""


class FlexiPatchEmbed(nn.Module):
    """Linear map of patches of one channel group, its kernel resized from 8 x 8 pixels (FlexiViT, arXiv 2212.08013).

        kernel_p = pinv(B) kernel_8,    B the matrix that resizes 8 x 8 to p x p pixels (bicubic, antialiased)

    The kernel is resized in every step, so gradients reach the stored one and it cannot go stale; that is one product
    with a constant matrix, well under 1 % of a forward pass.
    """

    pinv: Tensor | None

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(channels, dim, BASE_PATCH, BASE_PATCH)
        self.register_buffer("pinv", None if patch == BASE_PATCH else pinv(patch).clone(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Project ``(b, t, c, h, w)`` to ``(b, t, h w / patch², dim)``."""
        b, t, c, height, width = images.shape
        p = self.patch
        x = images.reshape(b, t, c, height // p, p, width // p, p).permute(0, 1, 3, 5, 2, 4, 6)
        kernel = self.proj.weight.flatten(2)
        if self.pinv is not None:
            kernel = kernel @ self.pinv.mT
        return F.linear(x.reshape(b, t, -1, c * p * p), kernel.flatten(1), self.proj.bias)


def month(dates: Tensor) -> Tensor:
    """Month, 0 to 11, of ``(..., 2)`` year and day of year; `DEFAULT_MONTH` where the day is unknown.

    Meeus, Astronomical Algorithms, chapter 7. An unknown year counts as a common one.
    """
    year, day = dates.unbind(-1)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    later = torch.floor(9 * (day + torch.where(leap, 1, 2)) / 275 + 0.98)
    found = torch.where(day < 32, 1.0, later) - 1
    return torch.nan_to_num(torch.where(day.isnan(), DEFAULT_MONTH, found)).long().clamp(0, 11)


def ndvi(red: Tensor, nir: Tensor) -> Tensor:
    """Normalised difference of reflectances, -1..1; 0 where there is no signal, as in the published code.

    Reflectance below 0 (an artefact of atmospheric correction) counts as 0, else the ratio has no bounds.
    """
    red, nir = red.clamp(min=0), nir.clamp(min=0)
    total = red + nir
    half_digital_number = 0.5e-4
    return torch.where(total > half_digital_number, (nir - red) / total.clamp(min=half_digital_number), 0.0)


def sincos(width: int, positions: Tensor) -> Tensor:
    """Code of positions ``(n,)``: ``(n, width)``, sines then cosines, frequencies ``10000 ** (-i / (2 width))``.

    That spans a quarter of the usual range of exponents, and the published weights were trained with it.
    """
    frequencies = 1.0 / 10000 ** (torch.arange(width // 2) / width / 2.0)
    angles = torch.outer(positions.float(), frequencies)
    return torch.cat([angles.sin(), angles.cos()], 1)


def month_table(width: int) -> Tensor:
    """Code of months ``(12, width)``: the sine of the month's angle in the first half, its cosine in the second."""
    angles = (torch.arange(12) / (12 / (2 * math.pi)))[:, None].expand(-1, width // 2)
    return torch.cat([angles.sin(), angles.cos()], 1)


@lru_cache(maxsize=32)
def place_code(width: int, h: int, w: int, scale: float, device: torch.device) -> Tensor:
    """Code of a grid's places ``(h w, width)``: column, then row, in units of 10 m (``scale`` per patch)."""
    with torch.inference_mode(False):
        columns = sincos(width // 2, torch.arange(w) * scale).expand(h, w, -1)
        rows = sincos(width // 2, torch.arange(h) * scale)[:, None].expand(h, w, -1)
        return torch.cat([columns, rows], -1).reshape(h * w, width).to(device)


@lru_cache(maxsize=BASE_PATCH)
def pinv(patch: int) -> Tensor:
    """Pseudo-inverse ``(patch², 64)`` of resizing 8 x 8 pixels to patch x patch."""
    basis = torch.eye(BASE_PATCH**2).view(-1, 1, BASE_PATCH, BASE_PATCH)
    resized = F.interpolate(basis, (patch, patch), mode="bicubic", antialias=True)
    return torch.linalg.pinv(resized.flatten(1))

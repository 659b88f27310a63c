"""The codes that Clay adds to its tokens, as the published code computes them: wavelength, position, time and place."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from adapteo.backbones._wavelengths import CODE_WIDTH


@lru_cache(maxsize=32)
def wavelength_code(wavelengths: tuple[float, ...], device: torch.device) -> Tensor:
    """Sine-cosine code of wavelengths in micrometres, float32 ``(c, CODE_WIDTH)``."""
    with torch.inference_mode(False):
        half = CODE_WIDTH // 2
        frequencies = 1.0 / 10000 ** (torch.arange(half) / (half - 1))
        angles = torch.outer(torch.tensor(wavelengths), frequencies)
        return torch.cat([angles.sin(), angles.cos()], dim=1).to(device)


@lru_cache(maxsize=32)
def position_code(dim: int, height: int, width: int, gsd: float, device: torch.device) -> Tensor:
    """Code of a grid of patches, float32 ``(height · width, dim)``: a quarter each for sin x, cos x, sin y, cos y.

    The frequencies are ``gsd · 10000 ** (-2 i / dim)`` with i from 0 to 1 rather than to dim / 4, so they differ by 2 %
    only. The published weights were trained with that, and with float32, whose rounding shows at large angles.
    """
    with torch.inference_mode(False):
        i = torch.arange(dim // 4) / (dim // 4 - 1)
        frequencies = 1.0 / 10000 ** (2 * i / dim) * gsd
        y = (torch.arange(height)[:, None] * frequencies)[:, None].expand(-1, width, -1)
        x = (torch.arange(width)[:, None] * frequencies)[None].expand(height, -1, -1)
        return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=2).flatten(0, 1).to(device)


def time_code(dates: Tensor) -> Tensor:
    """Sine and cosine of week and hour of ``(b, 2)`` year and day of year: ``(b, 4)``, 0 where the day is unknown.

    The hour is noon: dates have none here, and the published pre-training took noon for every image
    (github.com/Clay-foundation/stacchip, ``prechip.py``, which reduces times to dates first).
    """
    known = dates[:, 1].isfinite()
    angle = iso_week(dates).to(dates.dtype) * (2 * math.pi / 52)
    noon = torch.zeros_like(angle), -torch.ones_like(angle)
    code = torch.stack([angle.sin(), angle.cos(), *noon], dim=1)
    return torch.where(known[:, None], code, 0.0)


def place_code(latlon: Tensor) -> Tensor:
    """Sine and cosine of latitude and longitude ``(b, 2)`` in degrees: ``(b, 4)``, 0 where unknown.

    In the order of the published examples and of arXiv 2504.17397. The published preparation of the training data
    (stacchip, ``prechip.py``) exchanges the names of the two, so the weights may have seen longitude first.
    """
    known = latlon.isfinite().all(1, keepdim=True)
    angles = torch.deg2rad(torch.where(known, latlon, 0.0))
    code = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
    return torch.where(known, code, 0.0)


def iso_week(dates: Tensor) -> Tensor:
    """Week 1 to 53 of ISO 8601 of ``(b, 2)`` year and day of year.

    An unknown year counts as 2001, which began on a Monday; an unknown day as the first.
    """
    year = torch.nan_to_num(dates[:, 0], nan=2001.0).long()
    day = torch.nan_to_num(dates[:, 1], nan=1.0).long()
    before = year - 1
    ordinal = 365 * before + before // 4 - before // 100 + before // 400 + day  # of the proleptic calendar, 1 a Monday
    week = (day - ((ordinal - 1) % 7 + 1) + 10) // 7
    return torch.where(week < 1, _weeks(before), torch.where(week > _weeks(year), 1, week))


def _weeks(year: Tensor) -> Tensor:
    """Weeks of ISO years: 53 when 31 December, or that of the year before, is a Thursday (a Wednesday)."""

    def last_weekday(y: Tensor) -> Tensor:
        return (y + y // 4 - y // 100 + y // 400) % 7

    return 52 + ((last_weekday(year) == 4) | (last_weekday(year - 1) == 3)).long()

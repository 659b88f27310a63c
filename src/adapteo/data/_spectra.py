"""Reflectance of a synthetic landscape: linear spectral mixing, seasons, floods, fires, light, air and sensor.

    reflectance = sensor(T · light · sum_k fraction_k · endmember_k + path)

The endmembers are typical shapes (leaves dark in red and bright in the near infrared, water black beyond it, soil
rising with wavelength, char dark and flat), rounded and from general knowledge; they are not measurements.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapteo.bands import HLS6, wavelengths
from adapteo.data._landscape import Field, Landscape, Parcels, fractal
from adapteo.data._regions import (
    BARE,
    BROADLEAF,
    CONIFER,
    COVERS,
    CROP,
    CROPS,
    GRASS,
    URBAN,
    WATER,
    WETLAND,
    Region,
)

ENDMEMBERS = {
    #            blue   green  red    nir08  swir16 swir22
    "leaf":     (0.025, 0.065, 0.030, 0.460, 0.210, 0.090),
    "needle":   (0.020, 0.040, 0.025, 0.260, 0.110, 0.050),
    "herb":     (0.035, 0.085, 0.045, 0.400, 0.240, 0.125),
    "straw":    (0.085, 0.135, 0.185, 0.290, 0.370, 0.290),
    "soil":     (0.090, 0.130, 0.175, 0.250, 0.330, 0.290),
    "clear":    (0.040, 0.040, 0.020, 0.010, 0.005, 0.004),
    "turbid":   (0.085, 0.130, 0.150, 0.095, 0.020, 0.012),
    "asphalt":  (0.080, 0.090, 0.100, 0.120, 0.140, 0.130),
    "roof":     (0.200, 0.220, 0.240, 0.270, 0.290, 0.270),
    "tile":     (0.090, 0.130, 0.210, 0.290, 0.350, 0.320),
    "char":     (0.028, 0.034, 0.042, 0.060, 0.110, 0.125),
    "ash":      (0.110, 0.120, 0.130, 0.170, 0.230, 0.240),
}  # fmt: skip
_NAMES = tuple(ENDMEMBERS)
_WAVELENGTHS = np.array(wavelengths(HLS6), dtype=np.float32)

_GREEN: dict[str, dict[str, float]] = {
    "bare": {"soil": 0.90, "herb": 0.06, "straw": 0.04},
    "grass": {"herb": 0.85, "straw": 0.05, "soil": 0.10},
    "broadleaf": {"leaf": 0.95, "herb": 0.05},
    "conifer": {"needle": 0.92, "herb": 0.08},
    "wetland": {"herb": 0.60, "leaf": 0.10, "clear": 0.25, "turbid": 0.05},
    "cereal": {"herb": 0.90, "soil": 0.10},
    "summer crop": {"leaf": 0.70, "herb": 0.20, "soil": 0.10},
    "paddy": {"herb": 0.90, "clear": 0.10},
    "orchard": {"leaf": 0.45, "herb": 0.15, "soil": 0.40},
}
_BARE: dict[str, dict[str, float]] = {
    "bare": {"soil": 1.0},
    "grass": {"straw": 0.75, "soil": 0.25},
    "broadleaf": {"straw": 0.35, "soil": 0.35, "leaf": 0.10, "needle": 0.20},
    "conifer": {"needle": 0.85, "straw": 0.15},
    "wetland": {"straw": 0.50, "clear": 0.35, "turbid": 0.15},
    "cereal": {"soil": 0.65, "straw": 0.35},
    "summer crop": {"soil": 0.90, "straw": 0.10},
    "paddy": {"turbid": 0.35, "clear": 0.25, "soil": 0.40},
    "orchard": {"soil": 0.60, "straw": 0.15, "leaf": 0.25},
}
_STATES = tuple(_GREEN)
"""Vegetated states; urban ground and water are mixed pixel by pixel instead."""


def _fractions(table: dict[str, dict[str, float]]) -> Field:
    return np.array([[table[s].get(name, 0.0) for name in _NAMES] for s in _STATES], dtype=np.float32)


_GREEN_FRACTIONS, _BARE_FRACTIONS = _fractions(_GREEN), _fractions(_BARE)
_SEASON = {  # shift of the peak in days, width in days, share of green that stays all year
    "bare": (0, 60, 0.0), "grass": (-15, 75, 0.2), "broadleaf": (10, 80, 0.0), "conifer": (10, 90, 0.6),
    "wetland": (20, 70, 0.1), "cereal": (-35, 40, 0.0), "summer crop": (30, 40, 0.0), "paddy": (25, 40, 0.0),
    "orchard": (0, 80, 0.4),
}  # fmt: skip
_TEXTURE = (  # contrast of single pixels and of patches, by cover: how rough the ground looks from above
    (0.03, 0.03), (0.10, 0.16), (0.05, 0.14), (0.06, 0.05), (0.32, 0.08), (0.26, 0.18), (0.25, 0.05), (0.16, 0.24),
)  # fmt: skip
_FLOODED_CANOPY = {BROADLEAF: 0.65, CONIFER: 0.75, URBAN: 0.45, WETLAND: 0.3}  # hides the water below
_FUEL = {
    WATER: 0.0, BARE: 0.1, GRASS: 1.0, CROP: 0.45, BROADLEAF: 1.0, CONIFER: 1.0, URBAN: 0.1, WETLAND: 0.25,
}  # fmt: skip


@dataclass(frozen=True)
class Surface:
    """What stays the same between the dates of one scene.

    Attributes:
        land: the ground.
        crop: index into `CROPS` by parcel.
        habit: per-parcel vigour and shift of the season in days, ``(2, parcels)``.
        roofs: amounts of asphalt, roof, tile and herb by urban block, ``(blocks, 4)``.
        muddy: turbidity of permanent water, ``(h, w)``.
    """

    land: Landscape
    crop: NDArray[np.int64]
    habit: Field
    roofs: Field
    muddy: Field


@dataclass(frozen=True)
class Events:
    """Share of each pixel that flood water covers, its turbidity, and the severity of a burn; each ``(h, w)``."""

    flood: Field
    mud: Field
    burn: Field


def surface(rng: np.random.Generator, land: Landscape, region: Region) -> Surface:
    """Draw what grows on the parcels, what stands in the blocks and how muddy the water is."""
    weights = np.array(region.crops) / sum(region.crops)
    crop = rng.choice(len(CROPS), size=land.fields.count, p=weights)
    habit = rng.standard_normal((2, land.fields.count)).astype(np.float32)
    habit = habit * np.array([[0.12], [14.0]], dtype=np.float32)
    roofs = rng.dirichlet((0.7, 0.5, 0.6, 0.5), size=land.blocks.count).astype(np.float32)
    level = np.clip(region.turbidity + 0.2 * rng.standard_normal(), 0, 1)
    muddy = np.clip(level + 0.1 * fractal(rng, 1, land.ground.shape, 24.0, 3.0)[0], 0, 1)
    return Surface(land, crop, habit, roofs, muddy.astype(np.float32))


def flood(rng: np.random.Generator, ground: Surface, strength: float) -> tuple[Field, Field]:
    """Water over low ground: visible share and turbidity, each ``(h, w)``.

    Args:
        rng: source of randomness.
        ground: the surface.
        strength: 0 for none; water rises by about ``strength`` flood depths.
    """
    land = ground.land
    if strength <= 0:
        return np.zeros_like(land.ground), ground.muddy
    depth = strength - land.ground - 0.06 * land.grain[1]
    share = _sigmoid(depth / 0.08) * (1 - _lookup(_FLOODED_CANOPY)[land.cover])
    mud = rng.beta(2.0, 1.6) + 0.15 * fractal(rng, 1, land.ground.shape, 24.0, 3.0)[0]
    return np.where(land.cover == WATER, 0, share).astype(np.float32), np.clip(mud, 0, 1).astype(np.float32)


def burn(rng: np.random.Generator, ground: Surface, strength: float) -> Field:
    """Severity 0..1 of a burn scar, ``(h, w)``; ``strength`` 0 is none, 1 burns about half of what can burn."""
    land = ground.land
    if strength <= 0:
        return np.zeros_like(land.ground)
    front = fractal(rng, 1, land.ground.shape, 80.0, 4.2)[0] + 0.12 * land.grain[1] + 1.0 * (strength - 1)
    return (_sigmoid(front / 0.12) * _lookup(_FUEL)[land.cover] * rng.uniform(0.6, 1.0)).astype(np.float32)


def reflect(rng: np.random.Generator, ground: Surface, region: Region, day: float, events: Events) -> Field:
    """Surface reflectance without light and air: ``(6, h, w)``.

    Args:
        rng: source of randomness.
        ground: the surface.
        region: for soil, season and gains.
        day: day of year as if in the northern hemisphere.
        events: flood and burn on that day.
    """
    land = ground.land
    amounts = _vegetation(ground, region, day)
    amounts = _built(ground, amounts)
    wet = np.where(land.cover == WATER, 1.0, events.flood)[..., None].astype(np.float32)
    mud = np.where(land.cover == WATER, ground.muddy, events.mud)[..., None].astype(np.float32)
    scar = events.burn[..., None]
    if scar.any():
        ashes = np.clip(rng.beta(1, 4) + 0.1 * land.grain[0][..., None], 0, 1)
        amounts = amounts * (1 - 0.92 * scar) + 0.92 * scar * ((1 - ashes) * _one("char") + ashes * _one("ash"))
    amounts = amounts * (1 - wet) + wet * (mud * _one("turbid") + (1 - mud) * _one("clear"))
    colours = _endmembers(rng, region)
    spectrum = (amounts.reshape(-1, len(_NAMES)) @ colours).reshape(*land.cover.shape, -1)
    fine, coarse = (_lookup(dict(enumerate(column)))[land.cover] for column in zip(*_TEXTURE, strict=True))
    texture = np.exp((fine * land.grain[0] + coarse * land.grain[1]) * (1 - 0.85 * wet[..., 0]))
    return np.moveaxis(spectrum * texture[..., None], -1, 0).astype(np.float32)


def observe(
    rng: np.random.Generator, spectrum: Field, land: Landscape, region: Region, day: float
) -> tuple[Field, Field]:
    """Light, shadow, cloud, haze, blur and noise on a surface reflectance ``(6, h, w)``.

    Returns:
        What the sensor delivers ``(6, h, w)``, and the opacity of clouds ``(h, w)``.
    """
    shape = land.relief.shape
    haze, thick = fractal(rng, 2, shape, 45.0, 3.4)
    height = 0.95 - 0.45 * np.abs(np.sin(np.pi * (day - 172) / 365.25))  # sine of the sun's elevation, roughly
    azimuth = rng.uniform(0.6, 0.9) * np.pi
    dy, dx = np.gradient(land.relief)
    slope = np.cos(azimuth) * dy + np.sin(azimuth) * dx
    light = np.clip(1 + 0.55 * np.sqrt(1 - height**2) / height * slope, 0.25, 1.5)
    cloudy = rng.uniform() < 0.3
    opacity = _sigmoid((thick - rng.uniform(1.2, 2.5)) / 0.15) if cloudy else np.zeros(shape, np.float32)
    shift = rng.integers(4, 12, 2)
    shadow = np.roll(opacity, tuple(int(s) for s in shift), axis=(0, 1))
    light = light * (1 - 0.65 * shadow)
    diffuse = 0.10 * (0.5 / _WAVELENGTHS[:, None, None]) ** 2  # skylight reaches what the sun does not
    seen = spectrum * (light + diffuse * (1 - np.minimum(light, 1)))
    depth = rng.gamma(2.0, region.aerosol / 2) * np.clip(1 + 0.4 * haze, 0.2, 2.5)
    tau = depth * (0.55 / _WAVELENGTHS[:, None, None]) ** 1.4
    seen = seen * np.exp(-0.5 * tau) + 0.16 * (1 - np.exp(-tau))
    seen = seen * (1 - opacity) + 0.62 * opacity
    seen = _blur(seen * (1 + 0.04 * rng.standard_normal((6, 1, 1))))
    noise = rng.standard_normal(seen.shape, dtype=np.float32) * (0.003 + 0.025 * np.abs(seen))
    return np.clip(seen + noise, 0.0001, 1.2).astype(np.float32), opacity.astype(np.float32)


def _vegetation(ground: Surface, region: Region, day: float) -> Field:
    """Amounts of each endmember where nothing is built or flooded: ``(h, w, endmembers)``."""
    land = ground.land
    state = _STATE_OF_COVER[land.cover]
    crops = len(_STATES) - len(CROPS) + ground.crop[land.fields.ids]
    state = np.where(land.cover == CROP, crops, state)
    vigour, delay = ground.habit[:, land.fields.ids]
    on_farm = np.isin(land.cover, (GRASS, CROP, BARE))
    shift, width, always = _SEASON_OF_STATE[:, state]
    phase = (day - region.peak - shift - np.where(on_farm, delay, 0.2 * delay) + 182.6) % 365.25 - 182.6
    curve = always + (1 - always) * np.exp(-0.5 * (phase / width) ** 2)
    green = 1 - region.season * (1 - curve) + np.where(on_farm, vigour, 0.3 * vigour) + 0.10 * land.grain[1]
    green = np.clip(green, 0, 1)[..., None].astype(np.float32)
    amounts: Field = green * _GREEN_FRACTIONS[state] + (1 - green) * _BARE_FRACTIONS[state]
    hedge = np.where(on_farm & (land.fields.edge < 0.35), np.float32(0.5), np.float32(0))[..., None]
    return amounts * (1 - hedge) + hedge * (0.6 * _one("herb") + 0.4 * _one("soil"))


def _built(ground: Surface, amounts: Field) -> Field:
    """Replace what stands on urban ground by roofs, gardens and streets."""
    land = ground.land
    urban = land.cover == URBAN
    if not urban.any():
        return amounts
    blocks: Parcels = land.blocks
    mixed = ground.roofs[blocks.ids[urban]]
    mixed[blocks.edge[urban] < 0.45] = (0.85, 0.05, 0.0, 0.1)
    built = np.zeros((len(mixed), len(_NAMES)), dtype=np.float32)
    built[:, [_NAMES.index(n) for n in ("asphalt", "roof", "tile", "herb")]] = mixed
    out = amounts.copy()
    out[urban] = built
    return out


def _endmembers(rng: np.random.Generator, region: Region) -> Field:
    """Spectra of a region on one date: soil colour and moisture, regional gains, small variations."""
    spectra = np.array(list(ENDMEMBERS.values()), dtype=np.float32)
    brightness, redness = region.soil
    ramp = np.linspace(-1, 1, len(HLS6))
    moisture = rng.uniform(0, 1) * np.linspace(0.15, 0.45, len(HLS6))  # water in the soil absorbs most in the SWIR
    soil = spectra[_NAMES.index("soil")]
    red = 1 + (redness - 0.5) * np.array([-0.5, -0.3, 0.25, 0.2, 0.1, 0.1])
    spectra[_NAMES.index("soil")] = soil * (0.5 + 1.1 * brightness) * red * (1 - moisture)
    tilt = 1 + 0.10 * rng.standard_normal((len(spectra), 1)) + 0.08 * rng.standard_normal((len(spectra), 1)) * ramp
    return np.asarray(spectra * tilt * np.array(region.gains), dtype=np.float32)


def _blur(image: Field) -> Field:
    """Point spread function: 0.12, 0.76, 0.12 along each axis, borders repeated."""
    for axis in (1, 2):
        pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        wide = np.moveaxis(np.pad(image, pad, mode="edge"), axis, 0)
        image = np.moveaxis(0.12 * wide[:-2] + 0.76 * wide[1:-1] + 0.12 * wide[2:], 0, axis)
    return image


def _one(name: str) -> Field:
    return np.array([float(name == other) for other in _NAMES], dtype=np.float32)


def _lookup(values: dict[int, float]) -> Field:
    return np.array([values.get(c, 0.0) for c in range(len(COVERS))], dtype=np.float32)


def _sigmoid(x: Field) -> Field:
    return np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * x))


_STATE_OF_COVER = np.array([_STATES.index(c) if c in _STATES else 0 for c in COVERS])
_SEASON_OF_STATE = np.array([_SEASON[s] for s in _STATES], dtype=np.float32).T

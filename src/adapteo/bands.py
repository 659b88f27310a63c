"""One vocabulary for spectral bands: STAC EO common names, with the names that sensors and tools use as aliases.

A band is named by what it measures (``red``, ``nir08``, ``swir16``), because ``B5`` is a red-edge band on Sentinel-2
and the near infrared on Landsat 8. Aliases that mean different bands on different sensors need the sensor.

Units: optical bands are reflectance (0..1 nominal), radar bands decibel, the rest as written at the band.
Sources: STAC EO extension 2.0 common names; ESA Sentinel-2 MSI technical guide (central wavelengths of S2A);
USGS Landsat 8 handbook; HLS 2.0 user guide; TerraTorch ``HLSBands``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from adapteo.errors import ConfigError, closest


@dataclass(frozen=True)
class Band:
    """One spectral band.

    Attributes:
        name: canonical name (STAC EO common name where there is one).
        wavelength: centre in micrometres; for radar the wavelength of the carrier, in micrometres as well;
            None where it has no meaning (indices, elevation).
        aliases: names that mean this band on every sensor that has it.
        sensors: names that mean this band on one sensor only, by sensor.
        kind: "optical", "radar" or "other".
    """

    name: str
    wavelength: float | None
    aliases: tuple[str, ...] = ()
    sensors: tuple[tuple[str, str], ...] = ()
    kind: str = "optical"


S2, HLS_S30, HLS_L30, L8 = "sentinel2", "hls_s30", "hls_l30", "landsat8"
SENSORS = (S2, HLS_S30, HLS_L30, L8)
_C_BAND = 55465.76  # Sentinel-1 carrier, 5.405 GHz, in micrometres


def _optical(name: str, um: float, aliases: str, **sensors: str) -> Band:
    """Write a band of the table: Sentinel-2 and HLS S30 share names, and so do HLS L30 and Landsat."""
    pairs = []
    if "s2" in sensors:
        pairs += [(S2, sensors["s2"]), (HLS_S30, sensors["s2"])]
    if "l8" in sensors:
        pairs += [(HLS_L30, sensors["l8"]), (L8, sensors["l8"])]
    return Band(name, um, tuple(aliases.split()), tuple(pairs))


BANDS: tuple[Band, ...] = (
    _optical("coastal", 0.443, "coastal_aerosol ultra_blue", s2="B1", l8="B1"),
    _optical("blue", 0.493, "", s2="B2", l8="B2"),
    _optical("green", 0.560, "", s2="B3", l8="B3"),
    _optical("red", 0.665, "", s2="B4", l8="B4"),
    _optical("rededge071", 0.704, "rededge1 red_edge_1 re1 rededge705", s2="B5"),
    _optical("rededge075", 0.740, "rededge2 red_edge_2 re2 rededge740", s2="B6"),
    _optical("rededge078", 0.783, "rededge3 red_edge_3 re3 rededge783", s2="B7"),
    _optical("nir", 0.842, "nir_broad near_infrared", s2="B8"),
    _optical("nir08", 0.865, "nir_narrow narrow_nir rededge4", s2="B8A", l8="B5"),
    _optical("nir09", 0.945, "water_vapor water_vapour", s2="B9"),
    _optical("cirrus", 1.375, "cirrus", s2="B10", l8="B9"),
    _optical("swir16", 1.610, "swir1 swir_1", s2="B11", l8="B6"),
    _optical("swir22", 2.190, "swir2 swir_2", s2="B12", l8="B7"),
    Band("pan", 0.590, ("panchromatic",), ((L8, "B8"),)),
    Band("lwir11", 10.9, ("thermal_infrared_1", "tirs1", "thermal1"), ((L8, "B10"), (HLS_L30, "B10"))),
    Band("lwir12", 12.0, ("thermal_infrared_2", "tirs2", "thermal2"), ((L8, "B11"), (HLS_L30, "B11"))),
    Band("vv", _C_BAND, (), (), "radar"),
    Band("vh", _C_BAND, (), (), "radar"),
    Band("ndvi", None, (), (), "other"),
    Band("elevation", None, ("dem",), (), "other"),
    Band("slope", None, (), (), "other"),
)
BY_NAME = MappingProxyType({band.name: band for band in BANDS})


def _key(name: str) -> str:
    """Fold what people write differently: case, separators, the prefix and leading zero of ``SR_B4`` and ``B04``."""
    key = name.strip().lower().replace("-", "_").replace(" ", "_").removeprefix("sr_").replace("_", "")
    if len(key) > 2 and key.startswith("b0"):
        key = "b" + key[2:]
    return key


def _table() -> dict[str, dict[str | None, str]]:
    """Map each folded alias to {sensor: canonical name}; sensor None means every sensor."""
    table: dict[str, dict[str | None, str]] = {}
    for band in BANDS:
        for alias in (band.name, *band.aliases):
            table.setdefault(_key(alias), {})[None] = band.name
        for sensor, alias in band.sensors:
            table.setdefault(_key(alias), {})[sensor] = band.name
    return table


_ALIASES = MappingProxyType(_table())


def resolve(name: str, sensor: str | None = None) -> str:
    """Return the canonical name of a band.

    Args:
        name: canonical name or any alias, in any case (``B04``, ``SR_B4``, ``NIR_NARROW``, ``swir16``).
        sensor: one of `SENSORS`; needed for names that differ between sensors (``B5`` .. ``B11``).

    Raises:
        ConfigError: unknown band, unknown sensor, or a name that is ambiguous without the sensor.
    """
    if sensor is not None and sensor not in SENSORS:
        raise ConfigError(f"there is no sensor '{sensor}'{closest(sensor, SENSORS)}", allowed=SENSORS)
    meanings = _ALIASES.get(_key(name))
    if meanings is None:
        raise ConfigError(f"there is no band '{name}'{closest(name, _known())}", allowed=BY_NAME)
    if None in meanings:
        return meanings[None]
    if sensor in meanings:
        return meanings[sensor]
    if sensor is not None:
        raise ConfigError(f"{sensor} has no band '{name}'", allowed=sensor_bands(sensor))
    distinct = set(meanings.values())
    if len(distinct) == 1:
        return distinct.pop()
    listing = ", ".join(f"{canonical} on {key}" for key, canonical in meanings.items())
    raise ConfigError(
        f"band '{name}' differs between sensors: {listing}",
        fix="name the sensor (`sensor` in the dataset section), or use the common name",
    )


def resolve_all(given: Iterable[str], sensor: str | None = None) -> tuple[str, ...]:
    """Resolve several band names; refuses a band that is named twice."""
    resolved = tuple(resolve(name, sensor) for name in given)
    repeated = sorted({name for name in resolved if resolved.count(name) > 1})
    if repeated:
        raise ConfigError(f"band '{repeated[0]}' is named more than once", fix="name each band once")
    return resolved


def wavelengths(names: Sequence[str]) -> tuple[float, ...]:
    """Centre wavelengths in micrometres.

    Raises:
        ConfigError: when a band has none (an index, elevation).
    """
    missing = [name for name in names if BY_NAME[name].wavelength is None]
    if missing:
        raise ConfigError(f"band '{missing[0]}' has no wavelength", fix="leave it out for this backbone")
    return tuple(float(BY_NAME[name].wavelength or 0.0) for name in names)


def sensor_bands(sensor: str) -> tuple[str, ...]:
    """Canonical names of the bands of a sensor, in the sensor's own order."""
    numbered = [(alias, band.name) for band in BANDS for key, alias in band.sensors if key == sensor]
    return tuple(name for _, name in sorted(numbered, key=lambda pair: (int(pair[0].strip("BA")), pair[0])))


def _known() -> list[str]:
    return [alias for band in BANDS for alias in (band.name, *band.aliases, *(b for _, b in band.sensors))]


HLS6 = ("blue", "green", "red", "nir08", "swir16", "swir22")
SENTINEL2_L2A = (
    "coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "nir09",
    "swir16", "swir22",
)  # fmt: skip
SENTINEL2_L1C = (*SENTINEL2_L2A[:10], "cirrus", *SENTINEL2_L2A[10:])

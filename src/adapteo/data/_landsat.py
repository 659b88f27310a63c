"""Landsat Collection 2, level 2: one GeoTIFF per band, with a text file of metadata (MTL).

``LC08_L2SP_193023_20210731_20210804_02_T1_SR_B4.TIF``: sensor and satellite, level, path and row, day of acquisition,
day of processing, collection, tier, band. Reflectance = stored x 0.0000275 - 0.2, temperature in kelvin = stored x
0.00341802 + 149, 0 where there is nothing. Source: USGS, Landsat 8-9 Collection 2 Level 2 Science Product Guide
(LSDS-1619), and Landsat 4-7 (LSDS-1618).
"""

import re
from collections.abc import Mapping
from pathlib import Path

from adapteo.bands import L8, resolve
from adapteo.data._source import BandFile, Source
from adapteo.errors import ConfigError

_NAME = re.compile(r"^L([CET])(0[4-9])_L2S[PR]_(\d{6})_(\d{4})(\d\d)(\d\d)_\d{8}_02_(?:T1|T2|RT)$", re.IGNORECASE)
_REFLECTANCE, _TEMPERATURE = (2.75e-5, -0.2), (0.00341802, 149.0)
_THEMATIC_MAPPER = {
    "SR_B1": "blue", "SR_B2": "green", "SR_B3": "red", "SR_B4": "nir08", "SR_B5": "swir16", "SR_B7": "swir22",
    "ST_B6": "lwir11",
}  # fmt: skip
"""Landsat 4, 5 and 7 number their bands differently (STAC common names as USGS's catalogue has them)."""
_LINE = re.compile(r"^\s*([A-Z0-9_]+)\s*=\s*\"?([^\"\n]*?)\"?\s*$")
_GROUPS = ("LEVEL2_SURFACE_REFLECTANCE_PARAMETERS", "LEVEL2_SURFACE_TEMPERATURE_PARAMETERS")


def read_landsat(name: str, folder: str, files: Mapping[str, str]) -> Source | None:
    """Describe a scene, or None when it is something else.

    Args:
        name: what its files' names have in common.
        folder: that they lie in.
        files: path by band, as the files are called (SR_B4).
    """
    found = _NAME.match(name)
    if found is None:
        return None
    said = _metadata(Path(folder) / f"{name}_MTL.txt")
    bands = []
    for band in sorted(files, key=lambda band: (band[:2], len(band), band)):
        meaning = _meaning(band.upper(), found[1].upper())
        if meaning is not None:
            scale, offset = _rescaling(band.upper(), said)
            bands.append(BandFile(files[band], 1, meaning, scale, offset, (0.0,)))
    day = "-".join(found.groups()[3:6])
    sensor = L8 if found[1].upper() == "C" else None
    return Source(name, folder, tuple(bands), "landsat", day, sensor, found[3]) if bands else None


def _meaning(band: str, kind: str) -> str | None:
    if kind != "C":
        return _THEMATIC_MAPPER.get(band)
    try:
        return resolve(band.removeprefix("ST_"), L8)
    except ConfigError:  # quality layers
        return None


def _rescaling(band: str, said: Mapping[str, str]) -> tuple[float, float]:
    """Scale and offset: from the metadata, else as the guide has them."""
    number = band[4:]
    key = f"REFLECTANCE_{{}}_BAND_{number}" if band[:2] == "SR" else f"TEMPERATURE_{{}}_BAND_{band}"
    usual = _REFLECTANCE if band[:2] == "SR" else _TEMPERATURE
    try:
        return float(said[key.format("MULT")]), float(said[key.format("ADD")])
    except (KeyError, ValueError):
        return usual


def _metadata(path: Path) -> dict[str, str]:
    """Keys and values of the groups of level 2; level 1 has keys of the same names with other values."""
    out: dict[str, str] = {}
    if not path.is_file():
        return out
    group = ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        found = _LINE.match(line)
        if found and found[1] == "GROUP":
            group = found[2]
        elif found and group in _GROUPS:
            out[found[1]] = found[2]
    return out

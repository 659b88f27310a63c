"""One file per band: which files belong to one scene, and which band each is, by their names."""

import re
from collections.abc import Iterable
from functools import lru_cache

from adapteo.bands import SENSORS, resolve
from adapteo.data._dates import day_in_name
from adapteo.data._hls import read_hls
from adapteo.data._landsat import read_landsat
from adapteo.data._source import BandFile, Source
from adapteo.errors import ConfigError

_RESOLUTION = re.compile(r"[._-]\d{2,3}m$", re.IGNORECASE)
_QUANTITY = re.compile(r"^(?:(.*)[._-])?((?:SR|ST)_B\d{1,2})$", re.IGNORECASE)
_LAST = re.compile(r"^(?:(.*)[._-])?([^._-]+)$")
_TILE = re.compile(r"(?:^|[._-])T?(\d{2}[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V])(?:[._-]|$)")
_LAYER = re.compile(
    r"(?:^|[._-])(?:Fmask|[SV][AZ]A|SCL|TCI|AOT|WVP|PVI|visual|thumbnail|(?:SR_)?QA_[A-Z]+|ST_[A-Z]{2,})(?:[._-]\d\dm)?$",
    re.IGNORECASE,
)
_ORDERED = re.compile(r"^B(\d{1,2})(A?)$", re.IGNORECASE)


def split_name(stem: str) -> tuple[str, str] | None:
    """Name of the scene and of the band of a file, e.g. ("T32UQD_20210731", "B04"), or None when there is no band.

    A scene's name may be empty: then the files lie in a folder of their own.
    """
    short = _RESOLUTION.sub("", stem)
    for pattern in (_QUANTITY, _LAST):
        found = pattern.match(short)
        if found and _known(found[2]):
            return found[1] or "", found[2]
    return None


def is_layer(stem: str) -> bool:
    """Whether a file is what products have beside their bands: quality, angles, pictures."""
    return _LAYER.search(stem) is not None


@lru_cache(maxsize=4096)
def _known(band: str) -> bool:
    """Whether any sensor has a band of this name."""
    for sensor in SENSORS:
        try:
            resolve(band.upper().removeprefix("ST_") if band[:1] in "sS" else band, sensor)
        except ConfigError:
            continue
        return True
    return False


def describe(name: str, folder: str, files: dict[str, str], sensor: str | None) -> Source:
    """Describe a scene of one file per band: a product that is known, or else what the names tell.

    Args:
        name: of the scene; empty for that of the folder.
        folder: that the files lie in.
        files: path by band, as the files are called.
        sensor: that the user named.
    """
    known = read_hls(name, folder, files) or read_landsat(name, folder, files)
    if known is not None:
        return known
    name = name or re.split(r"[/\\]", folder.rstrip("/\\"))[-1]
    bands = tuple(BandFile(files[band], 1, _named(band, sensor)) for band in sorted(files, key=_order))
    tile = _TILE.search(name)
    day = day_in_name(name)
    return Source(name, folder, bands, "folder", day.isoformat() if day else None, sensor, tile[1] if tile else None)


def _named(band: str, sensor: str | None) -> str:
    """Canonical name where it is clear, else as the file is called."""
    try:
        return resolve(band, sensor)
    except ConfigError:
        return band


def _order(band: str) -> tuple[int, str]:
    """B2 before B10, and B8A after B8."""
    found = _ORDERED.match(band)
    return (int(found[1]) * 2 + bool(found[2]), "") if found else (0, band)


def finest_files(paths: Iterable[str], stem_of: dict[str, str]) -> dict[tuple[str, str], dict[str, str]]:
    """Scenes: (folder, name) to path by band; where a band is there in several sizes of pixels, the finest.

    Args:
        paths: files with one band.
        stem_of: name of each without ending, with a band in it.
    """
    scenes: dict[tuple[str, str], dict[str, str]] = {}
    best: dict[tuple[str, str, str], int] = {}
    for path in paths:
        found = split_name(stem_of[path])
        assert found is not None
        name, band = found
        folder = re.sub(r"[/\\]?[^/\\]*$", "", path)
        metres = _RESOLUTION.search(stem_of[path])
        size = int(metres[0][1:-1]) if metres else 0
        key = (folder, name, band.upper())
        if key not in best or size < best[key]:
            best[key] = size
            scenes.setdefault((folder, name), {})[band.upper() if _ORDERED.match(band) else band] = path
    return scenes

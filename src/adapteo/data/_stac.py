"""STAC items: a JSON file, or the address of one, that says where the bands of a scene are and what they mean.

Read: ``assets`` with their ``eo:bands`` and ``raster:bands`` (STAC 1.0) or ``bands`` with ``eo:common_name`` and
``raster:scale`` (STAC 1.1). Sources: STAC specification 1.0 and 1.1, extensions eo 1.1 and 2.0, raster 1.1 and 2.0.

Earth Search writes the offset of the Sentinel-2 baseline 04.00 into ``raster:bands`` also where the files have it taken
out, which only ``earthsearch:boa_offset_applied`` tells; and that is wrong for some of 2025 (element84/earth-search
issues 9 and 71). The flag is followed, and the doubt is passed on.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname, urlopen

from adapteo.bands import BY_NAME, HLS_L30, HLS_S30, L8, S2, resolve
from adapteo.data._source import BandFile, Source, is_remote
from adapteo.errors import ConfigError, DataError

_OTHER = {"thumbnail", "overview", "visual", "metadata", "cloud", "quality", "snow-ice", "water-mask"}
_MOST = 16 * 2**20  # bytes of an item
_SECONDS = 60.0
_APPLIED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")


def read_stac(location: str) -> Source | None:
    """Describe an item, or None when the JSON is something else.

    Raises:
        DataError: it cannot be read, or has no bands that are known.
    """
    item = _load(location)
    if not isinstance(item, dict) or item.get("type") != "Feature" or not isinstance(item.get("assets"), dict):
        return None
    properties = item.get("properties") or {}
    sensor = _sensor(item, properties)
    applied = next((properties[key] for key in _APPLIED if key in properties), None)
    bands: dict[str, BandFile] = {}
    for key, asset in item["assets"].items():
        if _OTHER & set(asset.get("roles") or ()) or "href" not in asset or key in ("visual", "thumbnail", "tci"):
            continue
        for band in _bands(key, asset, location, sensor):
            # Earth Search lists each band as GeoTIFF and again as JPEG 2000.
            if band.name not in bands or (bands[band.name].path.endswith(".jp2") and not band.path.endswith(".jp2")):
                bands[str(band.name)] = band if applied is not True else _offset_taken(band)
    if not bands:
        raise DataError(
            f"{location}: none of its {len(item['assets'])} assets is a band that is known",
            allowed=list(item["assets"])[:12],
            fix="name the files of the bands themselves",
        )
    day = str(properties.get("datetime") or properties.get("start_datetime") or "")[:10]
    state = "taken out" if applied else "left in"
    doubt = f"its catalogue says that the Sentinel-2 offset was {state}, which is wrong for some items; `offset: auto`"
    doubts = () if applied is None else (f"{doubt} looks at the pixels",)
    return Source(
        str(item.get("id") or Path(urlsplit(location).path).stem), location, tuple(bands.values()), "stac",
        day if re.fullmatch(r"\d{4}-\d\d-\d\d", day) else None, sensor, _tile(properties), doubts,
    )  # fmt: skip


def _load(location: str) -> Any:
    try:
        if location.startswith(("http://", "https://")):
            with urlopen(location, timeout=_SECONDS) as answer:
                text = answer.read(_MOST + 1)
        else:
            path = Path(location)
            with path.open("rb") as file:
                text = file.read(_MOST + 1)
    except OSError as error:
        raise DataError(f"cannot read {location}: {error}", fix="check the path or address") from error
    if len(text) > _MOST:
        raise DataError(f"{location} is larger than a STAC item can be", fix="name an item, not a whole catalogue")
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{location} is no JSON: {error}", fix="download the item again") from error


def _bands(key: str, asset: Mapping[str, Any], location: str, sensor: str | None) -> list[BandFile]:
    """The known bands of an asset."""
    described = asset.get("bands") or asset.get("eo:bands") or [{}]
    raster = asset.get("raster:bands") or [{}] * len(described)
    path = _address(str(asset["href"]), location)
    out = []
    for i, band in enumerate(described):
        values = {**asset, **(raster[i] if i < len(raster) else {}), **band}
        name = _name([band.get("name"), band.get("eo:common_name"), band.get("common_name"),
                      key if len(described) == 1 else None], sensor)  # fmt: skip
        if name is not None:
            scale, offset = (values.get(f"raster:{word}", values.get(word)) for word in ("scale", "offset"))
            said = scale is not None or offset is not None
            missing = values.get("nodata")
            out.append(
                BandFile(
                    path, i + 1, name,
                    float(1.0 if scale is None else scale) if said else None,
                    float(offset or 0.0) if said else None,
                    () if missing is None or str(missing).lower() == "nan" else (float(missing),),
                )
            )  # fmt: skip
    return out


def _offset_taken(band: BandFile) -> BandFile:
    optical = BY_NAME[str(band.name)].kind == "optical"
    return BandFile(band.path, band.index, band.name, band.scale, 0.0 if optical else band.offset, band.missing)


def _name(words: list[Any], sensor: str | None) -> str | None:
    """Canonical name of the first word that has a meaning."""
    for word in words:
        try:
            if word:
                return resolve(re.sub(r"^(?:OLI|TIRS|ETM|TM)_", "", str(word)), sensor)
        except ConfigError:
            continue
    return None


def _sensor(item: Mapping[str, Any], properties: Mapping[str, Any]) -> str | None:
    """What the names of bands refer to."""
    collection = str(item.get("collection") or "").lower().replace("-", "").replace("_", "")
    for words, sensor in (("hlss30", HLS_S30), ("hls2s30", HLS_S30), ("hlsl30", HLS_L30), ("hls2l30", HLS_L30)):
        if words in collection:
            return sensor
    platform = f"{properties.get('constellation', '')} {properties.get('platform', '')}".lower()
    if "sentinel-2" in platform or "sentinel2" in collection:
        return S2
    return L8 if re.search(r"landsat-?[89]", platform) else None


def _tile(properties: Mapping[str, Any]) -> str | None:
    """MGRS tile, or Landsat's path and row."""
    code = str(properties.get("grid:code") or properties.get("s2:mgrs_tile") or "").removeprefix("MGRS-")
    if not code and {"mgrs:utm_zone", "mgrs:latitude_band", "mgrs:grid_square"} <= properties.keys():
        code = "".join(str(properties[f"mgrs:{key}"]) for key in ("utm_zone", "latitude_band", "grid_square"))
    if not code and {"landsat:wrs_path", "landsat:wrs_row"} <= properties.keys():
        code = f"{properties['landsat:wrs_path']}{properties['landsat:wrs_row']}"
    return code or None


def _address(href: str, location: str) -> str:
    """Where an asset is: relative ones are beside the item."""
    if href.startswith("file://"):
        return url2pathname(urlsplit(href).path)
    if is_remote(href):
        return href
    if location.startswith(("http://", "https://")):
        return urljoin(location, href)
    return str(Path(location).parent / href)

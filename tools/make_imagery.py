"""Write src/adapteo/backbones/imagery.json from the code: what imagery each backbone was pre-trained on.

`adapteo init` and `adapteo check` compare a person's scenes with it, and do without torch; everything but `_FACTS` is
read from the built backbones. Backbones whose statistics depend on another package (timm, torchgeo) and those without
any (unet) are left out. Run by ``make docs``; ``--check`` only says whether the file is current.
"""

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from adapteo import registry
from adapteo.backbones._galileo_tokens import NDVI, SPACE_TIME, TERRAIN
from adapteo.bands import BY_NAME
from adapteo.contracts import Backbone, BackboneSpec
from adapteo.errors import ConfigError

FILE = Path(__file__).parents[1] / "src" / "adapteo" / "backbones" / "imagery.json"
_LEFT_OUT = ("timm", "torchgeo", "unet")
_MOST_DATES = 32

# What the code has no use for: sensors and metres per pixel of the pre-training. Sources: arXiv 2412.02732 (Prithvi:
# HLS, 30 m), 2504.11171 (TerraMind), 2502.09356 (Galileo), 2309.05300 (DeCUR), 2403.15356 (DOFA; its statistics here
# are those of Sentinel-2), Clay's metadata.yaml, tools/pretrain_nano.py (HLS's bands, scenes without a scale).
_FACTS: Mapping[str, tuple[tuple[str, ...], float | None]] = {
    "clay/sentinel2": (("sentinel2",), 10.0),
    "clay/landsat8": (("landsat8",), 30.0),
    "clay/planetscope": (("planetscope",), 5.0),
    "clay/modis": (("modis",), 500.0),
    "clay/naip": (("naip",), 1.0),
    "clay/linz": (("linz",), 0.5),
    "decur": (("sentinel2",), 10.0),
    "dofa": (("sentinel2",), 10.0),
    "galileo": (("sentinel2", "sentinel1"), 10.0),
    "nano": (("hls_s30", "hls_l30"), None),
    "prithvi": (("hls_s30", "hls_l30"), 30.0),
    "terramind": (("sentinel2", "sentinel1"), 10.0),
}
_CHOICES: Mapping[str, tuple[str, ...]] = {"clay": ("variant", "sensor"), "terramind": ("variant", "optical")}


def entries() -> list[dict[str, Any]]:
    """Describe every backbone and variant."""
    return [
        _entry(name, keys, cls(**keys))
        for name in registry.names("backbones")
        if name not in _LEFT_OUT
        for cls in [registry.load("backbones", name)]
        for keys in _variants(name, cls)
    ]


def _variants(name: str, cls: type) -> list[dict[str, str]]:
    """Keys of the configuration that choose what a backbone was pre-trained on."""
    module = vars(sys.modules[cls.__module__])
    tables = {"variant": module.get("VARIANTS"), "sensor": module.get("SENSORS"), "optical": module.get("OPTICAL")}
    keys = _CHOICES.get(name, ("variant",) if tables["variant"] else ())
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*(tables[key] for key in keys))]


def _entry(name: str, keys: dict[str, str], spec: BackboneSpec) -> dict[str, Any]:
    accepted = spec.accepts(tuple(BY_NAME))
    groups = [list(group.bands) for group in (*SPACE_TIME, TERRAIN) if group.key != NDVI] if name == "galileo" else None
    built = _build(spec, accepted)
    units = groups or [[band] for band in accepted]
    known = [band for unit in units if _has_statistics(built, unit) for band in unit]
    built = _build(spec, known)
    norm, weights = built.normalisation, built.weights
    assert norm is not None, name
    assert weights is not None, name
    sensors, gsd = _FACTS.get(f"{name}/{keys.get('sensor')}") or _FACTS[name]
    return {
        "backbone": name,
        "keys": keys,
        "default": type(spec)() == spec,
        "sensors": sensors,
        "gsd": gsd,
        "bands": {band: _digits(pair) for band, *pair in zip(known, norm.mean, norm.std, strict=True)},
        "other_bands": [band for band in accepted if band not in known],
        "groups": groups,
        "frames": _most_frames(spec, known),
        "multiple": built.multiple,
        "parameters": sum(parameter.numel() for parameter in built.parameters()),
        "licence": weights.licence,
        "repo": weights.repo,
        "file": weights.file,
        "packaged": weights.packaged,
    }


def _build(spec: BackboneSpec, bands: Sequence[str], frames: int = 1) -> Backbone:
    with torch.device("meta"):  # shapes only
        return spec.build(bands, frames)


def _has_statistics(built: Backbone, unit: Sequence[str]) -> bool:
    built.bands = tuple(unit)
    try:
        return built.normalisation is not None
    except ConfigError:
        return False


def _most_frames(spec: BackboneSpec, bands: Sequence[str]) -> int:
    """Most dates that it takes, by bisection: whoever takes n takes fewer."""
    taken, refused = 1, _MOST_DATES
    while refused - taken > 1:
        middle = (taken + refused) // 2
        try:
            _build(spec, bands, middle)
        except ConfigError:
            refused = middle
        else:
            taken = middle
    return taken


def _digits(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def text() -> str:
    """Content of the file: one line per key, so that changes can be read."""
    rows = (",\n".join(f'  "{key}": {json.dumps(value)}' for key, value in entry.items()) for entry in entries())
    return "[\n" + ",\n".join(f" {{\n{row}\n }}" for row in rows) + "\n]\n"


def main() -> None:
    """Write the file, or check it."""
    found = text()
    current = FILE.is_file() and FILE.read_text(encoding="utf-8") == found
    if "--check" in sys.argv[1:]:
        sys.exit(0 if current else f"not current: {FILE.name}; run `make docs`")
    if not current:
        FILE.write_text(found, encoding="utf-8")
        print(f"wrote {FILE}")


if __name__ == "__main__":
    main()

"""A small stand-in for Sen1Floods11, file by file as the bucket has it, filled with synthetic floods."""

from pathlib import Path

import numpy as np

from adapteo.bands import SENTINEL2_L1C
from adapteo.data._sample_events import event
from adapteo.data.raster import Raster, write_image

_PLACES = {  # region of the synthetic scenes, latitude and longitude in the flooded area
    "Ghana": ("tropical", 10.9, -1.6), "India": ("tropical", 26.7, 92.3), "Mekong": ("delta", 11.6, 105.2),
    "Nigeria": ("arid", 10.5, 6.5), "Pakistan": ("arid", 28.0, 71.2), "Paraguay": ("temperate", -27.3, -57.6),
    "Somalia": ("arid", 2.8, 45.5), "Spain": ("mediterranean", 38.1, -0.7), "Sri-Lanka": ("tropical", 6.6, 80.2),
    "USA": ("temperate", 38.3, -95.6), "Bolivia": ("delta", -15.5, -65.1),
}  # fmt: skip
_HOLDOUT = "Bolivia"
_LISTS = ("train", "valid", "test", "bolivia")
_STEP = 8.983152841195215e-05  # degrees; 10 m on the equator
_S2_NAMES = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")


def write(folder: Path, *, per_split: int = 2, side: int = 64, seed: int = 0) -> None:
    """Write ``<folder>/v1.1`` with Sentinel-2, Sentinel-1, labels and the four lists.

    Args:
        folder: ``root`` of the dataset `adapteo.data.sen1floods11`.
        per_split: chips in each of train, valid, test and bolivia.
        side: pixels of a chip.
        seed: of everything.
    """
    base = Path(folder) / "v1.1"
    floods = [name for name in _PLACES if name != _HOLDOUT]
    lists = base / "splits/flood_handlabeled"
    lists.mkdir(parents=True, exist_ok=True)
    for part, name in enumerate(_LISTS):
        keys = []
        for i in range(per_split):
            place = _HOLDOUT if name == "bolivia" else floods[(i * 3 + part) % len(floods)]
            keys.append(f"{place}_{100_000 * (part + 1) + 7919 * i}")
            _write_chip(base / "data/flood_events/HandLabeled", keys[-1], (seed, part, i), side)
        rows = [f"{key}_S1Hand.tif,{key}_LabelHand.tif\n" for key in keys]
        (lists / f"flood_{name}_data.csv").write_text("".join(rows), encoding="utf-8")


def _write_chip(base: Path, key: str, entropy: tuple[int, int, int], side: int) -> None:
    region, latitude, longitude = _PLACES[key.rpartition("_")[0]]
    flood = event(entropy, "flood", region, side, (*SENTINEL2_L1C, "vv", "vh"))
    north, east = latitude + 0.1 * entropy[2], longitude + 0.1 * entropy[1]
    place = (_STEP, 0.0, east, 0.0, -_STEP, north)
    stored = np.nan_to_num(np.clip(np.round(flood.image[:13] * 10_000), 1, 32_767), nan=0).astype(np.int16)
    layers = {
        "S2Hand": (stored, _S2_NAMES, 0.0),
        "S1Hand": (flood.image[13:], ("VV", "VH"), float("nan")),
        "LabelHand": (flood.target[None].astype(np.int16), (None,), None),
    }
    for name, (array, bands, nodata) in layers.items():
        (base / name).mkdir(parents=True, exist_ok=True)
        write_image(base / name / f"{key}_{name}.tif", Raster(array, bands, nodata, "EPSG:4326", place))

"""A small stand-in for HLS Burn Scars, file by file as the hub's archive has it, filled with synthetic burns."""

from pathlib import Path

import numpy as np

from adapteo.bands import HLS6
from adapteo.data._sample_events import event
from adapteo.data.raster import Raster, write_image

_TILES = (  # MGRS tile, region of the synthetic scenes, northing of its middle in its UTM zone
    ("T10SEH", "mediterranean", 4_150_000), ("T14SMC", "temperate", 3_750_000), ("T10TGS", "temperate", 5_150_000),
    ("T12STF", "arid", 4_050_000), ("T16RBV", "tropical", 3_450_000), ("T11TPG", "boreal", 4_850_000),
)  # fmt: skip
_LISTS = ("train", "val", "test")
_FILL = -9999.0


def write(folder: Path, *, per_split: int = 2, side: int = 64, seed: int = 0) -> None:
    """Write ``<folder>/training`` and ``validation``, and lists of three other splits in ``<folder>/splits``.

    Two thirds of the chips are in ``training``, as in the archive, which has no lists; those here are for trying out
    the key `splits`, and divide the chips otherwise than the folders do.

    Args:
        folder: ``root`` of the dataset `adapteo.data.burn_scars`.
        per_split: chips in each of the three lists.
        side: pixels of a chip.
        seed: of everything.
    """
    root = Path(folder)
    (root / "splits").mkdir(parents=True, exist_ok=True)
    listed: dict[str, list[str]] = {name: [] for name in _LISTS}
    for i in range(3 * per_split):
        tile, region, north = _TILES[i % len(_TILES)]
        key = f"{tile}.{2018 + i % 4}{1 + (97 + 11 * i) % 365:03d}"
        place = (30.0, 0.0, 399_960.0 + 1_000 * i, 0.0, -30.0, float(north))
        stem = root / ("training" if i < 2 * per_split else "validation") / f"subsetted_512x512_HLS.S30.{key}.v1.4"
        burn = event((seed, i), "burn", region, side, HLS6)
        crs = f"EPSG:326{tile[1:3]}"
        stem.parent.mkdir(exist_ok=True)
        image = np.nan_to_num(burn.image, nan=_FILL)
        write_image(stem.with_name(f"{stem.name}_merged.tif"), Raster(image, (None,) * 6, None, crs, place))
        mask = burn.target[None].astype(np.int16)
        write_image(stem.with_name(f"{stem.name}.mask.tif"), Raster(mask, (None,), None, crs, place))
        listed[_LISTS[i % 3]].append(f"{key}.v1")
    for name, entries in listed.items():
        (root / "splits" / f"{name}.txt").write_text("\n".join(entries) + "\n", encoding="utf-8")

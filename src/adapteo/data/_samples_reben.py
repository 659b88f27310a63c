"""A small stand-in for reBEN, file by file as the archive lays it out, filled with synthetic scenes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adapteo.bands import SENTINEL2_L2A
from adapteo.data._corine import CLASSES, CODES
from adapteo.data._reben_files import FILES, IMAGES, MAPS, TABLE, patch_file
from adapteo.data._sample_scenes import land
from adapteo.data.raster import Raster, write_image
from adapteo.errors import DataError

_TILES = {  # country: acquisition and tile, region of the synthetic scenes, UTM zone, corner of the tile in metres
    "Portugal": ("S2A_MSIL2A_20170701T112111_N9999_R037_T29SNC", "mediterranean", 29, (499_980, 4_300_020)),
    "Finland": ("S2B_MSIL2A_20180522T095029_N9999_R079_T35VNK", "boreal", 35, (499_980, 6_800_040)),
    "Austria": ("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP", "temperate", 33, (300_000, 5_400_000)),
    "Ireland": ("S2A_MSIL2A_20170617T113321_N9999_R080_T29UPU", "delta", 29, (600_000, 5_900_040)),
}
_HELDOUT = ("Austria", "Ireland")
_SPLITS = ("train", "validation", "test")
_CODES = {  # of each synthetic land cover, one per patch in turn
    "water": (511, 512, 523), "bare": (333, 331, 332), "grass": (231, 321, 322), "crop": (211, 212, 242),
    "broadleaf": (311, 313, 244), "conifer": (312, 324, 312), "urban": (112, 121, 111), "wetland": (411, 412, 421),
}  # fmt: skip
_SLOT = 7  # rows and columns of the tile between two patches


def write(folder: Path, *, per_split: int = 2, side: int = 120, seed: int = 0) -> None:
    """Write images, reference maps, ``metadata.parquet``, and lists in ``<folder>/lists`` like those of the 7k patches.

    Args:
        folder: ``root`` of the dataset `adapteo.data.reben`.
        per_split: patches in each of train, validation and test outside the held-out countries, and test patches of
            each of these; one of their training patches is written as well.
        side: pixels of 10 m of a patch; a multiple of 6.
        seed: of everything.

    Raises:
        DataError: the side is no multiple of 6, or pyarrow is not installed.
    """
    if side % 6:
        raise DataError(f"patches of {side} pixels of 10 m have no whole number of 60 m", fix="give a multiple of 6")
    others = [country for country in _TILES if country not in _HELDOUT]
    rows: list[tuple[str, str, str, list[str]]] = []
    for part, split in enumerate(_SPLITS):
        for i in range(per_split):
            rows.append(_write_patch(Path(folder), others[i % len(others)], split, (seed, part, i), side))
    for k, country in enumerate(_HELDOUT):
        for i in range(per_split):
            rows.append(_write_patch(Path(folder), country, "test", (seed, 3 + k, i), side))
        rows.append(_write_patch(Path(folder), country, "train", (seed, 3 + k, per_split), side))
    _write_table(Path(folder) / TABLE, rows)
    _write_lists(Path(folder) / "lists", rows)


def _write_patch(
    root: Path, country: str, split: str, entropy: tuple[int, int, int], side: int
) -> tuple[str, str, str, list[str]]:
    """Write the bands and the map of a patch; return its row of the table."""
    tile, region, zone, corner = _TILES[country]
    column, row = entropy[1] * _SLOT, entropy[2] * _SLOT
    patch = f"{tile}_{column:02d}_{row:02d}"
    image, cover, _ = land(entropy, region, side, SENTINEL2_L2A)
    crs = f"EPSG:326{zone}"
    left, top = corner[0] + column * side * 10.0, corner[1] - row * side * 10.0
    for band, (name, metres) in FILES.items():
        coarse, size = metres // 10, side // (metres // 10)
        values = image[SENTINEL2_L2A.index(band)].reshape(size, coarse, size, coarse).mean((1, 3))
        numbers = np.round(values.clip(1e-4, 2) * 10_000).astype(np.uint16)[None]
        place = (float(metres), 0.0, left, 0.0, -float(metres), top)
        write_image(patch_file(root, IMAGES, patch, name), Raster(numbers, (None,), None, crs, place))
    codes = np.array([options[sum(entropy) % 3] for options in _CODES.values()])[cover].astype(np.uint16)
    codes[:2, :3] = 999
    place = (10.0, 0.0, left, 0.0, -10.0, top)
    write_image(patch_file(root, MAPS, patch, "reference_map"), Raster(codes[None], (None,), None, crs, place))
    labels = [name for name in CLASSES if np.isin(codes, CODES[name]).any()]
    return patch, split, country, labels


def _write_table(path: Path, rows: Sequence[tuple[str, str, str, list[str]]]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"writing {path.name} needs pyarrow", fix="run: pip install 'adapteo[parquet]'") from error
    columns = dict(zip(("patch_id", "split", "country", "labels"), zip(*rows, strict=True), strict=True))
    order = ("patch_id", "labels", "split", "country")
    pyarrow.parquet.write_table(pyarrow.table({name: list(columns[name]) for name in order}), path)


def _write_lists(folder: Path, rows: Sequence[tuple[str, str, str, list[str]]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = {"train": "train", "validation": "val", "test": "test"}
    lists: dict[str, list[str]] = {name: [] for name in (*names.values(), "ood", *_HELDOUT)}
    for patch, split, country, _ in rows:
        if country not in _HELDOUT:
            lists[names[split]].append(patch)
        elif split == "test":
            lists["ood"].append(patch)
            lists[country].append(patch)
    for name, patches in lists.items():
        (folder / f"{name}.txt").write_text("".join(f"{patch}\n" for patch in patches), encoding="utf-8")

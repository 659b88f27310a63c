"""Small folders of chips, written to disk for the tests of this folder."""

import csv

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio import Affine

from adapteo.data.folder import Folder
from adapteo.errors import AdaptEOError


def write_tif(path, array, names=(), nodata=None, place=None, crs="EPSG:32632"):
    """Write ``(c, h, w)``; ``place`` is the upper left corner in metres, pixels have 10 m."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.asarray(array)
    where = {} if place is None else {"crs": crs, "transform": Affine(10, 0, place[0], 0, -10, place[1])}
    c, h, w = array.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=c, height=h, width=w, dtype=array.dtype, nodata=nodata,
        **(where or {"transform": Affine(2, 0, 0, 0, -2, 0)}),
    ) as file:  # fmt: skip
        file.write(array)
        if names:
            file.descriptions = names
    return path


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def chips(root, count=6, seed=0, size=8, names=("B02", "B03", "B04")):
    """``images/chip_i_S2.tif`` (int16 reflectance x 1e4) with ``masks/chip_i_L.tif`` (0, 1, and 255 to ignore)."""
    random = np.random.default_rng(seed)
    for i in range(count):
        image = random.integers(1, 3000, (len(names), size, size)).astype(np.int16)
        mask = random.integers(0, 2, (1, size, size)).astype(np.uint8)
        mask[0, 0, 0] = 255
        place = (500_000 + i * 5_000, 5_500_000)
        write_tif(root / f"images/chip_{i}_S2.tif", image, names, place=place)
        write_tif(root / f"masks/chip_{i}_L.tif", mask, place=place)
    return root


def flood_folder(root):
    """Six chips of three bands with masks of land, water and 255."""
    chips(root)
    return Folder(str(root), "images/*_S2.tif", "masks/*_L.tif", class_names=("land", "water"), ignore=255, scale=1e-4)


def picture_folder(root):
    """Two class folders of three 8-bit pictures each."""
    random = np.random.default_rng(0)
    for name in ("Forest", "Sea"):
        (root / name).mkdir()
        for i in range(3):
            Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).save(root / name / f"{name}_{i}.png")
    return Folder(str(root), scale=1 / 255)


def problem(dataset, key=None):
    """What the user is told when a chip, by default the first one, is read."""
    with pytest.raises(AdaptEOError) as caught:
        dataset.read(key or next(iter(dataset._chips)))
    assert len(str(caught.value).splitlines()) <= 5
    return str(caught.value)

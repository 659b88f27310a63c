"""What a map file holds beside its pixels; no rasterio here, `adapteo.data.raster` writes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

TILE = 256
"""Side in pixels of the tiles of a map."""


@dataclass(frozen=True)
class Layout:
    """What a map holds.

    Attributes:
        dtype: NumPy name of the type of its values.
        nodata: value of missing pixels.
        bands: name of each band.
        classes: name of each class index, written as tags ``CLASS_0`` ... of band 1 and as category names.
        colours: RGB (0..255) by class index.
        scale: physical value = stored value times this.
        tags: further metadata of the file.
    """

    dtype: str
    nodata: float
    bands: tuple[str, ...] = ("map",)
    classes: tuple[str, ...] = ()
    colours: Mapping[int, tuple[int, int, int]] | None = None
    scale: float = 1.0
    tags: Mapping[str, str] = field(default_factory=dict)


def profile(layout: Layout, width: int, height: int) -> dict[str, object]:
    """GDAL's creation options, without the place."""
    return {
        "driver": "GTiff", "width": width, "height": height, "count": len(layout.bands),
        "dtype": layout.dtype, "nodata": layout.nodata, "interleave": "band", "bigtiff": "if_safer",
        "tiled": True, "blockxsize": TILE, "blockysize": TILE,
        "compress": "deflate", "predictor": 3 if np.dtype(layout.dtype).kind == "f" else 2,
    }  # fmt: skip


def sidecar(path: Path) -> Path:
    """Where GDAL and QGIS look for what does not fit into a GeoTIFF."""
    return path.with_name(f"{path.name}.aux.xml")


def category_names(classes: Sequence[str]) -> str:
    """XML of GDAL's "persistent auxiliary metadata"."""
    root = ElementTree.Element("PAMDataset")
    names = ElementTree.SubElement(ElementTree.SubElement(root, "PAMRasterBand", band="1"), "CategoryNames")
    for name in classes:
        ElementTree.SubElement(names, "Category").text = name
    return ElementTree.tostring(root, encoding="unicode")

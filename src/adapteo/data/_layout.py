"""What a map file holds beside its pixels; no rasterio here, `adapteo.data.map_file` writes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

TILE = 256
"""Side in pixels of the tiles of a map."""
Transform = tuple[float, float, float, float, float, float]
"""``(a, b, c, d, e, f)``: x = a col + b row + c, y = d col + e row + f, of pixel corners."""
Box = tuple[int, int, int, int]
"""Row and column of the upper left pixel, height and width."""
Companion = Callable[[np.ndarray], str]
"""Text of a file beside the map, from a small picture of it: ``(bands, h, w)`` stored values, NaN where missing."""


@dataclass(frozen=True)
class Grid:
    """The pixels of a map.

    Attributes:
        height, width: pixels.
        crs: WKT, or None.
        transform: pixel to map coordinates, or None when there is no place.
        points: ground control points instead of a transform, ``(row, col, x, y, z)``.
        points_crs: WKT of these.
    """

    height: int
    width: int
    crs: str | None = None
    transform: Transform | None = None
    points: tuple[tuple[float, float, float, float, float], ...] = ()
    points_crs: str | None = None


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
        style: makes the QGIS style, None for no style file.
    """

    dtype: str
    nodata: float
    bands: tuple[str, ...] = ("map",)
    classes: tuple[str, ...] = ()
    colours: Mapping[int, tuple[int, int, int]] | None = None
    scale: float = 1.0
    tags: Mapping[str, str] = field(default_factory=dict)
    style: Companion | None = None

    @property
    def predictor(self) -> int:
        """What TIFF calls it: differences help values (2, 3 for floats), not class indices (1)."""
        if self.classes:
            return 1
        return 3 if np.dtype(self.dtype).kind == "f" else 2


def profile(layout: Layout, width: int, height: int) -> dict[str, object]:
    """GDAL's creation options of a plain tiled GeoTIFF, without the place."""
    return {
        "driver": "GTiff", "width": width, "height": height, "count": len(layout.bands),
        "dtype": layout.dtype, "nodata": layout.nodata, "interleave": "band", "bigtiff": "if_safer",
        "tiled": True, "blockxsize": TILE, "blockysize": TILE,
        "compress": "deflate", "predictor": layout.predictor,
    }  # fmt: skip


def cog_options(layout: Layout) -> dict[str, str]:
    """GDAL's creation options of a Cloud-Optimised GeoTIFF.

    An overview of classes shows the most frequent one, so that no class appears which is not there; one of values and
    probabilities their mean.
    """
    return {
        "BLOCKSIZE": str(TILE), "COMPRESS": "DEFLATE", "BIGTIFF": "IF_SAFER", "NUM_THREADS": "2",
        "PREDICTOR": {1: "NO", 2: "STANDARD", 3: "FLOATING_POINT"}[layout.predictor],
        "OVERVIEWS": "AUTO", "OVERVIEW_RESAMPLING": "MODE" if layout.classes else "AVERAGE",
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


_TYPES = {"uint8": "Byte", "uint16": "UInt16", "float32": "Float32", "int16": "Int16", "int32": "Int32"}


def virtual_map(layout: Layout, grid: Grid, pieces: Sequence[tuple[str, Box]]) -> str:
    """XML of GDAL's virtual format that puts the pieces of a map together and tells all that the map will tell.

    Args:
        layout: of the map, and of each piece.
        grid: of the map.
        pieces: name of each file, beside the one that this is written to, and the pixels of the map that it holds.
    """
    kind = _TYPES[layout.dtype]
    root = ElementTree.Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
    _add_place(root, grid)
    _add_tags(root, {"TIFFTAG_SOFTWARE": "adapteo", **layout.tags})
    for number, name in enumerate(layout.bands, 1):
        size = {"blockXSize": str(TILE), "blockYSize": str(TILE)}
        band = ElementTree.SubElement(root, "VRTRasterBand", dataType=kind, band=str(number), attrib=size)
        if layout.classes and number == 1:
            _add_tags(band, {f"CLASS_{i}": each for i, each in enumerate(layout.classes)})
        ElementTree.SubElement(band, "Description").text = name
        ElementTree.SubElement(band, "NoDataValue").text = repr(layout.nodata)
        if layout.scale != 1.0:
            ElementTree.SubElement(band, "Scale").text = repr(layout.scale)
        if layout.colours:
            _add_colours(band, layout.colours)
        for file, (row, col, height, width) in pieces:
            source = ElementTree.SubElement(band, "SimpleSource")
            ElementTree.SubElement(source, "SourceFilename", relativeToVRT="1").text = file
            ElementTree.SubElement(source, "SourceBand").text = str(number)
            properties = {"RasterXSize": str(width), "RasterYSize": str(height), "DataType": kind}
            ElementTree.SubElement(
                source, "SourceProperties", {**properties, "BlockXSize": str(TILE), "BlockYSize": str(TILE)}
            )
            side = {"xSize": str(width), "ySize": str(height)}
            ElementTree.SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0", **side})
            ElementTree.SubElement(source, "DstRect", {"xOff": str(col), "yOff": str(row), **side})
    return ElementTree.tostring(root, encoding="unicode")


def _add_place(root: ElementTree.Element, grid: Grid) -> None:
    if grid.crs:
        # Traditional order x, y of coordinates, whatever the authority says.
        ElementTree.SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2").text = grid.crs
    if grid.transform:
        a, b, c, d, e, f = grid.transform
        ElementTree.SubElement(root, "GeoTransform").text = ", ".join(repr(float(x)) for x in (c, a, b, f, d, e))
    if grid.points:
        points = ElementTree.SubElement(root, "GCPList", Projection=grid.points_crs or "")
        points.set("dataAxisToSRSAxisMapping", "1,2")
        for i, (row, col, x, y, z) in enumerate(grid.points, 1):
            numbers = {"Pixel": col, "Line": row, "X": x, "Y": y, "Z": z}
            attributes = {key: repr(float(value)) for key, value in numbers.items()}
            ElementTree.SubElement(points, "GCP", {"Id": str(i), **attributes})


def _add_tags(parent: ElementTree.Element, tags: Mapping[str, str]) -> None:
    metadata = ElementTree.SubElement(parent, "Metadata")
    for key, value in tags.items():
        ElementTree.SubElement(metadata, "MDI", key=key).text = value


def _add_colours(band: ElementTree.Element, colours: Mapping[int, tuple[int, int, int]]) -> None:
    ElementTree.SubElement(band, "ColorInterp").text = "Palette"
    table = ElementTree.SubElement(band, "ColorTable")
    for i in range(max(colours) + 1):
        r, g, b = colours.get(i, (0, 0, 0))
        ElementTree.SubElement(table, "Entry", c1=str(r), c2=str(g), c3=str(b), c4="255")

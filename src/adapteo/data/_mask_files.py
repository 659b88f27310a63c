"""Label rasters as files: what their values mean, and a window of them on the grid of a scene. No torch."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.enums import ColorInterp, Compression, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from adapteo.data._layout import sidecar
from adapteo.data.gdal import explained
from adapteo.data.raster import Transform, open_scene, pixel_size
from adapteo.errors import DataError

MASK_SUFFIXES = (".tif", ".tiff", ".vrt", ".png", ".img", ".bmp", ".jp2")
_MOST_VALUES = 1000
_MOST_POINTS = 16
"""Points along a side of a scene's pixel at which a finer mask is looked up, at most."""
_FINER = 1.5
"""From so many mask pixels along a side of a scene's pixel on, the majority decides."""
_TOLERANCE = 1e-3  # source pixels that GDAL's interpolation of a projection may be away; 0 is refused by rasterio

Colour = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class MaskFile:
    """A label raster before its pixels are put on the grid of a scene.

    Attributes:
        path: the file.
        shape: height and width.
        crs: WKT, or None for a picture without a place.
        transform: see `adapteo.data.raster.Transform`; None likewise.
        gsd: metres per pixel, or None.
        nodata: the value that the file calls missing.
        names: of values, as far as the file or a style beside it has them.
        colours: of values, as far as it has them.
        counts: pixels by value; NaN is left out.
    """

    path: Path
    shape: tuple[int, int]
    crs: str | None
    transform: Transform | None
    gsd: float | None
    nodata: float | None
    names: Mapping[int, str]
    colours: Mapping[int, Colour]
    counts: Mapping[int, int]


def read_mask_file(path: Path) -> MaskFile:
    """Describe a label raster; all of its pixels are counted.

    Raises:
        DataError: it cannot be read, has several bands, holds no whole numbers or too many different ones, or was
            compressed in a way that changes class values.
    """
    with open_scene(path) as scene:
        file = scene.file
        _check_bands(path, file)
        if file.compression == Compression.jpeg or file.driver == "JPEG":
            raise DataError(
                f"{path} is compressed as JPEG, which smears class values along every edge",
                fix="write the labels again without loss (deflate, LZW, or PNG)",
            )
        counts = _counts(path, file)
        tags = {**file.tags(), **file.tags(1)}
        names = {int(key[6:]): text for key, text in tags.items() if key.startswith("CLASS_") and key[6:].isdigit()}
        names = names or _sidecar_names(sidecar(path)) or _style_names(path.with_suffix(".qml"))
        shape = scene.height, scene.width
        return MaskFile(
            path, shape, scene.crs, scene.transform, pixel_size(scene.crs, scene.transform, shape), scene.nodata,
            names, _colours(file, counts), counts,
        )  # fmt: skip


class MaskReader:
    """Values of a mask on the grid of a scene, window by window; made by `open_mask`."""

    def __init__(self, path: Path, file: WarpedVRT, points: int) -> None:
        self._path, self._file, self._points = path, file, points

    def read(self, row: int, col: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Values at each point of a window that lies in the scene, and whether the mask is there.

        Returns:
            ``(height, width, p * p)`` of the mask's type, and the same of bool, for p points along a side.
        """
        p = self._points
        with explained(self._path):
            found = self._file.read(window=Window(col * p, row * p, width * p, height * p))
        values, alpha = found.reshape(2, height, p, width, p).transpose(0, 1, 3, 2, 4).reshape(2, height, width, p * p)
        return values, alpha != 0


@contextmanager
def open_mask(
    mask: MaskFile, crs: str, transform: Transform, shape: tuple[int, int], gsd: float
) -> Iterator[MaskReader]:
    """Open a mask on the grid of a scene, by nearest neighbour.

    A mask whose pixels are finer is looked up at several points of each scene pixel, as many as there are mask pixels
    along its side (at most 16).

    Args:
        mask: the file; one without a place lies on the scene's own pixels.
        crs: of the scene, WKT.
        transform: of the scene.
        shape: of the scene.
        gsd: metres per pixel of the scene.

    Raises:
        DataError: the file is damaged, or there is no way from one coordinate system to the other.
    """
    ratio = gsd / mask.gsd if mask.gsd else 1.0
    points = min(round(ratio), _MOST_POINTS) if ratio >= _FINER else 1
    a, b, c, d, e, f = transform
    grid = Affine(a / points, b / points, c, d / points, e / points, f)
    own = {} if mask.crs else {"src_crs": crs, "src_transform": Affine(*transform)}
    with ExitStack() as stack:
        source = stack.enter_context(open_scene(mask.path)).file
        with explained(mask.path):
            file = WarpedVRT(
                source, crs=crs, transform=grid, width=shape[1] * points, height=shape[0] * points, add_alpha=True,
                src_nodata=None, resampling=Resampling.nearest, tolerance=_TOLERANCE, **own,
            )  # fmt: skip
        yield MaskReader(mask.path, stack.enter_context(file), points)


# ------------------------------------------------------------------------------------------- details


def _check_bands(path: Path, file: rasterio.DatasetReader) -> None:
    if file.count == 1:
        return
    kinds = file.colorinterp
    if ColorInterp.red in kinds:
        raise DataError(
            f"{path} has {file.count} bands ({', '.join(kind.name for kind in kinds)}): a picture of classes",
            fix="write a mask with one band of class values (QGIS: Export, Raw data; Pillow: mode 'P' or 'L')",
        )
    raise DataError(
        f"{path} has {file.count} bands; a mask has one, with a class value in each pixel",
        fix="choose its band, e.g. `gdal_translate -b 1 in.tif out.tif`",
    )


def _counts(path: Path, file: rasterio.DatasetReader) -> dict[int, int]:
    """Count the values, strip by strip."""
    counts: dict[int, int] = {}
    rows = max(file.block_shapes[0][0], 2**22 // max(file.width, 1), 1)
    for top in range(0, file.height, rows):
        with explained(path):
            part = file.read(1, window=Window(0, top, file.width, min(rows, file.height - top)))
        if part.dtype.kind == "f":
            part = part[np.isfinite(part)]
            if (part != np.floor(part)).any():
                raise DataError(
                    f"{path} holds values that are no whole numbers, e.g. {part[part != np.floor(part)][0]:g}",
                    fix="a mask holds a class value in each pixel; round it, or name the right file in `labels`",
                )
        values, found = np.unique(part, return_counts=True)
        for value, count in zip(values.tolist(), found.tolist(), strict=True):
            counts[int(value)] = counts.get(int(value), 0) + count
        if len(counts) > _MOST_VALUES:
            raise DataError(
                f"{path} holds more than {_MOST_VALUES} different values, too many for classes",
                fix="name a file with a class value in each pixel in `labels`, not an image",
            )
    return counts


def _sidecar_names(path: Path) -> dict[int, str]:
    """Category names, or a raster attribute table, of GDAL's file beside a raster."""
    root = _xml(path)
    if root is None:
        return {}
    categories = [category.text or "" for category in root.iterfind(".//CategoryNames/Category")]
    if categories:
        return {value: name for value, name in enumerate(categories) if name}
    fields = {field.findtext("Usage"): number for number, field in enumerate(root.iterfind(".//FieldDefn"))}
    value, name = fields.get("5"), fields.get("2")  # GDAL's GFU_MinMax and GFU_Name
    if value is None or name is None:
        return {}
    rows = [[cell.text or "" for cell in row.iterfind("F")] for row in root.iterfind(".//GDALRasterAttributeTable/Row")]
    return {int(float(row[value])): row[name] for row in rows if row[name]}


def _style_names(path: Path) -> dict[int, str]:
    """Labels of a QGIS style with one entry for each value ("Paletted/Unique values")."""
    root = _xml(path)
    entries = [] if root is None else root.iterfind(".//paletteEntry")
    named = [(entry.get("value", ""), entry.get("label", "")) for entry in entries]
    return {int(value): label for value, label in named if value.lstrip("-").isdigit() and label}


def _xml(path: Path) -> ElementTree.Element | None:
    try:
        return ElementTree.parse(path).getroot() if path.is_file() else None
    except ElementTree.ParseError:  # such a file is no part of the labels; nothing is lost without it but names
        return None


def _colours(file: rasterio.DatasetReader, counts: Mapping[int, int]) -> dict[int, Colour]:
    try:
        table = file.colormap(1)
    except ValueError:  # rasterio's word for a file without one
        return {}
    return {value: table[value][:3] for value in counts if value in table}

"""The part of GDAL in turning a class map into polygons: reading what it says of itself, and its strips."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from adapteo.data.gdal import allow_no_place, reason_of
from adapteo.errors import DataError


@dataclass(frozen=True)
class Legend:
    """What a class map says of itself.

    Attributes:
        shape: height and width in pixels.
        crs: WKT, or None.
        transform: ``(a, b, c, d, e, f)`` as in `adapteo.data.raster.Transform`, or None.
        names: of classes, by code.
        colours: RGB (0..255) by code; empty when the file has none.
    """

    shape: tuple[int, int]
    crs: str | None
    transform: tuple[float, float, float, float, float, float] | None
    names: Mapping[int, str]
    colours: Mapping[int, tuple[int, int, int]]


def read_legend(path: Path) -> Legend:
    """Read what a class map says of itself.

    Raises:
        DataError: it cannot be read, has several bands, or holds no whole numbers.
    """
    with _open(path) as file:
        if file.count != 1:
            raise DataError(f"{path} has {file.count} bands, a class map has one", fix="give the map of classes")
        if np.dtype(file.dtypes[0]).kind not in "ui":
            raise DataError(
                f"{path} holds {file.dtypes[0]}, a class map holds whole numbers",
                fix="give the map of classes; a map of measurements or probabilities has none",
            )
        tags = {key.removeprefix("CLASS_"): value for key, value in file.tags(1).items() if key.startswith("CLASS_")}
        names = {int(key): value for key, value in tags.items() if key.isdigit()}
        colours = {}
        if file.colorinterp[0].name == "palette":
            table = file.colormap(1)
            colours = {code: (r, g, b) for code, (r, g, b, _) in table.items() if code in names or not names}
        a, b, c, d, e, f = file.transform[:6]
        placed = (a, b, c, d, e, f) != (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        crs = file.crs.to_wkt() if file.crs else None
        return Legend(file.shape, crs, (a, b, c, d, e, f) if placed else None, names, colours)


def read_strips(path: Path, rows: int) -> Iterator[np.ndarray]:
    """Read codes ``(rows or less, width)`` int32 from top to bottom, -1 where the file says that they are missing.

    Raises:
        DataError: the file is damaged, or has a code that is below 0 or too large.
    """
    with _open(path) as file:
        for top in range(0, file.height, rows):
            window = Window(0, top, file.width, min(rows, file.height - top))
            values = file.read(1, window=window)
            missing = np.zeros(values.shape, bool)
            if MaskFlags.all_valid not in file.mask_flag_enums[0]:
                missing = file.read_masks(1, window=window) == 0
            rest = values[~missing]
            if rest.size and not 0 <= int(rest.min()) <= int(rest.max()) < 2**31:
                wrong = int(rest.min()) if rest.min() < 0 else int(rest.max())
                raise DataError(f"{path} has the code {wrong}, which is no class", fix="mark it as nodata in the file")
            yield np.where(missing, -1, values.astype(np.int32))


@contextmanager
def _open(path: Path) -> Iterator[DatasetReader]:
    with _quiet(path), rasterio.open(path) as file:
        yield file


@contextmanager
def _quiet(path: Path) -> Iterator[None]:
    """Name the file in what GDAL raises; files without a place are normal here."""
    allow_no_place()
    try:
        yield
    except RasterioError as error:
        if not path.exists():
            raise DataError(f"there is no file {path}", fix="check the path") from error
        raise DataError(f"cannot read {path}: {reason_of(error)}", fix="is it a complete GeoTIFF?") from error

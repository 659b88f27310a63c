"""Images on disk: GeoTIFF through GDAL, PNG and JPEG through Pillow. The only importer of rasterio.

What is missing (nodata, masks, NaN, infinity) is NaN in every float array that leaves this file.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import rasterio
from PIL import Image, UnidentifiedImageError
from rasterio.crs import CRS
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.warp import transform as transform_points

from adapteo.errors import DataError

PICTURES = (".png", ".jpg", ".jpeg")
"""Suffixes that Pillow reads: it refuses a truncated picture, GDAL fills the rest with zeros."""
_COLOURS = MappingProxyType({"R": "red", "G": "green", "B": "blue", "A": "alpha"})
_METRES_PER_DEGREE = 111_319.49  # on the equator of WGS84: 2 pi 6,378,137 m / 360

Transform = tuple[float, float, float, float, float, float]
"""``(a, b, c, d, e, f)``: x = a col + b row + c, y = d col + e row + f, of pixel corners."""


@dataclass
class Raster:
    """An image that was read as a whole.

    Attributes:
        array: ``(c, h, w)``; float32 with NaN where missing, or the file's own type (see `read_raster`).
        descriptions: the file's name of each band that was read, None where it has none; of a PNG or JPEG in colour
            "red", "green", "blue", "alpha".
        nodata: the value that marks missing pixels in the file.
        crs: WKT, or None.
        transform: pixel to map coordinates, or None when the file has no place.
    """

    array: np.ndarray
    descriptions: tuple[str | None, ...]
    nodata: float | None = None
    crs: str | None = None
    transform: Transform | None = None

    @property
    def latlon(self) -> tuple[float, float] | None:
        """Latitude and longitude of the centre in degrees (WGS84), or None."""
        return latlon_of_centre(self.crs, self.transform, self.array.shape[-2:])

    @property
    def gsd(self) -> float | None:
        """Side of a pixel in metres, or None."""
        return pixel_size(self.crs, self.transform, self.array.shape[-2:])


def read_raster(path: str | Path, indexes: Sequence[int] | None = None, masked: bool = True) -> Raster:
    """Read an image or a label mask; thread-safe.

    A palette PNG gives its palette indices, a one-bit picture 0 and 1; alpha stays a band of its own. The place of a
    PNG or JPEG (world file) is not read.

    Args:
        path: GeoTIFF or whatever else GDAL reads, PNG, JPEG.
        indexes: bands to read, numbered from 1, in this order; None for all. Others are not read.
        masked: True for images: float32 with NaN where the file says nodata, its mask or its alpha is 0, or the value
            is not finite. False for labels: the file's own type and values.

    Raises:
        DataError: the file is missing, empty, corrupt, not an image, or has no such band.
    """
    path = Path(path)
    if path.suffix.lower() in PICTURES:
        return _read_picture(path, indexes, masked)
    with _open(path) as file:
        wanted = _check_indexes(path, file.count, indexes)
        with _explained(path):
            array = _read_float(file, wanted, None) if masked else file.read(wanted)
        crs, transform = _place(file)
        names = tuple(file.descriptions[i - 1] or None for i in wanted)
        return Raster(array, names, file.nodata, crs, transform)


def latlon_of_centre(crs: str | None, transform: Transform | None, shape: Sequence[int]) -> tuple[float, float] | None:
    """Latitude and longitude in degrees (WGS84) of the centre of ``shape`` (h, w) pixels, or None without a place."""
    if crs is None or transform is None:
        return None
    a, b, c, d, e, f = transform
    row, col = shape[0] / 2, shape[1] / 2
    try:
        lon, lat = transform_points(
            CRS.from_wkt(crs), CRS.from_epsg(4326), [a * col + b * row + c], [d * col + e * row + f]
        )
    except (CRSError, RasterioError):  # a local engineering grid, or a point off the projection
        return None
    return (float(lat[0]), float(lon[0])) if np.isfinite(lat[0]) and np.isfinite(lon[0]) else None


def pixel_size(crs: str | None, transform: Transform | None, shape: Sequence[int]) -> float | None:
    """Side in metres of a square with a pixel's area; degrees are converted at the centre of ``shape`` (h, w)."""
    if crs is None or transform is None:
        return None
    a, b, _, d, e, _ = transform
    area = abs(a * e - b * d)
    reference = CRS.from_wkt(crs)
    if not reference.is_geographic:
        return float(np.sqrt(area) * reference.linear_units_factor[1])
    centre = latlon_of_centre(crs, transform, shape)
    return None if centre is None else float(np.sqrt(area * np.cos(np.radians(centre[0]))) * _METRES_PER_DEGREE)


# ------------------------------------------------------------------------------------------- reading


def _read_float(file: DatasetReader, indexes: Sequence[int], window: object) -> np.ndarray:
    """Read bands as float32 with NaN where missing."""
    data = file.read(list(indexes), window=window, masked=True)
    if np.iscomplexobj(data):
        raise DataError(f"{file.name} holds complex numbers", fix="convert it to intensity or decibel first")
    array = np.array(data.data, dtype=np.float32)
    array[np.ma.getmaskarray(data) | ~np.isfinite(array)] = np.nan
    return array


def _read_picture(path: Path, indexes: Sequence[int] | None, masked: bool) -> Raster:
    with _explained(path), Image.open(path) as picture:
        decoded = picture.convert("RGB") if picture.mode == "CMYK" else picture
        names = tuple(_COLOURS.get(letter) for letter in decoded.getbands())
        pixels = np.asarray(decoded)
    bands = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
    bands = bands.astype(np.uint8) if bands.dtype == bool else bands
    wanted = _check_indexes(path, len(bands), indexes)
    array = np.ascontiguousarray(bands[[i - 1 for i in wanted]])
    if masked:
        array = array.astype(np.float32)
        if names[-1] == "alpha":
            colours = [i != len(names) for i in wanted]
            array[np.ix_(colours)] = np.where(bands[-1] == 0, np.nan, array[np.ix_(colours)])
    return Raster(array, tuple(names[i - 1] for i in wanted))


def _check_indexes(path: Path, count: int, indexes: Sequence[int] | None) -> list[int]:
    if indexes is None:
        return list(range(1, count + 1))
    wrong = [i for i in indexes if not 1 <= i <= count]
    if wrong or not indexes:
        raise DataError(
            f"{path} has no band {wrong[0] if wrong else 'selected'}; it has {count}", allowed=range(1, count + 1)
        )
    return list(indexes)


@contextmanager
def _open(path: Path) -> Iterator[DatasetReader]:
    """Open with GDAL; chips without a place are normal here."""
    # Not `catch_warnings`, which swaps the process's filters and is not thread-safe before Python 3.14.
    if not any(item[2] is NotGeoreferencedWarning for item in warnings.filters):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
    with _explained(path):
        file = rasterio.open(path)
    with file:
        yield file


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what GDAL and Pillow raise into one error that names the file and what to do."""
    try:
        yield
    except (RasterioError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        if not path.exists():
            raise DataError(f"there is no file {path}", fix="check the path") from error
        if path.is_dir():
            raise DataError(f"{path} is a folder, not an image", fix="name a file in it") from error
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty (0 bytes)", fix="copy or download it again") from error
        if isinstance(error, Image.DecompressionBombError):
            raise DataError(f"{path} is too large for its format", fix="convert it to GeoTIFF") from error
        unknown = isinstance(error, UnidentifiedImageError) or "not recognized" in str(error)
        reason = "it is not an image that can be read" if unknown else str(error.__cause__ or error).splitlines()[0]
        raise DataError(
            f"cannot read {path}: {reason}", fix="the file is damaged; copy or download it again, or leave it out"
        ) from error


def _place(file: DatasetReader) -> tuple[str | None, Transform | None]:
    crs = file.crs.to_wkt() if file.crs else None
    a, b, c, d, e, f = file.transform[:6]
    identity = (a, b, c, d, e, f) == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    return crs, None if identity else (a, b, c, d, e, f)

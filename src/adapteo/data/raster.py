"""Images on disk: GeoTIFF through GDAL, PNG and JPEG through Pillow. Maps: `adapteo.data.map_file`.

What is missing (nodata, masks, NaN, infinity) is NaN in every float array that leaves this file.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import Interleaving, MaskFlags
from rasterio.errors import CRSError, RasterioError
from rasterio.io import DatasetReader
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from adapteo.data._dates import acquired
from adapteo.data._layout import Layout, Transform, profile
from adapteo.data._picture import SUFFIXES, read_picture
from adapteo.data.gdal import block_cache, explained, opened, writing
from adapteo.errors import DataError
from adapteo.files import replacing

__all__ = ["Raster", "Scene", "Transform", "latlon_of_centre", "open_scene", "pixel_size", "read_raster", "write_image"]
_METRES_PER_DEGREE = 111_319.49  # on the equator of WGS84: 2 pi 6,378,137 m / 360


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
    if path.suffix.lower() in SUFFIXES:
        return _read_picture(path, indexes, masked)
    with opened(path) as file:
        wanted = _check_indexes(path, file.count, indexes)
        with explained(path):
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


# --------------------------------------------------------------------------------------------- scenes


class Scene:
    """An open image of any size, read window by window; made by `open_scene`.

    Attributes:
        path: the file.
        width, height: pixels.
        count: bands.
        descriptions: the file's name of each band, None where it has none.
        dtype: type of the file's values.
        nodata, crs, transform: as in `Raster`.
        date: day of acquisition, when a tag of the file says so.
    """

    def __init__(self, path: Path, file: DatasetReader) -> None:
        self.path, self.file = path, file
        self.width, self.height, self.count = int(file.width), int(file.height), int(file.count)
        self.descriptions = tuple(name or None for name in file.descriptions)
        if file.driver in ("PNG", "JPEG"):
            self.descriptions = tuple(colour.name for colour in file.colorinterp)
        self.dtype = str(file.dtypes[0])
        self.nodata: float | None = file.nodata
        self.crs, self.transform = _place(file)
        self.date = acquired({**file.tags(), **file.tags(ns="IMAGERY")})
        self._lock = Lock()

    def read(
        self,
        row: int,
        col: int,
        height: int,
        width: int,
        indexes: Sequence[int] | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Read a window that lies in the scene as ``(c, height, width)`` float32, NaN where missing; thread-safe.

        Its upper left pixel is (row, col). With ``indexes`` those bands, numbered from 1, in this order; with ``out``
        that array of this shape and type is filled and returned.

        Raises:
            DataError: no such band, or the file is damaged here.
        """
        wanted = _check_indexes(self.path, self.count, indexes)
        with explained(self.path), self._lock:
            return _read_float(self.file, wanted, Window(col, row, width, height), out)

    def block_bytes(self, height: int, width: int, indexes: Sequence[int]) -> int:
        """Memory of the decoded blocks in which a window of this size lies, wherever it is: see `block_cache`."""
        size = 1
        for length, whole, block in zip((height, width), self.file.shape, self.file.block_shapes[0], strict=True):
            size *= min(math.ceil((length - 1) / block) + 1, math.ceil(whole / block)) * block
        # Where bands are interleaved by pixel, GDAL decodes all of them together and keeps all.
        bands = range(1, self.count + 1) if self.file.interleaving == Interleaving.pixel else indexes
        return size * sum(np.dtype(self.file.dtypes[i - 1]).itemsize for i in bands)

    @property
    def interleaved(self) -> bool:
        """Whether all bands lie in the same blocks, so that one cannot be decoded without the others."""
        return bool(self.count > 1 and self.file.interleaving == Interleaving.pixel)

    @property
    def slow(self) -> bool:
        """Whether decoding, resampling or a network take most of the time that reading takes."""
        return str(self.file.driver).startswith("JP2")

    def effort(self, index: int) -> tuple[float, bool]:
        """Pixels of the file that are decoded for a pixel of a window of a band, and whether it is resampled."""
        return 1.0, False

    @property
    def latlon(self) -> tuple[float, float] | None:
        """Latitude and longitude of the centre in degrees (WGS84), or None."""
        return latlon_of_centre(self.crs, self.transform, (self.height, self.width))

    @property
    def gsd(self) -> float | None:
        """Side of a pixel in metres, or None."""
        return pixel_size(self.crs, self.transform, (self.height, self.width))

    def mismatch(self, other: "Scene") -> str | None:
        """Say why another scene does not lie on the same pixels (within 1/100 of one), or None when it does."""
        if (self.height, self.width) != (other.height, other.width):
            return f"{other.height} x {other.width} pixels, not {self.height} x {self.width}"
        if self.file.crs != other.file.crs:
            return f"coordinate system {other.file.crs}, not {self.file.crs}"
        a, b, _, d, e, _ = self.file.transform[:6]
        if np.abs(_corners(self.file) - _corners(other.file)).max() > 0.01 * np.sqrt(abs(a * e - b * d)):
            return "another origin or pixel size"
        return None


@contextmanager
def open_scene(path: str | Path) -> Iterator[Scene]:
    """Open an image of any size.

    Raises:
        DataError: the file is missing, empty, corrupt or not an image.
    """
    with block_cache(), opened(Path(path)) as file:
        yield Scene(Path(path), file)


# ---------------------------------------------------------------------------------------------- writing


def write_image(path: str | Path, raster: Raster, scale: float = 1.0, offset: float = 0.0) -> None:
    """Write a GeoTIFF; the file appears when it is complete.

    Args:
        path: a name that ends in ``.tif``.
        raster: values ``(c, h, w)``, place, band names and nodata.
        scale: physical value = stored value x scale + offset; both are written into the file.
        offset: see `scale`.

    Raises:
        DataError: a folder that cannot be written, a full disk.
    """
    layout = Layout(str(raster.array.dtype), raster.nodata or 0, tuple(name or "" for name in raster.descriptions))
    options = profile(layout, raster.array.shape[2], raster.array.shape[1]) | {"nodata": raster.nodata}
    place = None if raster.transform is None else Affine(*raster.transform)
    with ExitStack() as stack:
        stack.enter_context(block_cache())
        temporary = stack.enter_context(replacing(Path(path)))
        stack.enter_context(writing(Path(path)))
        file = stack.enter_context(rasterio.open(temporary, "w", crs=raster.crs, transform=place, **options))
        file.descriptions = layout.bands
        file.scales = (scale,) * len(layout.bands)
        if offset:
            file.offsets = (offset,) * len(layout.bands)
        file.write(raster.array)


# ------------------------------------------------------------------------------------------- reading


def _read_float(
    file: DatasetReader, indexes: Sequence[int], window: Window | None, out: np.ndarray | None = None
) -> np.ndarray:
    """Read bands as float32 with NaN where missing, into ``out`` where there is one."""
    kinds = [np.dtype(file.dtypes[index - 1]) for index in indexes if "complex" not in file.dtypes[index - 1]]
    if len(kinds) < len(indexes):
        raise DataError(f"{file.name} holds complex numbers", fix="convert it to intensity or decibel first")
    if out is None:
        out = np.empty((len(indexes), *((window.height, window.width) if window else file.shape)), dtype=np.float32)
    if np.dtype(np.float64) in kinds:  # NumPy's conversion: what float32 cannot hold is infinite, thus missing
        for band, index in zip(out, indexes, strict=True):
            np.copyto(band, file.read(index, window=window), casting="same_kind")
    else:
        file.read(list(indexes), window=window, out=out)
    for band, index, kind in zip(out, indexes, kinds, strict=True):
        if MaskFlags.all_valid not in file.mask_flag_enums[index - 1]:  # a mask costs as much as reading
            np.copyto(band, np.nan, where=file.read_masks(index, window=window) == 0)
        if kind.kind == "f":
            np.copyto(band, np.nan, where=~np.isfinite(band))
    return out


def _read_picture(path: Path, indexes: Sequence[int] | None, masked: bool) -> Raster:
    with explained(path):
        bands, names = read_picture(path)
    wanted = _check_indexes(path, len(bands), indexes)
    array = np.ascontiguousarray(bands[[i - 1 for i in wanted]])
    if masked:
        array = array.astype(np.float32)
        if names[-1] == "alpha":
            colours = [k for k, i in enumerate(wanted) if i != len(names)]
            array[colours] = np.where(bands[-1] == 0, np.float32(np.nan), array[colours])
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


def _corners(file: DatasetReader) -> np.ndarray:
    """Map coordinates of three corners ``(3, 2)``: what fixes an affine grid."""
    a, b, c, d, e, f = file.transform[:6]
    return np.array([[c, f], [a * file.width + c, d * file.width + f], [b * file.height + c, e * file.height + f]])


def _place(file: DatasetReader) -> tuple[str | None, Transform | None]:
    crs = file.crs.to_wkt() if file.crs else None
    a, b, c, d, e, f = file.transform[:6]
    identity = (a, b, c, d, e, f) == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    return crs, None if identity else (a, b, c, d, e, f)

"""What a scene consists of, before it is read: files, bands, what their numbers mean, and where they lie. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapteo.data.raster import Transform

REMOTE = ("http://", "https://", "s3://", "/vsi")


@dataclass(frozen=True)
class Grid:
    """Pixels on Earth.

    Attributes:
        crs: WKT, or None.
        transform: see `adapteo.data.raster.Transform`, or None.
        shape: height and width.
        gsd: metres per pixel, or None.
    """

    crs: str | None
    transform: Transform | None
    shape: tuple[int, int]
    gsd: float | None


@dataclass(frozen=True)
class BandFile:
    """One band of a scene.

    Attributes:
        path: file, or the address of one (``https://…``, ``s3://…``, ``/vsi…``).
        index: of the band in the file, from 1.
        name: canonical where it is known, else what the file or its name says, or None.
        scale, offset: physical value = stored value x scale + offset; None where nobody says.
        missing: stored values that are missing, beside what the file says.
        grid: of the file; None until it was opened.
    """

    path: str
    index: int = 1
    name: str | None = None
    scale: float | None = None
    offset: float | None = None
    missing: tuple[float, ...] = ()
    grid: Grid | None = None


@dataclass(frozen=True)
class Source:
    """A scene: one place at one date.

    Attributes:
        name: for keys and tables: of the file or product, without ending.
        path: file or folder that it was found as.
        bands: in the order of the file, or of the product.
        kind: "file", "folder" (one file per band), "safe", "hls", "landsat" or "stac".
        date: day of acquisition, ISO 8601, or None.
        sensor: one of `adapteo.bands.SENSORS`, or None.
        tile: name of the place in the product's own system (MGRS tile, path and row), or None.
        doubts: what the user should know.
    """

    name: str
    path: str
    bands: tuple[BandFile, ...]
    kind: str = "file"
    date: str | None = None
    sensor: str | None = None
    tile: str | None = None
    doubts: tuple[str, ...] = ()

    @property
    def product(self) -> bool:
        """Whether a known product says what its numbers mean, so that nobody has to."""
        return self.kind not in ("file", "folder") and all(band.scale is not None for band in self.bands)

    @property
    def grid(self) -> Grid:
        """Of the finest band; see `finest`."""
        return finest(self.bands)

    @property
    def crs(self) -> str | None:
        """WKT."""
        return self.grid.crs

    @property
    def transform(self) -> Transform | None:
        """Of the finest band."""
        return self.grid.transform

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the finest band."""
        return self.grid.shape

    @property
    def gsd(self) -> float | None:
        """Metres per pixel of the finest band."""
        return self.grid.gsd

    @property
    def scale(self) -> float:
        """Of the first band that says one, else 1."""
        return next((band.scale for band in self.bands if band.scale is not None), 1.0)

    @property
    def offset(self) -> float:
        """Of the first band that says one, else 0."""
        return next((band.offset for band in self.bands if band.offset is not None), 0.0)

    @property
    def nodata(self) -> float | None:
        """First value that is missing, beside what the files say."""
        return next((band.missing[0] for band in self.bands if band.missing), None)

    @property
    def names(self) -> tuple[str | None, ...]:
        """Of the bands."""
        return tuple(band.name for band in self.bands)

    @property
    def files(self) -> tuple[str, ...]:
        """All files, each once."""
        return tuple(dict.fromkeys(band.path for band in self.bands))

    def scaled(self, scale: float | None, offset: float | None, nodata: float | None) -> "Source":
        """The same with the user's scale, offset and missing value in place of the product's; None leaves one."""
        bands = tuple(
            replace(
                band,
                scale=band.scale if scale is None else scale,
                offset=band.offset if offset is None else offset,
                missing=band.missing if nodata is None else (*band.missing, nodata),
            )
            for band in self.bands
        )
        return replace(self, bands=bands)


def finest(bands: Sequence[BandFile]) -> Grid:
    """Grid of the band with the smallest pixels, the first of equals."""
    grids = [band.grid for band in bands if band.grid is not None]
    return min(grids, key=lambda grid: grid.gsd or float("inf"))


def is_remote(path: object) -> bool:
    """Whether a path is an address that GDAL opens, not a file of this machine."""
    return str(path).startswith(REMOTE)


def exists(path: str) -> bool:
    """Whether a file of this machine is there; remote ones are taken to be."""
    return is_remote(path) or Path(path).exists()

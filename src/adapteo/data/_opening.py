"""Opening files, of this machine or of an address in the network, and what they say before their pixels are read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from adapteo.data._source import Grid, is_remote
from adapteo.data.gdal import block_cache, reason_of
from adapteo.data.raster import Scene, open_scene
from adapteo.errors import DataError

_REMOTE = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_TIMEOUT": "60", "GDAL_HTTP_MAX_RETRY": "3"}


@dataclass(frozen=True)
class Header:
    """What a file says before its pixels are read.

    Attributes:
        count: bands.
        names: of the bands.
        grid: of the pixels.
        scales, offsets: of the bands; None where the file says 1 and 0, which is also what it says without a word.
        date: of acquisition, from its tags.
        whole: True when the values are stored as whole numbers.
    """

    count: int
    names: tuple[str | None, ...]
    grid: Grid
    scales: tuple[float | None, ...]
    offsets: tuple[float | None, ...]
    date: date | None
    whole: bool


@contextmanager
def open_file(path: str) -> Iterator[Scene]:
    """Open a file of this machine or an address.

    Raises:
        DataError: it cannot be opened.
    """
    if not is_remote(path):
        with open_scene(path) as scene:
            yield scene
        return
    address = path if path.startswith("/vsi") else path.replace("s3://", "/vsis3/", 1)
    with rasterio.Env(**_REMOTE), block_cache():
        try:
            file = rasterio.open(address)
        except RasterioError as error:
            raise _unreachable(path, error) from error
        with file:
            yield _Remote(path, file)


def read_header(path: str) -> Header:
    """Read what can be known without the pixels.

    Raises:
        DataError: the file cannot be opened.
    """
    with open_file(path) as scene:
        grid = Grid(scene.crs, scene.transform, (scene.height, scene.width), scene.gsd)
        said = [scene.file.scales[i] != 1 or scene.file.offsets[i] != 0 for i in range(scene.count)]
        return Header(
            scene.count,
            scene.descriptions,
            grid,
            tuple(float(s) if there else None for s, there in zip(scene.file.scales, said, strict=True)),
            tuple(float(o) if there else None for o, there in zip(scene.file.offsets, said, strict=True)),
            scene.date,
            "float" not in scene.dtype,
        )


class _Remote(Scene):
    """A file that is read through the network."""

    def __init__(self, path: str, file: rasterio.io.DatasetReader) -> None:
        super().__init__(Path(path), file)
        self._address = path

    @property
    def slow(self) -> bool:
        """It is."""
        return True

    def read(
        self, row: int, col: int, height: int, width: int,
        indexes: Sequence[int] | None = None, out: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        try:
            return super().read(row, col, height, width, indexes, out)
        except DataError as error:
            raise _unreachable(self._address, error) from error


def _unreachable(path: str, error: Exception) -> DataError:
    return DataError(
        f"cannot read {path}: {reason_of(error)}", fix="check the address and the network, or download the file"
    )

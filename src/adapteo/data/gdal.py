"""What all use of GDAL shares: its settings and its memory, and what its errors mean to a person."""

import errno
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.env import get_gdal_config, getenv, hasenv, setenv
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from adapteo.data._picture import ERRORS
from adapteo.errors import DataError
from adapteo.files import unwritable

_CACHE = 64 * 2**20  # bytes of decoded blocks that GDAL keeps while a scene or a map is open, unless told otherwise


def allow_no_place() -> None:
    """Let rasterio be quiet about files without a place."""
    # Not `catch_warnings`, which swaps the process's filters and is not thread-safe before Python 3.14.
    if not any(item[2] is NotGeoreferencedWarning for item in warnings.filters):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)


@contextmanager
def opened(path: Path) -> Iterator[DatasetReader]:
    """Open a file; one without a place is normal here.

    Raises:
        DataError: the file is missing, empty, corrupt or not an image.
    """
    allow_no_place()
    with explained(path):
        file = rasterio.open(path)
    with file:
        yield file


@contextmanager
def block_cache(size: int = _CACHE) -> Iterator[None]:
    """Bound GDAL's cache of decoded blocks, by default a share of the machine's memory.

    What is read row by row wants the blocks of one row of windows kept, or else each block is decoded several times;
    more is of no use. The size does not depend on that of a scene, so that a small one needs no less than a large one.

    Args:
        size: bytes.
    """
    with rasterio.Env():  # sends GDAL's messages to logging
        before = get_gdal_config("GDAL_CACHEMAX")
        setenv(GDAL_CACHEMAX=size)
        try:
            yield
        finally:
            setenv(GDAL_CACHEMAX=before)


def settings() -> dict[str, object]:
    """GDAL's settings of this process beside the environment's, as a program that embeds this may have made them."""
    return dict(getenv()) if hasenv() else {}


@contextmanager
def with_settings(given: dict[str, object]) -> Iterator[None]:
    """Use GDAL with the settings of another process."""
    with rasterio.Env(**given):
        yield


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say why a file could not be written. GDAL gives no error number: with almost nothing free, the disk is full."""
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:  # copying raises GDAL's own
        free = shutil.disk_usage(path.parent).free // 2**20
        if free < 16:
            raise unwritable(path, OSError(errno.ENOSPC, "")) from error
        raise DataError(
            f"cannot write {path}: {reason_of(error)}",
            fix=f"the disk has {free} MiB free; a quota or another limit may be reached",
        ) from error


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what GDAL and Pillow raise into one error that names the file and what to do."""
    try:
        yield
    except (RasterioError, *ERRORS) as error:
        if not path.exists():
            raise DataError(f"there is no file {path}", fix="check the path") from error
        if path.is_dir():
            raise DataError(f"{path} is a folder, not an image", fix="name a file in it") from error
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty (0 bytes)", fix="copy or download it again") from error
        unknown = "not recognized" in str(error) or "cannot identify" in str(error)
        reason = "it is not an image that can be read" if unknown else reason_of(error)
        raise DataError(
            f"cannot read {path}: {reason}", fix="if it is damaged, copy or download it again, or leave it out"
        ) from error


def reason_of(error: Exception) -> str:
    """First line of what went wrong; rasterio often keeps it in the cause."""
    return (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0]

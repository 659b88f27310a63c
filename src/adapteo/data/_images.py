"""From an image file to frames in physical units."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np

from adapteo.bands import resolve_all
from adapteo.data.radiometry import baseline_offset, check_range
from adapteo.data.raster import Scene, open_scene, read_raster
from adapteo.errors import ConfigError, DataError

PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Header:
    """What a file says before its pixels are read.

    Attributes:
        count: bands, without alpha.
        names: of the bands, None where the file has none.
        latlon: of the centre in degrees, or None.
        gsd: side of a pixel in metres, or None.
        whole: True when the values are stored as whole numbers.
    """

    count: int
    names: tuple[str | None, ...]
    latlon: tuple[float, float] | None
    gsd: float | None
    whole: bool


@dataclass(frozen=True)
class Encoding:
    """How the files of a dataset store their images.

    Attributes:
        bands: canonical names, in the files' order.
        frames: dates in one file, date after date.
        scale: physical value = stored value x scale + offset.
        offset: see scale; "auto" for `baseline_offset`.
        nodata: stored value that is missing, beside what the file says.
    """

    bands: tuple[str, ...]
    frames: int = 1
    scale: float = 1.0
    offset: float | Literal["auto"] = 0.0
    nodata: float | None = None


@dataclass
class Frames:
    """One file, read: ``image`` is ``(t, c, h, w)`` float32 in physical units, NaN where missing."""

    image: np.ndarray
    latlon: tuple[float, float] | None
    date: date | None


def read_header(path: Path) -> Header:
    """Read what can be known without the pixels."""
    with open_scene(path) as scene:
        count = _colours(scene)
        return Header(count, scene.descriptions[:count], scene.latlon, scene.gsd, "float" not in scene.dtype)


def read_frames(path: Path, encoding: Encoding, wanted: Sequence[int], offset: float | None = None) -> Frames:
    """Read some bands of a file.

    Args:
        path: image file.
        encoding: how it is stored.
        wanted: positions in ``encoding.bands``, in the order in which they are to be returned.
        offset: of this file; None for that of the encoding.

    Raises:
        DataError: missing or corrupt file, wrong number of bands, or values that cannot be reflectance.
    """
    judged = offset is None and encoding.offset == "auto"
    needed = range(len(encoding.bands)) if judged else wanted
    stored, latlon, day = _read_stored(path, encoding, needed)
    if encoding.nodata is not None:
        stored[stored == encoding.nodata] = np.nan
    stored *= encoding.scale
    image = stored.reshape(encoding.frames, len(needed), *stored.shape[1:])
    if judged:
        image += np.array([baseline_offset(frame) for frame in image], np.float32)[:, None, None, None]
        image = image if list(wanted) == list(needed) else np.ascontiguousarray(image[:, list(wanted)])
    else:
        image += encoding.offset if offset is None else offset
    for frame in image:
        check_range(frame, [encoding.bands[i] for i in wanted], encoding.scale, path)
    return Frames(image, latlon, day)


def bands_of(header: Header, path: Path, frames: int, sensor: str | None) -> tuple[str, ...]:
    """Canonical names of the bands from a file's own descriptions.

    Raises:
        DataError: the file names none, or they are not known.
    """
    count = header.count // frames
    names = [name for name in header.names[:count] if name]
    fix = f"set `band_names` in the dataset section, {count} names in the order of the file, e.g. [blue, green, red]"
    if len(names) != count or header.count % frames:
        raise DataError(f"{path} does not name its {header.count} bands", fix=fix)
    try:
        return resolve_all(names, sensor)
    except ConfigError as error:
        hint = "or set `sensor`; " if "sensor" in str(error) else ""
        raise DataError(f"{path}: {error.problem}", fix=hint + fix) from error


def _read_stored(
    path: Path, encoding: Encoding, needed: Sequence[int]
) -> tuple[np.ndarray, tuple[float, float] | None, date | None]:
    """Read bands ``needed`` of each frame: ``(t * c, h, w)`` float32."""
    width = len(encoding.bands)
    indexes = [frame * width + i + 1 for frame in range(encoding.frames) for i in needed]
    if path.suffix.lower() in PICTURES:  # decoded as a whole anyway
        raster = read_raster(path)
        _check_count(path, len(raster.array) - (raster.descriptions[-1] == "alpha"), encoding)
        return raster.array[[i - 1 for i in indexes]], raster.latlon, None
    with open_scene(path) as scene:
        _check_count(path, _colours(scene), encoding)
        return scene.read(0, 0, scene.height, scene.width, indexes), scene.latlon, scene.date


def _colours(scene: Scene) -> int:
    """Number of bands without alpha."""
    return scene.count - (scene.descriptions[-1] == "alpha")


def _check_count(path: Path, count: int, encoding: Encoding) -> None:
    bands, frames = len(encoding.bands), encoding.frames
    if count == bands * frames:
        return
    dates = f" x {frames} dates" if frames > 1 else ""
    raise DataError(
        f"{path} has {count} bands, not {bands}{dates}: {', '.join(encoding.bands)}",
        fix="set `band_names` (and `dates_per_file`) in the dataset section to what the files hold",
    )

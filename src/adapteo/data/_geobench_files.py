"""One sample of GEO-Bench 1.0: an HDF5 file with an array per band, named "02 - Blue" or "02 - Blue_2019-11-05"."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adapteo.data._opcodes import label_of, opcodes, place_of
from adapteo.data.raster import latlon_of_centre
from adapteo.errors import ConfigError, DataError, shorten

if TYPE_CHECKING:
    import h5py

_DATED = re.compile(r"(.*?)(?:_(\d{4}-\d\d-\d\d))?")
_DEGREES = "EPSG:4326"


@dataclass
class Stored:
    """What a file holds.

    Attributes:
        image: stored values ``(c, h, w)`` float32.
        label: mask ``(h, w)``, class ``()`` or marks ``(k,)``; None when the file has none.
        date: day of acquisition, when the names have one.
        latlon: degrees, of the centre, when the file has a place.
    """

    image: np.ndarray
    label: np.ndarray | None
    date: date | None
    latlon: tuple[float, float] | None


def read_stored(path: Path, keys: Sequence[str], dense: bool, located: bool) -> Stored:
    """Read some bands and the label of a sample.

    Args:
        path: the HDF5 file.
        keys: names of the bands, without date, in the order wanted.
        dense: whether the label is a mask; it is in the attribute "pickle" (see `adapteo.data._opcodes`) otherwise.
        located: whether to ask that attribute for the place as well.

    Raises:
        DataError: the file is missing or damaged, lacks a band, or its bands differ in size.
        ConfigError: h5py is not installed.
    """
    with _open(path) as file:
        names = {}
        for name in file:
            found = _DATED.fullmatch(name)
            names[found[1] if found else name] = name, found[2] if found else None
        bands = [_band(file, path, key, names) for key in keys]
        label = _band(file, path, "label", names) if dense else None
        notes = str(file.attrs.get("pickle", "")) if located or not dense else ""
    if len({band.shape for band in bands}) > 1 or bands[0].ndim != 2:
        sizes = sorted({band.shape for band in bands})
        raise DataError(f"the bands of {path} are {sizes}, not images of one size", fix="download the set again")
    if label is not None and label.shape != bands[0].shape:
        raise DataError(f"the mask of {path} has {label.shape} pixels, its image {bands[0].shape}")
    said = _said(path, notes)
    day = next((date.fromisoformat(text) for _, text in names.values() if text), None)
    image = np.stack(bands).astype(np.float32)
    place = place_of(said) if located else None
    return Stored(image, label if dense else label_of(said), day, _latlon(place, image.shape[1:]))


def _band(file: "h5py.File", path: Path, key: str, names: Mapping[str, tuple[str, str | None]]) -> np.ndarray:
    if key not in names:
        raise DataError(
            f"{path} has no '{key}', it has {shorten(', '.join(sorted(names)), 160)}",
            fix="is this the set that `subset` names? if so, download it again",
        )
    array = np.asarray(file[names[key][0]])
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


def _said(path: Path, notes: str) -> list[tuple[str, object]]:
    try:
        return opcodes(notes) if notes else []
    except ValueError as error:
        raise DataError(
            f"the attribute 'pickle' of {path} is damaged: {error}", fix="download the set again"
        ) from error


def _latlon(place: tuple[tuple[float, ...], str] | None, shape: tuple[int, ...]) -> tuple[float, float] | None:
    if place is None:
        return None
    a, b, c, d, e, f = place[0]
    if place[1] == _DEGREES:
        row, col = shape[0] / 2, shape[1] / 2
        return d * col + e * row + f, a * col + b * row + c
    return latlon_of_centre(place[1], (a, b, c, d, e, f), shape)


@contextmanager
def _open(path: Path) -> Iterator["h5py.File"]:
    try:
        import h5py
    except ImportError as error:
        raise ConfigError(f"reading {path.name} needs h5py", fix="run: pip install 'adapteo[geobench]'") from error
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:
        if not path.exists():
            raise DataError(
                f"there is no file {path}", fix="the partition lists it: the copy is incomplete, unzip it again"
            ) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"cannot read {path}: {shorten(reason, 120)}", fix="download the set again") from error

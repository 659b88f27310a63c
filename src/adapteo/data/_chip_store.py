"""Decoded samples on disk: read as fast as memory can be copied, for sets that are larger than the memory.

    row = image, in the files' own type where that gives the same numbers ┊ label, in its smallest type ┊ date, place

Physical values are whole numbers times a scale plus an offset in most archives. Where `Dataset.radiometry` tells them
and a sample comes back bit for bit, 2 bytes per value are kept in place of 4. What does not fit into the row that the
first sample asks for (another size, other values) is not stored.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapteo.contracts import Dataset, Sample
from adapteo.errors import DataError
from adapteo.shelf import NAME, Shelf, Shelves

_FORMAT = "1"
_MISSING = -32768
_WHOLE = (np.int8, np.int16, np.int32, np.int64)


@dataclass(frozen=True)
class Form:
    """What all rows have in common.

    Attributes:
        image: shape ``(t, c, h, w)``.
        scale, offset: physical value = stored number x scale + offset; None for values as they are.
        target: shape and type in `Sample`, or None.
        compact: type that the labels are stored in.
        dates, latlon: whether there are some.
    """

    image: tuple[int, ...]
    scale: tuple[float, float] | None
    target: tuple[tuple[int, ...], str] | None
    compact: str
    dates: bool
    latlon: bool

    def parts(self) -> list[tuple[tuple[int, ...], np.dtype]]:
        """Shape and type of each piece of a row."""
        found: list[tuple[tuple[int, ...], np.dtype]] = [(self.image, np.dtype(np.int16 if self.scale else np.float32))]
        if self.target:
            found.append((self.target[0], np.dtype(self.compact)))
        if self.dates:
            found.append(((self.image[0], 2), np.dtype(np.float32)))
        if self.latlon:
            found.append(((2,), np.dtype(np.float32)))
        return found

    def size(self) -> int:
        """Bytes of a row."""
        return sum(int(np.prod(shape)) * kind.itemsize for shape, kind in self.parts())

    def write(self, sample: Sample) -> np.ndarray | None:
        """Bytes of a sample, or None when it does not fit."""
        image: np.ndarray | None = sample.image
        if self.scale is not None:
            image = _whole(sample.image, self.scale)
        pieces = [image]
        if self.target and sample.target is not None:
            label = sample.target.astype(self.compact)
            if not np.array_equal(label, sample.target, equal_nan=label.dtype.kind == "f"):
                return None
            pieces.append(label)
        pieces += [fact for fact, here in ((sample.dates, self.dates), (sample.latlon, self.latlon)) if here]
        fits = [
            piece is not None and (piece.shape, piece.dtype) == part
            for piece, part in zip(pieces, self.parts(), strict=False)
        ]
        if len(pieces) != len(self.parts()) or not all(fits) or (sample.target is None) != (self.target is None):
            return None
        return np.concatenate([np.ascontiguousarray(piece).reshape(-1).view(np.uint8) for piece in pieces])

    def read(self, row: np.ndarray, key: str, group: str | None) -> Sample:
        """A sample of its bytes."""
        found, start = [], 0
        for shape, kind in self.parts():
            size = int(np.prod(shape)) * kind.itemsize
            found.append(row[start : start + size].view(kind).reshape(shape))
            start += size
        rest = iter(found[1:])
        target = next(rest).astype(self.target[1]) if self.target else None
        dates = next(rest).copy() if self.dates else None
        latlon = next(rest).copy() if self.latlon else None
        image = found[0].copy() if self.scale is None else _physical(found[0], self.scale)
        return Sample(key, image, target, group, dates, latlon)


class ChipStore:
    """Samples of a dataset in the bands that are wanted.

    Args:
        dataset: of the samples.
        bands: that they are read in.
        first: one of them; its form is that of all.
        shelves: where they are kept.
    """

    def __init__(self, dataset: Dataset, bands: Sequence[str] | None, first: Sample, shelves: Shelves) -> None:
        self.dataset, self.form = dataset, _form(dataset, first)
        facts = (_FORMAT, type(dataset).__qualname__, repr(dataset), dataset.fingerprint(), bands, self.form)
        key = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
        about = {"what": f"samples of {type(dataset).__name__}", "shape": first.image.shape, "bands": bands}
        self.shelf = Shelf(shelves, key, self.form.size(), about)
        self.full = False

    def get(self, key: str) -> Sample | None:
        """A sample, or None when it is not here."""
        row = self.shelf.row(_name(key))
        return None if row is None else self.form.read(row, key, self.dataset.group(key))

    def put(self, sample: Sample) -> None:
        """Store a sample, where it fits and there is room."""
        row = None if self.full else self.form.write(sample)
        if row is None:
            return
        try:
            self.full = not self.shelf.add([_name(sample.key)], row[None])
        except DataError:  # the disk is full, or not ours: then samples are read each time, as without
            self.full = True


def chip_shelves(folder: Path, limit: float) -> Shelves:
    """Shelves of decoded samples in a cache folder, ``limit`` bytes at most."""
    return Shelves(folder / "chips", int(limit))


def _form(dataset: Dataset, first: Sample) -> Form:
    pair = dataset.radiometry(first.image[0])
    target = None if first.target is None else (first.target.shape, first.target.dtype.str)
    compact = "" if first.target is None else first.target.dtype.str
    if first.target is not None and first.target.dtype.kind == "i":
        low, high = int(first.target.min(initial=0)), int(first.target.max(initial=0))
        room = max(len(dataset.classes) - 1, high)
        compact = next(np.dtype(k).str for k in _WHOLE if np.iinfo(k).min <= low and room <= np.iinfo(k).max)
    scale = None if _whole(first.image, pair) is None else pair
    return Form(first.image.shape, scale, target, compact, first.dates is not None, first.latlon is not None)


def _whole(image: np.ndarray, scale: tuple[float, float]) -> np.ndarray | None:
    """Stored numbers of physical values, or None when they would not come back bit for bit."""
    factor, offset = scale
    missing = np.isnan(image)
    numbers = np.rint((image.astype(np.float64) - offset) / factor)
    numbers[missing] = _MISSING
    if not (np.abs(numbers) <= -_MISSING).all() or (numbers[~missing] == _MISSING).any() or numbers.max() > 32767:
        return None
    stored = numbers.astype(np.int16)
    back = _physical(stored, scale)
    return stored if np.array_equal(back.view(np.uint32)[~missing], image.view(np.uint32)[~missing]) else None


def _physical(stored: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """The other way, with the same operations in float32 as the readers' own."""
    image: np.ndarray = np.multiply(stored, np.float32(scale[0]), dtype=np.float32)
    if scale[1]:
        image += np.float32(scale[1])
    if stored.min() == _MISSING:
        image[stored == _MISSING] = np.nan
    return image


def _name(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()[:NAME]

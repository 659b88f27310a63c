"""What readers of published datasets share: splits by list, files that are there or not, labels, fingerprints."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from adapteo.contracts import Normalisation
from adapteo.data._chips import Chip
from adapteo.data._labels import ClassTable
from adapteo.data.raster import read_raster
from adapteo.errors import DataError, closest

Parts = Mapping[str, Sequence[Chip]]


def keys_of(parts: Parts, name: str) -> list[str]:
    """Keys of one part.

    Raises:
        DataError: there is no such part, or it is empty.
    """
    chips = parts.get(name)
    if not chips:
        having = {part: len(found) for part, found in parts.items() if found}
        raise DataError(
            f"the split '{name}' {'does not exist' if chips is None else 'is empty'}{closest(name, having)}",
            allowed=[f"{part} ({count})" for part, count in having.items()],
            fix="change `splits` in the dataset section",
        )
    return [chip.key for chip in chips]


def by_key(parts: Parts) -> dict[str, Chip]:
    """All chips of all parts."""
    return {chip.key: chip for chips in parts.values() for chip in chips}


def chip_of(chips: Mapping[str, Chip], key: str) -> Chip:
    """Chip of a key.

    Raises:
        DataError: there is none.
    """
    if key not in chips:
        raise DataError(f"there is no chip '{key}' in the splits{closest(key, chips)}")
    return chips[key]


def positions(bands: Sequence[str], wanted: Sequence[str] | None, what: str) -> list[int]:
    """Positions of the bands that are wanted, None for all.

    Raises:
        DataError: names the band that the dataset does not have.
    """
    names = bands if wanted is None else wanted
    for name in names:
        if name not in bands:
            raise DataError(f"{what} has no band '{name}'{closest(name, bands)}", allowed=bands)
    return [bands.index(name) for name in names]


def normalisation(table: Mapping[str, tuple[float, float]], bands: Sequence[str]) -> Normalisation | None:
    """Published mean and standard deviation of some bands; None when one of them has none."""
    if any(band not in table for band in bands):
        return None
    return Normalisation(tuple(table[band][0] for band in bands), tuple(table[band][1] for band in bands), "dataset")


def read_target(path: Path, shape: tuple[int, ...], table: ClassTable) -> np.ndarray:
    """Read a label file as class indices ``(h, w)``.

    Raises:
        DataError: the file is missing, damaged, of another size than the image, or holds values that are no class.
    """
    mask = read_raster(path, masked=False)
    if mask.array.shape != (1, *shape):
        raise DataError(
            f"{path} has {len(mask.array)} bands of {mask.array.shape[1:]} pixels, its image 1 band of {tuple(shape)}"
        )
    return table.encode_mask(mask.array[0], path, mask.nodata)


@contextmanager
def as_published(name: str) -> Iterator[None]:
    """Say of a file that does not fit what helps with a published dataset: no key of the user's describes it."""
    try:
        yield
    except DataError as error:
        raise DataError(
            error.problem,
            allowed=error.allowed,
            fix=f"{name} is published otherwise: delete the file and fetch it again, with `download: true` or by hand",
        ) from error


def fingerprint(chips: Sequence[Chip], settings: object) -> str:
    """Hash of every file's name, size and time, and of what decides how they are read."""
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=16)
    for chip in sorted(chips, key=lambda chip: chip.key):
        for path in (*chip.images, *([chip.mask] if chip.mask else [])):
            stat = path.stat() if path.exists() else None
            digest.update(f"{chip.key}\0{path.name}\0{stat and (stat.st_size, stat.st_mtime_ns)}\n".encode())
    return digest.hexdigest()

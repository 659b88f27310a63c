"""Nothing is in two splits: not the same chip, and not the same image under two names."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from adapteo.data._cache import cache_folder
from adapteo.data._chips import Chip
from adapteo.errors import DataError
from adapteo.files import replacing

Parts = dict[str, list[Chip]]


def check_keys(parts: Parts) -> None:
    """Refuse a chip, or an image file, that is in two parts.

    Raises:
        DataError: names the chip or file and the two parts.
    """
    home: dict[object, str] = {}
    for name, part in parts.items():
        for chip in part:
            for what in (chip.key, *chip.images):
                if home.setdefault(what, name) != name:
                    raise DataError(
                        f"'{what}' is in both '{home[what]}' and '{name}'",
                        fix="list it in one of them: a test on training images says nothing about new places",
                    )


def check_contents(parts: Parts) -> None:
    """Refuse images of different parts whose bytes are the same; the answer is cached until a file changes.

    Only files of equal size are compared, first by their two ends and then as a whole.

    Raises:
        DataError: names the two files and their parts.
    """
    parts_of = {chip.images[0]: name for name, part in parts.items() for chip in part}
    sizes, digest = {}, hashlib.blake2b(digest_size=16)
    for path, name in sorted(parts_of.items()):
        if path.is_file():  # a missing one is reported when it is read
            stat = path.stat()
            sizes[path] = stat.st_size
            digest.update(f"{path}\0{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    marker = cache_folder() / "no-duplicates" / digest.hexdigest()
    if marker.exists():
        return
    for same in _groups(sizes, parts_of):
        for same_ends in _groups({path: _ends(path) for path in same}, parts_of):
            for twins in _groups({path: _hash(path) for path in same_ends}, parts_of):
                first, second = twins[0], next(p for p in twins if parts_of[p] != parts_of[twins[0]])
                raise DataError(
                    f"{first} ({parts_of[first]}) and {second} ({parts_of[second]}) are the same image",
                    fix="remove one, or set `duplicates: allow` in the splits section",
                )
    with replacing(marker) as beside:
        beside.touch()


def _groups(value_of: Mapping[Path, object], parts_of: Mapping[Path, str]) -> list[list[Path]]:
    """Files with the same value, where they lie in more than one part."""
    groups: dict[object, list[Path]] = defaultdict(list)
    for path, value in value_of.items():
        groups[value].append(path)
    return [group for group in groups.values() if len({parts_of[path] for path in group}) > 1]


def _ends(path: Path, size: int = 8192) -> bytes:
    with path.open("rb") as file:
        head = file.read(size)
        file.seek(-min(size, path.stat().st_size), 2)
        return hashlib.blake2b(head + file.read(size), digest_size=16).digest()


def _hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()

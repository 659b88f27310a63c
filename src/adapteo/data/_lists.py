"""Lists of chips, one per line: the splits of published datasets, from a folder or a web address.

What was fetched is kept in the cache, so that a run without network finds it again.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapteo.data._cache import cache_folder
from adapteo.data._download import AbsentError, fetch, one_at_a_time
from adapteo.errors import DataError

PAPER = "https://raw.githubusercontent.com/IBM/peft-geofm/a08307ebe699ec87c63368be64139d8471226ce8/datasets_splits"
"""The lists of arXiv 2504.17397, at the commit that this was written against."""

_PATTERNS = ("flood_{}_data.csv", "flood_{}_data.txt", "{}_data.txt", "{}.txt")
"""How lists are called in the bucket of Sen1Floods11, in TerraTorch's copies, in the paper's code, and in short."""
_STEMS = {"val": ("val", "valid")}

Parse = Callable[[str], str | None]
"""Turns an entry of a list into the key of a chip, None when it is no chip of the dataset."""


@dataclass(frozen=True)
class Lists:
    """A place that lists are read from.

    Attributes:
        source: folder, or web address of one.
        download: whether lists may be fetched.
        digests: sha256 by file name, for addresses whose content is known.
    """

    source: str
    download: bool = False
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def remote(self) -> bool:
        """Whether the place is a web address."""
        return "://" in self.source

    def part(self, name: str, parse: Parse, needed: bool = True) -> list[str] | None:
        """Keys of a part such as "train", each once, in the order of its list.

        Returns:
            None when there is no list of it, and none is needed.

        Raises:
            DataError: the folder or the list is missing, the list cannot be fetched, or names something else.
        """
        stems = _STEMS.get(name, (name,))
        return self._keys([pattern.format(stem) for pattern in _PATTERNS for stem in stems], name, parse, needed)

    def training(self, given: str, parse: Parse) -> list[str]:
        """Keys of a list by its own name: relative to this place, or a path or web address of its own.

        Raises:
            DataError: as `part`.
        """
        place, name = self, given
        if "://" in given:
            folder, _, name = given.rpartition("/")
            place = Lists(folder, self.download)
        return place._keys([name], "training", parse, needed=True) or []

    def _keys(self, names: Sequence[str], what: str, parse: Parse, needed: bool) -> list[str] | None:
        if not self.remote and not Path(self.source).expanduser().is_dir():
            raise DataError(f"there is no folder {self.source} with lists of chips", fix="correct `splits`")
        path = next((path for path in map(self._find, names) if path is not None), None)
        if path is not None:
            return _parsed(path, parse)
        if not needed:
            return None
        unasked = self.remote and not self.download
        raise DataError(
            f"there is no list of the {what} chips in {self.source}{' (nothing was fetched)' if unasked else ''}",
            allowed=names,
            fix="set `download: true` in the dataset section, or write a folder with the lists in `splits`"
            if unasked
            else "correct `splits` in the dataset section",
        )

    def _find(self, name: str) -> Path | None:
        """Path of a list on this machine, fetched when that is allowed; None when it is not there."""
        if not self.remote:
            path = Path(self.source).expanduser() / name
            return path if path.is_file() else None
        url = f"{self.source.rstrip('/')}/{name}"
        path = cache_folder() / "lists" / hashlib.blake2b(url.encode(), digest_size=8).hexdigest() / Path(name).name
        if path.is_file() or not self.download:
            return path if path.is_file() else None
        with one_at_a_time(path.parent):
            try:
                if not path.is_file():
                    fetch(url, path, self.digests.get(name, ""))
            except AbsentError:
                return None
        return path


def _parsed(path: Path, parse: Parse) -> list[str]:
    """Keys of the first column of a list."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a list of chips: it is not text", fix="one chip per line, in UTF-8") from error
    keys = []
    for entry in filter(None, (line.partition(",")[0].strip() for line in lines)):
        key = parse(entry)
        if key is None:
            raise DataError(f"{path}: '{entry}' is no chip of this dataset", fix="correct the list, or `splits`")
        keys.append(key)
    return list(dict.fromkeys(keys))

"""Rows of equal size on disk, found by name: shared by processes, limited in size, safe against a kill at any time.

    <key>.values    row after row, memory-mapped for reading
    <key>.index     a stamp, then for each row its name and check sum
    <key>.json      for people: what it is; its time says when it was last used

A row counts when it is in the index, which is written after the row: what a killed process left half done is written
over by the next one. Check sums find what a power failure has lost; such rows count as missing.
"""

import json
import os
import secrets
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

import numpy as np
from filelock import FileLock, Timeout

from adapteo.files import replacing, unwritable

NAME = 16
"""Bytes of a name; the first 8 say which image, the others which look at it."""
_RECORD = np.dtype([("name", f"V{NAME}"), ("sum", "<u4")])


@dataclass(frozen=True)
class Shelves:
    """A folder of shelves and what they may take together.

    Attributes:
        folder: made when something is written.
        limit: bytes. Shelves that were not used for the longest time make room; when none is left to go, nothing more
            is stored.
    """

    folder: Path
    limit: int

    def used(self) -> int:
        """Bytes of all shelves."""
        return sum(path.stat().st_size for path in self.folder.glob("*") if path.suffix in (".values", ".index"))

    @contextmanager
    def room(self, size: int, keep: frozenset[str]) -> Iterator[bool]:
        """Make room for so many bytes, and hold it while the caller writes; give False when there is none.

        Args:
            size: bytes that are to be written.
            keep: keys of the shelves that must stay.
        """
        with FileLock(self.folder / "lock"):
            used = self.used()
            oldest = sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
            for card in oldest:
                if used + size <= self.limit:
                    break
                if card.stem not in keep:
                    used -= self._evict(card)
            yield used + size <= self.limit

    def _evict(self, card: Path) -> int:
        """Remove a shelf, unless another process is writing to it; return its bytes."""
        try:
            with FileLock(card.with_suffix(".lock"), timeout=0):
                freed = 0
                for suffix in (".index", ".values"):  # what is mapped stays readable until it is let go
                    path = card.with_suffix(suffix)
                    freed += path.stat().st_size if path.is_file() else 0
                    path.unlink(missing_ok=True)
                card.unlink(missing_ok=True)
                return freed
        except (Timeout, PermissionError):  # Windows does not remove files that are mapped
            return 0


class Shelf:
    """Rows of one kind.

    Args:
        shelves: where it stands.
        key: says everything that the rows depend on, beside their names.
        size: bytes per row.
        about: for people.
    """

    def __init__(self, shelves: Shelves, key: str, size: int, about: Mapping[str, object]) -> None:
        self.shelves, self.key, self.size, self.about = shelves, key, size, about
        self._stamp, self._seen = b"", (0, 0, 0)
        self._slots: dict[bytes, int] = {}
        self._sums: list[int] = []
        self._trusted: set[int] = set()
        self._values: np.memmap | None = None
        self._images: set[bytes] = set()
        self._lock = RLock()
        self.refresh()
        if self._slots:
            os.utime(self._file(".json"))

    def __len__(self) -> int:
        return len(self._slots)

    def knows(self, image: bytes) -> bool:
        """Whether some look at an image (the first half of a name) is here."""
        return image in self._images

    def has(self, name: bytes) -> bool:
        """Whether a row is here, whole."""
        if self._slots.get(name) in self._trusted:
            return True
        with self._lock:
            if name not in self._slots:
                self.refresh()
            slot = self._slots.get(name)
            if slot is None:
                return False
            if slot not in self._trusted:
                assert self._values is not None, "rows in the index are mapped"
                if zlib.crc32(self._values[slot]) != self._sums[slot]:
                    del self._slots[name]
                    return False
                self._trusted.add(slot)
            return True

    def row(self, name: bytes) -> np.ndarray | None:
        """Map a row, read only; None when it is not here. It stays readable whatever happens to the shelf."""
        with self._lock:
            if not self.has(name):
                return None
            assert self._values is not None, "rows in the index are mapped"
            return np.asarray(self._values[self._slots[name]])

    def add(self, names: Sequence[bytes], rows: np.ndarray, keep: frozenset[str] = frozenset()) -> bool:
        """Store rows, but those that are here already.

        Args:
            names: of the rows.
            rows: their bytes, ``(n, size)``.
            keep: keys of the shelves that must not make room for this one.

        Returns:
            False when there is no room for them.

        Raises:
            DataError: the folder cannot be written, or the disk is full.
        """
        try:
            self.shelves.folder.mkdir(parents=True, exist_ok=True)
            with self._lock, FileLock(self._file(".lock")):
                self.refresh(locked=True)
                new = [i for i, name in enumerate(names) if name not in self._slots]
                needed = len(new) * (self.size + _RECORD.itemsize) + (0 if self._stamp else NAME)
                with self.shelves.room(needed, keep | {self.key}) as granted:
                    if granted and new:
                        self._append([names[i] for i in new], np.ascontiguousarray(rows[new]))
                self.refresh(locked=True)
        except OSError as error:
            raise unwritable(self._file(".values"), error) from error
        return granted

    def _append(self, names: Sequence[bytes], rows: np.ndarray) -> None:
        if not self._stamp:
            with replacing(self._file(".json")) as beside:
                beside.write_text(json.dumps(self.about, indent=2) + "\n", encoding="utf-8")
            self._file(".values").write_bytes(b"")
            self._file(".index").write_bytes(secrets.token_bytes(NAME))
        count = (self._file(".index").stat().st_size - NAME) // _RECORD.itemsize
        with self._file(".values").open("r+b") as file:
            file.truncate(count * self.size)
            file.seek(count * self.size)
            file.write(rows.data)
        records = np.empty(len(names), _RECORD)
        records["name"] = [np.void(name) for name in names]
        records["sum"] = [zlib.crc32(row) for row in rows]
        with self._file(".index").open("r+b") as file:
            file.truncate(NAME + count * _RECORD.itemsize)
            file.seek(0, os.SEEK_END)
            file.write(records.tobytes())

    def refresh(self, *, locked: bool = False) -> None:
        """Take notice of what other processes have stored or removed.

        Args:
            locked: whether the caller holds the lock of the files.
        """
        with self._lock:
            state = self._state()
            if state == self._seen:
                return
            if not locked:
                if state == (0, 0, 0):
                    self._forget()
                    return
                with FileLock(self._file(".lock")):
                    self.refresh(locked=True)
                return
            self._load(state)

    def _state(self) -> tuple[int, int, int]:
        try:
            stat = self._file(".index").stat()
        except FileNotFoundError:
            return (0, 0, 0)
        return (stat.st_ino, stat.st_size, stat.st_mtime_ns)

    def _forget(self) -> None:
        self._stamp, self._seen, self._values = b"", (0, 0, 0), None
        self._slots, self._sums, self._images, self._trusted = {}, [], set(), set()

    def _load(self, state: tuple[int, int, int]) -> None:
        """Read the index and map the values; the files' lock is held."""
        if state == (0, 0, 0):
            self._forget()
            return
        with self._file(".index").open("rb") as file:
            stamp = file.read(NAME)
            if len(stamp) < NAME:  # killed while it was made
                self._forget()
                return
            if stamp != self._stamp:
                self._forget()
            file.seek(NAME + len(self._sums) * _RECORD.itemsize)
            written = file.read()
        present = self._file(".values").stat().st_size // self.size
        count = min(len(written) // _RECORD.itemsize, present - len(self._sums))
        for record in np.frombuffer(written, _RECORD, max(count, 0)):
            name = record["name"].tobytes()
            self._slots[name] = len(self._sums)
            self._images.add(name[: NAME // 2])
            self._sums.append(int(record["sum"]))
        self._stamp, self._seen = stamp, state
        if self._sums:
            self._values = np.memmap(self._file(".values"), np.uint8, "r", shape=(len(self._sums), self.size))

    def _file(self, suffix: str) -> Path:
        return self.shelves.folder / (self.key + suffix)

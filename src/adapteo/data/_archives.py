"""Unpack what public datasets come in: zip archives, and gzipped tar archives that were cut into parts."""

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO, cast

from adapteo.errors import DataError
from adapteo.files import replacing


def unzip(archive: Path, folder: Path) -> None:
    """Write the files of a zip archive, without their folders, into one folder; it appears when it is complete.

    Raises:
        DataError: the archive is damaged, or the disk full.
    """
    try:
        with zipfile.ZipFile(archive) as source, replacing(folder) as beside:
            beside.mkdir()
            for member in source.infolist():
                name = PurePosixPath(member.filename).name
                if not member.is_dir() and not name.startswith(".") and "__MACOSX" not in member.filename:
                    (beside / name).write_bytes(source.read(member))
    except (zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{archive} is damaged: {error}", fix="delete it and download it again") from error


def untar(parts: Sequence[Path], folder: Path, wanted: Callable[[str], bool]) -> int:
    """Write the members of a gzipped tar archive in their folders; return how many there are.

    A file that is there with the right size is left as it is, so an interrupted call can be repeated.

    Args:
        parts: what the archive was cut into, in order.
        folder: where the archive's folders go.
        wanted: tells by a member's path whether to write it.

    Raises:
        DataError: the archive is damaged, or the disk full.
    """
    count = 0
    try:
        with closing(_Joined(parts)) as joined, tarfile.open(fileobj=cast(IO[bytes], joined), mode="r|gz") as source:
            for member in source:
                inside = PurePosixPath(member.name)
                if not member.isfile() or inside.is_absolute() or ".." in inside.parts or not wanted(member.name):
                    continue
                target = folder / inside
                data = source.extractfile(member)
                if data is not None and not (target.is_file() and target.stat().st_size == member.size):
                    with replacing(target) as beside:
                        beside.write_bytes(data.read())
                count += 1
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise DataError(f"{parts[0]} is damaged: {error}", fix="delete it and download it again") from error
    return count


class _Joined:
    """Several files read as one, from front to back."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._files = [path.open("rb") for path in parts]

    def read(self, size: int) -> bytes:
        while self._files:
            data = self._files[0].read(size)
            if data:
                return data
            self._files.pop(0).close()
        return b""

    def close(self) -> None:
        for file in self._files:
            file.close()

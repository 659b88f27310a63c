"""Files are written beside and renamed: a reader sees the old file or the new one, never half of one."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapteo.errors import DataError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; rename it to ``path`` on success, remove it on any failure.

    Works for a folder as well: make the temporary path a folder, and an existing folder is exchanged for it.

    Raises:
        DataError: when the disk is full or the place cannot be written; what was there before is still there.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_file():
            temporary.chmod(0o666 & ~_umask())  # some writers make their files private
        _exchange(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        _remove(temporary)


def unwritable(path: Path, error: OSError) -> DataError:
    """Say why a file could not be written, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(path.parent).free // 2**20 if path.parent.is_dir() else 0
        return DataError(
            f"the disk is full: cannot write {path} ({free} MiB free)", fix="free some space, then run the same command"
        )
    return DataError(f"cannot write {path}: {error.strerror or error}", fix="choose another folder with out=…")


def sha256(path: Path) -> str:
    """Hash of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _exchange(temporary: Path, path: Path) -> None:
    if temporary.is_dir() and path.is_dir():
        aside = path.with_name(f".{path.name}.{os.getpid()}.old")
        path.rename(aside)
        temporary.rename(path)
        shutil.rmtree(aside)
    else:
        temporary.replace(path)


def _umask() -> int:
    """What the user takes away from the rights of new files; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _remove(path: Path) -> None:
    if not path.parent.is_dir():
        return
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)

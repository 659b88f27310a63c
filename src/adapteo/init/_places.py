"""Where the data are: one folder that holds all, and what to write relative to it."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapteo.data._mask_files import MASK_SUFFIXES
from adapteo.data._source import REMOTE
from adapteo.errors import ConfigError

_SIGNS = "*?["


@dataclass(frozen=True)
class Places:
    """Paths for the configuration.

    Attributes:
        root: folder that holds scenes and labels, absolute.
        written_root: the same as in the configuration: relative to the project where both lie in one folder, so that
            they can be moved together; else absolute.
        scenes, labels: relative to the root; patterns where they were patterns.
    """

    root: Path
    written_root: str
    scenes: tuple[str, ...]
    labels: tuple[str, ...]


def place(project: Path, images: Sequence[str], labels: Sequence[str]) -> Places:
    """Find what the person named, from the folder that the command was called in.

    Raises:
        ConfigError: nothing there, or no place in common.
    """
    given = [_absolute(text) for text in _together(images)]
    drawn = [path for text in _masks_together(labels) for path in _drawn(_absolute(text))]
    for flag, paths in (("--images", given), ("--labels", drawn)):
        for path in paths:
            _check(flag, path)
    local = [path for path in (*given, *drawn) if not path.startswith(REMOTE)]
    try:
        root = Path(os.path.commonpath([_fixed(path) for path in local]))
    except ValueError as error:  # drives of Windows
        raise ConfigError("scenes and labels lie on different drives", fix="put them on one") from error
    home, real = project.resolve(), root.resolve()
    near = real.is_relative_to(home.parent)
    return Places(
        real,
        Path(os.path.relpath(real, home)).as_posix() if near else str(real),
        tuple(_pattern(path, root) for path in given),
        tuple(path if path.startswith(REMOTE) else Path(path).relative_to(root).as_posix() for path in drawn),
    )


def _absolute(text: str) -> str:
    return text if text.startswith(REMOTE) else os.path.abspath(Path(text).expanduser())


def _together(given: Sequence[str]) -> Sequence[str]:
    """Files that a shell made of a pattern become that pattern again."""
    folders = {(os.path.dirname(text), Path(text).suffix) for text in given}
    if len(given) > 1 and len(folders) == 1:
        folder, suffix = folders.pop()
        pattern = os.path.join(glob.escape(folder), f"*{suffix}")
        if suffix and sorted(glob.glob(pattern)) == sorted(given):
            return [pattern]
    return given


def _masks_together(labels: Sequence[str]) -> Sequence[str]:
    masks = all(Path(text).suffix.lower() in MASK_SUFFIXES for text in labels)
    return _together(labels) if masks else labels


def _drawn(path: str) -> list[str]:
    """Vector files of a pattern; all else as it is."""
    if os.path.exists(path) or Path(path).suffix.lower() in (*MASK_SUFFIXES, ""):
        return [path]
    return sorted(glob.glob(path, recursive=True)) or [path]


def sort_out(images: Sequence[str], labels: Sequence[str], more: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell to what further files belong that a shell made of a pattern: to the labels in whose folder they lie."""
    home = {os.path.dirname(text) for text in labels} - {os.path.dirname(text) for text in images}
    masks = [text for text in more if os.path.dirname(text) in home]
    return [*images, *(text for text in more if text not in masks)], [*labels, *masks]


def _check(flag: str, path: str) -> None:
    """Refuse what is not there, and say what is."""
    if path.startswith(REMOTE) or os.path.exists(path) or glob.glob(path, recursive=True):
        return
    folder = Path(path).parent
    while any(sign in str(folder) for sign in _SIGNS) and not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise ConfigError(f"{flag} {path}: there is no folder {folder}", fix="check the path")
    there = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    raise ConfigError(
        f"{flag} {path}: there is no such file",
        allowed=there[:12] or ["(the folder is empty)"],
        fix=f"check the path; these are in {folder}",
    )


def _fixed(path: str) -> str:
    """The folder of a file, or the part of a pattern without signs."""
    folder = Path(path).parent
    if not os.path.exists(path):
        while any(sign in str(folder) for sign in _SIGNS) and not folder.exists():
            folder = folder.parent
    return str(folder)


def _pattern(path: str, root: Path) -> str:
    if path.startswith(REMOTE):
        return path
    inner = Path(path).relative_to(root).as_posix()
    return glob.escape(inner) if os.path.exists(path) else inner

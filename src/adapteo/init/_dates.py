"""Whether each file stacks several dates, and which."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapteo.data._stacked import stack_of
from adapteo.data.scene_files import discover
from adapteo.errors import ConfigError


@dataclass(frozen=True)
class Dates:
    """The dates of a sample.

    Attributes:
        frames: in all.
        per_file: that one file stacks; 1 where every file has one date.
        days: of all files, as the person named them.
        why: how it was found out.
    """

    frames: int = 1
    per_file: int = 1
    days: tuple[str, ...] = ()
    why: str = ""


def tell_dates(
    root: Path,
    patterns: Sequence[str],
    *,
    frames: int = 1,
    per_file: int | None = None,
    days: tuple[str, ...] = (),
    bands: Sequence[str] = (),
) -> Dates:
    """Find out whether files stack dates: by what is given, by names of bands that repeat, else by their number.

    Args:
        root: see `adapteo.data.scene_files.discover`.
        patterns: likewise.
        frames: of a sample, as the person said.
        per_file: likewise; None for what is to be found out.
        days: likewise.
        bands: that the person named, of one date.

    Raises:
        ConfigError: what was said does not fit together.
        DataError: there are no scenes, or one cannot be read.
    """
    per_file = per_file or (len(days) if len(days) > 1 else None)
    why = "--dates-per-file"
    if per_file is None:
        per_file, why = _seen(root, patterns, frames, bands)
    if per_file > 1 and frames not in (1, per_file):
        raise ConfigError(
            f"--frames {frames}: each file stacks {per_file} dates ({why}), and a sample has the dates of one file",
            fix="leave --frames out",
        )
    return Dates(max(frames, per_file), per_file, days, why if per_file > 1 else "")


def _seen(root: Path, patterns: Sequence[str], frames: int, bands: Sequence[str]) -> tuple[int, str]:
    """Dates in each file, and how that is known."""
    files = [source for source in discover(patterns, root) if source.kind == "file"]
    if not files:
        return 1, ""
    first = next((source for source in files if any(source.names)), files[0])
    stack = stack_of(first.names, first.path)
    if stack:
        return stack[0], f"{', '.join(stack[1])} are there {stack[0]} times"
    if frames > 1 and bands and len(first.bands) == frames * len(bands):
        return frames, f"--frames: {len(first.bands)} bands are {frames} x {len(bands)} named"
    return 1, ""

"""Which chips there are: image files paired with masks by name, class folders, or the rows of an index file.

    images: S2Hand/*_S2Hand.tif   masks: LabelHand/*_LabelHand.tif
    ──▶ Chip(key="Spain_7370579", images=(…_S2Hand.tif,), mask=…_LabelHand.tif)

A key is the text that the wildcards of the pattern match, so the constant parts of file names take no part in pairing.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import numpy as np

from adapteo.errors import DataError, closest

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".vrt", ".img")
"""What counts as an image when a pattern ends in a wildcard."""


@dataclass(frozen=True)
class Chip:
    """One labelled image before anything is read.

    Attributes:
        key: unique, stable name.
        images: one file per date, or one that stacks all dates.
        mask: label file, for segmentation and pixel regression.
        label: class as written in the folder name or the index; several are separated by ``;``.
        latlon: degrees, from the index; None to ask the file.
        dates: one per frame, from the index; empty to ask the file name.
        offset: added after scaling, from the index; None for the dataset's own.
        columns: further columns of the index as text, and those above.
    """

    key: str
    images: tuple[Path, ...]
    mask: Path | None = None
    label: str | None = None
    latlon: tuple[float, float] | None = None
    dates: tuple[date, ...] = ()
    offset: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


def from_patterns(root: Path, images: Sequence[str], masks: str = "") -> list[Chip]:
    """List the chips whose files match; one image pattern per date.

    Without masks, a parent folder that is a wildcard of the pattern is the label.

    Raises:
        DataError: nothing matches, a file has no partner, or two files claim the same key.
    """
    by_date = [_match(root, pattern, "images") for pattern in images]
    mask_files = _match(root, masks, "masks") if masks else {}
    partners = list(zip(images, by_date, strict=True))[1:] + ([(masks, mask_files)] if masks else [])
    for pattern, found in partners:
        _check_partners(by_date[0], found, images[0], pattern)
    # A folder that the pattern spells out is the same for all chips and says nothing about classes.
    named = any(sign in str(Path(images[0]).parent) for sign in "*?[")
    chips = []
    for key, first in by_date[0].items():
        label = first.parent.name if named and not masks and first.parent != root else None
        chips.append(Chip(key, tuple(found[key] for found in by_date), mask_files.get(key), label))
    return chips


def from_rows(root: Path, source: str, rows: Sequence[Mapping[str, str]]) -> list[Chip]:
    """Turn the rows of an index into chips.

    Columns: ``path`` (several dates separated by ``;``), and as there are: ``mask``, ``label``, ``latitude`` and
    ``longitude`` (or ``lat``, ``lon``), ``date`` (ISO, several separated by ``;``), ``offset``, and any others.

    Raises:
        DataError: no rows, no ``path``, a number or date that cannot be read, or an image that is listed twice.
    """
    if not rows:
        raise DataError(f"{source} has no rows")
    if "path" not in rows[0]:
        raise DataError(f"{source} has no column 'path'{closest('path', rows[0])}", allowed=rows[0])
    chips: dict[str, Chip] = {}
    for number, row in enumerate(rows, start=2):
        where = f"{source}, row {number}"
        paths = [part.strip() for part in row["path"].split(";") if part.strip()]
        if not paths:
            raise DataError(f"{where}: the path is empty")
        key = Path(paths[0]).with_suffix("").as_posix()
        if key in chips:
            raise DataError(f"{where}: '{paths[0]}' is in the index twice", fix="list each image once")
        lat, lon = (_number(row, names, where) for names in (("latitude", "lat"), ("longitude", "lon", "lng")))
        chips[key] = Chip(
            key,
            tuple(root / path for path in paths),
            root / row["mask"] if row.get("mask") else None,
            row.get("label") or None,
            None if lat is None or lon is None else (lat, lon),
            tuple(_date(text, where) for text in row.get("date", "").split(";") if text.strip()),
            _number(row, ("offset",), where),
            dict(row),
        )
    return list(chips.values())


# ----------------------------------------------------------------------------------------- patterns


def _match(root: Path, pattern: str, what: str) -> dict[str, Path]:
    """Map the text under the wildcards of a glob to the file, in sorted order."""
    if Path(pattern).is_absolute():
        raise DataError(f"{what}: '{pattern}' is an absolute path", fix="write it relative to `root`")
    regex = re.compile(_to_regex(pattern))
    found: dict[str, Path] = {}
    start = root / _constant_folder(pattern)
    for path in _walk(start):
        match = regex.fullmatch(path.relative_to(root).as_posix())
        if match is None or path.suffix.lower() not in SUFFIXES:
            continue
        key = "/".join(part.strip("/") for part in match.groups() if part) or path.stem
        key = key if not key.lower().endswith(SUFFIXES) else key.rpartition(".")[0]
        if key in found:
            raise DataError(
                f"{what}: {found[key].relative_to(root)} and {path.relative_to(root)} both stand for '{key}'",
                fix=f"make the pattern '{pattern}' narrower",
            )
        found[key] = path
    if not found:
        raise DataError(f"{what}: no image in {root} matches '{pattern}'", fix=_hint(root, start))
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(parent, name)


def _constant_folder(pattern: str) -> str:
    """Leading folders without a wildcard: all that has to be searched."""
    parts = pattern.split("/")[:-1]
    constant = []
    for part in parts:
        if any(sign in part for sign in "*?["):
            break
        constant.append(part)
    return "/".join(constant)


_WILDCARD = re.compile(r"\*\*/|\*+|\?|\[[^\]]+\]")
_AS_REGEX = {"**/": "((?:[^/]+/)*)", "?": "([^/])"}


def _to_regex(pattern: str) -> str:
    """Translate a glob so that each wildcard is a group; ``**/`` is any number of folders."""
    out, position = "", 0
    for match in _WILDCARD.finditer(pattern):
        sign = match.group()
        out += re.escape(pattern[position : match.start()])
        out += f"({sign})" if sign.startswith("[") else _AS_REGEX.get(sign, "([^/]*)")
        position = match.end()
    return out + re.escape(pattern[position:])


def _hint(root: Path, start: Path) -> str:
    if not root.is_dir():
        return f"the folder {root} does not exist; set `root`"
    if not start.is_dir():
        return f"the folder {start} does not exist"
    seen = [path.relative_to(root).as_posix() for path, _ in zip(_walk(start), range(3), strict=False)]
    return "there is " + (", ".join(seen) + ", …" if seen else "no file there at all")


def _check_partners(
    first: Mapping[str, Path], second: Mapping[str, Path], first_pattern: str, second_pattern: str
) -> None:
    """Refuse files without a partner; extra masks count, they are a sign that the patterns do not fit."""
    for here, there, pattern in ((first, second, second_pattern), (second, first, first_pattern)):
        lonely = sorted(here.keys() - there.keys())
        if lonely:
            more = f" (and {len(lonely) - 1} more)" if len(lonely) > 1 else ""
            raise DataError(
                f"{here[lonely[0]]} has no partner{more}: no file '{pattern}' for '{lonely[0]}'"
                f"{closest(lonely[0], there)}",
                fix="add the file or take its partner away; patterns are `images` and `masks` in the dataset section",
            )


# -------------------------------------------------------------------------------------------- values


def _number(row: Mapping[str, str], names: Sequence[str], where: str) -> float | None:
    for name in names:
        text = row.get(name, "").strip()
        if text:
            try:
                return float(text)
            except ValueError as error:
                raise DataError(f"{where}: {name} '{text}' is not a number") from error
    return None


def _date(text: str, where: str) -> date:
    try:
        return date.fromisoformat(text.strip()[:10])
    except ValueError as error:
        raise DataError(f"{where}: '{text}' is not a date", fix="write dates as 2021-07-31") from error


_CODES = {"%Y": r"\d{4}", "%y": r"\d\d", "%m": r"\d\d", "%d": r"\d\d", "%j": r"\d{3}", "%b": r"[A-Za-z]{3}"}


def dates_of(chip: Chip, tags: Sequence[date | None], date_format: str, frames: int) -> np.ndarray:
    """Year and day of year of each frame, ``(t, 2)`` float32, NaN when unknown.

    The index decides, then the file names, then the files' own tags (one per file).

    Raises:
        DataError: there are dates, but not one per frame, or a file name has none in the given format.
    """
    days: list[date | None] = list(chip.dates)
    if not days and date_format:
        days = [day for path in chip.images for day in _dates_in_name(path, date_format)]
    if days and len(days) != frames:
        raise DataError(f"chip '{chip.key}' has {frames} frames, but {len(days)} dates", fix="give one date per frame")
    if not days:
        days = list(tags) if len(tags) == frames else [None] * frames
    return np.array([(d.year, d.timetuple().tm_yday) if d else (np.nan, np.nan) for d in days], np.float32)


def _dates_in_name(path: Path, date_format: str) -> list[date]:
    pattern = re.escape(date_format)
    for code, digits in _CODES.items():
        pattern = pattern.replace(re.escape(code), digits)
    found = []
    for text in re.findall(pattern, path.name):
        try:
            found.append(datetime.strptime(text, date_format).date())
        except ValueError:  # looks like a date, but is a month 13: some other number in the name
            continue
    if not found:
        raise DataError(
            f"{path.name} has no date of the form '{date_format}'", fix="correct `date_format`, or leave it out"
        )
    return found

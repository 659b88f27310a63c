"""The files of HLS Burn Scars: two layouts, names, and the archive on the hub."""

import re
import shutil
from pathlib import Path, PurePosixPath

from adapteo.data._archives import untar
from adapteo.data._chips import Chip
from adapteo.data._download import from_hub, one_at_a_time
from adapteo.errors import DataError

NAME = "HLS Burn Scars"
FOLDERS = ("training", "validation")
KEY = re.compile(r"T(\d\d[A-Z])[A-Z]{2}\.(\d{4})(\d{3})(?!\d)")
"""Tile with its grid zone, year, day of year."""
_IMAGE, _MASK = "_merged.tif", ".mask.tif"

REPO, ARCHIVE = "ibm-nasa-geospatial/hls_burn_scars", "hls_burn_scars.tar.gz"
_REVISION = "1864285e25010d346a842e4f068b1a1d4248ed6d"
_SHA256 = "4e6f99a75cb2c500547b20662a15cbd531dc421376f815e91846ea542798e8e6"


def folders(root: Path) -> tuple[str, ...]:
    """Folders of a copy that hold chips: `FOLDERS`, or ``data``, or the root itself; none when it is not whole."""
    if all((root / folder).is_dir() for folder in FOLDERS):
        return FOLDERS
    return next(((folder,) for folder in ("data", ".") if any((root / folder).glob(f"*{_IMAGE}"))), ())


def chips(root: Path) -> dict[str, dict[str, Chip]]:
    """Chips by key, by the folder that they lie in.

    Raises:
        DataError: there are none, one has no mask or a strange name, or is there twice.
    """
    found = {folder: _scan(root / folder) for folder in folders(root)}
    if not any(found.values()):
        raise DataError(
            f"{NAME} is not in {root}: there are no files {FOLDERS[0]}/*{_IMAGE}",
            fix=f"expected: {root}/{FOLDERS[0]} and {FOLDERS[1]} with *{_IMAGE} and *{_MASK}\n"
            f"from: {ARCHIVE} of https://huggingface.co/datasets/{REPO}, unpacked there\n"
            "or set `download: true` in the dataset section (2.6 GB, 5.5 GB unpacked)",
        )
    first, *others = found.values()
    for other in others:
        for key in sorted(first.keys() & other.keys()):
            raise DataError(f"{first[key].images[0]} and {other[key].images[0]} are the same chip", fix="remove one")
    return found


def fetch(root: Path) -> None:
    """Bring the archive from the hub and unpack the chips, unless they are there.

    Raises:
        DataError: the hub cannot be reached, or the archive is damaged.
    """
    if folders(root):
        return
    with one_at_a_time(root):
        if not folders(root):
            unpack(from_hub(REPO, ARCHIVE, _REVISION, _SHA256), root)


def unpack(archive: Path, root: Path) -> None:
    """Write the chips of the archive; the folders appear when they are complete. It can be repeated after a break.

    Raises:
        DataError: the archive is damaged or holds something else.
    """
    beside = root / ".unpacked"
    untar([archive], beside, _is_chip)
    for folder in FOLDERS:
        if not (beside / folder).is_dir():
            raise DataError(f"{archive} has no folder {folder}", fix="delete it and run the same command again")
    for folder in FOLDERS:
        if not (root / folder).is_dir():
            (beside / folder).rename(root / folder)
    shutil.rmtree(beside)


def _is_chip(member: str) -> bool:
    path = PurePosixPath(member)
    return str(path.parent) in FOLDERS and path.name.endswith((_IMAGE, _MASK)) and not path.name.startswith(".")


def _scan(folder: Path) -> dict[str, Chip]:
    """Pair images and masks of a folder."""
    found: dict[str, Chip] = {}
    for image in sorted(folder.glob(f"[!.]*{_IMAGE}")):
        match = KEY.search(image.name)
        if match is None:
            raise DataError(f"{image} names no tile and day", fix=f"names look like …T10SEH.2018190.v1.4{_IMAGE}")
        mask = image.with_name(image.name.removesuffix(_IMAGE) + _MASK)
        if not mask.is_file():
            raise DataError(f"{image} has no mask: there is no {mask.name} beside it", fix="fetch it again")
        if match[0] in found:
            raise DataError(f"{found[match[0]].images[0]} and {image.name} are the same chip", fix="remove one")
        found[match[0]] = Chip(match[0], (image,), mask)
    return found

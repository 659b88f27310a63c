"""Where the files of reBEN lie, its table of patches, and how both come here."""

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from adapteo.data._archives import untar
from adapteo.data._download import from_hub, one_at_a_time
from adapteo.errors import DataError
from adapteo.files import replacing

IMAGES, MAPS, TABLE = "BigEarthNet-S2", "Reference_Maps", "metadata.parquet"

FILES = MappingProxyType(
    {
        "coastal": ("B01", 60), "blue": ("B02", 10), "green": ("B03", 10), "red": ("B04", 10),
        "rededge071": ("B05", 20), "rededge075": ("B06", 20), "rededge078": ("B07", 20), "nir": ("B08", 10),
        "nir08": ("B8A", 20), "nir09": ("B09", 60), "swir16": ("B11", 20), "swir22": ("B12", 20),
    }
)  # fmt: skip
"""Name in the files and pixel size in metres of each band."""
STATISTICS = MappingProxyType(
    {
        "coastal": (361.0767822265625, 575.0687255859375), "blue": (438.3720703125, 607.02685546875),
        "green": (614.0556640625, 603.2968139648438), "red": (588.4096069335938, 684.56884765625),
        "rededge071": (942.8433227539062, 738.4326782226562), "rededge075": (1769.931640625, 1100.4560546875),
        "rededge078": (2049.551513671875, 1275.805419921875), "nir": (2193.2919921875, 1369.3717041015625),
        "nir08": (2235.556640625, 1356.5440673828125), "nir09": (2241.455322265625, 1316.393310546875),
        "swir16": (1568.226806640625, 1070.1612548828125), "swir22": (997.7324829101562, 813.5276489257812),
    }
)  # fmt: skip
"""Mean and standard deviation of the stored values: IBM/peft-geofm ``datamodules/reben.py``, which took them from
ConfigILM ``BENv2_utils``, entry ``120_nearest``: of all bands on the grid of 10 m, by nearest neighbour as here."""

_SPLITS = {"train": "train", "validation": "val", "test": "test"}
_REPOSITORY, _REVISION = "torchgeo/bigearthnet", "3cf3a5910a5302d449fdb8e570e5b78de24fe07f"
_ARCHIVES = {
    IMAGES: {
        "V2/BigEarthNet-S2.tar.gzaa": "94e8ed32065234d3ab46353d814778d1",
        "V2/BigEarthNet-S2.tar.gzab": "24c223d9e36166136c13b24a27debe34",
    },
    MAPS: {"V2/Reference_Maps.tar.gzaa": "b0cd1f0a31b49fcbfd61d80f963e759d"},
}
"""Parts and MD5 sums of the archives: torchgeo's copy on the Hugging Face hub, gzip where Zenodo has Zstandard, which
Python reads from 3.14 on only. Source: torchgeo ``BigEarthNetV2``."""
_WITNESS = {IMAGES: "B02", MAPS: "reference_map"}


@dataclass(frozen=True)
class Metadata:
    """The table of patches.

    Attributes:
        split: train, val or test by patch.
        country: by patch, in the order of the table.
        marks: classes of a patch as bits of a number, the first class lowest; empty when they were not asked for.
    """

    split: dict[str, str]
    country: dict[str, str]
    marks: dict[str, int]


def patch_file(root: Path, kind: str, patch: str, name: str) -> Path:
    """Path of a band (`IMAGES`, "B02") or of the map (`MAPS`, "reference_map") of a patch."""
    tile = patch.rsplit("_", 2)[0]
    return root / kind / tile / patch / f"{patch}_{name}.tif"


def absent(root: Path, name: str) -> DataError:
    """Say what to put where."""
    return DataError(
        f"there is no {name} in {root}",
        fix=f"put {TABLE}, {IMAGES} and {MAPS} there, unpacked: https://zenodo.org/records/10891137 has them,\n"
        "or set `download: true` (tens of gigabytes)",
    )


def read_metadata(root: Path, classes: Sequence[str], download: bool) -> Metadata:
    """Read the table of patches.

    Args:
        root: folder of the dataset.
        classes: names of the classes in the column ``labels``; empty to leave it unread.
        download: whether to fetch the table when it is not there.

    Raises:
        DataError: it is missing or damaged, lacks a column, or pyarrow is not installed.
    """
    path = root / TABLE
    if not path.is_file():
        if not download:
            raise absent(root, TABLE)
        with one_at_a_time(root), replacing(path) as beside:
            shutil.copyfile(from_hub(_REPOSITORY, f"V2/{TABLE}", _REVISION), beside)
    columns = ["patch_id", "split", "country", *(["labels"] if classes else [])]
    table = _read_table(path, columns)
    keys, splits, countries = (table[name] for name in columns[:3])
    unknown = sorted(set(map(str, splits)) - _SPLITS.keys())
    if unknown:
        raise DataError(f"{path} has the split '{unknown[0]}'", allowed=_SPLITS, fix="download it again")
    marks = {}
    if classes:
        bits = {name: 1 << i for i, name in enumerate(classes)}
        try:
            marks = {key: sum(bits[name] for name in names) for key, names in zip(keys, table["labels"], strict=True)}
        except KeyError as error:
            raise DataError(f"{path} has the label {error}, which is no class", allowed=classes) from error
    return Metadata(
        {key: _SPLITS[split] for key, split in zip(keys, splits, strict=True)},
        dict(zip(keys, countries, strict=True)),
        marks,
    )


def _read_table(path: Path, columns: Sequence[str]) -> dict[str, list]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"reading {path.name} needs pyarrow", fix="run: pip install 'adapteo[parquet]'") from error
    try:
        lacking = [name for name in columns if name not in pyarrow.parquet.read_schema(path).names]
        if lacking:
            raise DataError(f"{path} has no column '{lacking[0]}'", fix="is it the table of BigEarthNet v2?")
        content: dict[str, list] = pyarrow.parquet.read_table(path, columns=list(columns)).to_pydict()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"cannot read {path}: {str(error).splitlines()[0]}", fix="download it again") from error
    return content


def fetch_patches(root: Path, patches: Collection[str], kinds: Sequence[str]) -> None:
    """Bring the patches that are not there; the archives stay in the hub's cache.

    Raises:
        DataError: no network, a damaged archive, a full disk, or a patch that the archive does not have.
    """
    for kind in kinds:
        missing = _missing(root, patches, kind)
        if missing:
            with one_at_a_time(root):
                untar(_archive(kind), root, _belongs_to(missing))
            lacking = _missing(root, missing, kind)
            if lacking:
                raise DataError(f"the archive of {kind} has no patch '{min(lacking)}' ({len(lacking):,} are missing)")


def _archive(kind: str) -> list[Path]:
    parts = []
    for file, digest in _ARCHIVES[kind].items():
        path = from_hub(_REPOSITORY, file, _REVISION)
        with path.open("rb") as stream:
            if file_digest(stream, "md5").hexdigest() != digest:
                raise DataError(f"{path} is damaged: its MD5 sum is not {digest}", fix="delete it and try again")
        parts.append(path)
    return parts


def _belongs_to(patches: Collection[str]) -> Callable[[str], bool]:
    return lambda name: PurePosixPath(name).parent.name in patches


def _missing(root: Path, patches: Collection[str], kind: str) -> set[str]:
    return {patch for patch in patches if not patch_file(root, kind, patch, _WITNESS[kind]).is_file()}

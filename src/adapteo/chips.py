"""Cut the windows of a survey into files that any tool can read: a chip dataset.

chips/ adapteo.yaml     reads the folder back, with the same samples, targets and splits
       index.parquet    (or .csv) a row for each chip: files, outline, split, group, date, scene, pixels of each class
       images/*.tif     integers with scale and offset where nothing is lost by that, else float32
       masks/*.tif      class indices, 255 without a label

The folder is made beside its place and renamed when it is complete; the same command goes on where it was stopped. No
torch.
"""

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from adapteo import _yaml
from adapteo._ignore import IGNORE
from adapteo.contracts import Dataset, Sample
from adapteo.data.raster import Raster, write_image
from adapteo.data.survey import Survey
from adapteo.data.vector import write_footprints
from adapteo.errors import ConfigError, DataError
from adapteo.files import replacing

CONFIG_FILE, IMAGES, MASKS = "adapteo.yaml", "images", "masks"
_STATE = "state.json"
_KINDS = {"uint16": 65535, "int16": -32768, "float32": np.nan}
"""Types of an image in the order in which they are tried, with the value of missing pixels."""
_PARTS = ("train", "val", "test")

Row = dict[str, object]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Written:
    """What was made.

    Attributes:
        folder: of the chips.
        index: the table.
        chips: how many.
        dtype: of the images.
    """

    folder: Path
    index: Path
    chips: int
    dtype: str


class _Lossy(Exception):
    """An image has values that integers of this type cannot hold."""


def write_chips(
    dataset: Dataset,
    out: str | Path,
    *,
    overwrite: bool = False,
    sections: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write all windows of a survey that have labels.

    Args:
        dataset: a survey.
        out: folder to make.
        overwrite: put the new folder in the place of an existing one.
        sections: of the configuration, beside the dataset; copied into the new one.
        progress: called with the number of finished chips and of all chips.

    Raises:
        ConfigError: another kind of dataset, or a folder that is there already.
        DataError: an image cannot be read, or the disk is full.
    """
    if not isinstance(dataset, Survey):
        raise ConfigError(
            f"only surveys are cut into chips, this is a {type(dataset).__name__}",
            fix="name a configuration with `dataset: {name: survey, …}`",
        )
    out = Path(out).expanduser()
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} is there already", fix="choose another folder, or replace it with --overwrite")
    parts = {name: tuple(dataset.split(name)) for name in _parts(dataset)}
    names = _file_names([key for keys in parts.values() for key in keys])
    beside = out.with_name(f".{out.name}.part")
    for kind in _KINDS if _one_scale(dataset) else ("float32",):
        if not _begin(beside, kind, dataset.fingerprint()):
            continue
        try:
            rows = _write_all(dataset, parts, names, (beside, kind), progress)
            break
        except _Lossy:
            continue
    index = _write_index(beside, dataset, rows)
    with replacing(beside / CONFIG_FILE) as file:
        file.write_text(_yaml.dump({"dataset": _section(dataset, parts, index, kind), **(sections or {})}), "utf-8")
    (beside / _STATE).unlink()
    _exchange(beside, out)
    return Written(out, out / index, len(rows), kind)


# ---------------------------------------------------------------------------------------------- chips


def _parts(dataset: Survey) -> list[str]:
    """Splits with samples."""
    parts = dataset.plan.parts
    return [name for name in (*_PARTS, *dataset.holdouts) if parts.get(name)]


def _file_names(keys: list[str]) -> dict[str, str]:
    """A name for the files of each window, without folders."""
    names = {key: key.replace("/", "_") for key in keys}
    if len(set(names.values())) < len(names):
        names = {key: f"{number:06d}_{name}" for number, (key, name) in enumerate(names.items())}
    return names


def _begin(beside: Path, kind: str, fingerprint: str) -> bool:
    """Make the folder ready for images of a type; False when an earlier attempt went on to the next one."""
    state = beside / _STATE
    wanted = {"fingerprint": fingerprint, "dtype": kind}
    there: dict[str, str] = {}
    if state.is_file():
        try:
            there = json.loads(state.read_text(encoding="utf-8"))
        except json.JSONDecodeError:  # stopped while it was written: begin anew
            there = {}
    if there == wanted:
        return True
    kinds = list(_KINDS)
    earlier = there.get("dtype", "")
    if there.get("fingerprint") == fingerprint and earlier in kinds and kinds.index(earlier) > kinds.index(kind):
        return False
    shutil.rmtree(beside, ignore_errors=True)
    with replacing(state) as file:
        file.write_text(json.dumps(wanted), "utf-8")
    return True


def _write_all(
    dataset: Survey,
    parts: Mapping[str, tuple[str, ...]],
    names: Mapping[str, str],
    target: tuple[Path, str],
    progress: Progress | None,
) -> list[Row]:
    folder, kind = target
    rows: list[Row] = []
    for part, keys in parts.items():
        for key in keys:
            sample = dataset.read(key)
            rows.append({**_describe(dataset, sample, part), **_write_one(dataset, sample, names[key], folder, kind)})
            if progress:
                progress(len(rows), len(names))
    return rows


def _write_one(dataset: Survey, sample: Sample, name: str, folder: Path, kind: str) -> Row:
    """Write image and mask, unless an earlier attempt has; its part of the row."""
    image, mask = Path(IMAGES, f"{name}.tif"), Path(MASKS, f"{name}.tif")
    scale, offset = dataset.encoding(sample.key) if kind != "float32" else (1.0, 0.0)
    if not (folder / mask).is_file() or not (folder / image).is_file():
        window = dataset.plan.windows[sample.key]
        scene = dataset.scenes_found[window.scene]
        place = scene.place(window.row, window.col)
        stored = _encode(sample.image.reshape(-1, *sample.image.shape[2:]), scale, offset, kind)
        names = dataset.bands * len(sample.image)
        write_image(folder / image, Raster(stored, names, _KINDS[kind], scene.crs, place), scale, offset)
        assert sample.target is not None, "windows of a survey have labels"
        none, type_ = _no_label(dataset)
        codes = np.where(sample.target == IGNORE, none, sample.target).astype(type_)[None]
        write_image(folder / mask, Raster(codes, ("class",), none, scene.crs, place))
    return {"path": image.as_posix(), "mask": mask.as_posix(), "offset": offset}


def _one_scale(dataset: Survey) -> bool:
    """Whether all scenes are stored with the same scale, which is what the folder dataset can say."""
    return len({dataset.encoding(key)[0] for key in dataset.plan.windows}) == 1


def _no_label(dataset: Survey) -> tuple[int, str]:
    """Value without a label, and type of a mask."""
    return (255, "uint8") if len(dataset.classes) <= 255 else (65535, "uint16")


def _encode(image: np.ndarray, scale: float, offset: float, kind: str) -> np.ndarray:
    """Physical values ``(c, h, w)`` float32 as they are stored; what is read back is equal bit by bit.

    Raises:
        _Lossy: that is not possible with integers of this type.
    """
    if kind == "float32":
        return image
    missing = np.isnan(image)
    guess = np.rint((np.where(missing, offset, image).astype(np.float64) - offset) / scale)
    limits = np.iinfo(kind)
    if guess.min() < limits.min or guess.max() > limits.max or (guess[~missing] == _KINDS[kind]).any():
        raise _Lossy
    again = guess.astype(np.float32)
    again *= scale
    again += offset
    if (again != image)[~missing].any():
        raise _Lossy
    return np.where(missing, _KINDS[kind], guess).astype(kind)


def _describe(dataset: Survey, sample: Sample, part: str) -> Row:
    """What the index says of a window, but for its files."""
    window = dataset.plan.windows[sample.key]
    assert sample.target is not None, "windows of a survey have labels"
    counts = np.bincount(sample.target[sample.target != IGNORE], minlength=len(dataset.classes))
    lat, lon = (float(v) for v in sample.latlon) if sample.latlon is not None else (np.nan, np.nan)
    return {
        "split": part,
        "group": sample.group or "",
        "scene": dataset.scenes_found[window.scene].name,
        "date": _days(sample.dates),
        "latitude": lat,
        "longitude": lon,
        "row": window.row,
        "col": window.col,
        **{f"pixels_{name}": int(count) for name, count in zip(dataset.classes, counts, strict=True)},
    }


def _days(dates: np.ndarray | None) -> str:
    if dates is None or np.isnan(dates).any():
        return ""
    return ";".join((date(int(year), 1, 1) + timedelta(int(day) - 1)).isoformat() for year, day in dates)


# ---------------------------------------------------------------------------------------------- index


def _write_index(folder: Path, dataset: Survey, rows: list[Row]) -> str:
    """Write the table; GeoParquet where pyarrow is there."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    if find_spec("pyarrow") is None:
        with replacing(folder / "index.csv") as beside, beside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for row in rows:
                cells = (row[name] for name in columns)
                writer.writerow("" if isinstance(cell, float) and np.isnan(cell) else cell for cell in cells)
        return "index.csv"
    scenes = {scene.name: scene for scene in dataset.scenes_found}
    corners, systems = [], []
    for row in rows:
        scene, top, left = scenes[str(row["scene"])], int(str(row["row"])), int(str(row["col"]))
        edge = ((0, 0), (0, dataset.chip), (dataset.chip, dataset.chip), (dataset.chip, 0))
        corners.append([scene.place(top + down, left + right)[2::3] for down, right in edge])
        systems.append(scene.crs)
    write_footprints(folder / "index.parquet", columns, np.array(corners), systems)
    return "index.parquet"


def _section(dataset: Survey, parts: Mapping[str, tuple[str, ...]], index: str, kind: str) -> dict[str, object]:
    """The dataset section that reads the folder back."""
    names = list(parts)
    scale = dataset.encoding(parts[names[0]][0])[0] if kind != "float32" else 1.0
    listed = {name: [name] for name in _PARTS if name in names}
    holdout = {name: [name] for name in names if name not in _PARTS}
    return {
        "name": "folder",
        "root": ".",
        "index": index,
        "label_type": "segmentation",
        "class_names": list(dataset.classes),
        "ignore": _no_label(dataset)[0],
        "band_names": list(dataset.bands),
        "scale": scale,
        **({"dates_per_file": dataset.frames} if dataset.frames > 1 else {}),
        "pixel_size": dataset.gsd,
        "group_column": "group",
        "splits": {
            "by": "column", "column": "split", **listed, **({"holdout": holdout} if holdout else {}),
            "fractions": [1.0, 0.0, 0.0], "duplicates": "allow",
        },
    }  # fmt: skip


def _exchange(beside: Path, out: Path) -> None:
    """Give the finished folder its name; the old one stays until then."""
    aside = out.with_name(f".{out.name}.old")
    try:
        if out.exists():
            shutil.rmtree(aside, ignore_errors=True)
            out.rename(aside)
        beside.rename(out)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror}", fix=f"rename {beside} by hand") from error
    shutil.rmtree(aside, ignore_errors=True)

"""From TerraTorch's generic data modules to the dataset `folder`: where chips lie, what they hold, their parts."""

import os
from collections.abc import Mapping
from pathlib import PurePosixPath

from adapteo._yaml import Data
from adapteo.bands import BY_NAME, resolve
from adapteo.errors import ConfigError
from adapteo.terratorch.lines import Translation

GENERIC: Mapping[str, str] = {
    "GenericNonGeoSegmentationDataModule": "segmentation",
    "GenericNonGeoClassificationDataModule": "classification",
    "GenericNonGeoPixelwiseRegressionDataModule": "regression",
}
INIT, TASK = "data.init_args", "model.init_args"
_PARTS = ("train", "val", "test")
_DEFAULT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_STORED = 20.0
"""A mean above this is of stored numbers (reflectance times 10,000, bytes), not of reflectance."""
_HUNDREDTHS_OF_PERCENT = 1e-4
_EDGES = "is continued by its edge to the right and below here, by reflection on all sides there"
_NEUTRAL = {
    "embedding_input": ((False,), "embeddings are no images"),
    "tortilla_file": ((), "tortilla files are not read here"),
}


def folder(t: Translation, task: str, kind: str) -> tuple[str, ...]:
    """Translate a generic module; `statistics` follows when the model's bands are known.

    Returns:
        Canonical names of the bands that it feeds, in order; empty when it does not name them.
    """
    t.becomes("data.class_path", "dataset.name", "folder")
    if GENERIC[kind] != task:
        t.refuse("data.class_path", f"{kind} is not for {task}")
    for name, (allowed, why) in _NEUTRAL.items():
        if f"{INIT}.{name}" in t.keys(INIT):
            t.neutral(f"{INIT}.{name}", (None, *allowed), why)
    _places(t, labelled=task != "classification")
    t.write("dataset.label_type", task)
    fed = _bands(t)
    _frames(t)
    _labels(t, task)
    t.note("(padding)", "differs", f"an image that the patch does not divide {_EDGES}")
    nothing = f"{INIT}.no_data_replace"
    if t.has(nothing):
        t.differ(nothing, f"missing pixels are the mean of their band here, a value of {t.get(nothing)} there")
    return fed


# ------------------------------------------------------------------------------------- where chips lie


def _places(t: Translation, labelled: bool) -> None:
    """One root, patterns below it, and how chips are divided."""
    roots = {part: t.text(f"{INIT}.{part}_data_root").rstrip("/") for part in _PARTS}
    roots = {part: root for part, root in roots.items() if root}
    missing = [part for part in ("train", "val") if part not in roots]
    if missing:
        t.refuse(f"{INIT}.{missing[0]}_data_root", "is needed")
        return
    marks = {p: t.text(f"{INIT}.{p}_label_data_root", roots[p]).rstrip("/") or roots[p] for p in roots}
    lists = {part: t.text(f"{INIT}.{part}_split") for part in roots if t.has(f"{INIT}.{part}_split")}
    places = [*roots.values(), *(marks.values() if labelled else ())]
    if len({PurePosixPath(p).is_absolute() for p in places}) > 1:
        t.refuse(f"{INIT}.train_data_root", "some roots are absolute and some are not", "write all in the same way")
        return
    common = os.path.commonpath(places)
    found = {"images": _pattern(roots, common)} | ({"masks": _pattern(marks, common)} if labelled else {})
    if None in found.values():
        t.refuse(f"{INIT}.val_data_root", "train, val and test are no folders that lie alike", "use split files")
        return
    t.write("dataset.root", t.path(common))
    said = {"images": "img_grep", "masks": "label_grep"}
    for ours, inner in found.items():
        wanted = t.text(f"{INIT}.{said[ours]}", "*") if labelled else "*/*"
        t.write(f"dataset.{ours}", str(PurePosixPath(inner or ".") / wanted))
        if t.has(f"{INIT}.{said[ours]}"):
            note = "paired by what the * stand for, there by their order" if ours == "masks" else ""
            t.becomes(f"{INIT}.{said[ours]}", f"dataset.{ours}", t.written["dataset"][ours], note=note)
    for part in roots:
        for key in (f"{INIT}.{part}_data_root", f"{INIT}.{part}_label_data_root"):
            if t.has(key):
                t.is_so(key, "dataset.root, dataset.images and dataset.masks" if labelled else "dataset.images")
    if lists:
        _listed(t, lists, roots, common)
    else:
        _by_folder(t, roots, common)


def _pattern(roots: Mapping[str, str], common: str) -> str | None:
    """Folder of all parts below the common one, with a ``*`` for what differs; None when more than one part does."""
    relative = [PurePosixPath(os.path.relpath(root, common)).parts for root in roots.values()]
    relative = [() if parts == (".",) else parts for parts in relative]
    if len({len(parts) for parts in relative}) > 1:
        return None
    columns = [set(column) for column in zip(*relative, strict=True)]
    if sum(len(column) > 1 for column in columns) > 1:
        return None
    return "/".join(next(iter(column)) if len(column) == 1 else "*" for column in columns)


def _by_folder(t: Translation, roots: Mapping[str, str], common: str) -> None:
    names = {part: _own_folder(part, roots) for part in roots}
    if names["train"] == names["val"]:
        t.refuse(f"{INIT}.val_data_root", "the training chips would validate", "give other chips, or split files")
        return
    if names.get("test") in (names["train"], names["val"]):
        t.differ(f"{INIT}.test_data_root", "the chips that validate do not test here, so nothing is left to test")
        del names["test"]
    explicit = {part: name for part, name in names.items() if name not in _DEFAULT_FOLDERS[part]}
    t.write("dataset.splits", {"by": "folder", **explicit})


def _own_folder(part: str, roots: Mapping[str, str]) -> str:
    """Part of a root's path that the training root does not have, or has otherwise."""
    other = roots["val"] if part == "train" else roots["train"]
    own = [mine for mine, theirs in zip(PurePosixPath(roots[part]).parts, PurePosixPath(other).parts, strict=False)
           if mine != theirs]  # fmt: skip
    return own[0] if own else ""


def _listed(t: Translation, lists: Mapping[str, str], roots: Mapping[str, str], common: str) -> None:
    if "train" not in lists or "val" not in lists:
        part = "train" if "train" not in lists else "val"
        t.refuse(
            f"{INIT}.{next(iter(lists))}_split", f"without a list for {part}", "give a list for each part, or none"
        )
        return
    relative = {part: os.path.relpath(path, common) for part, path in lists.items()}
    t.write("dataset.splits", {"by": "file", **relative})
    substrings = t.flag(f"{INIT}.allow_substring_split_file", True)
    for part, path in relative.items():
        note = " (names are compared as a whole; there chip_1 takes chip_10 as well)" if substrings else ""
        t.is_so(f"{INIT}.{part}_split", f"dataset.splits.{part}: {path}{note}")
    for name in ("allow_substring_split_file", "ignore_split_file_extensions"):
        if t.has(f"{INIT}.{name}"):
            t.is_so(f"{INIT}.{name}", "names with and without their ending are found")


# ---------------------------------------------------------------------------------------- what is in them


def names_of(t: Translation, key: str) -> tuple[str, ...]:
    """Canonical names of the bands that a key lists; others are refused."""
    names = []
    for one in t.items(key):
        if not isinstance(one, str):
            t.refuse(key, f"'{one}' is no name of a band", "name the bands, e.g. BLUE; bands have units here")
            return ()
        try:
            names.append(resolve(one.rpartition(".")[2]))
        except ConfigError as error:
            t.refuse(key, error.problem)
            return ()
    return tuple(names)


def _bands(t: Translation) -> tuple[str, ...]:
    stored, fed = f"{INIT}.dataset_bands", f"{INIT}.output_bands"
    names = names_of(t, stored)
    if names:
        t.becomes(stored, "dataset.band_names", list(names))
    if not t.has(fed):
        return names
    wanted = names_of(t, fed)
    if not names:
        t.refuse(fed, "without dataset_bands", "name the bands of the files")
    elif set(wanted) - set(names):
        t.refuse(fed, f"the files have no {sorted(set(wanted) - set(names))[0]}")
    else:
        t.is_so(fed, "train.bands, unless the model takes just these of itself")
    return wanted


def _frames(t: Translation) -> None:
    key, dates = f"{INIT}.expand_temporal_dimension", "model.init_args.model_args.backbone_num_frames"
    frames = t.get(dates, t.get("model.init_args.model_args.num_frames", 1))
    if not t.flag(key):
        if t.has(key):
            t.is_so(key, "one date")
        return
    t.becomes(key, "dataset.dates_per_file", frames)


def statistics(t: Translation, bands: tuple[str, ...]) -> None:
    """Scale the images to physical units, and means and deviations with them.

    Args:
        t: the translation.
        bands: that the model gets, in order.
    """
    scale = t.number(f"{INIT}.constant_scale", 1.0)
    means, stds = (_numbers(t, f"{INIT}.{name}", len(bands)) for name in ("means", "stds"))
    if means is None or stds is None:
        if not t.has(f"{INIT}.means") and not t.has(f"{INIT}.stds"):
            t.write("train.statistics", {band: [0, 1] for band in bands})
            t.note("(means, stds)", "mapped", "train.statistics: 0 and 1, as nothing is normalised there")
            _scaled(t, scale)
        return
    optical = all(BY_NAME[band].kind == "optical" for band in bands)
    unit = _HUNDREDTHS_OF_PERCENT if optical and max(means) > _STORED else 1.0
    _scaled(t, scale * unit)
    pairs: Data = {
        band: [_short(mean * unit), _short(std * unit)] for band, mean, std in zip(bands, means, stds, strict=True)
    }
    t.write("train.statistics", pairs)
    note = "by band" if unit == 1.0 else f"by band, times {unit:g}: reflectance"
    for name in ("means", "stds"):
        t.is_so(f"{INIT}.{name}", f"train.statistics ({note})")


def _scaled(t: Translation, scale: float) -> None:
    t.write("dataset.scale", _short(scale))
    if t.has(f"{INIT}.constant_scale"):
        t.becomes(f"{INIT}.constant_scale", "dataset.scale", _short(scale))
    elif scale != 1.0:
        t.note("(constant_scale)", "mapped", f"dataset.scale: {_short(scale):g}, as the means are of stored numbers")


def _short(value: float) -> float:
    return float(f"{value:.10g}")


def _numbers(t: Translation, key: str, count: int) -> list[float] | None:
    given = t.get(key)
    if given is None:
        return None
    if not isinstance(given, list) or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in given):
        t.refuse(key, "is no list of numbers", "write the numbers, one per band")
        return None
    if len(given) != count:
        t.refuse(key, f"has {len(given)} values for {count} bands")
        return None
    return [float(v) for v in given if isinstance(v, int | float)]


# -------------------------------------------------------------------------------------------------- labels


def _labels(t: Translation, task: str) -> None:
    """Class names, and values that are not learned."""
    if task == "classification":
        if t.has(f"{TASK}.class_names"):
            t.drop(f"{TASK}.class_names", "folders name the classes, in alphabetical order")
        if t.has(f"{TASK}.ignore_index"):
            t.neutral(f"{TASK}.ignore_index", (-100, -1), "every image has its folder's class")
        return
    shift = 1 if t.flag(f"{INIT}.reduce_zero_label") else 0
    ignored = t.get(f"{TASK}.ignore_index")
    if isinstance(ignored, int):
        t.becomes(f"{TASK}.ignore_index", "dataset.ignore", [ignored + shift])
    replaced = f"{INIT}.no_label_replace"
    if t.has(replaced):
        if isinstance(ignored, int) and t.get(replaced) == ignored + shift:
            t.is_so(replaced, "missing labels are not learned")
        else:
            t.refuse(replaced, "missing labels are not learned here", "write the value of ignore_index")
    if task == "segmentation":
        _classes(t, shift)
    if t.has(f"{INIT}.reduce_zero_label"):
        t.is_so(f"{INIT}.reduce_zero_label", f"dataset.class_names counts from {shift}")


def _classes(t: Translation, shift: int) -> None:
    key = f"{TASK}.class_names"
    count = t.get(f"{TASK}.model_args.num_classes", t.get(f"{INIT}.num_classes"))
    names = [str(name) for name in t.items(key)] or [
        f"class {i}" for i in range(count if isinstance(count, int) else 0)
    ]
    if not names or (isinstance(count, int) and len(names) != count):
        t.refuse(key, f"has {len(names)} names for {count} classes")
        return
    ours: Data = {str(i + shift): name for i, name in enumerate(names)} if shift else list(names)
    t.write("dataset.class_names", ours)
    if t.has(key):
        t.becomes(key, "dataset.class_names", ours)
    else:
        t.note(key, "mapped", "dataset.class_names: numbered, as they have no names there")

"""From a data module to a dataset of ours and what ``train`` says about reading; generic modules are in `generic`."""

from collections.abc import Sequence
from dataclasses import dataclass

from adapteo.bands import resolve
from adapteo.errors import ConfigError
from adapteo.terratorch.generic import GENERIC, folder
from adapteo.terratorch.lines import PLACEHOLDER, Translation
from adapteo.terratorch.lists import BURNS, FLOODS, REBEN, Options, holdouts, where
from adapteo.terratorch.vocabulary import DATA_DROPPED, GEOBENCH, MISNAMED

INIT, MODULE = "data.init_args", "data.class_path"
_FLIPS = ("Flip", "HorizontalFlip", "VerticalFlip", "RandomRotate90", "Transpose")
_TENSORS = ("ToTensorV2", "FlattenTemporalIntoChannels", "UnflattenTemporalFromChannels")
_MISSING = "missing pixels are the mean of their band here, a value of {} there"
_PAPER_METADATA = {"no_metadata": "", "prithvi_tl": "tl", "clay_gw": "gw", "clay_tlgw": "tlgw"}


def translate_data(t: Translation, task: str, options: Options) -> "Imagery":
    """Translate the data module.

    Returns:
        What the model gets: bands, and which metadata come along.
    """
    kind = t.class_name("data")
    if not kind:
        t.refuse("data", "no data module: give `data` a class_path, or the path of a file with one")
        t.silence("data")
        return Imagery((), "")
    for key in t.keys(INIT):
        name = key.rpartition(".")[2]
        if name in DATA_DROPPED:
            t.drop(key, DATA_DROPPED[name])
    _reading(t, kind)
    _augmentation(t)
    if kind in GENERIC:
        bands = folder(t, task, kind)
        return Imagery(bands, "")
    if kind == "Sen1Floods11DataModule":
        _published(t, kind, "sen1floods11")
        where(t, FLOODS, options)
        holdouts(t, {"bolivia_data.txt": ""})
        _scale(t, (0.0001,))
    elif kind == "BurnScarsDataModule":
        _published(t, kind, "burn_scars")
        where(t, BURNS, options)
        _scale(t, (1, 1.0))
    elif kind == "ReBENDataModule":
        _reben(t, kind, options)
    elif kind == "Sen1Floods11NonGeoDataModule":
        _published(t, kind, "sen1floods11")
        _scale(t, (0.0001,))
    elif kind == "FireScarsNonGeoDataModule":
        _published(t, kind, "burn_scars")
        t.differ(MODULE, "10 % of the training tiles validate here; there the test chips do")
    elif kind in GEOBENCH:
        _geobench(t, kind)
    else:
        allowed = [
            *GENERIC,
            "Sen1Floods11NonGeoDataModule",
            "FireScarsNonGeoDataModule",
            "…NonGeoDataModule of GEO-Bench",
        ]
        t.refuse(MODULE, f"{kind} reads data that adapteo does not", f"allowed: {', '.join(allowed)}, IBM/peft-geofm's")
        t.silence("data")
        return Imagery((), "")
    _root(t, options)
    _replaced(t, task)
    return Imagery(_bands(t), _metadata(t))


@dataclass(frozen=True)
class Imagery:
    """What a data module feeds.

    Attributes:
        bands: canonical names in order; empty for all of the dataset.
        metadata: letters: t dates, l places, g ground sample distance, w wavelengths.
    """

    bands: tuple[str, ...]
    metadata: str


# ---------------------------------------------------------------------------------------- all modules


def _reading(t: Translation, kind: str) -> None:
    """Batches; TerraTorch's own modules leave out the last batch unless told otherwise, GEO-Bench's keep it."""
    key, default = (
        f"{INIT}.batch_size",
        4 if kind in ("Sen1Floods11NonGeoDataModule", "FireScarsNonGeoDataModule") else 8,
    )
    devices = t.written.get("train", {}).get("devices", 1)
    batch = int(t.number(key, default)) * (devices if isinstance(devices, int) else 1)
    if t.has(key):
        t.becomes(key, "train.batch", batch, note="" if devices == 1 else f"of {devices} devices together")
    else:
        t.write("train.batch", batch)
        t.note(key, "mapped", f"train.batch: {batch}, the default there")
    if t.has(f"{INIT}.num_workers"):
        t.becomes(f"{INIT}.num_workers", "train.workers", note="threads")
    drops = not kind.endswith("NonGeoDataModule") or kind not in GEOBENCH
    t.write("train.drop_last", t.flag(f"{INIT}.drop_last", drops))
    if t.has(f"{INIT}.drop_last"):
        t.becomes(f"{INIT}.drop_last", "train.drop_last")


def _augmentation(t: Translation) -> None:
    """D4 and crops; other transforms would change what is trained."""
    t.write("train.augment", "none")
    flips = []
    key = f"{INIT}.train_transform"
    for one in t.keys(key):
        kind = t.class_name(one)
        if kind == "D4":
            t.becomes(one, "train.augment", "d4")
        elif kind in _FLIPS:
            flips.append(one)
        elif kind == "RandomCrop":
            height, width = t.get(f"{one}.init_args.height"), t.get(f"{one}.init_args.width")
            if height == width and isinstance(height, int):
                t.becomes(one, "train.crop", height)
            else:
                t.refuse(one, "training windows are square here", "write the same height and width")
        elif kind in _TENSORS:
            t.drop(one, f"{kind}: images always have an axis of time")
        else:
            t.refuse(one, f"there is no {kind} here", "D4, RandomCrop, or none")
    for one in flips:
        t.write("train.augment", "d4")
        t.differ(one, "train.augment: d4 here, all flips and quarter turns alike")
    for part in ("val_transform", "test_transform"):
        for one in t.keys(f"{INIT}.{part}"):
            if t.class_name(one) in _TENSORS:
                t.drop(one, "images always have an axis of time")
            else:
                t.refuse(one, "whole images are scored here, as they are", "prepare the files before")


def _bands(t: Translation) -> tuple[str, ...]:
    key = f"{INIT}.bands"
    if not t.has(key):
        return ()
    names = []
    for one in t.items(key):
        try:
            names.append(resolve(str(one)))
        except ConfigError as error:
            t.refuse(key, error.problem)
            return ()
    t.is_so(key, "train.bands, unless the model takes just these of itself")
    return tuple(names)


def _root(t: Translation, options: Options) -> None:
    key = f"{INIT}.data_root"
    given = t.text(key, "./")
    if options.root is not None:
        t.becomes(key, "dataset.root", t.path(str(options.root)), note="--root")
    elif PLACEHOLDER.search(given):
        t.becomes(key, "dataset.root", given, note="a placeholder: give --root, or write it there")
    elif t.has(key):
        t.becomes(key, "dataset.root", t.path(given))
    else:
        t.write("dataset.root", t.path(given))


def _replaced(t: Translation, task: str) -> None:
    """What stands for missing pixels and labels; published datasets know both themselves."""
    nothing = f"{INIT}.no_data_replace"
    if t.has(nothing):
        t.differ(nothing, _MISSING.format(t.get(nothing)))
    elif "subset" not in t.written["dataset"]:
        t.note(nothing, "differs", _MISSING.format(0))
    if t.has(f"{INIT}.no_label_replace"):
        t.neutral(f"{INIT}.no_label_replace", (-1,), "missing labels are not learned here", "write -1")
    key = "model.init_args.ignore_index"
    if t.has(key) and t.get(key) in (-1, -100):
        t.is_so(key, "what has no label is not learned")
    elif t.has(key) and "subset" in t.written.get("dataset", {}) and task == "segmentation":
        t.becomes(key, "dataset.ignore", [t.get(key)])
    elif t.has(key):
        t.refuse(key, "the dataset knows what has no label", "write -1")
    if t.has("model.init_args.class_names"):
        t.drop("model.init_args.class_names", "the dataset knows its classes")


def _scale(t: Translation, allowed: Sequence[float]) -> None:
    if t.has(f"{INIT}.constant_scale"):
        t.neutral(f"{INIT}.constant_scale", tuple(allowed), "the dataset knows its scale", "take the line out")


def _metadata(t: Translation) -> str:
    """Letters of what comes along; TerraTorch's own modules say yes or no, IBM/peft-geofm's what."""
    key = f"{INIT}.use_metadata"
    given = t.get(key, False)
    if isinstance(given, bool):
        found = "tl" if given else ""
    else:
        found = _PAPER_METADATA.get(str(given), "")
        if given not in _PAPER_METADATA:
            t.refuse(key, "is not known", f"allowed: {', '.join(_PAPER_METADATA)}")
            return ""
    if t.has(key):
        t.is_so(key, "backbone.metadata: dates and places" if "t" in found else "no dates and places")
    return found


def _published(t: Translation, kind: str, name: str) -> None:
    t.becomes(MODULE, "dataset.name", name)
    t.write("train.normalise", "dataset")
    t.note("(means, stds)", "mapped", f"train.normalise: dataset, as {kind} has the dataset's published statistics")


# -------------------------------------------------------------------------------------- published sets


def _geobench(t: Translation, kind: str) -> None:
    subset = GEOBENCH[kind]
    _published(t, kind, "geobench")
    t.becomes(MODULE, "dataset.subset", subset)
    if t.has(f"{INIT}.partition"):
        t.becomes(f"{INIT}.partition", "dataset.partition")
    if subset in MISNAMED and t.has(f"{INIT}.bands"):
        t.refuse(f"{INIT}.bands", f"TerraTorch names bands of {subset} wrongly, as its files do", "name none, for all")


def _reben(t: Translation, kind: str, options: Options) -> None:
    _published(t, kind, "reben")
    label = t.text(f"{INIT}.label", "segmentation")
    labels = {"segmentation": "map", "classification": "multilabel"}
    if label not in labels:
        t.refuse(f"{INIT}.label", "is not known", f"allowed: {', '.join(labels)}")
    elif t.has(f"{INIT}.label"):
        t.becomes(f"{INIT}.label", "dataset.labels", labels[label])
    t.write("dataset.pad", 128)
    t.note("(padding)", "differs", "dataset.pad: 128 pads before flips and turns here, after them there")
    where(t, REBEN, options)
    known = {f"{name}.txt": name for name in ("ood", "Austria", "Ireland")}
    t.write("dataset.holdout", holdouts(t, known))
    _scale(t, (1, 1.0))

"""From a dataset of ours to a data module of TerraTorch, where it has one that reads the same files."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from adapteo.config import name_of
from adapteo.contracts import IGNORE, Dataset
from adapteo.data.folder import Folder
from adapteo.errors import ConfigError, DataError
from adapteo.fitted import FittedRun
from adapteo.terratorch.model_out import NAMES
from adapteo.terratorch.vocabulary import GEOBENCH

_KINDS = {
    "segmentation": "GenericNonGeoSegmentationDataModule",
    "classification": "GenericNonGeoClassificationDataModule",
    "regression": "GenericNonGeoPixelwiseRegressionDataModule",
}
_OWN = {"sen1floods11": "Sen1Floods11NonGeoDataModule", "burn_scars": "FireScarsNonGeoDataModule"}
_PARTS = ("train", "val", "test")

Module = tuple[dict[str, object] | None, dict[str, list[str]], list[str]]


def data_module(fitted: FittedRun, out: Path) -> Module:
    """Section ``data``, lists of chips by file name, and notes; no section where TerraTorch reads nothing alike.

    Args:
        fitted: the run.
        out: folder of the exported files.
    """
    dataset, model = fitted.run.dataset, fitted.model
    train = fitted.run.train
    common: dict[str, object] = {"batch_size": train.batch, "num_workers": train.workers}
    if isinstance(dataset, Folder):
        return _folder(fitted, dataset, common, out)
    name = name_of(dataset)
    kind = _OWN.get(name, "")
    if name == "geobench":
        kind = next(k for k, subset in GEOBENCH.items() if subset == vars(dataset)["subset"])
    if not kind:
        return None, {}, [f"data: TerraTorch has no data module that reads {name}; add one to config.yaml"]
    source, notes = model.normalisation.source, []
    if source != "dataset":
        notes.append(f"data: {kind} normalises with the dataset's statistics, this model with others ({source})")
    init = common | {"data_root": vars(dataset)["root"], "bands": [NAMES[band] for band in fitted.bands]}
    if vars(fitted.run.backbone).get("metadata") and name in _OWN:
        init["use_metadata"] = True
    return {"class_path": f"terratorch.datamodules.{kind}", "init_args": init}, {}, notes


def _folder(fitted: FittedRun, dataset: Folder, common: dict[str, object], out: Path) -> Module:
    """A generic module: roots, patterns, lists, bands and statistics."""
    task = name_of(fitted.run.task)
    if task not in _KINDS or dataset.index:
        why = "an index" if dataset.index else f"labels for {task}"
        return None, {}, [f"data: TerraTorch's generic modules do not read {why}; add a data module to config.yaml"]
    notes = ["data: TerraTorch pairs images and masks by their order, and finds names of the lists in file names"]
    if dataset.offset:
        notes.append(f"data: TerraTorch adds no offset ({dataset.offset}) to the images")
    images = dataset.images if isinstance(dataset.images, str) else dataset.images[0]
    root = str(Path(dataset.root).expanduser())
    lists, said = _lists(fitted)
    notes += said
    init = dict(common)
    for part in _PARTS:
        init[f"{part}_data_root"] = str(PurePosixPath(root) / PurePosixPath(images).parent)
        if dataset.masks:
            init[f"{part}_label_data_root"] = str(PurePosixPath(root) / PurePosixPath(dataset.masks).parent)
        if lists:
            init[f"{part}_split"] = str((out / "splits" / f"{part}.txt").resolve())
    if task != "classification":
        init |= {"img_grep": PurePosixPath(images).name, "label_grep": PurePosixPath(dataset.masks).name}
        init["no_label_replace"], init["reduce_zero_label"] = labels(dataset)
    init |= {"dataset_bands": [NAMES[band] for band in fitted.imagery.bands]}
    init |= {"output_bands": [NAMES[band] for band in fitted.bands]}
    normalisation = fitted.model.normalisation
    init |= {"constant_scale": dataset.scale, "means": list(normalisation.mean), "stds": list(normalisation.std)}
    init |= {"no_data_replace": 0, "expand_temporal_dimension": fitted.imagery.frames > 1}
    init |= {"drop_last": fitted.run.train.drop_last}
    if task != "regression":
        init["num_classes"] = len(fitted.imagery.classes)
    if fitted.run.train.augment != "none":
        init["train_transform"] = [{"class_path": "albumentations.D4"}, {"class_path": "ToTensorV2"}]
    section: dict[str, object] = {"class_path": f"terratorch.datamodules.{_KINDS[task]}", "init_args": init}
    return section, {f"splits/{part}.txt": keys for part, keys in lists.items()}, notes


def labels(dataset: Dataset) -> tuple[int, bool]:
    """Stored value that is not learned, and whether the classes count from 1.

    Raises:
        ConfigError: classes that TerraTorch cannot number, or several values that are not learned.
    """
    if not isinstance(dataset, Folder):
        return IGNORE, False
    given = (dataset.ignore,) if isinstance(dataset.ignore, int) else tuple(dataset.ignore)
    names = dataset.class_names
    values = sorted(map(int, names)) if isinstance(names, Mapping) else list(range(len(names)))
    first = values[0] if values else 0
    if values != list(range(first, first + len(values))) or first not in (0, 1):
        raise ConfigError(f"TerraTorch numbers classes from 0 or 1, these are {values}", fix="renumber the masks")
    if len(given) > 1:
        raise ConfigError(f"TerraTorch ignores one value, these are {list(given)}", fix="renumber the masks")
    return (given[0] if given else IGNORE + first), first == 1


def _lists(fitted: FittedRun) -> tuple[dict[str, list[str]], list[str]]:
    """Names of the chips of each part; none when the dataset is not at hand, or TerraTorch would mix them up."""
    try:
        keys = {part: [key.rpartition("/")[2] for key in fitted.run.dataset.split(part)] for part in _PARTS}
    except DataError as error:
        return {}, [f"data: no lists of chips, as the dataset is not at hand: {error.problem}"]
    if clash := _substring([key for part in keys.values() for key in part]):
        return {}, [f"data: no lists of chips: TerraTorch would find '{clash[0]}' in '{clash[1]}' as well"]
    return keys, []


def _substring(names: Sequence[str]) -> tuple[str, str] | None:
    """Two names of which one is part of the other."""
    ordered = sorted(names, key=len)
    for i, short in enumerate(ordered):
        for long in ordered[i + 1 :]:
            if short in long:
                return short, long
    return None

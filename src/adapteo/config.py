"""A run as data: about fifteen lines of YAML in, one frozen `Run` out; the dataclasses are the schema.

    flood.yaml + ["train.rate=3e-4"] ──▶ nodes with line numbers ──▶ pydantic, strict ──▶ Run(dataset, backbone, …)

Only `adapteo._yaml` knows YAML and only `adapteo._schema` knows pydantic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from inspect import isabstract
from pathlib import Path
from typing import Any, Literal

from adapteo import _schema, _yaml, registry
from adapteo._yaml import Data, Document, Origin, Trail
from adapteo.contracts import BackboneSpec, Composition, Dataset, DecoderSpec, Method, Task
from adapteo.errors import ConfigError, closest
from adapteo.project import project
from adapteo.quantise import check_kind


@dataclass(frozen=True)
class FeatureCaching:
    """How features of what is frozen are kept on disk; `adapteo.feature_cache` says when and what.

    Attributes:
        store: "bf16" (2 bytes a value, off by 0.4 % at most), "float32" (4, exact), or "int8" (1, off by 1/254 of the
            largest value of the image's channel at most).
        folder: null for ``features`` in the cache folder (``$ADAPTEO_CACHE``, or ``~/.cache/adapteo``).
        limit: GiB of the folder; what was not used for the longest time makes room.
    """

    store: Literal["bf16", "float32", "int8"] = "bf16"
    folder: Path | None = None
    limit: float = 20.0

    def __post_init__(self) -> None:
        """Refuse a limit that leaves nothing.

        Raises:
            ConfigError: names the value.
        """
        if self.limit <= 0:
            raise ConfigError(f"train.cache_features.limit is {self.limit}", allowed=["more than 0 (GiB)"])


@dataclass(frozen=True)
class Train:
    """How to train; the defaults are the protocol of arXiv 2504.17397 (AdamW, plateau schedule, early stop, D4).

    With two additions, because here the decoder is fitted before: an epoch of warm-up, and clipped gradients. Without
    them the first steps can undo the head start (``warmup: 0`` and ``clip: null`` give the paper's).

    Attributes:
        epochs: most passes over the training split; early stopping usually ends sooner.
        batch: samples per step, over all devices.
        accumulate: batches that make one step of the optimiser; computes what a batch so many times larger does.
        seed: of everything random: new weights, order of samples, augmentation.
        order_seed: of order and augmentation alone; null for `seed`. With it runs of several seeds see the same
            batches, and can be trained in one pass; they then differ in new weights and dropout only.

        rate: learning rate of what the method trains in the backbone (AdamW); null for the method's own default.
        head_rate: learning rate of the decoder; null for the same as `rate`.
        weight_decay: of AdamW, on weight matrices.
        clip: largest norm of the gradient; null for no clipping.

        schedule: "plateau" halves the rate when the validation loss stalls, "cosine" falls to 0 over `epochs`,
            "constant" leaves it.
        warmup: optimiser steps over which the rate first rises linearly from 0; null for one epoch (or a
            quarter of all steps, if that is less) after a head start, else 0.
        plateau_patience: epochs without a lower validation loss before "plateau" acts.
        plateau_factor: what "plateau" multiplies the rate by.
        select: what picks the best epoch: the task's own validation "score", or the validation "loss" (the paper's).
        patience: epochs without a better one after which training stops; null to run all `epochs`.

        head_start: fit the decoder on features of the untouched backbone first, where that has a closed or cheap form,
            so that the method starts from a linear probe.
        augment: "d4" for flips and quarter turns, "d4+crop" for random resized crops as well, "none".
        crop: side in pixels of a random training window; null for whole images.
        drop_last: leave out the last batch of an epoch when it is smaller than the others.
        bands: those of the dataset that are used, in this order; null for all that the backbone takes.
        normalise: band statistics of "pretraining" (of the dataset, for a backbone that has none), or of the
            "dataset": those it was published with, else computed on the training split.
        statistics: mean and standard deviation by band in physical units, ``{red: [0.08, 0.05], …}``, instead.

        memory: what the backward pass of a transformer computes again, with the same gradients: "fast" nothing, "lean"
            norms and activations (three eighths less memory for activations, hardly any time), "leanest" attention and
            hidden layers as well (seven eighths less, a third more time); "auto" the first of these that the plan says
            fits into the memory that is free.
        trunk: how the frozen linears of the blocks are held: "fp32", "bf16" (half the bytes), "int8" (a quarter) or
            "nf4" (a seventh; needs ``pip install 'adapteo[bitsandbytes]'``). What trains stays fp32; that its gradients
            are still right is checked on one image before training. Prediction holds them likewise, and a merged
            checkpoint has the rounded weights, so that it computes what was trained and tested.
        precision: "fp32", or "bf16" for mixed precision on hardware that has it.
        accelerator: "auto" takes the first GPU there is.
        devices: processes, one device each; more than 1 trains data-parallel.
        workers: threads that read ahead.
        cache_features: keep what frozen blocks make of the images on disk, for all epochs and runs: "auto" wherever
            the first blocks are frozen and images are not cut at random, "off", or keys as below.
        tensorboard: write TensorBoard logs beside the CSV log.
    """

    epochs: int = 50
    batch: int = 8
    accumulate: int = 1
    seed: int = 0
    order_seed: int | None = None

    rate: float | None = None
    head_rate: float | None = None
    weight_decay: float = 0.01
    clip: float | None = 1.0

    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    warmup: int | None = None
    plateau_patience: int = 4
    plateau_factor: float = 0.5
    select: Literal["score", "loss"] = "score"
    patience: int | None = 15

    head_start: bool = True
    augment: Literal["none", "d4", "d4+crop"] = "d4"
    crop: int | None = None
    drop_last: bool = False
    bands: tuple[str, ...] | None = None
    normalise: Literal["pretraining", "dataset"] = "pretraining"
    statistics: Mapping[str, tuple[float, float]] | None = None

    memory: Literal["fast", "lean", "leanest", "auto"] = "lean"
    trunk: str = "fp32"
    precision: Literal["fp32", "bf16"] = "fp32"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    workers: int = 2
    cache_features: Literal["auto", "off"] | FeatureCaching = "auto"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ConfigError: names the key, its value and the range.
        """
        for names, allowed, fits in _RANGES:
            for name in names:
                value = vars(self)[name]
                if value is not None and not fits(value):
                    raise ConfigError(f"train.{name} is {value}", allowed=[allowed])
        check_kind(self.trunk)


_RANGES = (
    (("epochs", "batch", "accumulate", "devices", "patience", "crop"), "1 or more", lambda value: value >= 1),
    (("seed", "order_seed", "warmup", "plateau_patience"), "0 or more", lambda value: value >= 0),
    (("workers", "weight_decay"), "0 or more", lambda value: value >= 0),
    (("rate", "head_rate", "clip"), "more than 0", lambda value: value > 0),
    (("plateau_factor",), "more than 0, less than 1", lambda value: 0 < value < 1),
)


@dataclass(frozen=True)
class Run:
    """Everything that decides the outcome of one training.

    Attributes:
        dataset: labelled images.
        backbone: pretrained encoder.
        method: how the backbone is adapted; a list of methods is a `Composition`.
        decoder: from feature maps to the label grid.
        task: loss and metrics; the dataset's own unless the configuration names one.
        train: how to train.
        out: folder for everything that the run writes.
    """

    dataset: Dataset
    backbone: BackboneSpec
    method: Method
    decoder: DecoderSpec
    task: Task
    train: Train
    out: Path


_CONTRACTS: dict[str, type] = {
    "dataset": Dataset,
    "backbone": BackboneSpec,
    "method": Method,
    "decoder": DecoderSpec,
    "task": Task,
}
_KEYS = tuple(field.name for field in fields(Run))
_ASIDE = ("tune",)
"""Sections that are no part of a run; see `aside`."""


def load(source: str | Path | Mapping[str, object], overrides: Sequence[str] = ()) -> Run:
    """Read and check a configuration.

    Args:
        source: a YAML file, a project folder, or the same as a mapping. Each of ``dataset``, ``backbone``, ``method``,
            ``decoder`` and ``task`` is a name (``unet``), a mapping of ``name`` and the fields of that entry's
            dataclass, or (in a mapping) the dataclass itself. Paths of the dataset and local weights are relative to
            the file's folder; ``out`` and paths in overrides to the current one.
        overrides: ``train.rate=3e-4``, ``method.rank=8``, ``method=lora``; later ones win.

    Raises:
        ConfigError: says which line holds what, what is allowed there and what is closest.
    """
    document, run_folder = _document(source)
    for key in _ASIDE:
        document.root.pop(key, None)
    for text in overrides:
        _override(document, text)
    for key in document.root:
        if key not in _KEYS:
            place = document.origin((key,)).place
            raise ConfigError(f"{place}: there is no key '{key}'{closest(key, _KEYS)}", allowed=_KEYS)
    entries = {key: _entry(document, key) for key in _CONTRACTS if key != "task"}
    train, out = _train(document), _out(document, run_folder)
    task = document.root.get("task") or {}
    if isinstance(task, dict) and "name" not in task:  # a fact that the dataset knows is not asked of the user
        document.root["task"] = {"name": entries["dataset"].task, **task}
    return Run(**entries, task=_entry(document, "task"), train=train, out=out)


def aside(source: str | Path | Mapping[str, object], section: str, cls: type) -> Any:
    """Read a section that is no part of a run: what another command is to do with it.

    Args:
        source: as of `load`.
        section: its key.
        cls: dataclass of its keys; its defaults stand for a section that is not there.

    Raises:
        ConfigError: as `load`.
    """
    document, _ = _document(source)
    given = document.root.get(section)
    if given is not None and not isinstance(given, dict):
        place = document.origin((section,)).place
        raise ConfigError(f"{place}: {section} is {given!r}", allowed=[f.name for f in fields(cls)], fix="give it keys")
    return _schema.make(document, section, cls, given or {}, section)


def dump(run: Run) -> str:
    """Write a run as YAML with every default spelt out, so that `load` of it equals the run."""
    return _yaml.dump({key: _plain(value) for key, value in vars(run).items()})


def name_of(entry: object) -> str:
    """Return what a configuration calls an entry: its key in the registry, else ``package.module:Class``."""
    if isinstance(entry, Composition):
        return "+".join(name_of(method) for method in entry.methods)
    cls = type(entry)
    stem = cls.__module__.rpartition(".")[2]
    for family in registry.FAMILIES:
        if stem in registry.names(family) and registry.load(family, stem) is cls:
            return stem
    return f"{cls.__module__}:{cls.__qualname__}"


def _plain(value: Any) -> Any:
    """Turn an entry into what YAML can hold."""
    if isinstance(value, Composition):
        return [_plain(method) for method in value.methods]
    if is_dataclass(value):
        named = {"name": name_of(value)} if isinstance(value, tuple(_CONTRACTS.values())) else {}
        return named | {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _document(source: str | Path | Mapping[str, object]) -> tuple[Document, Path]:
    """What is written, and the folder where its run goes unless it says so."""
    if isinstance(source, Mapping):
        return _from_mapping(source), Path("runs", "configuration")
    file, run_folder = project(source)
    return _yaml.read(file), run_folder


def _from_mapping(source: Mapping[str, object]) -> Document:
    return Document("configuration", _plain(source), {(): Origin("configuration", Path.cwd())})


def _override(document: Document, text: str) -> None:
    """Apply one ``key=value``; naming another entry drops the keys of the former one."""
    key, equals, written = text.partition("=")
    trail = tuple(part.strip() for part in key.split("."))
    if not equals or not all(trail):
        raise ConfigError(f"override '{text}' is not key=value", fix="write it like train.rate=3e-4 or method=lora")
    origin = Origin(f"override '{text}'", Path.cwd())
    plain = trail == ("out",) and not written.startswith(("'", '"'))  # folders may be called 1e5 or [a]
    value = written if plain else _yaml.value(written, origin.place)
    section = trail[0]
    if section in _CONTRACTS:
        given = document.root.get(section)
        if isinstance(given, str):
            given = document.root[section] = {"name": given}
        if trail[1:] in ((), ("name",)) and isinstance(value, str):
            if not isinstance(given, dict) or given.get("name") != value:
                document.put((section,), {}, origin)
            trail = (section, "name")
    document.put(trail, value, origin)


def _entry(document: Document, key: str) -> Any:
    """Build the dataclass that a section names."""
    family, given = f"{key}s", document.root.get(key)
    place = document.origin((key,)).place
    if key == "method" and isinstance(given, list):
        return _composition(document, given)
    name = given.get("name") if isinstance(given, dict) else given
    if not isinstance(name, str):
        problem = f"'{key}' is missing" if given is None else f"'{key}' has no name"
        fix = f"write `{key}: <name>`, or `{key}:` with `name: <name>` and its keys below"
        raise ConfigError(f"{place}: {problem}", allowed=registry.names(family), fix=fix)
    try:
        cls = registry.load(family, name)
    except ConfigError as error:
        raise _schema.placed(error, document.origin((key, "name")).place) from error
    contract = _CONTRACTS[key]
    if not issubclass(cls, contract) or not is_dataclass(cls) or isabstract(cls):
        raise ConfigError(
            f"{place}: '{name}' cannot be the {key}",
            fix=f"it must be a dataclass that implements all of adapteo.contracts.{contract.__name__}",
        )
    values = {k: v for k, v in given.items() if k != "name"} if isinstance(given, dict) else {}
    entry = _anchored(_schema.make(document, key, cls, values, f"{key} '{name}'"), (key,), document)
    if isinstance(entry, BackboneSpec):
        local = document.origin((key, "weights")).folder / Path(entry.weights).expanduser()
        if local.exists():
            return replace(entry, weights=str(local))  # type: ignore[type-var]  # a dataclass, as checked above
    return entry


def _composition(document: Document, given: Sequence[Data]) -> Method:
    """Build the methods of a list; a list of one is that one."""
    methods = []
    for index, item in enumerate(given):
        inside = ("method", str(index))
        origins = {("method", *trail[2:]): origin for trail, origin in document.origins.items() if trail[:2] == inside}
        part = Document(document.name, {"method": item}, {(): document.origin(inside), **origins})
        methods.append(_entry(part, "method"))
    try:
        return methods[0] if len(methods) == 1 else Composition(tuple(methods))
    except ConfigError as error:
        raise _schema.placed(error, document.origin(("method",)).place) from error


def _train(document: Document) -> Train:
    given = document.root.get("train") or {}
    if not isinstance(given, dict):
        place = document.origin(("train",)).place
        raise ConfigError(f"{place}: train is {given!r}", allowed=[f.name for f in fields(Train)], fix="give it keys")
    train: Train = _schema.make(document, "train", Train, given, "train")
    return train


def _out(document: Document, default: Path) -> Path:
    given = document.root.get("out", str(default))
    if not isinstance(given, str) or not given:
        raise ConfigError(f"{document.origin(('out',)).place}: out is {given!r}", allowed=["the path of a folder"])
    return Path(given).expanduser()


def _anchored(value: Any, trail: Trail, document: Document) -> Any:
    """Make paths absolute, each from the folder that belongs to where it was written."""
    if isinstance(value, Path):
        return document.origin(trail).folder / value.expanduser()
    if isinstance(value, tuple):
        return tuple(_anchored(inner, (*trail, str(i)), document) for i, inner in enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        old = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
        new = {name: _anchored(inner, (*trail, name), document) for name, inner in old.items()}
        if isinstance(old.get("root"), str):  # by convention a path as well
            root = _anchored(Path(old["root"]), (*trail, "root"), document)
            new["root"] = str(root.resolve() if ".." in root.parts else root)  # messages name files as a person does
        return replace(value, **new) if new != old else value
    return value

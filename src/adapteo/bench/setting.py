"""How cells are run: where data and weights are, by which protocol, and one cell as a configuration."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from adapteo import _schema, _yaml, config
from adapteo.bench.subjects import BENCHMARKS, DECODERS, LISTS, METHODS, SUBJECTS, Benchmark, Entry, batch_of
from adapteo.bench.tables import Cell
from adapteo.config import Run
from adapteo.errors import ConfigError

SMOKE_SIDE, SMOKE_BATCH, SMOKE_DEPTH = 32, 2, 2
"""Of the smoke runs: pixels, images per split and step, transformer blocks."""
_CUT = "adapteo.bench.cut:Cut"


@dataclass(frozen=True)
class Options:
    """What a call may set with KEY=VALUE.

    Attributes:
        protocol: "paper", or "ours": the same with head start, warm-up and clipped gradients.
        rates: learning rates: "search" on validation, the "paper"'s, or each method's "default".
        trials: trainings of a search.
        seeds: trainings per cell.
        jobs: processes at a time, each with one GPU where there are several; 0 for this process.
        weights: folder with files of weights that are not in the hub's cache.
        download: fetch data that are missing.
        accelerator: see `adapteo.config.Train`.
        workers: threads of each process that read ahead.
        keep: keep what was trained; false to keep only the numbers of a finished run.
        measure: first measure a step of each cell on this machine, for estimates of time.
    """

    protocol: Literal["paper", "ours"] = "paper"
    rates: Literal["search", "paper", "default"] = "search"
    trials: int = 16
    seeds: int = 5
    jobs: int = 1
    weights: Path | None = None
    download: bool = False
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    workers: int = 8
    keep: bool = True
    measure: bool = False

    def __post_init__(self) -> None:
        for name, least in (("trials", 1), ("seeds", 1), ("jobs", 0), ("workers", 0)):
            if vars(self)[name] < least:
                raise ConfigError(f"{name} is {vars(self)[name]}", allowed=[f"{least} or more"])


def options(texts: Sequence[str]) -> Options:
    """Read options written as ``key=value``; later ones win.

    Raises:
        ConfigError: names the option, what is wrong with it and what is allowed.
    """
    document = _yaml.Document("options", {_SECTION: {}}, {(): _yaml.Origin("options", Path.cwd())})
    for text in texts:
        key, equals, written = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"'{text}' is not key=value", fix="write it like seeds=3 or jobs=2")
        origin = _yaml.Origin(f"'{text}'", Path.cwd())
        document.put((_SECTION, key), _yaml.value(written, origin.place), origin)
    given = document.root[_SECTION]
    assert isinstance(given, dict), "as written above"
    made: Options = _schema.make(document, _SECTION, Options, given, "bench")
    return made


_SECTION = "bench"


@dataclass(frozen=True)
class Setting:
    """What all cells of a call have in common.

    Attributes:
        data: folder that holds one folder per dataset.
        out: folder for everything that is written.
        preset: "full", or "smoke" for one step on small generated images with random weights.
        options: see `Options`.
    """

    data: Path
    out: Path
    preset: Literal["full", "smoke"] = "full"
    options: Options = Options()

    @property
    def folder(self) -> Path:
        """Where runs lie that may be compared with each other."""
        return self.out / ("smoke" if self.preset == "smoke" else f"{self.options.protocol}-{self.options.rates}")

    def place(self, cell: Cell) -> Path:
        """Folder of a cell's run."""
        return self.folder / "runs" / cell.path / f"seed-{cell.seed}"

    def search_place(self, cell: Cell) -> Path:
        """Folder of the search for a cell's learning rate."""
        return self.folder / "search" / cell.searched.path


def smoke(out: Path, given: Options) -> Setting:
    """The setting of smoke runs: its own data, no search, one seed, nothing kept but numbers."""
    options = replace(given, rates="default", seeds=1, accelerator="cpu", workers=0, keep=False)
    return Setting(out / "smoke" / "data", out, "smoke", options)


def run_of(cell: Cell, setting: Setting, rate: float | None, out: Path | None = None) -> Run:
    """Turn a cell into a run.

    Args:
        cell: what to run.
        setting: how.
        rate: learning rate; None for the method's own default.
        out: folder of the run, if not the cell's own.

    Raises:
        ConfigError: a part of it does not exist (yet), or lacks a package.
    """
    return config.load(configuration(cell, setting, rate, out))


def configuration(cell: Cell, setting: Setting, rate: float | None, out: Path | None = None) -> dict[str, Any]:
    """Write a cell as `adapteo.config.load` reads it; see `run_of`."""
    return {
        "dataset": dataset_entry(cell, setting),
        "backbone": backbone_entry(cell, setting),
        "method": method_entry(cell),
        "decoder": decoder_entry(cell),
        "train": _train(cell, setting, rate),
        "out": str(out or setting.place(cell)),
    }


def dataset_entry(cell: Cell, setting: Setting) -> dict[str, Any]:
    """The dataset, with the paper's lists from beside the data where they are there."""
    benchmark = BENCHMARKS[cell.dataset]
    root = data_root(benchmark, setting)
    entry = {**benchmark.entry, "root": str(root)}
    if setting.options.download:
        entry["download"] = True
    name, value = cell.changed
    if name == "draw":
        entry |= {"splits": "paper", "train_list": benchmark.draws.format(value)}
    lists = root / LISTS
    if entry.get("splits") == "paper" and lists.is_dir():
        entry["splits"] = str(lists)
    if setting.preset == "smoke" and "pad" in entry:
        entry["pad"] = SMOKE_SIDE
    return entry


def data_root(benchmark: Benchmark, setting: Setting) -> Path:
    """Where a dataset is looked for."""
    return (setting.data / benchmark.folder).absolute()


def backbone_entry(cell: Cell, setting: Setting) -> dict[str, Any]:
    """The model with its weights; of a smoke run its first blocks."""
    of: dict[str, Any] = dict(SUBJECTS[cell.model].backbone)
    if cell.metadata == "on":
        of["metadata"] = True
    if setting.preset == "smoke":
        del of["weights"]
        return {"name": _CUT, "of": of, "depth": SMOKE_DEPTH}
    if setting.options.weights is not None and of["weights"] == "pretrained":
        of["weights"] = str(setting.options.weights.absolute())
    return of


def method_entry(cell: Cell) -> Entry:
    """The method, with a changed rank or number of prompts."""
    name, value = cell.changed
    if name == "rank":
        targets = ["q", "v", "fc1", "fc2"]
        return {"name": "lora", "rank": int(value), "alpha": float(value), "targets": targets}
    if name == "prompts":
        return {"name": "vpt", "prompts": int(value)}
    return METHODS[cell.method]


def decoder_entry(cell: Cell) -> Entry:
    """The decoder; the paper's linear one on ViT-Adapter reads stride 32 and stops at half the resolution."""
    own = SUBJECTS[cell.model].decoder
    if own is not None:
        return own
    name, value = cell.changed
    if name == "stride":
        return {"name": "linear", "stride": int(value)}
    if cell.method == "vit_adapter" and cell.decoder == "linear":
        return {"name": "linear", "upsampling": 16}
    return DECODERS[cell.decoder]


def _train(cell: Cell, setting: Setting, rate: float | None) -> dict[str, Any]:
    smoke, bands = setting.preset == "smoke", SUBJECTS[cell.model].bands
    train: dict[str, Any] = {
        "epochs": 1 if smoke else 100,
        "batch": SMOKE_BATCH if smoke else batch_of(cell.model, cell.decoder, cell.dataset),
        "seed": cell.seed,
        "rate": rate,
        "weight_decay": 0.01,
        "schedule": "plateau",
        "plateau_patience": 4,
        "plateau_factor": 0.5,
        "select": "loss",
        "patience": 15,
        "augment": "d4",
        "drop_last": True,
        "normalise": "dataset",
        "bands": bands and list(bands),
        "precision": "bf16" if cell.change == "precision=bf16" else "fp32",
        "accelerator": setting.options.accelerator,
        "workers": setting.options.workers,
    }
    started = setting.options.protocol == "ours" and SUBJECTS[cell.model].backbone["weights"] != "random"
    train |= {"head_start": started}  # fitting a decoder to random features is no start
    if setting.options.protocol == "paper":
        train |= {"clip": None, "warmup": 0, "memory": "fast", "cache_features": "off"}  # costs are compared, too
    return train

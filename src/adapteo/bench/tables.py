"""Which runs a table is made of. A run belongs to several tables, and is made once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from types import MappingProxyType

from adapteo.bench.subjects import BENCHMARKS, DECODERS, METHODS, SUBJECTS, same_bands
from adapteo.errors import ConfigError, closest

RANKS, PROMPTS = (1, 4, 8, 32, 64), (1, 10, 50, 200)
"""Beside the paper's 16 and 100."""
STRIDE = 16
"""Of the linear heads that are compared at one stride."""
DRAWS = 3
_REUSED = ("draw=", "precision=")
_ON, _OFF = "on", "off"


@dataclass(frozen=True)
class Cell:
    """One training and its tests.

    Attributes:
        model, method, decoder, dataset: keys of `adapteo.bench.subjects`.
        metadata: "on" when the model is told date and place.
        change: what is not as in the paper, ``name=value`` with name one of draw, rank, prompts, precision and stride;
            "" for nothing.
        seed: of everything random.
    """

    model: str
    method: str
    decoder: str
    dataset: str
    metadata: str = _OFF
    change: str = ""
    seed: int = 0

    @property
    def group(self) -> "Cell":
        """The same for all seeds: what a mean is over, and what a learning rate is searched for."""
        return replace(self, seed=0)

    @property
    def searched(self) -> "Cell":
        """Whose learning rate this cell takes: draws share that of the first, precisions that of float32."""
        if not self.change.startswith(_REUSED):
            return self.group
        return replace(self, change="draw=0" if self.change.startswith("draw=") else "", seed=0)

    @property
    def path(self) -> str:
        """Folder of the group, below that of the runs."""
        parts = (self.dataset, self.model, self.method, self.decoder)
        return "/".join((*parts, *(["metadata"] if self.metadata == _ON else []), *filter(None, [self.change])))

    @property
    def changed(self) -> tuple[str, str]:
        """Name and value of the change, both "" where there is none."""
        name, _, value = self.change.partition("=")
        return name, value

    def __str__(self) -> str:
        return f"{self.path}/seed-{self.seed}"


def cells(table: str, seeds: int = 1) -> list[Cell]:
    """List the cells of a table, seed by seed within each group; "all" for those of every table, each once.

    Raises:
        ConfigError: there is no such table.
    """
    if table != "all" and table not in TABLES:
        raise ConfigError(f"there is no table '{table}'{closest(table, TABLES)}", allowed=(*TABLES, "all"))
    chosen = TABLES.values() if table == "all" else [TABLES[table]]
    groups = dict.fromkeys(cell for listed in chosen for cell in listed())
    return [replace(cell, seed=seed) for cell in groups for seed in range(seeds)]


def only(found: Sequence[Cell], conditions: Iterable[str]) -> list[Cell]:
    """Keep the cells that fit every condition ``key=value`` (or ``key=value,value``).

    Raises:
        ConfigError: an unknown key or value, or nothing is left.
    """
    kept = list(found)
    for condition in conditions:
        key, equals, wanted = condition.partition("=")
        names = [field.name for field in fields(Cell)]
        if not equals or key not in names:
            raise ConfigError(
                f"--only {condition}: there is no key '{key}'{closest(key, names)}",
                allowed=names,
                fix="write it like model=clay-v1 or method=lora,full",
            )
        values = {str(getattr(cell, key)) for cell in found}
        for value in wanted.split(","):
            if value not in values:
                problem = f"--only {condition}: no cell of the table has {key} '{value}'"
                raise ConfigError(problem + closest(value, values), allowed=sorted(values))
        kept = [cell for cell in kept if str(getattr(cell, key)) in wanted.split(",")]
    if not kept:
        raise ConfigError("no cell of the table fits every --only", fix="leave one of them out")
    return kept


# ------------------------------------------------------------------------------------ the paper's tables


def _cell(model: str, method: str, decoder: str, dataset: str, metadata: str = _OFF, change: str = "") -> Cell:
    model = same_bands(model, dataset)
    own = SUBJECTS[model].decoder
    return Cell(model, method, str(own["name"]) if own else decoder, dataset, metadata, change)


def _pairs(models: Iterable[str]) -> list[tuple[str, str]]:
    return [(model, method) for model in models for method in SUBJECTS[model].methods]


_MAIN = tuple(key for key in SUBJECTS if not key.endswith("-tl"))
_FEW = ("unet-resnet50", "vit-in21k", "decur-6", "clay-v1-6", "prithvi-1.0-100m", "prithvi-2.0-300m")
_SWEPT = ("clay-v1-6", "prithvi-2.0-300m")
_LARGER = tuple(name for name in DECODERS if name != "linear")
_DECODED = {
    "decur-6": _OFF,
    "clay-v1-6": _ON,
    "prithvi-1.0-100m": _OFF,
    "prithvi-2.0-300m": _OFF,
    "prithvi-2.0-300m-tl": _ON,
}
"""The decoder runs of Clay and of the TL variant are told date and place."""


def _main() -> list[Cell]:
    """Models and methods on all datasets (the paper's table 4)."""
    return [_cell(*pair, "linear", dataset) for dataset, pair in product(BENCHMARKS, _pairs(_MAIN))]


def _ood() -> list[Cell]:
    """Places that no training has seen (the paper's table 5); the same runs as in `_main`."""
    return [cell for cell in _main() if len(BENCHMARKS[cell.dataset].tests) > 1]


def _decoders() -> list[Cell]:
    """Full fine-tuning with larger decoders."""
    combinations = product(BENCHMARKS, _DECODED.items(), DECODERS)
    return [_cell(model, "full", decoder, dataset, told) for dataset, (model, told), decoder in combinations]


def _metadata() -> list[Cell]:
    """Full fine-tuning with and without date and place, each with a learning rate of its own."""
    combinations = product(BENCHMARKS, ("clay-v1", "prithvi-2.0-300m-tl"), (_OFF, _ON))
    found = [_cell(model, "full", "linear", dataset, told) for dataset, model, told in combinations]
    return [cell for cell in found if cell.metadata == _OFF or cell.dataset != "m-SA-crop-type"]  # which has neither


# ------------------------------------------------------------------------------ what the paper left open


def _few() -> list[Cell]:
    """A tenth of the training images, three draws."""
    datasets = [key for key, benchmark in BENCHMARKS.items() if benchmark.draws]
    combinations = product(datasets, _pairs(_FEW), range(DRAWS))
    return [_cell(*pair, "linear", dataset, change=f"draw={draw}") for dataset, pair, draw in combinations]


def _peft_decoders() -> list[Cell]:
    """Every method with every decoder."""
    pairs = [pair for pair in _pairs(("clay-v1-6", "prithvi-1.0-100m", "prithvi-2.0-300m")) if pair[1] != "full"]
    return [_cell(*pair, decoder, dataset) for dataset, pair, decoder in product(BENCHMARKS, pairs, DECODERS)]


def _ranks() -> list[Cell]:
    """Rank of LoRA (alpha with it) and number of prompts."""
    changes = [
        *(("lora", change) for change in ("", *(f"rank={rank}" for rank in RANKS))),
        *(("vpt", change) for change in ("", *(f"prompts={count}" for count in PROMPTS))),
    ]
    combinations = product(BENCHMARKS, _SWEPT, changes)
    return [_cell(model, method, "linear", dataset, change=change) for dataset, model, (method, change) in combinations]


def _precision() -> list[Cell]:
    """The same in bfloat16, with the same learning rate."""
    combinations = product(BENCHMARKS, _pairs(_SWEPT), ("", "precision=bf16"))
    return [_cell(*pair, "linear", dataset, change=change) for dataset, pair, change in combinations]


def _stride() -> list[Cell]:
    """Linear heads at one output stride, where the paper has 8, 16 or 32; those at 16 are the paper's own."""
    changed = [cell for cell in _main() if cell.decoder == "linear" and _stride_of(cell) != STRIDE]
    rest = [cell for cell in _main() if cell.decoder == "linear" and _stride_of(cell) == STRIDE]
    return [replace(cell, change=f"stride={STRIDE}") for cell in changed] + rest


def _stride_of(cell: Cell) -> int:
    """Stride of the map that the paper's linear head reads."""
    if cell.method == "vit_adapter":
        return 32
    return next((stride for name, stride in (("clay", 8), ("decur", 32)) if cell.model.startswith(name)), 16)


TABLES: Mapping[str, Callable[[], list[Cell]]] = MappingProxyType(
    {
        "main": _main,
        "ood": _ood,
        "decoders": _decoders,
        "metadata": _metadata,
        "time": _main,
        "few": _few,
        "peft_decoders": _peft_decoders,
        "ranks": _ranks,
        "precision": _precision,
        "stride": _stride,
        "memory": _main,
    }
)
"""The cells of each table; those of `memory` are computed, not trained."""
assert set(METHODS) == {method for subject in SUBJECTS.values() for method in subject.methods}

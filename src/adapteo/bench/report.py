"""Ours beside the paper's: rows of a table, for the terminal, for a page, and as JSON."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from rich.table import Table as Grid

from adapteo.bench import published
from adapteo.bench.published import Published
from adapteo.bench.running import CANNOT, DONE, FAILED, WAITING, Outcome
from adapteo.bench.subjects import BENCHMARKS, METHOD_TITLES, SUBJECTS
from adapteo.bench.tables import Cell

_NONE = "–"
_STATES = (DONE, CANNOT, FAILED, WAITING)


class Ours(NamedTuple):
    """Mean over seeds, and the standard deviation (nan for a single one)."""

    mean: float
    std: float
    seeds: int


@dataclass(frozen=True)
class Row:
    """One line: a group of cells (all seeds), and one quantity of it.

    Attributes:
        cell: of the group.
        split: which test, or "minutes", "epochs".
        ours: None when no seed is done.
        paper: None when the paper has no number.
        base: ours minus ours of the cell that this table compares with; None when one is missing.
        states: number of cells by state.
        reasons: why cells did not end as done, each once.
    """

    cell: Cell
    split: str
    ours: Ours | None
    paper: Published | None
    base: float | None
    states: Mapping[str, int]
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values; None where something is missing."""
        return {
            **{key: value for key, value in asdict(self.cell).items() if key != "seed"},
            "split": self.split,
            "ours": self.ours and {"mean": self.ours.mean, "std": self.ours.std, "seeds": self.ours.seeds},
            "paper": self.paper and self.paper._asdict(),
            "difference": self.difference,
            "difference_to_base": self.base,
            "states": dict(self.states),
            "reasons": list(self.reasons),
        }

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return self.ours.mean - self.paper.mean if self.ours and self.paper else None


Found = Callable[[Cell], Mapping[str, Any] | None]
"""Gives the result of a cell, None when it is not done."""

BASES = {
    **dict.fromkeys(("main", "ood", "time", "few", "memory"), "full fine-tuning"),
    **dict.fromkeys(("decoders", "peft_decoders"), "the linear decoder"),
    "metadata": "without metadata",
    **dict.fromkeys(("ranks", "precision", "stride"), "the paper's setting"),
}
"""What each table compares its cells with."""


def base_of(table: str, cell: Cell) -> Cell | None:
    """The cell that a table compares a cell with; None for that cell itself."""
    if SUBJECTS[cell.model].decoder is not None:
        return None
    bases = {
        "full fine-tuning": replace(cell, method="full"),
        "the linear decoder": replace(cell, decoder="linear"),
        "without metadata": replace(cell, metadata="off"),
        "the paper's setting": replace(cell, change=""),
    }
    base = bases[BASES[table]]
    return None if base == cell else base


def rows(table: str, outcomes: Sequence[Outcome], found: Found) -> list[Row]:
    """Make the rows of a table, in its order.

    Args:
        table: name.
        outcomes: of its cells.
        found: gives results of cells of other tables, to compare with.
    """
    groups: dict[Cell, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.cell.group, []).append(outcome)
    made = []
    for cell, members in groups.items():
        states = {state: count for state in _STATES if (count := sum(o.state == state for o in members))}
        reasons = tuple(dict.fromkeys(o.reason for o in members if o.reason))
        for split in _splits(table, cell):
            ours = _mean([_value(o.result, split) for o in members if o.result is not None])
            base = base_of(table, cell)
            seeds = [found(replace(base, seed=o.cell.seed)) for o in members] if base else []
            other = _mean([_value(result, split) for result in seeds if result is not None])
            beside = ours.mean - other.mean if ours and other else None
            made.append(Row(cell, split, ours, _paper(table, cell, split), beside, states, reasons))
    return made


def _splits(table: str, cell: Cell) -> Sequence[str]:
    tests = list(BENCHMARKS[cell.dataset].tests)
    chosen: dict[str, Sequence[str]] = {"main": tests[:1], "ood": tests[1:], "time": ("minutes", "epochs")}
    return chosen.get(table, tests)


def _value(result: Mapping[str, Any], split: str) -> float:
    if split == "minutes":
        return float(result["seconds"]) / 60
    return float(result["epochs"]) if split == "epochs" else 100 * float(result["scores"][split])


def _mean(values: Sequence[float]) -> Ours | None:
    if not values:
        return None
    spread = statistics.stdev(values) if len(values) > 1 else math.nan
    return Ours(statistics.mean(values), spread, len(values))


def _paper(table: str, cell: Cell, split: str) -> Published | None:
    if split in ("minutes", "epochs"):
        return published.number("time", cell, split)
    return published.number("main" if split == "test" else "ood", cell, split)


# ---------------------------------------------------------------------------------------------- as text


class Text(NamedTuple):
    """A table as text: heads, lines, and notes that lines refer to as [1]."""

    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]

    def grid(self, title: str) -> Grid:
        """For the terminal."""
        grid = Grid(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
        for head in self.heads:
            grid.add_column(head, justify="left" if head in _WORDS else "right", no_wrap=True)
        for line in self.lines:
            grid.add_row(*(cell.replace("[", "\\[") for cell in line))
        return grid

    def markdown(self, title: str) -> str:
        """For a page."""
        aligned = ["---" if head in _WORDS else "---:" for head in self.heads]
        table = [self.heads, aligned, *self.lines]
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in table]
        notes = [f"- [{number}] {note}" for number, note in enumerate(self.notes, start=1)]
        return "\n".join([f"### {title}", "", *lines, *(["", *notes] if notes else []), ""])


_WORDS = ("dataset", "model", "method", "decoder", "metadata", "change", "split", "state")


def text(table: str, made: Sequence[Row], *, scored: bool) -> Text:
    """Write rows as text.

    Args:
        table: name.
        made: rows.
        scored: False for smoke runs, whose numbers mean nothing and are left out.
    """
    notes: dict[str, None] = {}
    for row in made:
        notes |= dict.fromkeys(row.reasons)
        if row.paper and SUBJECTS[row.cell.model].note:
            notes[SUBJECTS[row.cell.model].note] = None
    numbers = {note: index for index, note in enumerate(notes, start=1)}
    varying = [name for name in ("decoder", "metadata", "change") if len({getattr(row.cell, name) for row in made}) > 1]
    heads = ["dataset", "model", "method", *varying, "split"]
    heads += ["ours", "paper", "ours − paper", f"− {BASES[table]}"] if scored else []
    lines = []
    for row in made:
        cell, subject = row.cell, SUBJECTS[row.cell.model]
        words = [BENCHMARKS[cell.dataset].title, subject.title, METHOD_TITLES[cell.method]]
        words += [str(getattr(cell, name)) or _NONE for name in varying]
        words.append(BENCHMARKS[cell.dataset].tests.get(row.split, row.split))
        if scored:
            about = [f" [{numbers[subject.note]}]"] if row.paper and subject.note else [""]
            words += [_spread(row.ours), _spread(row.paper) + about[0], _signed(row.difference), _signed(row.base)]
        lines.append((*words, _state(row, numbers)))
    return Text((*heads, "state"), tuple(lines), tuple(notes))


def _state(row: Row, numbers: Mapping[str, int]) -> str:
    said = ", ".join(
        f"{count} {state}" if len(row.states) > 1 or count > 1 else state for state, count in row.states.items()
    )
    return said + "".join(f" [{numbers[reason]}]" for reason in row.reasons)


def _spread(number: Ours | Published | None) -> str:
    if number is None:
        return _NONE
    known = number.std is not None and not math.isnan(number.std)
    return f"{number.mean:.2f} ± {number.std:.2f}" if known else f"{number.mean:.2f}"


def _signed(value: float | None) -> str:
    return _NONE if value is None else f"{value:+.2f}"


# ------------------------------------------------------------------------------------------------- cost


def cost_text(outcomes: Sequence[Outcome], seconds: Mapping[str, float]) -> Text:
    """Write what steps cost, with the share of full fine-tuning.

    Args:
        outcomes: of the cells; ``result`` is that of `adapteo.bench.costs`.
        seconds: measured per image, by path of a cell; may be empty.
    """
    results = {outcome.cell.group: outcome.result for outcome in outcomes if outcome.result is not None}
    notes = dict.fromkeys(outcome.reason for outcome in outcomes if outcome.reason)
    numbers = {note: index for index, note in enumerate(notes, start=1)}
    heads = ["dataset", "model", "method", "weights", "gradients", "optimiser", "activations", "GiB", "% of full"]
    heads += ["trained", "decoder's", "Tflop", "% of full", *(["s / image", "% of full"] if seconds else []), "state"]
    lines = []
    for outcome in outcomes:
        cell, result = outcome.cell.group, outcome.result
        words = [BENCHMARKS[cell.dataset].title, SUBJECTS[cell.model].title, METHOD_TITLES[cell.method]]
        base = results.get(replace(cell, method="full"))
        if result is None:
            words += [_NONE] * (len(heads) - 4)
        else:
            words += _cost_words(result, base)
            if seconds:
                own, full = seconds.get(cell.path), seconds.get(replace(cell, method="full").path)
                words += [f"{own:.2f}" if own else _NONE, _share(own, full)]
        reason = f" [{numbers[outcome.reason]}]" if outcome.reason else ""
        lines.append((*words, outcome.state + reason))
    return Text(tuple(heads), tuple(lines), tuple(notes))


def _cost_words(result: Mapping[str, Any], base: Mapping[str, Any] | None) -> list[str]:
    memory, parameters = result["memory"], result["parameters"]
    whole_memory, whole_operations = (base["memory"]["total"], base["operations"]) if base else (None, None)
    parts = [f"{memory[key] / 2**30:.2f}" for key in ("weights", "gradients", "optimiser", "activations", "total")]
    return [
        *parts,
        _share(memory["total"], whole_memory),
        f"{parameters['backbone_trained']:,}",
        f"{parameters['decoder_trained']:,}",
        f"{result['operations'] / 1e12:.2f}",
        _share(result["operations"], whole_operations),
    ]


def _share(value: float | None, whole: float | None) -> str:
    return f"{100 * value / whole:.0f}" if value is not None and whole else _NONE

"""What benchmarks tell: rows, printed as a table and written as JSON with the conditions that they were measured in."""

import argparse
import json
import os
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from adapteo import meter
from adapteo.files import replacing

FOLDER = Path(__file__).parent / "out"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
_MIB, _GIGA = 2**20, 1e9


@dataclass(frozen=True)
class Spread:
    """Of what the rounds gave: how many, the ends, the quartiles and the median."""

    rounds: int
    least: float
    lower: float
    median: float
    upper: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value or more."""
        lower, median, upper = statistics.quantiles(values, n=4, method="inclusive") if values[1:] else values * 3
        return cls(len(values), min(values), lower, median, upper, max(values))


@dataclass(frozen=True)
class Goal:
    """At most, or at least, a value."""

    value: float
    least: bool = False

    def met(self, value: float) -> bool:
        """Whether a value keeps to it."""
        return value >= self.value if self.least else value <= self.value

    def __str__(self) -> str:
        return f"at {'least' if self.least else 'most'} {self.value:g}"


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        what: was measured, for example "lora, lean" or "lora, lean / HF peft".
        quantity: for example "time".
        value: the figure.
        unit: "s", "B", "FLOP", "ratio" (of `what` to what the quantity or `what` names), "" for a number, or another.
        goal: if there is one.
        spread: over the rounds, if there were some.
    """

    what: str
    quantity: str
    value: float
    unit: str
    goal: Goal | None = None
    spread: Spread | None = None


@dataclass(frozen=True)
class Skipped:
    """Why something was not measured."""

    reason: str


def ratio(what: str, quantity: str, ours: Sequence[float], theirs: Sequence[float], goal: Goal | None = None) -> Row:
    """How many times as long as theirs ours takes, from the seconds of rounds in turns.

    The value is the ratio of the least, as whatever else the machine does only adds; the spread is that of the rounds'
    ratios. For the other arguments see `Row`.
    """
    rounds = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Row(what, quantity, min(ours) / min(theirs), "ratio", goal, Spread.of(rounds))


def seconds(what: str, times: Sequence[float], quantity: str = "time") -> Row:
    """The least of the rounds, with their spread."""
    return Row(what, quantity, min(times), "s", spread=Spread.of(times))


def arguments(doc: str | None, rounds: int = 5) -> argparse.ArgumentParser:
    """Options that every benchmark has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--quick", action="store_true", help="as small as can be: to see that it works, not how fast")
    parser.add_argument("--json", type=Path, help="file to write; benchmarks/out/NAME.json if not given")
    return parser


def tell(name: str, options: argparse.Namespace, measured: Iterable[Row | Skipped]) -> None:
    """Print the figures, and write them.

    Args:
        name: of the benchmark.
        options: of `arguments`; they are written as well.
        measured: the figures, in the order of the table.
    """
    found = list(measured)
    rows = [each for each in found if isinstance(each, Row)]
    skipped = [each.reason for each in found if isinstance(each, Skipped)]
    for line in [*table(rows), *goals(rows), *skipped]:
        print(line, flush=True)
    file: Path = options.json or FOLDER / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"benchmark": name, "conditions": conditions(options), "rows": [_plain(row) for row in rows]}
    with replacing(file) as beside:
        beside.write_text(json.dumps(content | {"skipped": skipped}, indent=2), encoding="utf-8")


def _plain(row: Row) -> dict[str, object]:
    goal = row.goal and {("at_least" if row.goal.least else "at_most"): row.goal.value, "met": row.goal.met(row.value)}
    return asdict(row) | {"goal": goal}


def conditions(options: argparse.Namespace) -> dict[str, object]:
    """What another person needs to understand the figures."""
    given = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {**meter.environment(DEVICE), "cores": os.cpu_count(), "commit": _commit(), "date": date, "options": given}


def _commit() -> str | None:
    """Of the working tree, with "+" where it was changed since; None without git."""
    ask = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


# ------------------------------------------------------------------------------------------------ on paper


def table(rows: Sequence[Row]) -> list[str]:
    """Rows without a goal as lines of a table, one for each `what`, a column for each quantity."""
    plain = [row for row in rows if row.goal is None]
    names = list(dict.fromkeys(row.what for row in plain))
    columns = list(dict.fromkeys((row.quantity, row.unit) for row in plain))
    cells = {(row.what, (row.quantity, row.unit)): _cell(row) for row in plain}
    heads = {column: " ".join(filter(None, (column[0], _UNITS.get(column[1], column[1])))) for column in columns}
    wide = {c: max(len(heads[c]), *(len(cells.get((name, c), "")) for name in names)) for c in columns}
    first = max(map(len, names), default=0)
    lines = [f"{'':{first}}" + "".join(f"  {heads[c]:>{wide[c]}}" for c in columns)] if names else []
    return lines + [
        f"{name:{first}}" + "".join(f"  {cells.get((name, c), ''):>{wide[c]}}" for c in columns) for name in names
    ]


def goals(rows: Sequence[Row]) -> list[str]:
    """Rows with a goal as sentences."""
    return [
        f"{row.what}: {row.quantity} {_cell(row)} {_UNITS.get(row.unit, row.unit)}".rstrip()
        + f" (goal: {row.goal}: {'met' if row.goal.met(row.value) else 'not met'})"
        for row in rows
        if row.goal is not None
    ]


_UNITS = {"B": "MiB", "FLOP": "GFLOP", "ratio": ""}


def _cell(row: Row) -> str:
    if row.unit == "B":
        return f"{row.value / _MIB:.1f}"
    if row.unit == "FLOP":
        return f"{row.value / _GIGA:.1f}"
    if row.unit == "":
        return f"{row.value:,}"
    if row.spread is None or row.spread.rounds == 1:
        return f"{row.value:.4g}"
    return f"{row.value:.3g} [{row.spread.lower:.3g} {row.spread.median:.3g} {row.spread.upper:.3g}]"

"""The table of a tuning: one row for each method, mean ± standard deviation over seeds, in every form."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from adapteo.search_space import Values


class Spread(NamedTuple):
    """Mean and standard deviation (n - 1) over seeds; NaN where there is none."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of some values; those that are not defined make the whole undefined."""
        if not values or not all(map(math.isfinite, values)):
            return cls(math.nan, math.nan)
        return cls(mean(values), stdev(values) if len(values) > 1 else math.nan)

    def __str__(self) -> str:
        """As people write it: 0.922 ± 0.008."""
        if math.isnan(self.mean):
            return ""
        return f"{self.mean:.3f}" + ("" if math.isnan(self.deviation) else f" ± {self.deviation:.3f}")


UNDEFINED = Spread(math.nan, math.nan)


@dataclass(frozen=True)
class Row:
    """A method at its best setting.

    Attributes:
        method: its name.
        trials: trainings of its search; `lost` of them diverged or were ended early.
        values: what the search found best.
        seeds: trainings that were tested.
        validation: score of the best epoch; of the seed that was searched with it is chosen, hence optimistic.
        scores: by split: "test", then the hold-outs.
        backbone, decoder: parameters trained in each.
        seconds: of training, for each seed.
        memory: bytes of a training step; None where none was measured.
        search_seconds: of all trials.
        folder: of the tested runs, under that of the tuning; "" for none.
        reason: why there are no scores, or fewer than asked for.
    """

    method: str
    trials: int = 0
    lost: int = 0
    values: Values | None = None
    seeds: int = 0
    validation: Spread = UNDEFINED
    scores: Mapping[str, Spread] | None = None
    backbone: int | None = None
    decoder: int | None = None
    seconds: float = math.nan
    memory: int | None = None
    search_seconds: float = 0.0
    folder: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Tuned:
    """What a tuning found.

    Attributes:
        monitor: name of the metric.
        higher_is_better: of the metric.
        splits: that were tested.
        trials: trainings that each method could spend on its search.
        seeds: trainings that each method was tested with.
        rows: the methods in the order asked for; the linear probe is the last.
        best: name of the method that is best on validation; None when none has a score.
    """

    monitor: str
    higher_is_better: bool
    splits: tuple[str, ...]
    trials: int
    seeds: int
    rows: tuple[Row, ...]
    best: str | None

    @property
    def note(self) -> str:
        """The terms of the comparison, in a sentence or two."""
        return (
            f"{self.monitor}; mean ± standard deviation over {self.seeds} seed{'' if self.seeds == 1 else 's'}. "
            f"Equal budgets: {self.trials} trials for each method, or every point where there are fewer. Settings were "
            "chosen on validation; test and hold-outs were looked at once, at the end."
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers."""
        return {
            "monitor": self.monitor, "higher_is_better": self.higher_is_better, "splits": list(self.splits),
            "trials": self.trials, "seeds": self.seeds, "best": self.best, "note": self.note,
            "rows": [_plain(row) for row in self.rows],
        }  # fmt: skip

    def to_json(self) -> str:
        """`as_dict` as strict JSON; what is not defined is null."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """One line per method: means and deviations in columns of their own, empty where not defined."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        pairs = [f"{split}{end}" for split in ("validation", *self.splits) for end in ("", "_sd")]
        writer.writerow(
            ["method", "best", "trials", "lost", "seeds", *pairs, "backbone_trained", "decoder_trained", "seconds",
             "memory_bytes", "search_seconds", "reason"]
        )  # fmt: skip
        for row in self.rows:
            spreads = [row.validation, *((row.scores or {}).get(split, UNDEFINED) for split in self.splits)]
            numbers = [x for spread in spreads for x in spread]
            costs = [row.backbone, row.decoder, row.seconds, row.memory, row.search_seconds]
            counts = [row.method, _setting(row), row.trials, row.lost, row.seeds]
            writer.writerow([*counts, *(_cell(x) for x in [*numbers, *costs]), row.reason])
        return out.getvalue()

    def to_markdown(self) -> str:
        """The table as a page shows it, with its terms below."""
        head, rows = self._cells()
        lines = [head, ["---"] * len(head), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{self.note}\n"

    def render(self, console: Console | None = None) -> None:
        """Print the table, and below it the best settings, or why there is none."""
        console = console or Console()
        grid = Grid(header_style="dim", box=None, pad_edge=False)
        (first, setting, *others), rows = self._cells()
        grid.add_column(first, no_wrap=True)
        for name in others:
            grid.add_column(name, justify="right", overflow="fold")
        for row, (name, _, *cells) in zip(self.rows, rows, strict=True):
            grid.add_row(Text(name), *cells, style="bold" if row.method == self.best else "")
        console.print(grid)
        console.print(f"{setting}:", highlight=False, style="dim")
        for row in self.rows:
            if found := row.reason or _setting(row):
                console.print(f"  {row.method}: {found}", highlight=False, markup=False)
        console.print(self.note, highlight=False, markup=False)

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        head = ["method", "best setting", "trials", "validation", *self.splits, "trained", "seconds", "MB"]
        return head, [self._line(row) for row in self.rows]

    def _line(self, row: Row) -> list[str]:
        if row.scores is None:
            return [row.method, row.reason.replace("|", "/"), str(row.trials), *[""] * (len(self.splits) + 4)]
        trials = f"{row.trials} ({row.lost} lost)" if row.lost else str(row.trials)
        scores = [str(row.scores.get(split, UNDEFINED)) for split in self.splits]
        seeds = f" ({row.seeds} of {self.seeds} seeds)" if row.seeds < self.seeds else ""
        costs = [
            "" if row.backbone is None else f"{row.backbone + (row.decoder or 0):,}",
            "" if math.isnan(row.seconds) else f"{row.seconds:.3g}",
            "" if row.memory is None else f"{row.memory / 1e6:.3g}",
        ]
        return [row.method + seeds, _setting(row), trials, str(row.validation), *scores, *costs]


def _setting(row: Row) -> str:
    """What was found, as it would be written on the command line."""
    shown = []
    for key, value in (row.values or {}).items():
        text = f"{value:.2g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
        shown.append(f"{key}={text}")
    return " ".join(shown)


def _cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(value)


def _plain(row: Row) -> dict[str, Any]:
    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    def spread(value: Spread) -> list[float | None]:
        return [number(value.mean), number(value.deviation)]

    scores = None if row.scores is None else {split: spread(value) for split, value in row.scores.items()}
    return {**vars(row), "validation": spread(row.validation), "scores": scores, "seconds": number(row.seconds)}

"""Train once for each region, scene or date without it, and test there: how far a model carries.

runs/<name>/ <value>/                 a run as always, tested on what it has not seen
             leave_one_out.csv, .json the scores, their mean and spread
"""

import csv
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from statistics import mean, stdev

from rich.console import Console
from rich.table import Table

from adapteo import experiment
from adapteo.checkpoint import write_json
from adapteo.config import Run
from adapteo.data._survey_leave_out import leaving_out
from adapteo.data.survey import Survey
from adapteo.errors import ConfigError
from adapteo.files import replacing
from adapteo.fitted import FittedRun

TABLE = "leave_one_out"


@dataclass(frozen=True)
class LeftOut:
    """What a run scored where it was not trained.

    Attributes:
        value: region, scene or date.
        folder: name of the run's folder.
        images: windows that were tested.
        score, low, high: with the interval over windows.
        probe: of the linear probe there; None without a head start.
    """

    value: str
    folder: str
    images: int
    score: float
    low: float
    high: float
    probe: float | None


@dataclass(frozen=True)
class LeaveOneOut:
    """Scores of all runs.

    Attributes:
        by: what was left out.
        monitor: name of the metric.
        rows: one for each value.
        mean: over the values, each counting the same.
        spread: standard deviation over the values (n - 1).
        note: how far the scores hold, when the splits say something about it.
    """

    by: str
    monitor: str
    rows: tuple[LeftOut, ...]
    mean: float
    spread: float
    note: str | None = None

    def render(self, console: Console | None = None) -> None:
        """Print the table, worst first."""
        console = console or Console()
        table = Table(title=f"each {self.by} left out of the training, and tested")
        for name in (self.by, "images", self.monitor, "interval", "linear probe"):
            table.add_column(name, justify="left" if name == self.by else "right")
        for row in sorted(self.rows, key=lambda row: row.score):
            probe = "" if row.probe is None else f"{row.probe:.3f}"
            table.add_row(row.value, str(row.images), f"{row.score:.3f}", f"{row.low:.3f} … {row.high:.3f}", probe)
        console.print(table)
        console.print(f"mean {self.mean:.3f}, standard deviation {self.spread:.3f}", highlight=False)
        if self.note:
            console.print(self.note, highlight=False)


def leave_one_out(
    run: Run, by: str, *, train: Callable[[Run], FittedRun] | None = None, resamples: int = 1000
) -> LeaveOneOut:
    """Train and test a run once for each value.

    Args:
        run: of a survey; its folder gets one folder for each value. The validation windows are taken from the rest, as
            the fractions of its splits say.
        by: "scene", "date", "region" (the column that its splits name), or a column of the label file.
        train: trains a run; `adapteo.experiment.fit` by default.
        resamples: draws for the intervals.

    Raises:
        ConfigError: no survey, no such column, or fewer than three values.
    """
    if not isinstance(run.dataset, Survey):
        raise ConfigError(
            "only a survey knows regions, scenes and dates to leave out",
            fix="for chips with an index, set `splits: {by: column, …}` and run once for each value",
        )
    datasets = leaving_out(run.dataset, by)
    names = _folders(list(datasets))
    monitor, rows, note = run.task.monitor, [], None
    for value, dataset in datasets.items():
        fitted = (train or experiment.fit)(replace(run, dataset=dataset, out=run.out / names[value]))
        report = fitted.test(resamples=resamples)
        row = report.tables["test"].row()
        probe = report.baselines["test"].row().metrics[monitor][0] if "test" in report.baselines else None
        score, low, high = row.metrics[monitor]
        rows.append(LeftOut(value, names[value], row.images, score, low, high, probe))
        note = report.note or note
    scores = [row.score for row in rows]
    found = LeaveOneOut(by, monitor, tuple(rows), mean(scores), stdev(scores), note)
    write_json(asdict(found), run.out / f"{TABLE}.json")
    with replacing(run.out / f"{TABLE}.csv") as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    return found


def _folders(values: list[str]) -> dict[str, str]:
    """A folder's name for each value, whatever characters it has."""
    plain = {value: re.sub(r"[^\w.-]+", "_", value).strip("._") or "_" for value in values}
    if len({name.casefold() for name in plain.values()}) < len(values):
        return {value: f"{number}_{name}" for number, (value, name) in enumerate(plain.items())}
    return plain

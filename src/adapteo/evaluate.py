"""From statistics per image to tables: per class, per region, with bootstrap intervals. No model, no images.

The images of a row are drawn anew with replacement, the metric is computed of each draw, and the interval holds the
middle 95 % of the results (percentile bootstrap; Efron and Tibshirani 1993, ch. 13). As statistics are additive, a draw
is a vector of counts: all draws of a row are one product of matrices.

The unit that is drawn is the image. Where images are alike within a region (tiles of one scene), intervals tell what
other images of the same regions would give, not what other regions would: for that, look at the rows of the groups.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table as Grid
from torch import Tensor

from adapteo.contracts import Task

ALL = "all"
"""Name of the row over all images."""
UNGROUPED = "(none)"
"""Name of the row of the images without a group, where others have one."""
_DRAWS_AT_ONCE = 4_000_000  # images drawn in one go: 32 MB of int64


class Interval(NamedTuple):
    """A metric with its interval; NaN where not defined."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Scores:
    """What testing one split leaves behind.

    Attributes:
        split: name of the split.
        keys: of the images.
        groups: region or event of each image.
        statistics: ``(n, k)`` float64, as `Task.statistics` gives them.
    """

    split: str
    keys: tuple[str, ...]
    groups: tuple[str | None, ...]
    statistics: Tensor

    def ranked(self, task: Task, classes: Sequence[str]) -> list[tuple[str, float]]:
        """Images with the monitored metric of each, worst first; those without one are left out."""
        values = task.metrics(self.statistics, classes)[task.monitor].tolist()
        pairs = [(key, value) for key, value in zip(self.keys, values, strict=True) if not math.isnan(value)]
        return sorted(pairs, key=lambda pair: (pair[1] if task.higher_is_better else -pair[1], pair[0]))

    def worst(self, task: Task, classes: Sequence[str], count: int = 4) -> list[tuple[str, float]]:
        """The images that went worst, worst first."""
        return self.ranked(task, classes)[:count]

    def best(self, task: Task, classes: Sequence[str], count: int = 4) -> list[tuple[str, float]]:
        """The images that went best, best first."""
        return self.ranked(task, classes)[::-1][:count]


@dataclass(frozen=True)
class Row:
    """Metrics of some images.

    Attributes:
        name: `ALL` or the group.
        images: number of images.
        metrics: by name, overall ones first, then per class (``iou/water``).
        confusion: ``(k, k)`` counts, rows truth, for tasks that have it.
    """

    name: str
    images: int
    metrics: dict[str, Interval]
    confusion: Tensor | None = None


@dataclass(frozen=True)
class Table:
    """Metrics of one split: one row over all images, then one per group.

    Attributes:
        split: name of the split.
        monitor: name of the task's leading metric.
        classes: class names.
        level: of the intervals.
        resamples: number of draws behind them.
        rows: the first is over all images.
    """

    split: str
    monitor: str
    classes: tuple[str, ...]
    level: float
    resamples: int
    rows: tuple[Row, ...]

    def row(self, name: str = ALL) -> Row:
        """Row of all images or of a group.

        Raises:
            KeyError: no such group.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def as_dict(self) -> dict[str, object]:
        """Everything as plain numbers and lists; None where a number is not defined."""
        return {
            "split": self.split,
            "monitor": self.monitor,
            "classes": list(self.classes),
            "level": self.level,
            "resamples": self.resamples,
            "rows": [
                {
                    "name": row.name,
                    "images": row.images,
                    "metrics": {name: [_plain(x) for x in interval] for name, interval in row.metrics.items()},
                    "confusion": None if row.confusion is None else row.confusion.long().tolist(),
                }
                for row in self.rows
            ],
        }

    def to_json(self) -> str:
        """`as_dict` as strict JSON; a metric is ``[value, low, high]``."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """One line per row and metric: split, row, images, metric, class, value, low, high; empty where not defined."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("split", "row", "images", "metric", "class", "value", "low", "high"))
        for row in self.rows:
            for name, interval in row.metrics.items():
                metric, _, label = name.partition("/")
                numbers = ("" if math.isnan(x) else repr(x) for x in interval)
                writer.writerow((self.split, row.name, row.images, metric, label, *numbers))
        return out.getvalue()

    def render(self, console: Console | None = None) -> None:
        """Print: overall, per class, per group. Every number is in `to_json`, not all are here."""
        console = console or Console()
        for grid in (self._overall(), self._by_class(), self._by_group()):
            if grid is not None:
                console.print(grid)

    def _overall(self) -> Grid:
        total = self.rows[0]
        grid = _grid(f"{self.split}: {total.images} image{'' if total.images == 1 else 's'}".lstrip(": "))
        grid.add_column("metric")
        grid.add_column("value", justify="right")
        grid.add_column(f"{self.level:.0%} interval", justify="right")
        for name, interval in total.metrics.items():
            if "/" not in name:
                grid.add_row(_title(name), _number(interval.value), _range(interval), style=self._style(name))
        return grid

    def _by_class(self) -> Grid | None:
        metrics = self.rows[0].metrics
        kinds = list(dict.fromkeys(name.partition("/")[0] for name in metrics if "/" in name))
        if not kinds:
            return None
        grid = _grid("by class")
        grid.add_column("class")
        _add_columns(grid, kinds, self.level)
        for label in self.classes:
            grid.add_row(label, *_cells([metrics[f"{kind}/{label}"] for kind in kinds]))
        return grid

    def _by_group(self) -> Grid | None:
        if len(self.rows) == 1:
            return None
        names = [name for name in self.rows[0].metrics if "/" not in name]
        names.sort(key=lambda name: name != self.monitor)
        grid = _grid("by group")
        grid.add_column("group")
        grid.add_column("images", justify="right")
        _add_columns(grid, names[:4], self.level)
        for row in self.rows[1:]:
            grid.add_row(row.name, str(row.images), *_cells([row.metrics[name] for name in names[:4]]))
        return grid

    def _style(self, name: str) -> str:
        return "bold" if name == self.monitor else ""


def table(
    task: Task,
    statistics: Tensor,
    classes: Sequence[str],
    groups: Sequence[str | None] = (),
    *,
    split: str = "",
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Table:
    """Compute all metrics with intervals, over all images and per group.

    Args:
        task: gives the metrics.
        statistics: ``(n, k)``, one row per image.
        classes: class names.
        groups: of each image; empty when there are none.
        split: name of the split, for headings.
        resamples: draws per row; 0 for no intervals.
        seed: of the draws.
        level: share of the draws inside an interval.

    Returns:
        The table. Intervals are NaN for rows with less than 2 images; draws that leave a metric undefined do not count.
    """
    rows = [_row(task, ALL, statistics, classes, (resamples, seed, level))]
    names = [UNGROUPED if group is None else group for group in groups]
    if any(group is not None for group in groups):
        for name in sorted(set(names), key=lambda name: (name == UNGROUPED, name)):
            chosen = torch.tensor([group == name for group in names], device=statistics.device)
            rows.append(_row(task, name, statistics[chosen], classes, (resamples, seed, level)))
    return Table(split, task.monitor, tuple(classes), level, resamples, tuple(rows))


def bootstrap(statistics: Tensor, resamples: int, seed: int = 0) -> Tensor:
    """Sums of statistics over images drawn with replacement.

    Args:
        statistics: ``(n, k)``.
        resamples: number of draws r, of n images each.
        seed: of the draws; they depend on nothing else but n.

    Returns:
        ``(r, k)``. Memory beside it does not grow with n times r.
    """
    n = len(statistics)
    generator = torch.Generator().manual_seed(seed)
    at_once = max(1, _DRAWS_AT_ONCE // n)
    parts = []
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        drawn = torch.randint(n, (count, n), generator=generator) + torch.arange(count).unsqueeze(1) * n
        times = torch.bincount(drawn.flatten(), minlength=count * n).view(count, n)
        parts.append(times.to(statistics) @ statistics)
    return torch.cat(parts)


def _row(task: Task, name: str, statistics: Tensor, classes: Sequence[str], draws: tuple[int, int, float]) -> Row:
    resamples, seed, level = draws
    total = statistics.sum(0)
    values = task.metrics(total, classes)
    intervals = {metric: Interval(float(value)) for metric, value in values.items()}
    if len(statistics) > 1 and resamples > 0:
        tails = total.new_tensor([(1 - level) / 2, (1 + level) / 2])
        resampled = task.metrics(bootstrap(statistics, resamples, seed), classes)
        for metric, drawn in resampled.items():
            low, high = torch.nanquantile(drawn, tails).tolist()
            intervals[metric] = Interval(intervals[metric].value, low, high)
    return Row(name, len(statistics), intervals, task.confusion(total, classes))


# --------------------------------------------------------------------------------------------- printing


def _plain(x: float) -> float | None:
    return None if math.isnan(x) else x


def _grid(title: str) -> Grid:
    return Grid(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)


def _add_columns(grid: Grid, names: Iterable[str], level: float) -> None:
    """One column for each metric; the first has its interval beside it."""
    for i, name in enumerate(names):
        grid.add_column(_title(name), justify="right")
        if i == 0:
            grid.add_column(f"{level:.0%} interval", justify="right")


def _cells(intervals: Sequence[Interval]) -> list[str]:
    values = [_number(interval.value) for interval in intervals]
    return [values[0], _range(intervals[0]), *values[1:]]


def _title(name: str) -> str:
    known = {"miou": "mIoU", "iou": "IoU", "f1": "F1", "f1_micro": "F1 micro", "rmse": "RMSE", "mae": "MAE", "r2": "R²"}
    return known.get(name, name.replace("_", " "))


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" if 0.01 <= abs(value) < 10 or value == 0 else f"{value:.4g}"


def _range(interval: Interval) -> str:
    return "–" if math.isnan(interval.low) else f"{_number(interval.low)} … {_number(interval.high)}"

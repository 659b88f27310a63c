"""What a person sees while a run trains: one progress bar with live metrics and the time that is left."""

import math
from collections.abc import Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from adapteo.train import Observer


class ScreenObserver(Observer):
    """Shows a bar over all steps; early stopping ends it sooner than its estimate says.

    Args:
        monitor: name of the metric to show.
        epochs: most epochs there can be.
        console: where to write; standard error by default, so that standard output stays for results.
    """

    def __init__(self, monitor: str, epochs: int, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.monitor, self.epochs = monitor, epochs
        self.progress: Progress | None = None
        self.bar = TaskID(0)
        self.best = math.nan

    def note(self, message: str) -> None:
        """Print a line above the bar."""
        (self.progress.console if self.progress else self.console).print(message, highlight=False, markup=False)

    def steps(self, total: int, done: int) -> None:
        """Draw the bar."""
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left at most"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,  # else an empty line is left behind in a file
        )
        self.bar = self.progress.add_task("training", total=total, completed=done)
        self.progress.start()

    def step(self, loss: float | None) -> None:
        """Move the bar."""
        if self.progress is not None:
            self.progress.advance(self.bar)
            if loss is not None:
                self.progress.update(self.bar, description=f"loss {loss:.3f}")

    def epoch(self, row: Mapping[str, float]) -> None:
        """Print one line for each epoch."""
        value = row[f"val_{self.monitor}"]
        self.note(
            f"epoch {row['epoch']:>3.0f}/{self.epochs}  train loss {row['train_loss']:.4f}  "
            f"val loss {row['val_loss']:.4f}  val {self.monitor} {value:.4f}  {row['seconds']:.1f} s"
        )

    def finished(self) -> None:
        """Take the bar away."""
        if self.progress is not None:
            self.progress.stop()

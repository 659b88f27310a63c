"""What a person sees of a tuning: a bar over all trainings, one over the steps of this one, a line for each trial."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from adapteo.train import Observer


class Reporter(Observer):
    """Is told of the progress of a tuning, and of each run in it; this one is silent."""

    def begin(self, trainings: int) -> None:
        """A tuning of so many trainings begins."""

    def training(self, what: str) -> None:
        """One of them begins."""

    def trained(self, said: str = "") -> None:
        """It has ended; a line about it, where there is something to say."""

    def end(self) -> None:
        """All have ended, for whatever reason."""


class ScreenReporter(Reporter):
    """Draws on standard error.

    Args:
        console: where to, if not there.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("left at most"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,  # else an empty line is left behind in a file
        )
        self.all, self.one = TaskID(0), TaskID(0)
        self._said: set[str] = set()

    def begin(self, trainings: int) -> None:
        """Draw the bars."""
        self.all = self.progress.add_task("tuning", total=trainings)
        self.one = self.progress.add_task("", total=None, visible=False)
        self.progress.start()

    def training(self, what: str) -> None:
        """Say what runs."""
        self.progress.update(self.all, description=what)

    def trained(self, said: str = "") -> None:
        """Count it."""
        self.progress.update(self.one, visible=False)
        self.progress.advance(self.all)
        if said:
            self._print(said)

    def end(self) -> None:
        """Take the bars away."""
        self.progress.stop()

    def note(self, message: str) -> None:
        """Print what runs say in a line, each thing once: they all say the same. Their bills are in ``run.json``."""
        if "\n" not in message and message not in self._said:
            self._said.add(message)
            self._print(message)

    def steps(self, total: int, done: int) -> None:
        """Begin a bar for the run."""
        self.progress.reset(self.one, total=total, completed=done, visible=True, description="  steps")

    def step(self, loss: float | None) -> None:
        """Move it."""
        self.progress.advance(self.one)

    def _print(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, markup=False)

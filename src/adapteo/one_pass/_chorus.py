"""What is heard of several trainings at once."""

from collections.abc import Mapping, Sequence

from adapteo.train import Observer


class Chorus:
    """Lets one observer hear several trainings: one bar over the steps of all in a pass, and their lines.

    Args:
        observer: hears it.
    """

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.begin(())

    def begin(self, numbers: Sequence[int]) -> None:
        """A pass of these trainings begins."""
        self._silent = self._going = len(numbers)
        self._total = self._done = 0

    def voice(self, name: str = "") -> "Voice":
        """What one of them tells; with a name its lines begin with that, and epochs are lines."""
        return Voice(self, name)

    def steps(self, total: int, done: int) -> None:
        """Wait for the last, and begin the bar."""
        self._total, self._done, self._silent = self._total + total, self._done + done, self._silent - 1
        if self._silent <= 0:
            self.observer.steps(self._total, self._done)

    def finished(self) -> None:
        """Wait for the last, and end it."""
        self._going -= 1
        if self._going <= 0:
            self.observer.finished()


class Voice(Observer):
    """One of them.

    Args:
        chorus: of all.
        name: of this one, or "".
    """

    def __init__(self, chorus: Chorus, name: str = "") -> None:
        self.chorus, self.name = chorus, name

    def note(self, message: str) -> None:
        """Pass it on."""
        self.chorus.observer.note(f"{self.name}: {message}" if self.name else message)

    def steps(self, total: int, done: int) -> None:
        """Add them."""
        self.chorus.steps(total, done)

    def step(self, loss: float | None) -> None:
        """Pass it on."""
        self.chorus.observer.step(None)

    def epoch(self, row: Mapping[str, float]) -> None:
        """Say it in a line: the epoch, losses and scores."""
        if not self.name:
            self.chorus.observer.epoch(row)
            return
        shown = [f"{key.replace('_', ' ')} {row[key]:.4f}" for key in row if key not in ("epoch", "rate", "seconds")]
        self.note(f"epoch {row['epoch']:.0f}  {'  '.join(shown)}  {row['seconds']:.1f} s")

    def finished(self) -> None:
        """Pass it on."""
        self.chorus.finished()

"""One reader for several trainings that need the same batches at about the same time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from adapteo.contracts import Batch
from adapteo.data.loader import Batches
from adapteo.model import Boundary, Model


class Watch:
    """Seconds of a training that takes turns with others: its own, and its part of what was done for all."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def __call__(self) -> float:
        """What it has had until now."""
        return self.seconds + (0.0 if self._since is None else time.perf_counter() - self._since)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Its turn."""
        self._since = time.perf_counter()
        try:
            yield
        finally:
            self.seconds, self._since = self(), None


class Reader:
    """Gives each batch of a loader to all of its views, and makes it once.

    Args:
        loader: of one split.
        make: what is done with a batch before it is given away.
        keep: batches that are remembered: as many as a view takes before others have their turn.
    """

    def __init__(self, loader: Batches, make: Callable[[Batch], Batch], keep: int = 1) -> None:
        self.loader, self.make, self.keep = loader, make, keep
        self.views: list[View] = []
        self._recent: dict[tuple[int, int], Batch] = {}
        self._batches: Iterator[Batch] = iter(())
        self._next: tuple[int, int] | None = None

    def batch(self, epoch: int, index: int) -> tuple[Batch, float]:
        """A batch of an epoch, and the seconds that it took to make it now.

        In whatever order they are asked for, the batches are right; asked for in turns, each is made once.
        """
        place, began = (epoch, index), time.perf_counter()
        if place in self._recent:
            return self._recent[place], 0.0
        if place != self._next:
            self._batches = self.loader.epoch(epoch, index)
        self._recent[place] = self.make(next(self._batches))
        self._next = (epoch, index + 1)
        while len(self._recent) > self.keep:
            del self._recent[next(iter(self._recent))]
        return self._recent[place], time.perf_counter() - began


@dataclass(eq=False)
class View:
    """What one of the trainings sees of a reader, in place of a loader.

    Attributes:
        reader: of all of them.
        model: that is trained.
        boundary: where its frozen part ends, for images of this split.
        places: of what it needs among what is stored.
        watch: of the training.
        waited: as of `adapteo.data.loader.Loader`: its part of what all have waited.
    """

    reader: Reader
    model: Model
    boundary: Boundary
    places: tuple[int, ...]
    watch: Watch = field(default_factory=Watch)
    waited: float = 0.0

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self.reader.loader)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from batch ``start`` on."""
        for index in range(start, len(self)):
            batch, seconds = self.reader.batch(number, index)
            self._share(seconds)
            if batch.stored is not None:
                self.model.boundary = self.boundary
                batch = replace(batch, stored=tuple(batch.stored[place] for place in self.places))
            yield batch

    def _share(self, seconds: float) -> None:
        """Divide the time of a batch by all who get it."""
        if not seconds:
            return
        self.watch.seconds -= seconds
        for view in self.reader.views:
            part = seconds / len(self.reader.views)
            view.watch.seconds += part
            view.waited += part

"""Trials of a search: proposed by Optuna, each kept in a folder of its own, so that a stopped search goes on.

<folder>/trial-00/trial.json    what is tried, written before the training; then what came of it
                  …             a run's folder, until the trial is finished; then its log, costs and configuration

A proposal is a function of the trials before it (`adapteo._sampler`), which are read from the files each time, so a
search that was killed goes on as if it had not been.
"""

import csv
import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapteo._sampler import COMPLETE, FAILED, PRUNED, Sampler, Trial
from adapteo.checkpoint import write_json
from adapteo.errors import AdaptEOError, ConfigError, DataError, Interrupted, WeightsError
from adapteo.fitted import CONFIG_FILE, RUN_FILE
from adapteo.search_space import Space, Values, grid, points
from adapteo.train import LOG_FILE

LOWEST, HIGHEST = 1e-5, 1e-2
"""Of learning rates: arXiv 2504.17397 ends at 1e-3, which many of its searches reach."""
_TRIAL_FILE = "trial.json"
_KEPT = (_TRIAL_FILE, LOG_FILE, RUN_FILE, CONFIG_FILE)
_DRAWS, _FAR = 20, 10_000  # draws of a point that was not tried; between their seeds


@dataclass(frozen=True)
class Attempt:
    """A trial that is to be made: its number, values and folder."""

    number: int
    values: Values
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt.

    Attributes:
        number: of the trial.
        found: ``value`` and any other facts, or why there are none.
        seconds: it took.
    """

    number: int
    found: Mapping[str, Any] | AdaptEOError
    seconds: float


class Pruned(AdaptEOError):
    """A trial was ended early, because others were better at that time.

    Args:
        course: its value after each epoch, from 0 on.
    """

    def __init__(self, course: Sequence[float]) -> None:
        super().__init__(f"ended after epoch {len(course) - 1}: worse than the median of the trials before")
        self.course = list(course)


@dataclass(frozen=True)
class Search:
    """A search over a space.

    Attributes:
        folder: of the trials.
        space: what may be tried; with fewer points than `count` each of them is tried once.
        count: most trials.
        maximise: whether higher values are better.
        first: what is tried first; None to leave that to Optuna.
        at_once: trials of a round, which are proposed before any of them is trained.
    """

    folder: Path
    space: Space
    count: int
    maximise: bool = False
    first: Values | None = None
    at_once: int = 1

    def run(self, train: Callable[[int, Values, Path], Mapping[str, Any]]) -> list[Trial]:
        """Try until there are enough trials; those that are finished are read, not repeated.

        Args:
            train: gets a trial's number, values and folder; returns ``value`` and any other facts. Goes on with what
                it finds in the folder.

        Raises:
            ConfigError: Optuna is not installed.
            AdaptEOError: no trial came to an end.
            Interrupted: stopped by the user; finished trials, and the state of the one that ran, are saved.
        """

        def attempt(attempts: Sequence[Attempt]) -> Iterator[Outcome]:
            for one in attempts:
                began, found = time.perf_counter(), _found(lambda one=one: train(one.number, one.values, one.folder))  # type: ignore[misc]
                yield Outcome(one.number, found, time.perf_counter() - began)

        return self.run_rounds(attempt)

    def run_rounds(self, train: Callable[[Sequence[Attempt]], Iterator[Outcome]]) -> list[Trial]:
        """Do what `run` does, by rounds.

        Args:
            train: gets what is to be tried of a round, and tells the outcome of each as soon as it is known.

        Raises:
            AdaptEOError: as `run`.
        """
        trials: list[Trial] = []
        count = min(self.count, points(self.space) or self.count)
        while len(trials) < count:
            numbers = range(len(trials), min(count, len(trials) + self.at_once))
            trials += self._round(numbers, trials, train)
        return trials

    def _round(
        self,
        numbers: range,
        before: Sequence[Trial],
        train: Callable[[Sequence[Attempt]], Iterator[Outcome]],
    ) -> list[Trial]:
        """Propose what has not been proposed, try what has not been tried, and note what came of it."""
        trials: list[Trial] = []
        for number in numbers:
            trial = _read(self.place(number) / _TRIAL_FILE)
            if trial is None:
                trial = {"values": self._propose(before, number, [other["values"] for other in trials])}
                write_json(trial, self.place(number) / _TRIAL_FILE)
            trials.append(trial)
        made = zip(numbers, trials, strict=True)
        attempts = [Attempt(n, trial["values"], self.place(n)) for n, trial in made if "state" not in trial]
        for outcome in train(attempts) if attempts else ():
            trials[outcome.number - numbers.start] |= _noted(outcome)
            _keep(trials[outcome.number - numbers.start], self.place(outcome.number))
        return trials

    def earlier(self, number: int) -> list[Trial]:
        """Finished trials of the rounds before that of a trial, which alone decide about it."""
        return self.finished()[: number - number % self.at_once]

    def best(self, trials: Sequence[Trial]) -> int:
        """Number of the best trial; of equal values that of the lowest ``loss``, where trials tell, then the first.

        Raises:
            AdaptEOError: no trial came to an end.
        """
        ended = [number for number, trial in enumerate(trials) if trial["state"] == COMPLETE]
        if not ended:
            first = trials[0]["reason"]
            raise AdaptEOError(f"none of {len(trials)} trials came to an end; the first: {first}")
        sign = -1 if self.maximise else 1
        return min(ended, key=lambda number: (sign * trials[number]["value"], trials[number].get("loss", 0.0)))

    def place(self, number: int) -> Path:
        """Folder of a trial."""
        return self.folder / f"trial-{number:02d}"

    def finished(self) -> list[Trial]:
        """Trials that have ended, in order, up to the first that has not."""
        trials = (_read(self.place(number) / _TRIAL_FILE) for number in itertools.count())
        return list(itertools.takewhile(lambda trial: trial is not None and "state" in trial, trials))  # type: ignore[arg-type]

    @property
    def _sampler(self) -> Sampler:
        return Sampler(self.space, self.maximise)

    def _propose(self, before: Sequence[Trial], number: int, pending: Sequence[Values]) -> Values:
        """What to try next, which has not been tried and is not among those of the same round."""
        if self.first is not None and number == 0:
            return self.first
        tried = [*(trial["values"] for trial in before), *pending]
        count = points(self.space)
        if count is not None and count <= self.count:
            return next(values for values in grid(self.space) if values not in tried)
        for draw in range(_DRAWS):
            values = self._sampler.draw(before, number + draw * _FAR, pending)
            if values not in tried:
                return values
        return values if count is None else next(values for values in grid(self.space) if values not in tried)

    def hopeless(self, before: Sequence[Trial], course: Sequence[float], warmup: int) -> bool:
        """Whether a trial is to be ended early; see `adapteo._sampler.Sampler.hopeless`."""
        return self._sampler.hopeless(before, course, warmup)


def course(log: Path, column: str) -> list[float]:
    """A column of a run's log: one number for each epoch, from 0 on."""
    with log.open(encoding="utf-8") as file:
        return [float(row[column]) for row in csv.DictReader(file)]


def _found(train: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any] | AdaptEOError:
    """Train; what is the fault of what is tried is an outcome, and no error."""
    try:
        return train()
    except (ConfigError, DataError, WeightsError, Interrupted):
        raise
    except AdaptEOError as error:
        return error


def _noted(outcome: Outcome) -> Trial:
    """An outcome as it is kept: failed where the loss is no number any more, or the memory too small."""
    found, seconds = outcome.found, {"seconds": outcome.seconds}
    if isinstance(found, Pruned):
        return {"state": PRUNED, "reason": found.problem, "course": found.course, **seconds}
    if isinstance(found, AdaptEOError):
        return {"state": FAILED, "reason": " ".join(found.problem.split()), **seconds}
    return {**found, "state": COMPLETE, **seconds}


def _keep(trial: Trial, folder: Path) -> None:
    """Write a trial, and remove what only going on would need."""
    write_json(trial, folder / _TRIAL_FILE)
    for path in folder.iterdir():
        if path.name not in _KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _read(path: Path) -> Trial | None:
    if not path.is_file():
        return None
    found: Trial = json.loads(path.read_text(encoding="utf-8"))
    return found

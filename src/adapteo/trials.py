"""Trials of a search: proposed by Optuna, each kept in a folder of its own, so that a stopped search goes on.

<folder>/trial-00/trial.json    what is tried, written before the training; then what came of it
                  …             a run's folder, until the trial is finished; then its log, costs and configuration

Tree-structured Parzen estimator (Bergstra et al. 2011). The study is made from the files each time, so a proposal is a
function of the trials before it, and a search that was killed goes on as if it had not been. Where several are tried at
once, those of the same round whose value is not known yet count as bad ones, so that the next goes elsewhere (the
constant liar: Ginsbourger, Le Riche and Carraro 2010).
"""

import csv
import itertools
import json
import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from adapteo.checkpoint import write_json
from adapteo.errors import AdaptEOError, ConfigError, DataError, Interrupted, WeightsError
from adapteo.fitted import CONFIG_FILE, RUN_FILE
from adapteo.train import LOG_FILE

LOWEST, HIGHEST = 1e-5, 1e-2
"""Of learning rates: arXiv 2504.17397 ends at 1e-3, which many of its searches reach."""
COMPLETE, FAILED, PRUNED = "complete", "failed", "pruned"
_TRIAL_FILE = "trial.json"
_KEPT = (_TRIAL_FILE, LOG_FILE, RUN_FILE, CONFIG_FILE)
_SEED = 2504
_DRAWS, _FAR = 20, 10_000  # draws of a point that was not tried; between their seeds
_BEFORE_PRUNING = 4  # trials that come to an end before any is ended

Value = str | int | float | bool | None | list[Any] | dict[str, Any]
Values = Mapping[str, Value]
Trial = dict[str, Any]
"""``values``; of a finished one ``state`` and ``seconds`` too, and ``value`` with other facts, or why it failed."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, on a logarithmic scale when ``low`` is above 0.

    Attributes:
        low, high: both belong to it.
        whole: whole numbers only.
    """

    low: float
    high: float
    whole: bool = False


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    options: tuple[Value, ...]


Space = Mapping[str, Range | Choice]


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

    def _propose(self, before: Sequence[Trial], number: int, pending: Sequence[Values]) -> Values:
        """What to try next, which has not been tried and is not among those of the same round."""
        if self.first is not None and number == 0:
            return self.first
        tried = [*(trial["values"] for trial in before), *pending]
        count = points(self.space)
        if count is not None and count <= self.count:
            return next(values for values in _grid(self.space) if values not in tried)
        for draw in range(_DRAWS):
            values = self._draw(before, number + draw * _FAR, pending)
            if values not in tried:
                return values
        return values if count is None else next(values for values in _grid(self.space) if values not in tried)

    def _draw(self, before: Sequence[Trial], number: int, pending: Sequence[Values]) -> Values:
        optuna = load_optuna()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the liar, since 2021
            sampler = optuna.samplers.TPESampler(seed=_SEED + number, constant_liar=bool(pending))
        study = self._study(optuna, before, sampler)
        for values in pending:
            study.add_trial(self._frozen(optuna, values, optuna.trial.TrialState.RUNNING))
        params = study.ask(_distributions(optuna, self.space)).params
        return {name: _value(part, params[name]) for name, part in self.space.items()}

    def _study(self, optuna: ModuleType, before: Sequence[Trial], sampler: Any) -> Any:
        """A study of the trials before."""
        direction = "maximize" if self.maximise else "minimize"
        study, states = optuna.create_study(sampler=sampler, direction=direction), optuna.trial.TrialState
        state = {COMPLETE: states.COMPLETE, FAILED: states.FAIL, PRUNED: states.PRUNED}
        for trial in before:
            facts = {
                "value": trial.get("value") if trial["state"] == COMPLETE else None,
                "intermediate_values": _known(trial.get("course", ())),
            }
            study.add_trial(self._frozen(optuna, trial["values"], state[trial["state"]], facts))
        return study

    def _frozen(
        self, optuna: ModuleType, values: Values, state: Any, facts: Mapping[str, Any] = MappingProxyType({})
    ) -> Any:
        """A trial as Optuna has it."""
        params = {name: _param(part, values[name]) for name, part in self.space.items()}
        return optuna.trial.create_trial(
            params=params, distributions=_distributions(optuna, self.space), state=state, **facts
        )

    def hopeless(self, before: Sequence[Trial], course: Sequence[float], warmup: int) -> bool:
        """Whether a trial is to be ended: it is worse than the median of those before it at the same epoch.

        Args:
            before: finished trials, with their ``course``: the value after each epoch, from 0 on.
            course: of this one, so far.
            warmup: epochs in which no trial is ended.
        """
        optuna = load_optuna()
        study = self._study(optuna, before, optuna.samplers.RandomSampler(seed=_SEED))
        running = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING, intermediate_values=_known(course))
        pruner = optuna.pruners.MedianPruner(n_startup_trials=_BEFORE_PRUNING, n_warmup_steps=warmup)
        return bool(pruner.prune(study, running))


def points(space: Space) -> int | None:
    """Number of points of a space; None when there is no end of them."""
    if any(isinstance(part, Range) and not part.whole for part in space.values()):
        return None
    return math.prod(len(_members(part)) for part in space.values())


def course(log: Path, column: str) -> list[float]:
    """A column of a run's log: one number for each epoch, from 0 on."""
    with log.open(encoding="utf-8") as file:
        return [float(row[column]) for row in csv.DictReader(file)]


def load_optuna() -> ModuleType:
    """Import Optuna, and keep it quiet.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("the search needs optuna", fix="run: pip install 'adapteo[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    module: ModuleType = optuna
    return module


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


def _known(course: Sequence[float | None]) -> dict[int, float]:
    """Values by epoch, without those that are no number."""
    return {epoch: value for epoch, value in enumerate(course) if value is not None and math.isfinite(value)}


def _distributions(optuna: ModuleType, space: Space) -> dict[str, Any]:
    """The space in Optuna's terms; choices by their place, as lists are no choices there."""
    made = {}
    for name, part in space.items():
        if isinstance(part, Choice):
            made[name] = optuna.distributions.CategoricalDistribution(range(len(part.options)))
        elif part.whole:
            made[name] = optuna.distributions.IntDistribution(int(part.low), int(part.high), log=part.low > 0)
        else:
            made[name] = optuna.distributions.FloatDistribution(part.low, part.high, log=part.low > 0)
    return made


def _value(part: Range | Choice, param: Any) -> Value:
    return part.options[param] if isinstance(part, Choice) else param


def _param(part: Range | Choice, value: Any) -> Any:
    return part.options.index(value) if isinstance(part, Choice) else value


def _grid(space: Space) -> Iterator[Values]:
    """All points of a space that has an end, the last part changing fastest."""
    for values in itertools.product(*map(_members, space.values())):
        yield dict(zip(space, values, strict=True))


def _members(part: Range | Choice) -> Sequence[Value]:
    return part.options if isinstance(part, Choice) else range(int(part.low), int(part.high) + 1)


def _read(path: Path) -> Trial | None:
    if not path.is_file():
        return None
    found: Trial = json.loads(path.read_text(encoding="utf-8"))
    return found

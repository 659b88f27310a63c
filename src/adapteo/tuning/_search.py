"""The search of one method, on validation only."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adapteo import experiment
from adapteo._sampler import COMPLETE, Trial
from adapteo.checkpoint import write_json
from adapteo.config import Run
from adapteo.errors import AdaptEOError, ConfigError, WeightsError
from adapteo.one_pass import Chorus, Ended, fit_each, frozen_start
from adapteo.search_space import Values, points
from adapteo.train import LOG_FILE, Observer
from adapteo.trials import Attempt, Outcome, Pruned, Search, course
from adapteo.tuning._arms import Arm, budget
from adapteo.tuning._screen import Reporter

_SEARCH_FILE = "search.json"
_UNPRUNED = 5  # this part of the epochs
_AT_ONCE = 4  # trials that are proposed at once where they can share a pass; not more, as each knows less then


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        arm: of which method.
        trials: that were trained.
        number: of the best; None where nothing was searched.
        error: why there is nothing; None when there is.
    """

    arm: Arm
    trials: list[Trial] = field(default_factory=list)
    number: int | None = None
    error: AdaptEOError | None = None

    @property
    def values(self) -> Values:
        """Of all keys of the search."""
        best = {} if self.number is None else self.trials[self.number]["values"]
        return {**self.arm.fixed, **best}


@dataclass(frozen=True)
class Place:
    """Where a tuning is at work.

    Attributes:
        out: its folder.
        trials: most of each search.
        prune: whether trials that are worse than the median are ended.
        reporter: is told.
    """

    out: Path
    trials: int
    prune: bool
    reporter: Reporter

    @property
    def starts(self) -> Path:
        """Folder of the head starts."""
        return self.out / "starts"

    def fit(self, run: Run, observer: Observer | None = None) -> "experiment.FittedRun":
        """Train, or go on."""
        return experiment.fit(run, resume=True, observer=observer or self.reporter, starts=self.starts)

    def fit_each(self, runs: Sequence[Run], observers: Sequence[Observer], chorus: Chorus) -> Iterator[Ended]:
        """Train, or go on, in one pass where that can be."""
        return fit_each(runs, observers, resume=True, starts=self.starts, told=chorus.begin)


def search(arm: Arm, place: Place) -> Found:
    """Find the best setting of a method; a method that cannot be trained here has an error instead.

    Raises:
        DataError: the data cannot be read.
        Interrupted: stopped by the user.
    """
    count = budget(arm, place.trials)
    if not count:
        return Found(arm)
    searching = Search(place.out / arm.folder, arm.space, count, _maximise(arm.base), arm.usual())
    trials: list[Trial] = []
    try:
        _claim(arm, place)
        if count > 1 and len(searching.finished()) < count and frozen_start(arm.base):
            grid = points(arm.space) == count and not place.prune  # pruning compares with earlier rounds
            searching = replace(searching, at_once=count if grid else _AT_ONCE)
            trials = searching.run_rounds(lambda attempts: _train_together(arm, place, searching, attempts))
        else:
            trials = searching.run(lambda *attempt: _train(arm, place, searching, Attempt(*attempt)))
        return Found(arm, trials, searching.best(trials))
    except (ConfigError, WeightsError) as error:
        return Found(arm, searching.finished(), error=error)
    except AdaptEOError as error:
        if not trials:  # it stopped in the middle
            raise
        return Found(arm, trials, error=error)


def _claim(arm: Arm, place: Place) -> None:
    """Refuse to go on with another search."""
    path, new = place.out / arm.folder / _SEARCH_FILE, json.loads(json.dumps({**arm.plain(), "prune": place.prune}))
    if not path.is_file():
        write_json(new, path)
        return
    old = json.loads(path.read_text(encoding="utf-8"))
    for key in new:
        if old.get(key) != new[key]:
            raise ConfigError(
                f"{path.parent} holds a search of another {key}: {_difference(old.get(key), new[key])}",
                fix="choose another folder with --out, or delete that one",
            )


def _difference(old: Any, new: Any) -> str:
    if isinstance(old, str) and isinstance(new, str):
        lines = zip(old.splitlines(), new.splitlines(), strict=False)
        old, new = next(((a.strip(), b.strip()) for a, b in lines if a != b), ("more", "less"))
    return f"{old} there, {new} here"


def _train(arm: Arm, place: Place, searching: Search, attempt: Attempt) -> Mapping[str, Any]:
    """Train a trial, and note its best epoch."""
    place.reporter.training(f"{arm.name}: trial {attempt.number + 1} of {searching.count}")
    run, said = arm.run(attempt.values, attempt.folder), ""
    try:
        place.fit(run, _Pruner(place.reporter, searching, run, attempt.number) if place.prune else None)
        found = _best_epoch(run)
        said = _line(arm, searching, attempt, run, found)
    finally:
        place.reporter.trained(said)
    return found


def _train_together(arm: Arm, place: Place, searching: Search, attempts: Sequence[Attempt]) -> Iterator[Outcome]:
    """Train several trials, in one pass as far as the memory allows, and note the best epoch of each."""
    reporter, chorus, many = place.reporter, Chorus(place.reporter), len(attempts)
    runs = [arm.run(attempt.values, attempt.folder) for attempt in attempts]
    observers: list[Observer] = [chorus.voice() for _ in runs]
    if place.prune:
        pairs = zip(observers, runs, attempts, strict=True)
        observers = [_Pruner(voice, searching, run, attempt.number) for voice, run, attempt in pairs]
    for attempt in attempts:
        reporter.training(f"{arm.name}: trial {attempt.number + 1} of {searching.count}")
    if many > 1:
        numbers = ", ".join(str(attempt.number + 1) for attempt in attempts)
        reporter.training(f"{arm.name}: {many} trials in one pass ({numbers} of {searching.count})")
    for ended in place.fit_each(runs, observers, chorus):
        attempt, run, said = attempts[ended.number], runs[ended.number], ""
        found: Mapping[str, Any] | AdaptEOError
        try:
            found = ended.error or _best_epoch(run)
        except AdaptEOError as error:
            found = error
        if not isinstance(found, AdaptEOError):
            said = _line(arm, searching, attempt, run, found)
        reporter.trained(said)
        yield Outcome(attempt.number, found, ended.seconds)


def _best_epoch(run: Run) -> Mapping[str, Any]:
    """What a search wants to know of a training that has ended."""
    scores, losses = course(run.out / LOG_FILE, column(run)), course(run.out / LOG_FILE, "val_loss")
    known = [epoch for epoch, score in enumerate(scores) if math.isfinite(score)]
    if not known:
        raise AdaptEOError(f"{column(run)} is no number in any epoch")
    sign = -1 if _maximise(run) else 1
    best = min(known, key=lambda epoch: (sign * scores[epoch], losses[epoch]))
    return {"value": scores[best], "loss": losses[best], "epoch": best, "course": scores}


def _line(arm: Arm, searching: Search, attempt: Attempt, run: Run, found: Mapping[str, Any]) -> str:
    """What a person reads of a trial."""
    values = attempt.values.items()
    shown = " ".join(f"{key}={value:.2g}" if isinstance(value, float) else f"{key}={value}" for key, value in values)
    said = f"{column(run)} {found['value']:.4f}"
    return f"{arm.name}  trial {attempt.number + 1}/{searching.count}  {shown}  {said}"


def column(run: Run) -> str:
    """Of the log: what is searched for."""
    return f"val_{run.task.monitor}" if run.train.select == "score" else "val_loss"


def _maximise(run: Run) -> bool:
    return run.train.select == "score" and run.task.higher_is_better


class _Pruner(Observer):
    """Passes on what it is told, and ends a trial that is worse than the median of the others."""

    def __init__(self, reporter: Observer, searching: Search, run: Run, number: int) -> None:
        self.reporter, self.searching, self.run = reporter, searching, run
        self.before = [trial for trial in searching.earlier(number) if trial["state"] == COMPLETE]
        self.note, self.steps, self.step = reporter.note, reporter.steps, reporter.step  # type: ignore[method-assign]
        self.finished = reporter.finished  # type: ignore[method-assign]

    def epoch(self, row: Mapping[str, float]) -> None:
        """Compare."""
        self.reporter.epoch(row)
        scores = course(self.run.out / LOG_FILE, column(self.run))
        if self.searching.hopeless(self.before, scores, self.run.train.epochs // _UNPRUNED):
            raise Pruned(scores)

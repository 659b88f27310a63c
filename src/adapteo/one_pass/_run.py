"""Training a list of runs, as many in a pass as fit."""

import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from adapteo import machine
from adapteo._processes import launch, stop_signals
from adapteo.config import Run
from adapteo.contracts import trainable_count
from adapteo.errors import AdaptEOError, ConfigError, DataError, Interrupted, WeightsError
from adapteo.experiment import FittedRun, Training, claim_folder, load
from adapteo.one_pass._chorus import Chorus
from adapteo.one_pass._group import Group
from adapteo.one_pass._reader import View, Watch
from adapteo.scoring import total_weight
from adapteo.train import Observer, OutOfMemory, Position

_TRAINED_BYTES = 16  # of a trained number: value, gradient, and two of AdamW
_MOST = 16
"""Trainings in a pass."""
_ALL = (ConfigError, DataError, WeightsError)
"""What one training fails for, all will."""


@dataclass(frozen=True)
class Ended:
    """How a training ended.

    Attributes:
        number: its place in the list.
        seconds: it took, with its part of what was computed for several.
        error: why it ended early; None when it is finished.
    """

    number: int
    seconds: float
    error: AdaptEOError | None = None


@dataclass(frozen=True)
class _Job:
    number: int
    run: Run
    observer: Observer
    resume: bool
    starts: Path

    def prepare(self) -> Training:
        return Training.prepare(self.run, launch(self.run.train), self.observer, self.resume, self.starts)


def fit_each(
    runs: Sequence[Run],
    observers: Sequence[Observer] | None = None,
    *,
    resume: bool = False,
    starts: Path | None = None,
    told: Callable[[Sequence[int]], None] | None = None,
) -> Iterator[Ended]:
    """Train runs, those in one pass that can share one (`Group`), and tell of each when it has ended.

    Args:
        runs: each with a folder of its own.
        observers: one for each.
        resume: go on with what was stopped.
        starts: folder of head starts that runs share; None for one that is removed at the end.
        told: is given the numbers of those that begin a pass.

    Raises:
        ConfigError: a folder holds another run, parts do not fit together, or a run asks for several devices.
        DataError: images or labels cannot be read.
        Interrupted: stopped; the states are saved.
    """
    devices = max((run.train.devices for run in runs), default=1)
    if devices > 1:
        raise ConfigError(f"runs are trained together on one device, train.devices is {devices}", allowed=[1])
    with nullcontext(str(starts)) if starts else tempfile.TemporaryDirectory() as folder:
        jobs: dict[str, list[_Job]] = {}
        for number, run in enumerate(runs):
            observer = observers[number] if observers else Observer()
            if claim_folder(run, resume):
                observer.note(f"the run in {run.out} is finished; nothing is left to do")
                yield Ended(number, 0.0)
            else:
                jobs.setdefault(Group.key(run), []).append(_Job(number, run, observer, resume, Path(folder)))
        for alike in jobs.values():
            yield from _in_passes(deque(alike), told or (lambda numbers: None))


def fit_many(runs: Sequence[Run], *, resume: bool = False, observer: Observer | None = None) -> list[FittedRun]:
    """Train runs, as many in one pass as can share it; see `adapteo.fit_many`.

    Raises:
        ConfigError: two have the same folder; and as `fit_each`.
        AdaptEOError: of the first that failed, when the others have ended.
        Interrupted: stopped; the states are saved.
    """
    folders = [run.out.absolute() for run in runs]
    twice = next((folder for place, folder in enumerate(folders) if folder in folders[:place]), None)
    if twice is not None:
        raise ConfigError(f"two runs are to be kept in {twice}", fix="give each a folder with out=…")
    chorus = Chorus(observer or Observer())
    voices = [chorus.voice(run.out.name) for run in runs]
    try:
        ended = list(fit_each(runs, voices, resume=resume, told=chorus.begin))
    except Interrupted as error:
        raise Interrupted(error.problem, fix="the same with resume=True goes on from there") from error
    failed = min((one for one in ended if one.error), key=lambda one: one.number, default=None)
    if failed is not None and failed.error is not None:
        raise failed.error
    return [load(run.out) for run in runs]


def _in_passes(waiting: deque[_Job], told: Callable[[Sequence[int]], None]) -> Iterator[Ended]:
    """Train jobs of one key: as many at a time as have the same frozen blocks, and find room."""
    while waiting:
        yield from _next_pass(waiting, told)


def _next_pass(waiting: deque[_Job], told: Callable[[Sequence[int]], None]) -> Iterator[Ended]:
    first = _prepared(waiting.popleft())
    if isinstance(first, Ended):
        yield first
        return
    members, apart = [first], list[_Job]()
    group = Group.of(first.training) if waiting else None
    while group is not None and waiting and _room(members):
        member = _prepared(waiting.popleft())
        if isinstance(member, Ended):
            yield member
        elif group.admit(member.training):
            members.append(member)
        else:
            apart.append(member.job)
    waiting.extendleft(reversed(apart))
    told([member.job.number for member in members])
    if group is None or len(members) == 1:
        yield _alone(first)
        return
    turns = Turns(group, members)
    yield from turns.run()
    members.clear()
    for job in turns.short:
        again = _prepared(replace(job, resume=True))
        yield again if isinstance(again, Ended) else _alone(again)


def _prepared(job: _Job) -> "_Member | Ended":
    began = time.perf_counter()
    try:
        return _Member(job)
    except (*_ALL, Interrupted):
        raise
    except AdaptEOError as error:
        return Ended(job.number, time.perf_counter() - began, error)


def _alone(member: "_Member") -> Ended:
    error = None
    try:
        with member.watch.running():
            member.training.complete()
    except (*_ALL, Interrupted):
        raise
    except AdaptEOError as raised:
        error = raised
    return Ended(member.job.number, member.watch(), error)


def _room(members: "Sequence[_Member]") -> bool:
    """Whether the memory has room for one more model, what training adds to all, and a step."""
    first = members[0].training
    free, need = machine.limit(first.run.train).bytes, first.planned.need
    if len(members) == _MOST or free is None:
        return len(members) < _MOST
    trained = trainable_count(first.model) * _TRAINED_BYTES
    model = sum(p.numel() * p.element_size() for p in first.model.parameters())
    return free > model + trained * (len(members) + 1) + (need["peak"] if need else model)


class _Member:
    """One of those that share a pass."""

    def __init__(self, job: _Job) -> None:
        self.job, self.watch = job, Watch()
        with self.watch.running():
            self.training = job.prepare()
        self.views: tuple[View, ...] = ()
        self.position: Position = (-1, 0, 0)  # in front of all

    def begin(self, views: tuple[View, View], weight: Tensor, stopping: threading.Event) -> None:
        """Make what trains it."""
        self.views = views
        for view in views:
            view.watch = self.watch
        trainer = self.training.trainer(views)
        self.trainer = replace(trainer, val_weight=weight, clock=self.watch, stopping=stopping)
        self.course = self.trainer.course(self.training.observer, resume=self.job.resume)

    def leave(self) -> None:
        """Take no turns any more."""
        self.course.close()
        for view in self.views:
            view.reader.views.remove(view)


class Turns:
    """Lets trainings take turns: always those that are furthest behind, which are all of them but after a stop.

    Args:
        group: what they share.
        members: of the group, in its order.

    Attributes:
        short: those that ended because there was no memory for them beside the others.
    """

    def __init__(self, group: Group, members: "Sequence[_Member]") -> None:
        self.group, self.active = group, list(members)
        self.short: list[_Job] = []
        self._stopped: Interrupted | None = None

    def run(self) -> Iterator[Ended]:
        """Train all.

        Raises:
            Interrupted: when each has saved its state.
        """
        first = self.group.members[0]
        pairs = self.group.readers()
        weight = total_weight(first.run.task, pairs[0][1].reader.loader, first.fabric)
        with stop_signals() as stopping:
            for member, views in zip(self.active, pairs, strict=True):
                member.begin(views, weight, stopping)
            try:
                while self.active:
                    last = min(member.position for member in self.active)
                    for member in [one for one in self.active if one.position == last]:
                        yield from self._turn(member)
            finally:
                for member in self.active:
                    member.leave()
        if self._stopped:
            raise self._stopped

    def _turn(self, member: _Member) -> Iterator[Ended]:
        """Go on with a member; tell when it has ended."""
        ended = None
        try:
            with member.watch.running():
                member.position = next(member.course)
            return
        except StopIteration:
            member.trainer.meter.memory.device_peak = None  # the allocator tells that of all together
            member.training.finish(member.trainer)
            ended = Ended(member.job.number, member.watch())
        except _ALL:
            raise
        except Interrupted as stopped:  # the others will be, at their next step
            self._stopped = self._stopped or stopped
        except OutOfMemory:
            self.short.append(member.job)
        except AdaptEOError as error:
            ended = Ended(member.job.number, member.watch(), error)
        self.active.remove(member)
        member.leave()
        if ended:
            yield ended

"""Cells in processes of their own: what goes wrong in one, even a crash, costs that cell and no other.

parent ── (cell, cost) ──▶ worker 0, GPU 0          each takes the next cell when it is free; when one dies, its
       ◀── Outcome ─────   worker 1, GPU 1 …        cell has failed, and a new one takes its place
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

import torch

from adapteo.bench.running import FAILED, Outcome, complete
from adapteo.bench.setting import Setting
from adapteo.bench.tables import Cell
from adapteo.errors import Interrupted, shorten

Task = tuple[Cell, bool]
"""A cell, and whether its cost is counted rather than the cell trained."""
_SPAWN = multiprocessing.get_context("spawn")  # a forked process could not use CUDA


def here(tasks: Sequence[Task], setting: Setting) -> Iterator[Outcome]:
    """Complete cells in this process; an unexpected error ends it.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, when what was reached is saved.
    """
    for cell, cost in tasks:
        try:
            outcome = complete(cell, setting, cost=cost)
        except (Interrupted, KeyboardInterrupt):
            raise _stopped() from None
        yield outcome


def spread(tasks: Sequence[Sequence[Task]], setting: Setting, jobs: int) -> Iterator[Outcome]:
    """Complete cells in other processes.

    Args:
        tasks: groups of cells; those of a group go to one process, in order (a search precedes what uses its rate).
        setting: how.
        jobs: processes at a time; where there are several GPUs, each gets one.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, when all processes have saved what they had.
    """
    waiting = [list(group) for group in tasks if group]
    workers: list[_Worker] = []
    with _asked_to_stop():
        try:
            for number in range(min(jobs, len(waiting))):
                workers.append(_Worker.start(number, setting))
            for worker in workers:
                worker.take(waiting)
            while busy := [worker for worker in workers if worker.group]:
                for ready in wait([worker.pipe for worker in busy]):
                    worker = next(worker for worker in busy if worker.pipe is ready)
                    yield worker.receive(setting)
                    if not worker.group:
                        worker.take(waiting)
        except KeyboardInterrupt:
            for worker in workers:
                worker.stop()
            raise _stopped() from None
        finally:
            for worker in workers:
                worker.pipe.close()
                worker.process.join()


def _stopped() -> Interrupted:
    return Interrupted("stopped; what is finished is kept", fix="the same command goes on from there")


@dataclass
class _Worker:
    """A process, and what it has to do."""

    number: int
    process: BaseProcess
    pipe: Connection
    log: Path
    group: list[Task]

    @classmethod
    def start(cls, number: int, setting: Setting) -> "_Worker":
        pipe, other = _SPAWN.Pipe()
        log = setting.folder / f"worker-{number}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        process = _SPAWN.Process(target=_work, args=(other, setting, log))
        with _one_device(number):
            process.start()
        other.close()
        return cls(number, process, pipe, log, [])

    def take(self, waiting: list[list[Task]]) -> None:
        """Begin the next group, if there is one."""
        if waiting:
            self.group = waiting.pop(0)
            self._begin()

    def receive(self, setting: Setting) -> Outcome:
        """Outcome of the cell in work; a new process where this one has died of it."""
        cell, cost = self.group.pop(0)
        try:
            outcome = self.pipe.recv()
        except EOFError:
            self.process.join()
            if self.process.exitcode == 130:
                raise KeyboardInterrupt from None
            outcome = Outcome(cell, FAILED, self._last_words(), cost=cost)
            vars(self).update(process=(new := _Worker.start(self.number, setting)).process, pipe=new.pipe)
        if self.group:
            self._begin()
        return outcome

    def stop(self) -> None:
        """Ask the process to save and end, and wait for it; a second Ctrl-C waits no longer."""
        self.process.terminate()
        try:
            self.process.join()
        except KeyboardInterrupt:
            self.process.kill()

    def _begin(self) -> None:
        try:
            self.pipe.send(self.group[0])
        except BrokenPipeError:  # died in between; `receive` finds out
            return

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        said = "it said nothing" if said.startswith(_BEGIN) else shorten(said)
        return f"its process ended with {self.process.exitcode}: {said} (see {self.log})"


_BEGIN = "-- process "


def _work(pipe: Connection, setting: Setting, log: Path) -> None:
    """What a process does: cells, until there are no more, or the parent is gone."""
    os.setsid()  # Ctrl-C goes to the parent only, which passes it on: a second signal would mean "at once"
    signal.signal(signal.SIGTERM, _interrupt)
    with log.open("a", encoding="utf-8", buffering=1) as file:
        file.write(f"{_BEGIN}{os.getpid()}\n")
        os.dup2(file.fileno(), sys.stderr.fileno())
        try:
            while True:
                cell, cost = pipe.recv()
                pipe.send(complete(cell, setting, cost=cost))
        except EOFError:
            return
        except (Interrupted, KeyboardInterrupt):
            sys.exit(130)


@contextmanager
def _one_device(number: int) -> Iterator[None]:
    """Let a process that is started inside see one of several GPUs only."""
    count = torch.cuda.device_count()
    given = os.environ.get(_DEVICES)
    if count > 1:
        names = given.split(",") if given else [str(index) for index in range(count)]
        os.environ[_DEVICES] = names[number % len(names)]
    try:
        yield
    finally:
        if given is not None:
            os.environ[_DEVICES] = given
        elif count > 1:
            del os.environ[_DEVICES]


_DEVICES = "CUDA_VISIBLE_DEVICES"


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _asked_to_stop() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

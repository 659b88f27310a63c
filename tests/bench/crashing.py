"""Stands in for the work of a process; in a file of its own, because other processes import it."""

import os
import signal
import time

from adapteo.bench import workers
from adapteo.bench.running import DONE, Outcome
from adapteo.errors import Interrupted
from adapteo.train import Trainer

BUG, KILLED, STOPPED = 101, 102, 103
"""Seeds of cells to which something happens."""


def _complete(cell, setting, *, cost):
    if cell.seed == BUG:
        raise RuntimeError("a bug")
    if cell.seed == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if cell.seed == STOPPED:
        raise Interrupted("stopped")
    time.sleep(0.2)
    return Outcome(cell, DONE, result={"process": os.getpid()}, cost=cost)


def work(pipe, setting, log):
    """What a process does, with other cells."""
    workers.complete = _complete
    _WORK(pipe, setting, log)


def work_slowly(pipe, setting, log):
    """What a process does, with a training that waits for a signal before its first step."""
    real = Trainer._step

    def step(self, group):
        deadline = time.monotonic() + 60
        while not self.stopping.is_set() and time.monotonic() < deadline:
            time.sleep(0.05)
        return real(self, group)

    Trainer._step = step
    _WORK(pipe, setting, log)


_WORK = workers._work

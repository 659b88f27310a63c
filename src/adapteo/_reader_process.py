"""A process that reads windows for another one, which started it: `adapteo._readers`. It imports no torch.

Jobs come through standard input and answers go through what was standard output, both pickled; pixels go into memory
that both share. The process ends when its input does: when the other one closes it, or is killed.
"""

import logging
import mmap
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import numpy as np

from adapteo._scene_images import Opener, SceneImages, Share
from adapteo.data.gdal import block_cache, with_settings

CACHE = (8 * 2**20, 128 * 2**20)
"""Bytes of GDAL's cache of decoded blocks beside those of a row of windows, and the most that all may take."""
Warned = tuple[str, type[Warning], str, int]
Logged = tuple[str, int, str]


@dataclass(frozen=True)
class Setup:
    """What a reader has to know before its first job.

    Attributes:
        openers: of the images.
        shares: what it reads of each of them; None for nothing.
        settings: of GDAL.
        largest: height and width of the largest window.
    """

    openers: Sequence[Opener]
    shares: Sequence[Share | None]
    settings: dict[str, object]
    largest: tuple[int, int]


@dataclass(frozen=True)
class Job:
    """Read the share of a window ``(t * c, h, w)`` of images into shared memory.

    Attributes:
        images: their number.
        row, col: upper left pixel of the window.
        at: first number of the window in the memory.
        shape: of the window.
    """

    images: int
    row: int
    col: int
    at: int
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Answer:
    """What came of a job, other than pixels.

    Attributes:
        error: what was raised.
        warned: message, category, file and line of each warning.
        logged: logger, level and text of each message.
    """

    error: BaseException | None
    warned: tuple[Warned, ...]
    logged: tuple[Logged, ...]


def main(memory: int) -> None:
    """Read until there is nothing more to be done.

    Args:
        memory: file descriptor of the shared memory.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this decides
    jobs, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get among the answers
    running: Future[None] | None = None
    with ThreadPoolExecutor(1) as pool:  # this thread has to notice when there is nobody left to read for
        reader = _Reader(np.frombuffer(mmap.mmap(memory, 0), np.float32))
        try:
            reader.setup = pickle.load(jobs)
            while True:
                job = pickle.load(jobs)
                running = pool.submit(reader.read, job)
                running.add_done_callback(partial(_answer, reader, answers))
        except EOFError:
            if running is not None and not running.done():
                os._exit(0)
            pool.submit(reader.close).result()  # in the thread that has opened what it closes


class _Reader:
    """Images that are opened when they are first read, and what was said about them."""

    setup: Setup

    def __init__(self, memory: np.ndarray) -> None:
        self._memory = memory
        self._stack = ExitStack()
        self._opened: dict[int, SceneImages] = {}
        self._log = _Collected()
        logging.getLogger().addHandler(self._log)
        self.warned: list[warnings.WarningMessage] = []

    def read(self, job: Job) -> None:
        with warnings.catch_warnings(record=True) as self.warned:
            warnings.simplefilter("always")
            if job.images not in self._opened:
                self._open(job.images)
            share = self.setup.shares[job.images]
            assert share is not None
            window = self._memory[job.at : job.at + int(np.prod(job.shape))].reshape(job.shape)
            left, right = share.columns(job.col, job.shape[2])
            for first, last in share.channels if left < right else ():
                out = window[first:last, :, left:right]
                self._opened[job.images].read_channels((first, last), job.row, job.col + left, out)

    def _open(self, number: int) -> None:
        if not self._opened:
            self._stack.enter_context(with_settings(self.setup.settings))
        images = self._stack.enter_context(self.setup.openers[number]())
        self._opened[number] = images
        needed = max(self._needed(number) for number in self._opened)
        self._stack.enter_context(block_cache(min(CACHE[0] + needed, CACHE[1])))  # opening has set another size

    def _needed(self, number: int) -> int:
        share = self.setup.shares[number]
        assert share is not None
        height, width = self.setup.largest
        return self._opened[number].block_bytes(height, -(-width // share.of), share.channels)

    def close(self) -> None:
        self._stack.close()

    def said(self) -> tuple[tuple[Warned, ...], tuple[Logged, ...]]:
        """Warnings and messages since the last call."""
        warned = tuple((str(w.message), w.category, w.filename, w.lineno) for w in self.warned)
        logged = tuple(self._log.texts)
        self.warned, self._log.texts = [], []
        return warned, logged


class _Collected(logging.Handler):
    """Keeps messages until somebody asks for them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[Logged] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append((record.name, record.levelno, record.getMessage()))


def _answer(reader: _Reader, answers: BinaryIO, done: "Future[None]") -> None:
    error = done.exception()
    try:
        pickle.dump(Answer(_portable(error), *reader.said()), answers)
        answers.flush()
    except BrokenPipeError:
        os._exit(0)


def _portable(error: BaseException | None) -> BaseException | None:
    """The same error with the place where it was raised as a note, or one that says the same, if it cannot travel."""
    if error is None:
        return None
    error.add_note("in a process that reads:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except (pickle.PicklingError, TypeError, AttributeError, ValueError):
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error

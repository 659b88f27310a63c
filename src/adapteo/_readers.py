"""Several processes that read the windows of images, each with its own open files, into memory that all share.

The processes are started anew (`adapteo._reader_process`), never forked, and import neither torch nor the program that
started them. The shared memory has no name: nothing of it is left when the processes end, however they do, and it is
no part of ``/dev/shm``, which is 64 MB in most containers.
"""

import contextlib
import logging
import mmap
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import BinaryIO, cast

import numpy as np

from adapteo._reader_process import Answer, Job, Setup
from adapteo._scene_images import SceneImages
from adapteo.data import gdal
from adapteo.errors import AdaptEOError, ConfigError

_PATIENCE = 5.0  # seconds until a process that does not end is ended


class Readers:
    """Processes that read; use it in a ``with`` block.

    Args:
        images: each with an opener.
        count: of the processes, at most.
        largest: height and width of the largest window that is to be read.
        numbers: that are needed in memory.

    Attributes:
        memory: ``(numbers,)`` float32, shared with the processes.

    Raises:
        ConfigError: this system cannot share memory in this way.
    """

    def __init__(self, images: Sequence[SceneImages], count: int, largest: tuple[int, int], numbers: int) -> None:
        if os.name != "posix":
            raise ConfigError("several readers need Linux or macOS", fix="leave `readers` at 1")
        self._shares = [each.shares(count) for each in images]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._seen: dict[str | tuple[str, type[Warning], int], int] = {}  # of warnings, so that each place warns once
        descriptor = _anonymous(4 * max(numbers, 1))
        try:
            self.memory = np.frombuffer(mmap.mmap(descriptor, 0), np.float32)
            settings, openers = gdal.settings(), [each.opener for each in images if each.opener is not None]
            for number in range(max(map(len, self._shares))):
                self._processes.append(_start(descriptor))
                own = [shares[number] if number < len(shares) else None for shares in self._shares]
                _send(self._processes[-1], Setup(openers, own, settings, largest))
        except (OSError, AdaptEOError):
            self._end()
            raise
        finally:
            os.close(descriptor)

    def __enter__(self) -> "Readers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        """Let the processes end: what they read from is closed. A thread that waits for one of them hears that."""
        for process in self._processes:
            with contextlib.suppress(BrokenPipeError):  # of a process that ended before it had read what was sent
                cast(BinaryIO, process.stdin).close()
        for process in self._processes:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            cast(BinaryIO, process.stdout).close()

    def read(self, images: int, row: int, col: int, at: int, shape: tuple[int, int, int]) -> None:
        """Fill `memory` from a place on with a window ``(t * c, h, w)``; its upper left pixel is (row, col).

        Raises:
            AdaptEOError: a process has come to an end by itself.
            Whatever reading raises.
        """
        busy = self._processes[: len(self._shares[images])]
        job = Job(images, row, col, at, shape)
        for process in busy:
            _send(process, job)
        answers = [_receive(process) for process in busy]
        for answer in answers:
            self._tell(answer)
        for answer in answers:
            if answer.error is not None:
                raise answer.error

    def _tell(self, answer: Answer) -> None:
        for message, category, file, line in answer.warned:
            warnings.warn_explicit(message, category, file, line, registry=self._seen)
        for name, level, text in answer.logged:
            logging.getLogger(name).log(level, "%s", text)


def divisible(images: Sequence[object]) -> list[SceneImages]:
    """The images, if other processes can open all of them; else none."""
    found = [one for one in images if isinstance(one, SceneImages) and one.opener is not None]
    return found if len(found) == len(images) else []


def _anonymous(size: int) -> int:
    """File descriptor of memory without a name."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("adapteo")
    else:
        with tempfile.TemporaryFile(prefix="adapteo-") as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def _start(descriptor: int) -> "subprocess.Popen[bytes]":
    # In a session of its own: Ctrl-C in a terminal is for this process, which then ends the others.
    program = f"import sys; sys.path[:] = {sys.path!r}; from adapteo._reader_process import main; main({descriptor})"
    return subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(descriptor,),
        start_new_session=True,
    )  # fmt: skip


def _send(process: "subprocess.Popen[bytes]", message: object) -> None:
    pipe = cast(BinaryIO, process.stdin)
    try:
        pickle.dump(message, pipe)
        pipe.flush()
    except (BrokenPipeError, ValueError) as error:  # ValueError: closed, as nobody wants the answer
        raise _ended(process) from error


def _receive(process: "subprocess.Popen[bytes]") -> Answer:
    try:
        answer: Answer = pickle.load(cast(BinaryIO, process.stdout))
    except (EOFError, ValueError, pickle.UnpicklingError) as error:
        raise _ended(process) from error
    return answer


def _ended(process: "subprocess.Popen[bytes]") -> AdaptEOError:
    try:
        code = process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        code = 0
    how = f"was killed (signal {-code})" if code < 0 else f"ended by itself (code {code})"
    return AdaptEOError(
        f"a process that reads the scene {how}",
        fix="is there enough memory? Go on with fewer readers, e.g. --readers 1",
    )

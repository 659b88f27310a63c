"""What processes that read are given to open in tests; imports no torch, as they do not."""

import logging
import os
import signal
import time
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from adapteo._read_ahead import Reading, read_ahead
from adapteo._scene_images import Inputs, SceneImages, open_dates

SIZE = 48


class Odd(Exception):
    """Cannot travel: it is made of two things and keeps one."""

    def __init__(self, one, other):
        super().__init__(f"{one} {other}")


@contextmanager
def opened(path, habit):
    """A scene with a habit: "warns", "dies", "odd" or "waits"."""
    with open_dates([path], Inputs()) as images:
        yield Habit(images, habit)


class Habit(SceneImages):
    def __init__(self, images, habit):
        super().__init__(images.scenes, Inputs())
        self.habit = habit

    def read_channels(self, channels, row, col, out):
        super().read_channels(channels, row, col, out)
        if self.habit == "warns":
            warnings.warn("the sun was low", UserWarning, stacklevel=1)
            logging.getLogger("gdal").error("a block is odd")
        if self.habit == "odd" and row:
            raise Odd("a", np.float32(1))
        if self.habit == "dies" and row:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.habit == "waits" and row:
            Path(self.scenes[0].path).with_name(f"waiting-{os.getpid()}").touch()
            time.sleep(600)


def rows_of(images, readers):
    """Pixels of rows of windows over the whole image, and over a part that begins elsewhere."""
    height, width = images[0].shape[2:]
    rows = [
        Reading(layer, top, lefts)
        for lefts in ([0, 36, width - SIZE], [17, 60])
        for top in range(0, height - SIZE + 1, 36)
        for layer in range(len(images))
    ]
    return [row.pixels.copy() for row in read_ahead(images, rows, SIZE, width, readers)]


def with_habit(path, habit, readers=2):
    with open_dates([path], Inputs()) as images:
        images.opener = partial(opened, path, habit)
        return rows_of([images], readers)

"""Made-up labelled images for tests of whole runs: small, deterministic, learnable, with regions and a hold-out.

A subprocess gets them by the dotted path ``toy:Toy`` with this folder on PYTHONPATH, like ``tiny:TinySpec``.
"""

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from adapteo import config, experiment
from adapteo.contracts import IGNORE, Dataset, Sample
from adapteo.errors import AdaptEOError, DataError, Interrupted

HERE = Path(__file__).parent
_FORKS = multiprocessing.get_context("forkserver")  # imports once, then starts processes at once
_FORKS.set_forkserver_preload(["toy", "tiny", "lightning_fabric", "adapteo.decoders.unet", "adapteo.peft.lora"])
BANDS = ("blue", "green", "red")
CLASSES = ("land", "water", "forest")


@dataclass(frozen=True)
class Toy(Dataset):
    """Blocks of 8 x 8 pixels, each of one class with its own reflectance, under noise.

    Attributes:
        kind: of labels: "segmentation", "classification", "multilabel" or "regression".
        counts: samples in train, val, test and the hold-out "abroad".
        side: pixels.
        noise: standard deviation of the reflectance.
        ignored: "none", or "uneven": every second image has hardly any label.
        missing: key that cannot be read.
        odd: every second image has only half the height.
        delay: seconds that reading takes, so that a test can interrupt.
    """

    kind: str = "segmentation"
    counts: tuple[int, int, int, int] = (6, 4, 4, 3)
    side: int = 16
    noise: float = 0.03
    ignored: str = "none"
    missing: str = ""
    odd: bool = False
    delay: float = 0.0

    asked: ClassVar[list[str]] = []
    opened: ClassVar[list[str]] = []

    @property
    def bands(self) -> tuple[str, ...]:
        return BANDS

    @property
    def classes(self) -> tuple[str, ...]:
        return () if self.kind == "regression" else CLASSES

    @property
    def task(self) -> str:
        return self.kind

    @property
    def holdouts(self) -> tuple[str, ...]:
        return ("abroad",)

    def split(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        count = dict(zip(("train", "val", "test", "abroad"), self.counts, strict=True))[name]
        return [f"{name}-{i:02d}" for i in range(count)]

    def group(self, key: str) -> str:
        return ("north", "south")[int(key[-2:]) % 2]

    def read(self, key: str, bands: Sequence[str] | None = None) -> Sample:
        self.opened.append(key)
        time.sleep(self.delay)
        if key == self.missing:
            raise DataError(f"{key} cannot be read")
        place, number = key.split("-")
        random = np.random.default_rng([*place.encode(), int(number)])
        height = self.side // 2 if self.odd and int(number) % 2 else self.side
        whole = int(random.integers(3))
        blocks = random.integers(0, 3, (-(-height // 8), -(-self.side // 8)))
        if self.kind == "classification":
            blocks[random.random(blocks.shape) < 0.7] = whole
        truth = blocks.repeat(8, 0).repeat(8, 1)[:height, : self.side]
        colours = np.array([[0.05, 0.1, 0.15], [0.12, 0.07, 0.04], [0.04, 0.14, 0.08]], np.float32)
        image = colours[truth].transpose(2, 0, 1)[None] + random.normal(0, self.noise, (1, 3, *truth.shape))
        image = image.astype(np.float32)[:, [BANDS.index(band) for band in bands or BANDS]]
        return Sample(key, image, self._target(truth, whole, int(number)), self.group(key))

    def _target(self, truth: np.ndarray, whole: int, number: int) -> np.ndarray:
        if self.kind == "classification":
            return np.array(whole, np.int64)
        if self.kind == "multilabel":
            return np.array([(truth == c).any() for c in range(3)], np.float32)
        mostly = self.ignored == "uneven" and number % 2
        if self.kind == "regression":
            values = truth.astype(np.float32) / 2 + 0.25
            values[: -3 if mostly else 1] = np.nan
            return values
        target = truth.astype(np.int64)
        target[: -3 if mostly else 1] = IGNORE
        return target

    def fingerprint(self) -> str:
        return repr(self)


def spell(folder: Path, *overrides: str, **toy: object) -> config.Run:
    """A run of two epochs on `Toy` with `TinySpec`; ``toy`` are fields of the dataset."""
    base = {
        "dataset": Toy(**toy),
        "backbone": {"name": "tiny:TinySpec", "depth": 2},
        "method": {"name": "lora", "rank": 2},
        "decoder": "linear",
        "train": {"epochs": 2, "batch": 2, "workers": 0, "accelerator": "cpu", "rate": 1e-2},
        "out": str(folder),
    }
    return config.load(base, overrides)


def write_config(path: Path, run: config.Run) -> Path:
    """The same as a YAML file, with `out` beside it."""
    path.write_text(config.dump(run), encoding="utf-8")
    return path


def start(run: config.Run, messages: Path, *, resume: bool = False, processes: int = 1) -> list:
    """Train in other processes, data-parallel when there are several; exit codes and messages as of the command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        parallel = {"LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {key: str(value) for key, value in parallel.items()} if processes > 1 else {}
        process = _FORKS.Process(target=_fit, args=(run, messages, resume, environment))
        process.start()
        started.append(process)
    return started


def _fit(run: config.Run, messages: Path, resume: bool, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        experiment.fit(run, resume=resume)
    except AdaptEOError as error:
        with messages.open("a") as file:
            file.write(f"{error}\n")
        sys.exit(130 if isinstance(error, Interrupted) else 2)


def command(*args: object, cwd: Path) -> subprocess.CompletedProcess:
    """Start ``adapteo …`` (or a script) as a person would."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    for name in ("LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        environment.pop(name, None)
    adapteo = Path(sys.executable).with_name("adapteo")
    line = [str(adapteo), *map(str, args)]
    return subprocess.run(line, cwd=cwd, env=environment, text=True, capture_output=True, timeout=120, check=False)


def other(run: config.Run, folder: Path, **train: object) -> config.Run:
    """The same run in another folder, with other training keys."""
    return replace(run, out=folder, train=replace(run.train, **train))

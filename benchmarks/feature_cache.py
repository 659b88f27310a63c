"""How long is an epoch on stored features, against one that passes the images through the frozen backbone?

    python -m benchmarks feature_cache
    python -m benchmarks feature_cache --methods frozen side --decoder unet --rounds 5

Prithvi 1.0-100M with random weights, 224 x 224 pixels of six bands, labels per pixel, the trainer and its loaders as in
`adapteo fit`, for the linear probe and the networks beside a frozen trunk. A run without stored features and one with
them take turns, epoch by epoch, so that a busy machine slows both alike; of each the second and later epochs are
measured, up to their last step: validation and the state that is saved between epochs are not in it. The uncached run
has its decoded images in memory. The augmentation is "none" unless asked for: with "d4" an epoch is as quick as soon as
the looks that it draws are stored, each of the 8 once.

Goal: an epoch on stored features at least 20 times faster. Beside it stands what the arithmetic alone would give: the
operations of a training step with the frozen backbone, over those without, as `adapteo plan` counts them.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from adapteo import config
from adapteo._processes import launch
from adapteo.assembly import adapt_model, assemble, loader
from adapteo.config import FeatureCaching
from adapteo.feature_cache import with_features
from adapteo.machine import Limit
from adapteo.plan import Planner
from adapteo.train import Observer, Trainer
from benchmarks._rows import Goal, Row, arguments, ratio, seconds, tell
from benchmarks.data_wait import write_chips

GOAL = Goal(20.0, least=True)
_WARM = 40
"""Epochs before the measured ones when looks are drawn: until all are stored."""


def main(given: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--methods", nargs="+", default=["frozen", "lst", "side"])
    parser.add_argument("--chips", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--variant", default="1.0-100M")
    parser.add_argument("--decoder", default="linear")
    parser.add_argument("--augment", default="none", choices=("none", "d4"))
    parser.add_argument("--store", default="bf16", choices=("bf16", "float32", "int8"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    options = parser.parse_args(given)
    if options.quick:
        options.rounds, options.chips, options.batch, options.variant = 1, 4, 2, "2.0-tiny-TL"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_chips(root, options.chips)
        tell("feature_cache", options, [row for method in options.methods for row in _rows(root, method, options)])


def _rows(root: Path, method: str, options: argparse.Namespace) -> Iterator[Row]:
    """Both ways of one method, in turns."""
    store = root / f"features-{method}"
    plain = _spelt(root, method, "off", options)
    cached = _spelt(root, method, FeatureCaching(options.store, store), options)
    warm = 1 + (_WARM if options.augment == "d4" else 0)
    without, later = _Epochs(plain, 1 + options.rounds), _Epochs(cached, warm + options.rounds)
    for _ in range(warm - 1):
        later.one()
    for _ in range(1 + options.rounds):
        without.one()
        later.one()
    name, chips = f"{method}, {options.decoder}", len(plain.dataset.split("train"))
    yield Row(name, "stored per image", sum(path.stat().st_size for path in store.iterdir()) / chips, "B")
    yield seconds(name, without.seconds[1:], "epoch without: time")
    yield seconds(name, later.seconds[:1], "first, which stores: time")
    yield seconds(name, later.seconds[warm:], "later: time")
    yield ratio(f"{name}: without / later", "time", without.seconds[1:], later.seconds[warm:], GOAL)
    yield ratio(f"{name}: without / later", "processor time", without.busy[1:], later.busy[warm:], GOAL)
    needs = [Planner(run, Limit(None, "a benchmark", gpu=False, here=False)).need(method) for run in (plain, cached)]
    yield Row(name, "arithmetic without", needs[0].operations, "FLOP")
    yield Row(name, "later", needs[1].operations, "FLOP")
    yield Row(name, "without / later", needs[0].operations / needs[1].operations, "ratio")


class _Epochs(Observer):
    """Trains on a thread of its own, epoch by epoch when asked, and keeps the time of each up to its last step."""

    def __init__(self, run: config.Run, epochs: int) -> None:
        self.seconds: list[float] = []
        self.busy: list[float] = []
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._began = self._last = (0.0, 0.0)
        self._epochs = epochs
        self._training = ThreadPoolExecutor(1).submit(self._train, run)
        self._training.add_done_callback(lambda _: self._done.release())
        self._done.acquire()

    def one(self) -> None:
        """Train one more epoch, while all other runs rest."""
        self._go.release()
        self._done.acquire()
        if self._training.done():
            self._training.result()  # raises what the training has raised

    # ---- on the thread that trains

    def _train(self, run: config.Run) -> None:
        self._trainer(replace(run, train=replace(run.train, epochs=self._epochs))).fit(self, resume=False)

    def _trainer(self, run: config.Run) -> Trainer:
        fabric = launch(run.train)
        assembled = assemble(run)
        model = assembled.model
        adapt_model(model, run, run.dataset.classes)
        run.out.mkdir(parents=True)
        loaders = (loader(run, "train", assembled.bands, shuffled=True), loader(run, "val", assembled.bands))
        return Trainer(
            fabric=fabric,
            model=model,
            task=run.task,
            train=run.train,
            rate=run.method.default_rate,
            loaders=with_features(run, model, loaders, untouched=False, autocast=fabric.autocast, note=print),
            classes=run.dataset.classes,
            folder=run.out,
            keep_best=lambda metrics: None,
        )

    def steps(self, total: int, done: int) -> None:
        """Wait for the first turn."""
        self._rest()

    def step(self, loss: float | None) -> None:
        """Note the time: of the last step of an epoch it stays."""
        self._last = (time.perf_counter(), time.process_time())

    def epoch(self, row: Mapping[str, float]) -> None:
        """Keep the time, and wait for the next turn."""
        self.seconds.append(self._last[0] - self._began[0])
        self.busy.append(self._last[1] - self._began[1])
        if row["epoch"] < self._epochs:
            self._rest()

    def _rest(self) -> None:
        self._done.release()
        self._go.acquire()
        self._began = (time.perf_counter(), time.process_time())


def _spelt(root: Path, method: str, caching: "str | FeatureCaching", options: argparse.Namespace) -> config.Run:
    features = caching if isinstance(caching, str) else {"store": caching.store, "folder": str(caching.folder)}
    return config.load(
        {
            "dataset": {
                "name": "folder", "root": str(root), "images": "*_image.tif", "masks": "*_mask.tif",
                "scale": 1e-4, "class_names": ["land", "water"],
                "splits": {"by": "random", "fractions": [0.5, 0.25, 0.25] if options.quick else [0.8, 0.1, 0.1]},
            },
            "backbone": {"name": "prithvi", "variant": options.variant, "weights": "random"},
            "method": method, "decoder": options.decoder,
            "train": {
                "batch": options.batch, "augment": options.augment, "precision": options.precision,
                "accelerator": "cpu", "head_start": False, "cache_features": features,
            },
            "out": str(root / f"{method}-{'off' if caching == 'off' else 'on'}"),
        }
    )  # fmt: skip


if __name__ == "__main__":
    main()

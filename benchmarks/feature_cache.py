"""How long is an epoch on stored features, against one that passes the images through the frozen backbone?

    python -m benchmarks feature_cache
    python -m benchmarks.feature_cache --methods frozen side --decoder unet --rounds 5 --json feature_cache.json

Prithvi 1.0-100M with random weights, 224 x 224 pixels of six bands, labels per pixel, the trainer and its loaders as in
`adapteo fit`, for the linear probe and the networks beside a frozen trunk. A run without stored features and one with
them take turns, epoch by epoch, so that a busy machine slows both alike; of each the second and later epochs are
measured, up to their last step: validation and the state that is saved between epochs are not in it. The uncached run
has its decoded images in memory. The augmentation is "none" unless asked for: with "d4" an epoch is as quick as soon as
the looks that it draws are stored, each of the 8 once.

Goal: an epoch on stored features at least 20 times faster. What the arithmetic allows is printed beside it: operations
of a training step with and without the frozen backbone, as the plan has them.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from adapteo import config
from adapteo._processes import launch
from adapteo.assembly import adapt_model, assemble, loader
from adapteo.config import FeatureCaching
from adapteo.feature_cache import with_features
from adapteo.machine import Limit
from adapteo.plan import Planner
from adapteo.train import Observer, Trainer
from benchmarks.data_wait import write_chips

GOAL = 20.0
_WARM = 40
"""Epochs before the measured ones when looks are drawn: until all are stored."""


def main() -> None:
    """Measure, print the ratios with their spread, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["frozen", "lst", "side"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chips", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--variant", default="1.0-100M")
    parser.add_argument("--decoder", default="linear")
    parser.add_argument("--augment", default="none", choices=("none", "d4"))
    parser.add_argument("--store", default="bf16", choices=("bf16", "float32", "int8"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_chips(Path(folder), options.chips)
        for method in options.methods:
            rows.append(_row(Path(folder), method, options))
            _print(rows[-1], options)
    if options.json:
        facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), **vars(options)}
        options.json.write_text(json.dumps({**facts, "json": str(options.json), "rows": rows}, indent=2))


def _row(root: Path, method: str, options: argparse.Namespace) -> dict[str, object]:
    """Both ways of one method, in turns."""
    store = root / f"features-{method}"
    plain, cached = (
        _spelt(root, method, caching, options) for caching in ("off", FeatureCaching(options.store, store))
    )
    warm = 1 + (_WARM if options.augment == "d4" else 0)
    ways = _Epochs(plain, 1 + options.rounds), _Epochs(cached, warm + options.rounds)
    for _ in range(warm - 1):
        ways[1].one()
    for _ in range(1 + options.rounds):
        for way in ways:
            way.one()
    for way in ways:
        way.thread.join()
    needs = [Planner(run, Limit(None, "a benchmark", gpu=False, here=False)).need(method) for run in (plain, cached)]
    return {
        "method": method,
        "chips": len(plain.dataset.split("train")),
        "stored_bytes": sum(path.stat().st_size for path in store.iterdir()),
        "operations": [need.operations for need in needs],
        "first": ways[1].seconds[0],
        "uncached": ways[0].seconds[1:],
        "cached": ways[1].seconds[warm:],
        "uncached_busy": ways[0].busy[1:],
        "cached_busy": ways[1].busy[warm:],
    }


def _print(row: Mapping[str, object], options: argparse.Namespace) -> None:
    chips, size = row["chips"], row["stored_bytes"] / 2**20
    print(
        f"{row['method']}: {options.variant}, {options.decoder}, {chips} chips, {options.store}: {size:.0f} MiB stored"
    )
    for name, times in (("uncached", row["uncached"]), ("first, stores", [row["first"]]), ("later", row["cached"])):
        median = statistics.median(times)
        print(f"  {name:15}{median:9.3f} s   ({min(times):.3f} .. {max(times):.3f})   {chips / median:8.1f} chips/s")
    for what, end in (("time", ""), ("processor time", "_busy")):
        found = [a / b for a, b in zip(row[f"uncached{end}"], row[f"cached{end}"], strict=True)]
        spread = f"rounds {min(found):.1f} .. {max(found):.1f}"
        print(f"  uncached / later, {what}: {statistics.median(found):.1f} ({spread}; goal >= {GOAL:g})")
    before, after = row["operations"]
    print(f"  operations of a step: {before / 1e9:.2f} / {after / 1e9:.2f} GFLOP per image = {before / after:.1f}")


class _Epochs(Observer):
    """Trains on a thread of its own, epoch by epoch when asked, and keeps the time of each up to its last step."""

    def __init__(self, run: config.Run, epochs: int) -> None:
        self.seconds: list[float] = []
        self.busy: list[float] = []
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._failed: BaseException | None = None
        self._epochs = epochs
        run = replace(run, train=replace(run.train, epochs=epochs))
        self.thread = threading.Thread(target=self._train, args=(run,), daemon=True)
        self.thread.start()
        self._done.acquire()

    def one(self) -> None:
        """Train one more epoch, while all other runs rest."""
        self._go.release()
        self._done.acquire()
        if self._failed is not None:
            raise self._failed

    # ---- on the thread that trains

    def _train(self, run: config.Run) -> None:
        try:
            self._trainer(run).fit(self, resume=False)
        except BaseException as error:
            self._failed = error
            raise
        finally:
            self._done.release()

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
    run = config.load(
        {
            "dataset": {
                "name": "folder", "root": str(root), "images": "*_image.tif", "masks": "*_mask.tif",
                "scale": 1e-4, "class_names": ["land", "water"],
                "splits": {"by": "random", "fractions": [0.8, 0.1, 0.1]},
            },
            "backbone": {"name": "prithvi", "variant": options.variant, "weights": "random"},
            "method": method, "decoder": options.decoder,
            "train": {
                "batch": options.batch, "augment": options.augment, "precision": options.precision,
                "accelerator": "cpu", "head_start": False,
            },
            "out": str(root / f"{method}-{'off' if caching == 'off' else 'on'}"),
        }
    )  # fmt: skip
    return replace(run, train=replace(run.train, cache_features=caching))


if __name__ == "__main__":
    main()

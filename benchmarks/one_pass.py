"""What do several trainings take in one pass over the data, against one after the other?

    python -m benchmarks one_pass
    python -m benchmarks one_pass --decoder linear --runs 8

Prithvi 1.0-100M with random weights, `method: frozen`, 224 x 224 pixels of six bands, labels per pixel, four learning
rates of a UNet decoder without a head start: whole calls of `adapteo.fit_many` on all of them, and on one after the
other, with plan, validation and files. "uncached": `cache_features: off`, so that each alone passes every image through
the backbone in each epoch, and all together once. "cached": what the backbone makes is on disk before, in bf16. The two
ways take turns, so that a busy machine slows both alike; processor time is that of all threads.

The ratio has a limit: with c the time of what n trainings share and d that of each one's own, n (c + d) / (c + n d).
A decoder that takes as long as the backbone halves at best what is spent, however many share it.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from adapteo import config
from adapteo.config import FeatureCaching, Run
from adapteo.one_pass import fit_many
from benchmarks._rows import Row, arguments, ratio, seconds, tell
from benchmarks.data_wait import write_chips


def main(given: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--chips", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--variant", default="1.0-100M")
    parser.add_argument("--decoder", default="unet")
    options = parser.parse_args(given)
    if options.quick:
        options.rounds, options.runs, options.epochs, options.chips, options.batch = 1, 2, 1, 10, 4
        options.variant, options.decoder = "2.0-tiny-TL", "linear"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_chips(root, options.chips)
        tell("one_pass", options, list(_rows(root, options)))


def _rows(root: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Both ways, without and with what is stored."""
    runs = _runs(root, options)
    stored = FeatureCaching("bf16", root / "features")
    cached = [replace(run, train=replace(run.train, cache_features=stored)) for run in runs]
    _time(root, cached[:1])  # computes what it stores
    for name, these in (("uncached", runs), ("cached", cached)):
        apart, together = _measure(root, these, options.rounds)
        name = f"{options.decoder}, {name}"
        yield seconds(f"{name}, one after the other", [time for time, _ in apart])
        yield seconds(f"{name}, in one pass", [time for time, _ in together])
        for unit, quantity in enumerate(("time", "processor time")):
            ours, theirs = [each[unit] for each in apart], [each[unit] for each in together]
            yield ratio(f"{name}: one after the other / in one pass", quantity, ours, theirs)


def _measure(root: Path, runs: Sequence[Run], rounds: int) -> tuple[list[tuple[float, float]], ...]:
    """Time and processor time of one after the other, and of all in one pass, in turns."""
    apart, together = list[tuple[float, float]](), list[tuple[float, float]]()
    for _ in range(rounds):
        alone = [_time(root, [run]) for run in runs]
        apart.append((sum(time for time, _ in alone), sum(busy for _, busy in alone)))
        together.append(_time(root, runs))
    return apart, together


def _time(root: Path, runs: Sequence[Run]) -> tuple[float, float]:
    """Seconds of a call, and of the processor."""
    began, busy = time.perf_counter(), time.process_time()
    fit_many(runs)
    spent = time.perf_counter() - began, time.process_time() - busy
    shutil.rmtree(root / "runs")
    return spent


def _runs(root: Path, options: argparse.Namespace) -> list[Run]:
    first = config.load(
        {
            "dataset": {
                "name": "folder", "root": str(root), "images": "*_image.tif", "masks": "*_mask.tif",
                "scale": 1e-4, "class_names": ["land", "water"],
                "splits": {"by": "random", "fractions": [0.8, 0.1, 0.1]},
            },
            "backbone": {"name": "prithvi", "variant": options.variant, "weights": "random"},
            "method": "frozen", "decoder": options.decoder,
            "train": {
                "batch": options.batch, "epochs": options.epochs, "augment": "none", "head_start": False,
                "cache_features": "off",
            },
            "out": str(root / "runs/0"),
        }
    )  # fmt: skip
    rates = [1e-4 * 2.0**number for number in range(options.runs)]
    return [
        replace(first, train=replace(first.train, rate=rate), out=root / f"runs/{number}")
        for number, rate in enumerate(rates)
    ]


if __name__ == "__main__":
    main()

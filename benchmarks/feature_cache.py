"""How long is an epoch on stored features, against one that passes the images through the frozen backbone?

    python -m benchmarks feature_cache
    python -m benchmarks.feature_cache --decoder unet --rounds 5 --json feature_cache.json

Prithvi 1.0-100M with random weights, `method: frozen`, 224 x 224 pixels of six bands, labels per pixel; an epoch is
loading, forward, loss, backward and step over all batches. Both have their second and later epochs measured, in turns,
so that a busy machine slows both alike; the uncached one has its decoded images in memory. The augmentation is "none"
unless asked for: with "d4" an epoch is as quick as soon as the looks that it draws are stored, each of the 8 once.

Goal: an epoch on stored features at least 20 times faster, for the linear probe.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from adapteo import config
from adapteo.assembly import adapt_model, assemble, loader
from adapteo.config import FeatureCaching
from adapteo.feature_cache import with_features
from adapteo.model import frozen_in_eval
from benchmarks.data_wait import write_chips

GOAL = 20.0


def main() -> None:
    """Measure, print the ratio with its spread, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chips", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--variant", default="1.0-100M")
    parser.add_argument("--decoder", default="linear")
    parser.add_argument("--augment", default="none", choices=("none", "d4"))
    parser.add_argument("--store", default="bf16", choices=("bf16", "float32", "int8"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_chips(root, options.chips)
        run = _run(root, options)
        stored = FeatureCaching(options.store, root / "features")
        plain, cached = _Epochs(run, "off"), _Epochs(run, stored)
        plain.run()
        cached.run()  # computes what it stores
        first = cached.seconds[0]
        if options.augment == "d4":
            for _ in range(40):  # until all looks are there
                cached.run()
        for part in (plain, cached):
            part.seconds, part.busy = [], []
        for _ in range(options.rounds):
            plain.run()
            cached.run()
        size = sum(path.stat().st_size for path in (root / "features").iterdir())
    ratios = [a / b for a, b in zip(plain.seconds, cached.seconds, strict=True)]
    chips = len(run.dataset.split("train"))
    print(f"{options.variant}, {options.decoder}, {chips} chips, {options.store}: {size / 2**20:.0f} MiB stored")
    for name, times in (("uncached", plain.seconds), ("first, stores", [first]), ("later", cached.seconds)):
        median = statistics.median(times)
        print(f"{name:15}{median:9.3f} s   ({min(times):.3f} .. {max(times):.3f})   {chips / median:8.1f} chips/s")
    busy = [a / b for a, b in zip(plain.busy, cached.busy, strict=True)]
    for what, found in (("time", ratios), ("processor time", busy)):
        spread = f"rounds {min(found):.1f} .. {max(found):.1f}"
        print(f"uncached / later, {what}: {statistics.median(found):.1f} ({spread}; goal for the probe >= {GOAL:g})")
    if options.json:
        facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), **vars(options), "chips": chips}
        facts |= {"json": str(options.json), "first": first, "uncached": plain.seconds, "cached": cached.seconds}
        options.json.write_text(json.dumps(facts | {"ratios": ratios}, indent=2))


class _Epochs:
    """Trains epoch after epoch and keeps the time of each."""

    def __init__(self, run: config.Run, caching: "str | FeatureCaching") -> None:
        self.run_, self.seconds, self.busy, self.epoch = run, [], [], 0
        run = config.replace(run, train=config.replace(run.train, cache_features=caching))
        assembled = assemble(run)
        self.model = assembled.model
        adapt_model(self.model, run, run.dataset.classes)
        loaders = (loader(run, "train", assembled.bands, shuffled=True), loader(run, "val", assembled.bands))
        self.loader = with_features(
            run, self.model, loaders, untouched=False, autocast=contextlib.nullcontext, note=print
        )[0]
        self.optimiser = torch.optim.AdamW(self.model.decoder.parameters(), 1e-3, fused=True)

    def run(self) -> None:
        """Train one more epoch."""
        task, began, busy = self.run_.task, time.perf_counter(), time.process_time()
        for batch in self.loader.epoch(self.epoch):
            frozen_in_eval(self.model)
            loss = task.loss(self.model(batch), batch.target, task.weight(batch.target))
            loss.backward()
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
        self.epoch += 1
        self.seconds.append(time.perf_counter() - began)
        self.busy.append(time.process_time() - busy)


def _run(root: Path, options: argparse.Namespace) -> config.Run:
    return config.load(
        {
            "dataset": {
                "name": "folder", "root": str(root), "images": "*_image.tif", "masks": "*_mask.tif",
                "scale": 1e-4, "class_names": ["land", "water"],
                "splits": {"by": "random", "fractions": [0.8, 0.1, 0.1]},
            },
            "backbone": {"name": "prithvi", "variant": options.variant, "weights": "random"},
            "method": "frozen", "decoder": options.decoder,
            "train": {"batch": options.batch, "augment": options.augment}, "out": str(root / "run"),
        }
    )  # fmt: skip


if __name__ == "__main__":
    main()

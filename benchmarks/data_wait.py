"""Does reading GeoTIFF chips keep the training step waiting? And how far is reading from bare rasterio?

96 deflate-compressed chips of 6 bands, 224 x 224 pixels, int16, with masks, as HLS or Sentinel-2 sets have them. The
model is the smallest Prithvi (2.0-tiny-TL, random weights) with LoRA and a linear decoder: the quickest step, hence the
hardest case. Each epoch after the first counts. "read each time" switches the memory for decoded samples off.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from adapteo import config
from adapteo.assembly import assemble, loader
from adapteo.bands import HLS6
from adapteo.contracts import adapt
from adapteo.data.loader import Loader, Reading
from adapteo.data.raster import Raster, read_raster, write_image
from adapteo.model import frozen_in_eval
from benchmarks._counting import in_turns
from benchmarks._rows import Row, Spread, arguments, ratio, seconds, tell

CHIPS, SIDE, BATCH = 96, 224, 8
BARE = "bare rasterio, one thread"


def measured(options: argparse.Namespace) -> Iterator[Row]:
    """Reading speed, and the share of the time that training waits."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_chips(root, options.chips)
        run = config.load(
            {
                "dataset": {
                    "name": "folder", "root": folder, "images": "*_image.tif", "masks": "*_mask.tif",
                    "scale": 1e-4, "class_names": ["land", "water"],
                    "splits": {"by": "random", "fractions": [0.8, 0.1, 0.1]},
                },
                "backbone": {"name": "prithvi", "variant": "2.0-tiny-TL", "weights": "random"},
                "method": "lora", "decoder": "linear", "train": {"batch": BATCH}, "out": str(root / "run"),
            }
        )  # fmt: skip
        paths, keys = sorted(root.glob("*_image.tif")), run.dataset.split("train")
        readers = {BARE: lambda: [read_raster(path, masked=False) for path in paths]}
        for workers in (0, 1, 2):
            ours = Loader(run.dataset, keys, BATCH, reading=Reading(workers, memory=0.0, disk=0.0))
            readers[f"loader with masks and scaling, {workers} threads"] = lambda ours=ours: list(ours.epoch(0))
        times = in_turns(readers, options.rounds)
        per_chip = {n: [t / (len(paths) if n == BARE else len(keys)) for t in each] for n, each in times.items()}
        for name, each in per_chip.items():
            yield Row(name, "rate", 1 / min(each), "chips/s", spread=Spread.of([1 / t for t in each]))
            yield ratio(name, f"time / {BARE}", each, per_chip[BARE])
        for label, memory in (("read each time", 0.0), ("kept in memory", 1.0)):
            waits, steps = _training(run, memory, options.rounds)
            yield Row(f"training, {label}", "waits, share", min(waits), "ratio", spread=Spread.of(waits))
            yield seconds(f"training, {label}", steps, "step")


def _training(run: config.Run, memory: float, epochs: int) -> tuple[list[float], list[float]]:
    """Share of each epoch after the first that training waits for data, and seconds per step."""
    assembled = assemble(run)
    model = assembled.model
    adapt(model.backbone, run.method)
    frozen_in_eval(model)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    source = loader(run, "train", assembled.bands, shuffled=True)
    source.reading = Reading(run.train.workers, memory=memory, disk=0.0)
    waits, steps = [], []
    for epoch in range(epochs + 1):
        waited, began = source.waited, time.perf_counter()
        for batch in source.epoch(epoch):
            assert batch.target is not None
            loss = run.task.loss(model(batch), batch.target, run.task.weight(batch.target))
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        took = time.perf_counter() - began
        if epoch:
            waits.append((source.waited - waited) / took)
            steps.append(took / len(source))
    return waits, steps


def write_chips(root: Path, count: int = CHIPS) -> None:
    """Write labelled chips with a texture that deflate can compress a little, as it can imagery."""
    random = np.random.default_rng(0)
    place = (10.0, 0.0, 600000.0, 0.0, -10.0, 5700000.0)
    for i in range(count):
        coarse = random.normal(1500, 400, (6, SIDE // 8, SIDE // 8))
        image = coarse.repeat(8, 1).repeat(8, 2) + random.normal(0, 60, (6, SIDE, SIDE))
        write_image(root / f"{i:03d}_image.tif", Raster(image.astype(np.int16), HLS6, -9999, "EPSG:32632", place))
        mask = (image[3] > 1500).astype(np.uint8)[None]
        write_image(root / f"{i:03d}_mask.tif", Raster(mask, ("mask",), None, "EPSG:32632", place))


def main(given: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--chips", type=int, default=CHIPS)
    options = parser.parse_args(given)
    if options.quick:
        options.rounds, options.chips = 1, 10
    tell(Path(__file__).stem, options, measured(options))


if __name__ == "__main__":
    main()

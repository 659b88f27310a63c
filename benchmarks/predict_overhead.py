"""What predicting a scene costs beside the model: reading, blending and writing against the `nano` backbone.

    python -m benchmarks predict_overhead
    python -m benchmarks predict_overhead --sides 3000 --windows 256

Scenes have six bands like HLS (uint16, tiled, compressed, with missing pixels) and are mapped with a threshold instead
of a model, each in a process of its own, which tells its peak memory. The map is finished: Cloud-Optimised, with
overviews, and read back. The model is the smallest there is, `nano` with a linear decoder, on as many windows of the
same size: it is timed on a few batches, a fraction of the windows that is printed, and multiplied. Best of the repeats
for both.

Goal: under 15 %, and a peak that does not grow with the scene.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from adapteo.backbones.nano import Nano
from adapteo.bands import HLS6
from adapteo.contracts import Batch, Normalisation
from adapteo.decoders.linear import Linear
from adapteo.model import Model, features
from adapteo.predict import Inputs, MapLegend, Windows, predict_scene
from benchmarks._rows import Goal, Row, Spread, arguments, tell
from benchmarks.predict_memory import ROOT, peak_mib

SIDES, WINDOWS = (5_000, 10_000), (256,)
BATCHES, GOAL = 4, Goal(0.15)
TILE = 512


def measured(options):
    """Rows of each scene and size of windows."""
    with tempfile.TemporaryDirectory() as folder:
        for side in options.sides:
            scene = Path(folder) / f"{side}.tif"
            make_scene(scene, side)
            for size in options.windows:
                cut = Windows(size=size)
                found = [(*measure(scene, size), nano(cut)) for _ in range(options.rounds)]
                count, around, whole = (
                    found[0][0],
                    [each[1] for each in found],
                    [each[3] * found[0][0] for each in found],
                )
                what = f"{side} x {side} pixels, windows of {size}"
                yield Row(what, "windows", count, "")
                yield Row(what, "time of predicting", min(around), "s", spread=Spread.of(around))
                yield Row(what, "time of nano", min(whole), "s", spread=Spread.of(whole))
                yield Row(what, "of it measured", options.rounds * BATCHES * cut.batch / count, "ratio")
                yield Row(what, "peak", max(each[2] for each in found), "MiB")
                shares = Spread.of([a / b for a, b in zip(around, whole, strict=True)])
                yield Row(f"{what}, beside nano", "time", min(around) / min(whole), "ratio", GOAL, shares)


def make_scene(path, side):
    """Write reflectance times 10,000: noise around a smooth surface, a corner missing, a row of tiles at a time."""
    import rasterio
    from rasterio.windows import Window

    profile = {"driver": "GTiff", "width": side, "height": side, "count": len(HLS6), "dtype": "uint16", "nodata": 0}
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
    tiles = {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "compress": "deflate", "predictor": 2, "zlevel": 1}
    rng = np.random.default_rng(0)
    wave = 1500 + 800 * np.sin(np.arange(side) / 500)
    with rasterio.open(path, "w", **profile, **place, **tiles) as file:
        for row in range(0, side, TILE):
            rows = min(TILE, side - row)
            surface = (wave + rng.integers(0, 64, (len(HLS6), rows, side))).astype(np.uint16)
            surface[:, np.add.outer(np.arange(row, row + rows), np.arange(side)) < side // 2] = 0
            file.write(surface, window=Window(0, row, side, rows))


def measure(scene, size):
    """Windows with something to see, seconds and peak MiB of mapping a scene in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.predict_overhead", "--predict", str(scene), "--windows", str(size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    count, seconds, peak = done.stdout.split()
    return int(count), float(seconds), float(peak)


def predict(scene, cut):
    """Number of windows that had anything to see, and the seconds of mapping them with a threshold."""
    out = torch.empty(cut.batch, 2, cut.size, cut.size)
    count = 0

    def threshold(images):
        nonlocal count
        count += len(images)
        torch.gt(images[:, 0, 3], 0.15, out=out[: len(images), 0])
        torch.le(images[:, 0, 3], 0.15, out=out[: len(images), 1])
        return out[: len(images)]

    legend = MapLegend(("land", "water"))
    start = time.perf_counter()
    predict_scene(threshold, scene, scene.with_name("map.tif"), legend, inputs=Inputs(scale=1e-4), windows=cut)
    return count, time.perf_counter() - start


def nano(cut):
    """Seconds that backbone and linear decoder need for one window: the best of some batches."""
    torch.manual_seed(0)
    backbone = Nano(weights="random").build(HLS6)
    decoder = Linear().build(features(backbone), 2, True)
    normalisation = Normalisation((0.15,) * len(HLS6), (0.05,) * len(HLS6), "made up")
    model = Model(backbone, decoder, normalisation).eval()
    batch = Batch(torch.rand(cut.batch, 1, len(HLS6), cut.size, cut.size))
    seconds = []
    with torch.inference_mode():
        for _ in range(1 + BATCHES):
            start = time.perf_counter()
            model(batch)
            seconds.append(time.perf_counter() - start)
    return min(seconds[1:]) / cut.batch


def child(scene, size):
    """Run in the child process: print windows, seconds and peak memory in MiB."""
    print(*predict(scene, Windows(size=size)), peak_mib())


def main(given=None):
    """Measure, print and write."""
    parser = arguments(__doc__, rounds=2)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="sides of the scenes in pixels")
    parser.add_argument("--windows", type=int, nargs="+", default=WINDOWS, help="sides of the windows in pixels")
    parser.add_argument("--predict", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if options.predict:
        child(options.predict, options.windows[0])
        return
    if options.quick:
        options.rounds, options.sides, options.windows = 1, (300,), (64,)
    tell(Path(__file__).stem, options, measured(options))


if __name__ == "__main__":
    main()

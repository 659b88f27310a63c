"""What predicting a scene costs beside the model: reading, blending and writing against the `nano` backbone.

    python -m benchmarks predict_overhead
    python benchmarks/predict_overhead.py --sides 3000 --windows 256

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

SIDES, WINDOWS = (5_000, 10_000), (256,)
REPEATS, BATCHES = 2, 4
TILE = 512


def main(sides=SIDES, windows=WINDOWS):
    """Print one line per scene and size of windows; return the shares."""
    shares = []
    print(f"{len(HLS6)} bands, {torch.get_num_threads()} threads")
    columns = ("side", "size", "windows", "predict s", "nano s", "timed", "share", "peak MiB")
    print(" ".join(f"{name:>9}" for name in columns))
    with tempfile.TemporaryDirectory() as folder:
        for side in sides:
            scene = Path(folder) / f"{side}.tif"
            make_scene(scene, side)
            for size in windows:
                cut = Windows(size=size)
                pairs = [(*measure(scene, size), nano(cut)) for _ in range(REPEATS)]
                count, around, peak = pairs[0][0], min(pair[1] for pair in pairs), max(pair[2] for pair in pairs)
                whole = min(pair[3] for pair in pairs) * count
                shares.append(around / whole)
                timed = REPEATS * BATCHES * cut.batch / count
                numbers = f"{count:>9} {around:>9.1f} {whole:>9.1f} {timed:>9.1%} {shares[-1]:>9.1%} {peak:>9.0f}"
                print(f"{side:>9} {size:>9} {numbers}", flush=True)
    return shares


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
    command = [sys.executable, __file__, "--predict", str(scene), "--windows", str(size)]
    count, seconds, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
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
    from predict_memory import peak_mib

    print(*predict(scene, Windows(size=size)), peak_mib())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="sides of the scenes in pixels")
    parser.add_argument("--windows", type=int, nargs="+", default=WINDOWS, help="sides of the windows in pixels")
    parser.add_argument("--predict", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.predict:
        child(options.predict, options.windows[0])
    else:
        main(options.sides, options.windows)

"""What predicting a scene costs beside the model: reading, blending and writing against the `nano` backbone alone.

    python -m benchmarks predict_overhead
    python benchmarks/predict_overhead.py --side 10000 --windows 256

The scene has six bands like HLS (uint16, tiled, compressed, with missing pixels) and is mapped with a threshold instead
of a model. The backbone is the smallest there is, `nano`, without decoder, on as many windows of the same size; it is
timed on a few batches, spread over the repeats, and multiplied. Best of the repeats for both.

Goal: under 15 %.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from adapteo.backbones.nano import Nano
from adapteo.bands import HLS6
from adapteo.contracts import Batch
from adapteo.predict import Inputs, MapLegend, Windows, predict_scene

SIDE, WINDOWS = 3_000, (64, 128, 256)
REPEATS, BATCHES = 3, 2
TILE = 512


def main(side=SIDE, windows=WINDOWS):
    """Print one line per size of windows; return the shares."""
    shares = []
    print(f"{side} x {side} pixels, {len(HLS6)} bands, {torch.get_num_threads()} threads")
    print(f"{'size':>5} {'windows':>8} {'predict s':>10} {'nano s':>8} {'share':>7}")
    with tempfile.TemporaryDirectory() as folder:
        make_scene(Path(folder) / "scene.tif", side)
        for size in windows:
            cut = Windows(size=size)
            pairs = [(*predict(Path(folder), cut), nano(cut)) for _ in range(REPEATS)]
            count, around, alone = pairs[0][0], min(pair[1] for pair in pairs), min(pair[2] for pair in pairs)
            shares.append(around / (alone * count))
            print(f"{size:>5} {count:>8} {around:>10.2f} {alone * count:>8.1f} {shares[-1]:>7.1%}", flush=True)
    return shares


def make_scene(path, side):
    """Write reflectance times 10,000: noise around a smooth surface, a corner missing, a row of tiles at a time."""
    import rasterio
    from rasterio.windows import Window

    profile = {"driver": "GTiff", "width": side, "height": side, "count": len(HLS6), "dtype": "uint16", "nodata": 0}
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
    tiles = {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "compress": "deflate", "predictor": 2}
    rng = np.random.default_rng(0)
    wave = 1500 + 800 * np.sin(np.arange(side) / 500)
    with rasterio.open(path, "w", **profile, **place, **tiles) as file:
        for row in range(0, side, TILE):
            rows = min(TILE, side - row)
            surface = (wave + rng.integers(0, 64, (len(HLS6), rows, side))).astype(np.uint16)
            surface[:, np.add.outer(np.arange(row, row + rows), np.arange(side)) < side // 2] = 0
            file.write(surface, window=Window(0, row, side, rows))


def predict(folder, cut):
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
    predict_scene(threshold, folder / "scene.tif", folder / "map.tif", legend, inputs=Inputs(scale=1e-4), windows=cut)
    return count, time.perf_counter() - start


def nano(cut):
    """Seconds that the backbone needs for one window: the best of some batches."""
    backbone = Nano(weights="random").build(HLS6).eval()
    batch = Batch(torch.randn(cut.batch, 1, len(HLS6), cut.size, cut.size))
    seconds = []
    with torch.inference_mode():
        for _ in range(1 + BATCHES):
            start = time.perf_counter()
            backbone(batch)
            seconds.append(time.perf_counter() - start)
    return min(seconds) / cut.batch


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=SIDE, help="side of the scene in pixels")
    parser.add_argument("--windows", type=int, nargs="+", default=WINDOWS, help="sides of the windows in pixels")
    options = parser.parse_args()
    main(options.side, options.windows)

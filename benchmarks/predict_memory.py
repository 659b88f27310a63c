"""Peak memory of predicting a 5,000 x 5,000 and a 20,000 x 20,000 pixel scene, each in a process of its own.

    python -m benchmarks predict_memory
    python -m benchmarks predict_memory --sides 5000 20000 --rounds 3

The model is a threshold, so that what is measured is reading, blending and writing. Scenes are uint8 with two bands,
tiled and compressed, in a temporary folder. Peaks are medians of some processes.

The threshold takes memory for its results and gives it back, batch after batch, as every model does. The allocator
leaves holes meanwhile, by chance, so that the highest of many moments is higher than that of a few. This is told from
what prediction itself needs in two ways: the threshold also runs with results in memory that it keeps, and the small
scene is also predicted as many times over, in one process, as gives the pixels of the large one.
"""

import argparse
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks._rows import Row, Spread, arguments, tell

SIDES = (5_000, 20_000)
ROOT = Path(__file__).parents[1]


def measured(options):
    """Rows of each model and scene, and the ratios of the peaks."""
    sides = options.sides
    times = (sides[-1] // sides[0]) ** 2
    with tempfile.TemporaryDirectory() as folder:
        scenes = [Path(folder) / f"{side}.tif" for side in sides]
        for scene, side in zip(scenes, sides, strict=True):
            make_scene(scene, side)
        for model in ("threshold",) if options.quick else ("threshold", "kept"):
            peaks = []
            for scene, side, often in (*((*each, 1) for each in zip(scenes, sides, strict=True)),
                                       (scenes[0], sides[0], times)):  # fmt: skip
                what = f"{model}, {side} x {side}" + (f", {often} times over" if often > 1 else "")
                found, took = measure(scene, often, model, options.rounds)
                peaks.append(found)
                yield Row(what, "peak", statistics.median(found), "MiB", spread=Spread.of(found))
                yield Row(what, "time", min(took), "s", spread=Spread.of(took))
                yield Row(what, "rate", often * side**2 / 1e6 / min(took), "Mpixel/s")
            small, large, again = peaks[0], peaks[-2], peaks[-1]
            for name, other in (("first scene", small), (f"first scene {times} times over", again)):
                ratios = [a / b for a, b in zip(large, other, strict=True)]
                value = statistics.median(large) / statistics.median(other)
                yield Row(f"{model}, last / {name}", "peak", value, "ratio", spread=Spread.of(ratios))


def measure(scene, times, model, repeats):
    """Peaks in MiB and seconds of predicting in processes of their own."""
    command = [sys.executable, "-m", "benchmarks.predict_memory", "--predict", str(scene)]
    command += ["--model", model, "--times", str(times)]
    answers = [subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.split()
               for _ in range(repeats)]  # fmt: skip
    return [float(peak) for peak, _ in answers], [float(took) for _, took in answers]


def make_scene(path, side):
    """Write noise around a smooth surface, a tile row at a time."""
    import rasterio
    from rasterio.windows import Window

    profile = {"driver": "GTiff", "width": side, "height": side, "count": 2, "dtype": "uint8", "nodata": 0}
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    rng = np.random.default_rng(0)
    wave = 100 + 60 * np.sin(np.arange(side) / 500)
    with rasterio.open(path, "w", **profile, **place, **tiles) as file:
        for row in range(0, side, 512):
            rows = min(512, side - row)
            surface = wave + rng.integers(0, 8, (2, rows, side), dtype=np.int16)
            file.write(surface.astype(np.uint8), window=Window(0, row, side, rows))


def predict(scene, model, times):
    """Run in the child process: print peak memory in MiB and seconds."""
    import torch

    from adapteo.predict import Inputs, MapLegend, Windows, predict_scene

    windows = Windows()
    classes = torch.arange(2).view(1, -1, 1, 1)
    kept = torch.empty(windows.batch, 2, windows.size, windows.size)

    def threshold(images):
        return torch.softmax((images[:, 0, :1] - 1) * classes, dim=1)

    def threshold_kept(images):
        out = kept[: len(images)]
        torch.gt(images[:, 0, 0], 1, out=out[:, 1])
        torch.le(images[:, 0, 0], 1, out=out[:, 0])
        return out

    legend = MapLegend(("below", "above"))
    start = time.perf_counter()
    for _ in range(times):
        forward = threshold_kept if model == "kept" else threshold
        predict_scene(forward, scene, scene.parent / "map.tif", legend, inputs=Inputs(scale=0.01), windows=windows)
    print(peak_mib(), time.perf_counter() - start)


def peak_mib():
    """Peak memory of this program; on Linux getrusage would answer with its parent's at the start, if that is more."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
    return int(found[1]) / 2**10


def main(given=None):
    """Measure, print and write."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="sides of the scenes in pixels")
    parser.add_argument("--model", default="threshold", help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--predict", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if options.predict:
        predict(options.predict, options.model, options.times)
        return
    if options.quick:
        options.rounds, options.sides = 1, (400, 800)
    tell(Path(__file__).stem, options, measured(options))


if __name__ == "__main__":
    main()

"""Peak memory of predicting a 5,000 x 5,000 and a 20,000 x 20,000 pixel scene, each in a process of its own.

    python -m benchmarks predict_memory
    python benchmarks/predict_memory.py --sides 5000 20000 --classes 2 --repeats 3

The model is a threshold, so that what is measured is reading, blending and writing. Scenes are uint8 with two bands,
tiled and compressed, in a temporary folder. Peaks are medians; they vary by some MiB from run to run, and the highest
of many moments is higher than that of a few. Hence also the small scene as many times over in one process as gives the
pixels of the large one: what is left between the two is due to the size of the scene.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIDES = (5_000, 20_000)
REPEATS = 3


def main(sides=SIDES, classes=2, repeats=REPEATS):
    """Print one line per scene and the ratios of the peaks; return the peaks in MiB."""
    print(f"{'scene':>21} {'peak MiB':>9} {'range':>9} {'seconds':>8} {'Mpixel/s':>9} {'map MiB':>8}")
    with tempfile.TemporaryDirectory() as folder:
        scenes = [Path(folder) / f"{side}.tif" for side in sides]
        for scene, side in zip(scenes, sides, strict=True):
            make_scene(scene, side)
        peaks = [measure(*each, 1, classes, repeats) for each in zip(scenes, sides, strict=True)]
        times = (sides[-1] // sides[0]) ** 2
        again = measure(scenes[0], sides[0], times, classes, repeats) if times > 1 else peaks[0]
    print(f"peak of the last / of the first scene: {peaks[-1] / peaks[0]:.3f}")
    print(f"peak of the last / of the first scene, {times} times over: {peaks[-1] / again:.3f}")
    return peaks


def measure(scene, side, times, classes, repeats):
    """Predict in processes of their own; print a line; return the median of the peaks."""
    command = [sys.executable, __file__, "--predict", str(scene), "--classes", str(classes), "--times", str(times)]
    answers = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
               for _ in range(repeats)]  # fmt: skip
    peaks = [float(peak) for peak, _ in answers]
    seconds = min(float(each) for _, each in answers)
    label = f"{side} x {side}" + (f" x {times}" if times > 1 else "")
    span, size = f"{min(peaks):.0f}-{max(peaks):.0f}", (scene.parent / "map.tif").stat().st_size / 2**20
    speed = times * side**2 / 1e6 / seconds
    print(
        f"{label:>21} {statistics.median(peaks):>9.0f} {span:>9} {seconds:>8.1f} {speed:>9.1f} {size:>8.1f}", flush=True
    )
    return statistics.median(peaks)


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


def predict(scene, classes, times):
    """Run in the child process: print peak memory in MiB and seconds."""
    import torch

    from adapteo.predict import Inputs, MapLegend, predict_scene

    def threshold(images):
        return torch.softmax((images[:, 0, :1] - 1) * torch.arange(classes).view(1, -1, 1, 1), dim=1)

    legend = MapLegend(tuple(f"class {i}" for i in range(classes)))
    start = time.perf_counter()
    for _ in range(times):
        predict_scene(threshold, scene, scene.parent / "map.tif", legend, inputs=Inputs(scale=0.01))
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, time.perf_counter() - start)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="sides of the scenes in pixels")
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="processes per scene")
    parser.add_argument("--times", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--predict", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.predict:
        predict(options.predict, options.classes, options.times)
    else:
        main(options.sides, options.classes, options.repeats)

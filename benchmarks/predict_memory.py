"""Peak memory of predicting a 5,000 x 5,000 and a 20,000 x 20,000 pixel scene, each in a process of its own.

    python -m benchmarks predict_memory
    python benchmarks/predict_memory.py --sides 5000 20000 --classes 2

The model is a threshold, so that what is measured is reading, blending and writing. Scenes are uint8 with two bands,
tiled and compressed, in a temporary folder.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIDES = (5_000, 20_000)


def main(sides=SIDES, classes=2):
    """Print one line per scene and the ratio of the peaks; return the peaks in MiB."""
    peaks = []
    print(f"{'scene':>16} {'peak MiB':>10} {'seconds':>8} {'Mpixel/s':>9} {'map MiB':>8}")
    for side in sides:
        with tempfile.TemporaryDirectory() as folder:
            make_scene(Path(folder) / "scene.tif", side)
            command = [sys.executable, __file__, "--predict", folder, "--classes", str(classes)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            size = (Path(folder) / "map.tif").stat().st_size / 2**20
        peak, seconds = float(answer[0]), float(answer[1])
        peaks.append(peak)
        print(f"{side:>7} x {side:>6} {peak:>10.0f} {seconds:>8.1f} {side**2 / 1e6 / seconds:>9.1f} {size:>8.1f}")
    print(f"peak of the last / peak of the first: {peaks[-1] / peaks[0]:.3f}")
    return peaks


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


def predict(folder, classes):
    """Run in the child process: print peak memory in MiB and seconds."""
    import torch

    from adapteo.predict import Inputs, MapLegend, predict_scene

    def threshold(images):
        return torch.softmax((images[:, 0, :1] - 1) * torch.arange(classes).view(1, -1, 1, 1), dim=1)

    legend = MapLegend(tuple(f"class {i}" for i in range(classes)))
    start = time.perf_counter()
    predict_scene(threshold, folder / "scene.tif", folder / "map.tif", legend, inputs=Inputs(scale=0.01))
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, time.perf_counter() - start)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="sides of the scenes in pixels")
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--predict", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.predict:
        predict(options.predict, options.classes)
    else:
        main(options.sides, options.classes)

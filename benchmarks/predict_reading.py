"""How scenes are best read while a model works: by one reader, by several processes, or with GDAL's own threads.

    python -m benchmarks predict_reading
    python -m benchmarks.predict_reading --side 8064 --readers 1 2 4 8 --model 0.005

Two scenes are read as prediction reads them, in rows of windows that overlap by a quarter, each row ahead of the model:
a GeoTIFF (six bands in one file, deflate), and what Sentinel-2 is delivered as: a file of JPEG 2000 for each band, with
pixels of 10, 20 and 60 m, of which the coarser ones are resampled. The stand-in for the model waits, as a program waits
for its GPU, so that all cores are free to read. Ways of reading take turns, so that a busy machine slows all alike.
Starting the processes is part of the time, and of the processor time, which is that of all processes.
"""

import os
import resource
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
import torch

from adapteo._reader_process import CACHE
from adapteo._scene_images import Inputs, open_place
from adapteo.data.gdal import block_cache
from adapteo.windows import Layer, Windows, sweep
from benchmarks._rows import arguments, ratio, seconds, tell
from benchmarks.predict_overhead import make_scene

BANDS = {"B02": 10, "B03": 10, "B04": 10, "B8A": 20, "B11": 20, "B09": 60}
NAMES = ("blue", "green", "red", "nir08", "swir16", "nir09")
SIZE = 256


def main(given=None):
    """Measure, print and write."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--side", type=int, default=4032, help="of the scenes in pixels of 10 m; a multiple of 6")
    parser.add_argument("--readers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--model", type=float, default=0.01, help="seconds for a batch of windows")
    options = parser.parse_args(given)
    if options.quick:
        options.side, options.rounds, options.readers = 516, 1, [1, 2]
    with tempfile.TemporaryDirectory() as folder:
        tiff, product = Path(folder) / "scene.tif", Path(folder) / "product"
        make_scene(tiff, options.side)
        make_product(product, options.side)
        tell(
            "predict_reading",
            options,
            [*measure("GeoTIFF", tiff, (), options), *measure("JPEG 2000", product, NAMES, options)],
        )


def measure(name, path, bands, options):
    """Time and processor time of each way, and how they compare with one reader."""
    ways = {f"{count} reader{'s' if count > 1 else ''}": (count, "1") for count in options.readers}
    ways |= {"1 reader, GDAL's threads": (1, "ALL_CPUS")}
    times, work = {way: [] for way in ways}, {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, (readers, threads) in ways.items():
            wall, cpu = read(path, bands, readers, threads, options.model)
            times[way].append(wall)
            work[way].append(cpu)
    first = next(iter(ways))
    rows = []
    for way in ways:
        what = f"{name}, {way}"
        rows += [seconds(what, times[way]), seconds(what, work[way], "processor time")]
        rows += [ratio(what, "of one reader's time", times[way], times[first])]
    return rows


def read(path, bands, readers, threads, pause):
    """Seconds, and seconds of all processors, until the stand-in has had all windows and they are blended."""

    def forward(images):
        time.sleep(pause)
        return torch.zeros(len(images), 1, SIZE, SIZE)

    again = partial(open_place, (str(path),), bands, "sentinel2", Inputs())
    before, start = processors(), time.perf_counter()
    os.environ["GDAL_NUM_THREADS"] = threads  # readers inherit it
    with rasterio.Env(GDAL_NUM_THREADS=threads), again() as images:
        images.opener = again
        cut = Windows(size=SIZE)
        with block_cache(min(CACHE[0] + images.block_bytes(SIZE, cut.reach), CACHE[1])):
            for _ in sweep([Layer(forward, images)], 1, cut, readers=readers):
                pass
    return time.perf_counter() - start, processors() - before


def processors():
    """Seconds of all processors that this process and those it has ended have had."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def make_product(folder, side):
    """Write a file of JPEG 2000 for each band, without loss: noise around a smooth surface."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, metres in BANDS.items():
        pixels = side * 10 // metres
        wave = 1500 + 800 * np.sin(np.arange(pixels) * metres / 5000)
        numbers = (wave + wave[:, None] / 3 + rng.integers(0, 64, (pixels, pixels))).astype(np.uint16)
        place = {"crs": "EPSG:32632", "transform": rasterio.Affine(metres, 0, 5e5, 0, -metres, 5e6)}
        profile = {"driver": "JP2OpenJPEG", "width": pixels, "height": pixels, "count": 1, "dtype": "uint16"}
        lossless = {"QUALITY": "100", "REVERSIBLE": "YES"}
        with rasterio.open(folder / f"scene_{name}.jp2", "w", **profile, **place, **lossless) as file:
            file.write(numbers, 1)


if __name__ == "__main__":
    main()

"""How a scene is best read while a model works: one thread, threads with a handle each, GDAL's threads, processes.

    python -m benchmarks predict_reading
    python -m benchmarks.predict_reading --side 3000 --readers 4

A scene of six bands is read as prediction does it: in rows of windows that overlap by a quarter, into float32. Reading
alone says how fast each way can be. What counts is the last column: how long the rows take beside a stand-in for a
model that keeps every core busy with matrices, against the stand-in alone.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.windows import Window

from benchmarks.predict_overhead import make_scene

SIDE, SIZE, STEP, REPEATS = 4_000, 256, 192, 3
BANDS = range(1, 7)


def main(side=SIDE, readers=None):
    """Print one line per way of reading; return seconds of reading alone by way."""
    readers = readers or min(4, os.cpu_count() or 1)
    ways = {
        "one thread": lambda path: in_threads(path, 1),
        f"{readers} threads, a handle each": lambda path: in_threads(path, readers),
        f"GDAL, {readers} threads": lambda path: in_threads(path, 1, NUM_THREADS=readers),
        f"{readers} processes": lambda path: in_processes(path, readers),
    }
    alone = {}
    print(f"{side} x {side} pixels, {os.cpu_count()} cores\n{'':>28} {'alone s':>8} {'with model s':>13} {'longer':>7}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.tif"
        make_scene(path, side)
        rows = len(range(0, side - SIZE + 1, STEP))
        work = min(timed(lambda: [model() for _ in range(rows - 1)]) for _ in range(REPEATS))
        for name, way in ways.items():
            alone[name] = min(exhaust(way(path)) for _ in range(REPEATS))
            both = min(exhaust(way(path), model) for _ in range(REPEATS))
            print(f"{name:>28} {alone[name]:>8.2f} {both:>13.2f} {both / work - 1:>7.1%}", flush=True)
    return alone


def timed(call):
    """Seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def model(matrix=torch.rand(1024, 1024)):  # noqa: B008
    """Work for all cores, a small part of what `nano` does for a row of windows."""
    for _ in range(8):
        matrix @ matrix


def exhaust(rows, work=lambda: None):
    """Seconds of all rows but the first, each asked for one ahead, as prediction does, with work meanwhile."""
    next(rows)  # until then processes start
    start = time.perf_counter()
    with ThreadPoolExecutor(1) as ahead:
        pending = ahead.submit(next, rows, None)
        while pending.result() is not None:
            pending = ahead.submit(next, rows, None)
            work()
    return time.perf_counter() - start


def shares(count):
    """Bands for each of some readers."""
    return [list(part) for part in np.array_split(np.array(BANDS), count)]


def in_threads(path, count, **options):
    """Yield when a row is there; each thread reads some of the bands."""
    with ThreadPoolExecutor(count) as pool:
        files = [rasterio.open(path, **options) for _ in range(count)]
        out = np.empty((len(BANDS), SIZE, files[0].width), np.float32)
        places = [slice(bands[0] - 1, bands[-1]) for bands in shares(count)]

        def read(number, row):
            window = Window(0, row, files[number].width, SIZE)
            files[number].read(shares(count)[number], window=window, out=out[places[number]])

        for row in range(0, files[0].height - SIZE + 1, STEP):
            list(pool.map(read, range(count), [row] * count))
            yield row + 1
        for file in files:
            file.close()


def in_processes(path, count):
    """Yield when a row is there; each process reads some of the bands into shared memory."""
    with rasterio.open(path) as file:
        height, width = file.shape
    memory = SharedMemory(create=True, size=4 * len(BANDS) * SIZE * width)
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for bands in shares(count):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(theirs, memory.name, str(path), bands)))
        processes[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    for row in range(0, height - SIZE + 1, STEP):
        for pipe in pipes:
            pipe.send(row)
        for pipe in pipes:
            pipe.recv()
        yield row + 1
    for pipe in pipes:
        pipe.send(None)
    for process in processes:
        process.join()
    memory.close()
    memory.unlink()


def serve(pipe, name, path, bands):
    """Read rows on demand in a process."""
    memory = SharedMemory(name)
    with rasterio.open(path) as file:
        out = np.ndarray((len(BANDS), SIZE, file.width), np.float32, memory.buf)
        pipe.send(True)
        while (row := pipe.recv()) is not None:
            window = Window(0, row, file.width, SIZE)
            file.read(bands, window=window, out=out[bands[0] - 1 : bands[-1]])
            pipe.send(True)
        del out
    memory.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=SIDE, help="side of the scene in pixels")
    parser.add_argument("--readers", type=int, help="threads or processes")
    options = parser.parse_args()
    main(options.side, options.readers)

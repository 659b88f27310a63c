"""Data for the smoke runs: every dataset as a few generated images, laid out as its own files are.

What a smoke run is: the same code from files to test table, on images of 32 x 32 pixels, two per split, one step of two
images, from random weights; of a transformer the first two blocks, in full width; a residual network whole. Its
scores mean nothing and are not shown.
"""

import shutil
from pathlib import Path

from adapteo.bench.setting import SMOKE_BATCH, SMOKE_SIDE
from adapteo.bench.subjects import BENCHMARKS, LISTS
from adapteo.bench.tables import DRAWS
from adapteo.data import _samples_burn_scars, _samples_geobench, _samples_reben, _samples_sen1floods11
from adapteo.files import replacing

_PATCH = SMOKE_SIDE // 6 * 6
"""reBEN's patches are cut from a grid of 60 m, and padded afterwards."""


def write(folder: Path) -> None:
    """Write every dataset of the benchmark, unless they are there.

    Raises:
        ConfigError, DataError: a package is missing that writes one of the formats.
    """
    if folder.is_dir():
        return
    with replacing(folder) as beside:
        _samples_sen1floods11.write(beside / "sen1floods11", per_split=SMOKE_BATCH, side=SMOKE_SIDE)
        _samples_burn_scars.write(beside / "burn_scars", per_split=SMOKE_BATCH, side=SMOKE_SIDE)
        _samples_reben.write(beside / "reben", per_split=SMOKE_BATCH, side=_PATCH)
        subsets = ("m-cashew-plant", "m-SA-crop-type")
        _samples_geobench.write(beside / "geobench", per_split=SMOKE_BATCH, side=SMOKE_SIDE, subsets=subsets)
        official = "sen1floods11/v1.1/splits/flood_handlabeled"
        for dataset, lists in (
            ("sen1floods11", official),
            ("burn_scars", "burn_scars/splits"),
            ("reben", "reben/lists"),
        ):
            shutil.copytree(beside / lists, beside / dataset / LISTS)
        _write_draws(beside / "sen1floods11" / LISTS, "flood_train_data.csv", BENCHMARKS["sen1floods11"].draws)
        _write_draws(beside / "burn_scars" / LISTS, "train.txt", BENCHMARKS["burn_scars"].draws)


def _write_draws(lists: Path, whole: str, draws: str) -> None:
    """Each draw takes all the training images there are."""
    for draw in range(DRAWS):
        path = lists / draws.format(draw)
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(lists / whole, path)

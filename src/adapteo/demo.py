"""The main job on generated scenes, offline: few labels, four ways of using a small pretrained model, and a map.

    few labelled chips ──▶ from scratch | linear probe | LoRA | full fine-tuning ──▶ table: known regions, held-out
                                                └──▶ map of a scene of the held-out region

The scenes are synthetic (`adapteo.data.scenes`): the table shows how the comparison works and what it looks like, and
says nothing about a real place. One seed, the methods' default rates; intervals are over images.
"""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table as Grid

import adapteo
from adapteo.data.raster import Raster, read_raster, write_image
from adapteo.data.scenes import scene_map
from adapteo.errors import ConfigError
from adapteo.evaluate import ALL, Table
from adapteo.figures import map_figure, true_colour
from adapteo.files import replacing
from adapteo.fitted import FittedRun

LABELS, HOLDOUT, CHIPS, SIDE = "landcover", "delta", 96, 32
_MARK = "demo.json"


@dataclass(frozen=True)
class Way:
    """One row of the table."""

    title: str
    folder: str
    overrides: tuple[str, ...]


WAYS = (
    Way(
        "from scratch",
        "scratch",
        ("method=full", "backbone.weights=random", "train.head_start=false", "train.rate=1e-3"),
    ),
    Way("linear probe", "probe", ("method=frozen", "train.epochs=1", "train.rate=1e-9", "train.augment=none")),
    Way("LoRA", "lora", ("method=lora",)),
    Way("full fine-tuning", "full", ("method=full",)),
)


def configuration() -> dict[str, object]:
    """What all ways have in common; written as YAML it has a dozen lines."""
    return {
        "dataset": {
            "name": "scenes",
            "labels": LABELS,
            "size": 32,
            "train": CHIPS,
            "val": 32,
            "test": 96,
            "heldout": 96,
        },
        "backbone": "nano",
        "method": "lora",
        "decoder": "linear",
        "train": {"epochs": 15, "batch": 8, "schedule": "cosine"},
    }


def run(out: Path) -> None:
    """Run the demo.

    Args:
        out: folder for the runs, the scene, the map and its picture; what an earlier demo left there is replaced.

    Raises:
        ConfigError: the folder holds something else.
    """
    console = Console()
    began = time.perf_counter()
    _prepare(out)
    console.print(
        f"{CHIPS} labelled chips of {SIDE} x {SIDE} pixels from 4 regions; "
        f"tested there and in '{HOLDOUT}', which no training has seen",
        highlight=False,
        soft_wrap=True,
    )
    fitted: dict[str, FittedRun] = {}
    tables: dict[str, dict[str, Table]] = {}
    for way in WAYS:
        started = time.perf_counter()
        chosen = [*way.overrides, f"out={json.dumps(str(out / way.folder))}"]
        fitted[way.title] = adapteo.fit(configuration(), *chosen, show=False)
        tables[way.title] = dict(fitted[way.title].test().tables)
        console.print(f"  {way.title}: {time.perf_counter() - started:.0f} s")
    grid = Grid(
        title=f"\n{LABELS} mIoU with 95 % intervals over images", title_justify="left", box=None, pad_edge=False
    )
    for column in ("", "known regions", f"'{HOLDOUT}' (held out)", "trained", "MB", "s/step"):
        grid.add_column(column, justify="left" if not column else "right")
    rows = {title: _row(fitted[title], found) for title, found in tables.items()}
    for title, cells in rows.items():
        grid.add_row(title, *cells)
    console.print(grid)
    with replacing(out / _MARK) as beside:
        beside.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    best = fitted["LoRA"]
    picture = draw_map(best, out)
    size = sum(file.stat().st_size for file in (best.folder / "adapter").iterdir())
    console.print(f"\nadapter   {best.folder / 'adapter'} ({size / 1e6:.2f} MB)")
    console.print(f"map       {out / 'map.tif'}, with the place of {out / 'scene.tif'}")
    console.print(f"picture   {picture}")
    console.print(f"{time.perf_counter() - began:.0f} s in all")


def draw_map(fitted: FittedRun, out: Path) -> Path:
    """Make a scene of the held-out region, predict its map, and draw both beside the truth.

    Returns:
        The PNG.
    """
    made = scene_map(LABELS, HOLDOUT)
    raster = Raster(made.image, made.bands, made.nodata, f"EPSG:{made.epsg}", made.transform)
    write_image(out / "scene.tif", raster, made.scale)
    fitted.predict(out / "scene.tif", out / "map.tif", scaling=(made.scale, 0.0))
    image = read_raster(out / "scene.tif").array * np.float32(made.scale)
    labels = read_raster(out / "map.tif", masked=False).array[0].astype(np.int64)
    dataset = fitted.run.dataset
    known = made.truth != made.truth_nodata
    right = float((labels == made.truth)[known].mean())
    map_figure(
        out / "map.png",
        true_colour(image, made.bands),
        labels,
        dataset.classes,
        dataset.colours,
        title=f"a scene of the held-out region and its map ({right:.0%} of the pixels right)",
    )
    return out / "map.png"


def _row(fitted: FittedRun, found: dict[str, Table]) -> tuple[str, ...]:
    facts = json.loads((fitted.folder / "run.json").read_text(encoding="utf-8"))
    parameters = facts["parameters"]["backbone_trained"] + facts["parameters"]["decoder_trained"]
    scores = []
    for split in ("test", HOLDOUT):
        value, low, high = found[split].row(ALL).metrics["miou"]
        scores.append(f"{value:.3f} ({low:.2f}–{high:.2f})")
    memory = facts["memory_bytes"]["total"] / 1e6
    return (*scores, f"{parameters:,}", f"{memory:.0f}", f"{facts['seconds_per_step']:.3f}")


def _prepare(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()) and not (out / _MARK).is_file():
        raise ConfigError(f"{out} is not empty and holds no earlier demo", fix="choose another folder with --out")
    for way in WAYS:
        shutil.rmtree(out / way.folder, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).write_text("{}\n", encoding="utf-8")

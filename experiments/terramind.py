"""Land cover of a place never seen: trained on four TerraMind sites, tested on the fifth, all five ways.

    python -m experiments.terramind --data <terramind_examples> --weights <galileo_nano> --out runs/terramind

Protocol. Each 224-pixel site is cut into 16 chips of 56 pixels. Of a training site one quadrant (4 chips) validates and
12 chips train; which quadrant turns with the seed. The held-out site is only tested. LoRA and full have the same
budget: the rates of `RATES`, one run each with seed 0, the best on validation is kept for the further seeds; random
weights get the largest rate. Nothing is chosen on the held-out site, and each fold chooses for itself: another fold's
validation may hold this fold's site. The probe is the decoder of the head start, fitted on frozen features until the
validation loss stalls; the pixel baseline is a random forest on the bands of single pixels, its leaf size chosen on
validation.

Scores are of the confusion matrix of the held-out site: IoU of each class that occurs there, and their mean.
"""

import argparse
import csv
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import Affine
from rasterio.windows import Window
from sklearn.ensemble import RandomForestClassifier

import adapteo
from adapteo import config
from adapteo.data.radiometry import baseline_offset
from adapteo.data.raster import read_raster
from adapteo.evaluate import ALL
from adapteo.figures import Item, samples_figure, true_colour
from adapteo.files import replacing
from experiments.terramind_scores import CLASSES, COLOURS, FOREST, NAMES, PROBE, SITES, Outcome, render

L2A = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
SCALE = 1e-4
SIDE, CHIP = 224, 56
RATES = (1e-4, 3e-4, 1e-3)
LEAVES = (1, 10, 100)
WIDTHS = (64, 32, 16, 16)
"""Of the decoder: half of the default, as there are only 48 chips of 56 pixels to train on."""


@dataclass(frozen=True)
class Way:
    """One row of the table: a method on pretrained or random weights."""

    name: str
    method: dict[str, object]
    pretrained: bool = True


LORA = Way("lora", {"name": "lora", "rank": 8, "alpha": 8})
WAYS = (LORA, Way("full", {"name": "full"}), Way("full from random", {"name": "full"}, pretrained=False))


# ------------------------------------------------------------------------------------------------- data


def cut_chips(data: Path, root: Path) -> None:
    """Write 16 chips of each site as GeoTIFFs with their place: ``root/chips/<site>_<row><col>_{s2,lulc}.tif``."""
    (root / "chips").mkdir(parents=True, exist_ok=True)
    for site in SITES:
        for folder, suffix in (("S2L2A", "s2"), ("LULC", "lulc")):
            with rasterio.open(data / folder / f"{site}.tif") as source:
                for row, col in np.ndindex(SIDE // CHIP, SIDE // CHIP):
                    window = Window(col * CHIP, row * CHIP, CHIP, CHIP)
                    place = source.transform @ Affine.translation(col * CHIP, row * CHIP)
                    profile = source.profile | {"width": CHIP, "height": CHIP, "transform": place, "blockysize": CHIP}
                    with rasterio.open(root / "chips" / f"{site}_{row}{col}_{suffix}.tif", "w", **profile) as out:
                        out.write(source.read(window=window))


def write_index(root: Path, data: Path, held_out: str, seed: int, correct: bool) -> str:
    """Write the index of a fold; the quadrant that validates turns with the seed.

    The offset is found in each site as a whole and written into the index, because `offset: auto` would look at each
    chip, and a chip that is snow and cloud from edge to edge looks as if it had the offset (one of Ontario's has).
    """
    name = f"{held_out}_{seed}{'' if correct else '_uncorrected'}.csv"
    with (root / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "mask", "region", "split", "offset"))
        for number, site in enumerate(SITES):
            radiometric = baseline_offset(read_raster(data / "S2L2A" / f"{site}.tif").array * SCALE) if correct else 0.0
            for row, col in np.ndindex(SIDE // CHIP, SIDE // CHIP):
                quadrant = 2 * (2 * row * CHIP // SIDE) + 2 * col * CHIP // SIDE
                split = "test" if site == held_out else "val" if quadrant == (number + seed) % 4 else "train"
                chip = f"chips/{site}_{row}{col}"
                writer.writerow((f"{chip}_s2.tif", f"{chip}_lulc.tif", SITES[site], split, radiometric))
    return name


def dataset(root: Path, index: str, correct: bool) -> dict[str, object]:
    """The files have no band names, and mix products with and without the offset of processing baseline 04.00."""
    return {
        "name": "folder",
        "root": str(root),
        "index": index,
        "class_names": CLASSES,
        "band_names": L2A,
        "sensor": "sentinel2",
        "scale": SCALE,
        "offset": "auto" if correct else 0.0,  # of chips the index says it; auto is for scenes to be mapped
        "splits": {"by": "column", "column": "split", "train": "train", "val": "val", "test": "test",
                   "fractions": [1.0, 0.0, 0.0]},
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------- runs


@dataclass(frozen=True)
class Fold:
    """All that the runs of one held-out site share."""

    site: str
    data: Path
    weights: str
    out: Path
    epochs: int
    seeds: int

    def dataset(self, seed: int, offset: str) -> dict[str, object]:
        """Write the fold's index and configure its dataset."""
        root, correct = self.out / "data", offset == "auto"
        return dataset(root, write_index(root, self.data, self.site, seed, correct), correct)

    def run(self, way: Way, seed: int, rate: float, offset: str = "auto") -> list[Outcome]:
        """Train and test one model; with pretrained weights the probe comes along."""
        folder = self.folder(way.name, seed, rate, offset)
        kept = folder / "outcomes.json"
        if kept.is_file():
            return [Outcome(**entry) for entry in json.loads(kept.read_text())]
        started = time.process_time()
        fitted = adapteo.fit(
            {
                "dataset": self.dataset(seed, offset),
                "backbone": {"name": "galileo", "patch": 8, "ndvi": False,
                             "weights": self.weights if way.pretrained else "random"},
                "method": way.method,
                "decoder": {"name": "unet", "channels": WIDTHS},
                "train": {"epochs": self.epochs, "batch": 8, "seed": seed, "rate": rate, "schedule": "cosine",
                          "warmup": 6, "clip": 1.0, "patience": None, "head_start": way.pretrained, "workers": 0},
                "out": str(folder),
            },
            show=False,
        )  # fmt: skip
        seconds, report = time.process_time() - started, fitted.test(resamples=100)
        facts = json.loads((folder / "run.json").read_text())
        decoder = facts["parameters"]["decoder_trained"]
        trained = facts["parameters"]["backbone_trained"] + decoder
        found = [(way.name, report.tables, facts["validation"], trained, seconds)]
        if report.baselines:
            probe = facts["linear_probe"]
            found.append((PROBE, report.baselines, probe["metrics"], decoder, probe["seconds"]))
        outcomes = [
            Outcome(name, self.site, seed, rate, offset, metrics["miou"],
                    tables["test"].row(ALL).confusion.long().tolist(), parameters, took)
            for name, tables, metrics, parameters, took in found
        ]  # fmt: skip
        write_json([asdict(outcome) for outcome in outcomes], kept)
        return outcomes

    def folder(self, way: str, seed: int, rate: float, offset: str) -> Path:
        """Where a run is."""
        return self.out / "runs" / f"{self.site}-{way.replace(' ', '_')}-{rate:g}-{offset}-{seed}"

    def forest(self, seed: int, offset: str = "auto") -> Outcome:
        """Single pixels and a random forest: what the bands alone tell."""
        kept = self.folder(FOREST, seed, 0, offset).with_suffix(".json")
        if kept.is_file():
            return Outcome(**json.loads(kept.read_text()))
        started = time.process_time()
        data = config.load({"dataset": self.dataset(seed, offset), "backbone": "galileo", "method": "frozen",
                            "decoder": "unet"}).dataset  # fmt: skip
        bands = [band for band in data.bands if band not in ("coastal", "nir09")]  # those that Galileo takes
        (x, y), (x_val, y_val), (x_test, y_test) = (_pixels(data, part, bands) for part in ("train", "val", "test"))
        chosen = np.random.default_rng(seed).permutation(len(y))[:10_000]
        best, leaf, model = -1.0, 0, None
        for size in LEAVES:
            forest = RandomForestClassifier(100, min_samples_leaf=size, random_state=seed).fit(x[chosen], y[chosen])
            score = Outcome("", "", 0, 0, "", 0, _counts(y_val, forest.predict(x_val)), 0, 0)
            if (value := float(np.nanmean(score.iou()))) > best:
                best, leaf, model = value, size, forest
        counts = _counts(y_test, model.predict(x_test))
        found = Outcome(FOREST, self.site, seed, leaf, offset, best, counts, 0, time.process_time() - started)
        write_json(asdict(found), kept)
        return found

    def all(self) -> list[Outcome]:
        """Every way with every seed, the rate chosen with seed 0 on validation; LoRA and forest uncorrected as well."""
        torch.set_num_threads(1)
        outcomes: list[Outcome] = [self.forest(seed) for seed in range(self.seeds)] + [self.forest(0, "none")]
        for way in WAYS:
            tried = [self.run(way, 0, rate) for rate in (RATES if way.pretrained else RATES[-1:])]
            best = max(tried, key=lambda found: found[0].validation)
            outcomes += best
            for seed in range(1, self.seeds):
                outcomes += self.run(way, seed, best[0].rate)
            if way is LORA:
                outcomes += self.run(way, 0, best[0].rate, "none")
        return list({(o.way, o.seed, o.offset): o for o in outcomes}.values())  # the probe comes with two ways


def _pixels(data: config.Dataset, part: str, bands: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    samples = [data.read(key, bands) for key in data.split(part)]
    x = np.concatenate([s.image[0].reshape(len(bands), -1).T for s in samples])
    return x, np.concatenate([np.asarray(s.target).ravel() for s in samples])


def _counts(truth: np.ndarray, predicted: np.ndarray) -> list[list[int]]:
    k = len(NAMES)
    counts: list[list[int]] = np.bincount(truth * k + predicted, minlength=k * k).reshape(k, k).tolist()
    return counts


def write_json(value: object, path: Path) -> None:
    """Write beside and rename."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(value, indent=1))


def draw(folds: Sequence[Fold], outcomes: Sequence[Outcome], data: Path, out: Path) -> None:
    """Map each held-out site as a whole with its own LoRA model, and draw all five beside the truth."""
    items = []
    for fold in folds:
        outcome = next(o for o in outcomes if (o.way, o.site, o.seed, o.offset) == ("lora", fold.site, 0, "auto"))
        run = adapteo.load(fold.folder("lora", 0, outcome.rate, "auto"))
        scene = data / "S2L2A" / f"{fold.site}.tif"
        written = run.predict(scene, out / f"{fold.site}_map.tif")
        with rasterio.open(scene) as image, rasterio.open(written) as drawn:
            if (drawn.crs, drawn.transform, drawn.shape) != (image.crs, image.transform, image.shape):
                raise RuntimeError(f"{written} does not lie where {scene} does")
            picture, labels = true_colour(image.read().astype(np.float32), run.run.dataset.bands), drawn.read(1)
        with rasterio.open(data / "LULC" / f"{fold.site}.tif") as file:
            truth = file.read(1).astype(np.int64) - 1
        items.append(Item(SITES[fold.site], picture, truth, labels, outcome.miou(), "never seen"))
    samples_figure(out / "terramind_maps.png", items, NAMES, COLOURS, metric="mIoU")


def main() -> None:
    """Train what is not there yet, then write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("data", "weights", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    cut_chips(given.data, given.out / "data")
    folds = [Fold(site, given.data, str(given.weights), given.out, given.epochs, given.seeds) for site in SITES]
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        outcomes = [outcome for found in pool.map(Fold.all, folds) for outcome in found]
    write_json([asdict(o) for o in outcomes], given.out / "outcomes.json")
    text = render(outcomes)
    (given.out / "terramind.md").write_text(text, encoding="utf-8")
    draw(folds, outcomes, given.data, given.out)
    print(text)


if __name__ == "__main__":
    main()

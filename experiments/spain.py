"""A map of the Sen1Floods11 chip Spain_7370579 by a model that was trained on the TerraMind sites.

    python -m experiments.spain --data <sen1floods11_spain> --run runs/terramind/runs/<a run> --out runs/spain

Shows that a scene of another collection (13 bands of level 1C, EPSG:4326, nodata 0) is mapped in its place. The scores
against the flood labels are a by-product: the model has never seen a flood there, nor level 1C.
"""

import argparse
from pathlib import Path

import numpy as np
import rasterio

import adapteo
from adapteo.bands import SENTINEL2_L1C
from adapteo.figures import map_figure, true_colour
from experiments.terramind_scores import COLOURS

NAME = "Spain_7370579"
WATER = ("water", "flooded")
GAP = 100
"""Side in pixels of the corner that is taken out."""


def main() -> None:
    """Predict, compare the map's place and gaps with those of the scene, and draw both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("data", "run", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    run, written = adapteo.load(given.run), given.out / "spain_map.tif"
    run.predict(with_gap(given.data / f"{NAME}_S2Hand.tif", given.out / "scene.tif"), written)
    classes = run.run.dataset.classes
    with rasterio.open(given.out / "scene.tif") as source, rasterio.open(written) as drawn:
        there, here = ((file.crs, file.transform, file.bounds, file.shape) for file in (source, drawn))
        print(f"place: {'the same' if here == there else f'{here} is not {there}'} ({drawn.crs}, {drawn.bounds})")
        image, labels = source.read(), drawn.read(1)
        missing = (image == source.nodata).all(0)
        same = "the same" if np.array_equal(labels == drawn.nodata, missing) else "not those"
        print(f"nodata {drawn.nodata:g} in {(labels == drawn.nodata).sum()} pixels, {same} as in the scene")
        legend = {drawn.tags(1)[f"CLASS_{i}"]: drawn.colormap(1)[i][:3] for i in range(len(classes))}
        print(f"legend: {legend}")
    with rasterio.open(given.data / f"{NAME}_LabelHand.tif") as file:
        print(score(labels, np.where(missing, -1, file.read(1)), classes))
    picture = true_colour(np.where(missing, np.nan, image.astype(np.float32)), SENTINEL2_L1C)
    map_figure(given.out / "spain_map.png", picture, labels.astype(np.int64), classes, COLOURS, title=NAME)


def with_gap(scene: Path, copy: Path) -> Path:
    """Copy a scene, and take a corner out: the chip itself has no missing pixel."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(scene) as source, rasterio.open(copy, "w", **source.profile) as out:
        image = source.read()
        image[:, :GAP, :GAP] = source.nodata
        out.write(image)
        out.descriptions = source.descriptions
    return copy


def score(labels: np.ndarray, flood: np.ndarray, classes: tuple[str, ...]) -> str:
    """IoU of water, flooded vegetation included, where the flood label (1 water, 0 land, -1 unknown) knows."""
    wet = np.isin(labels, [classes.index(name) for name in WATER])[flood >= 0]
    truth = flood[flood >= 0] == 1
    return (
        f"water: IoU {(wet & truth).sum() / (wet | truth).sum():.3f}, {truth.mean():.1%} true, {wet.mean():.1%} mapped"
    )


if __name__ == "__main__":
    main()

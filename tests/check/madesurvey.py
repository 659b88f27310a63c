"""Surveys made for the checks: scenes of random ground with known means, and labels on them."""

import warnings
from importlib import import_module

import geopandas as gpd
import numpy as np
import shapely
import yaml

from adapteo.check import View, read_source
from adapteo.data.raster import Raster, write_image

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
MEANS = (1087, 1342, 1433, 2734, 1958, 1363)
"""Of prithvi 2.0-300M, times 10,000."""
LEFT, TOP, GSD = 500_000.0, 5_700_000.0, 10.0
CRS = "EPSG:32632"


def ground(seed=0, size=(128, 160), means=MEANS):
    """Reflectance times 10,000 ``(c, h, w)``, int16, with these means, and as dark as shadow in places."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(4, 0.25, (len(means), *size)) * np.array(means)[:, None, None]
    return np.clip(values, 20, 12_000).astype(np.int16)


def scene(path, values, at=(0, 0), *, names=BANDS, nodata=None, crs=CRS, place=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    place = place or (GSD, 0.0, LEFT + GSD * at[1], 0.0, -GSD, TOP - GSD * at[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_image(path, Raster(values, tuple(names or [None] * len(values)), nodata, crs, place))
    return path


def box(row, col, height=8, width=8):
    return shapely.box(LEFT + GSD * col, TOP - GSD * (row + height), LEFT + GSD * (col + width), TOP - GSD * row)


def grid(step=16, size=(128, 160)):
    """Polygons of 8 x 8 pixels, whose class changes from one to the next."""
    places = [(row, col) for row in range(2, size[0] - 8, step) for col in range(2, size[1] - 8, step)]
    return [box(*place) for place in places], ["ab"[(row + col) // step % 2] for row, col in places]


def labels(path, shapes=None, classes=None, crs=CRS):
    if shapes is None:
        shapes, classes = grid()
    path.parent.mkdir(parents=True, exist_ok=True)
    gpd.GeoDataFrame({"kind": list(classes)}, geometry=list(shapes), crs=crs).to_file(path)
    return path


def config(folder, backbone="prithvi", **keys):
    """Write ``burn.yaml``; keys of the dataset section, None to leave one out."""
    dataset = {
        "name": "survey", "root": ".", "scenes": "scenes/*.tif", "labels": "labels.gpkg", "class_column": "kind",
        "scale": 0.0001, "chip": 16, "splits": {"size": 320},
    }  # fmt: skip
    dataset = {key: value for key, value in (dataset | keys).items() if value is not None}
    path = folder / "burn.yaml"
    path.write_text(yaml.safe_dump({"dataset": dataset, "backbone": backbone}, sort_keys=False), encoding="utf-8")
    return path


def healthy(folder, **keys):
    """A survey in which every check is content."""
    scene(folder / "scenes/T20210731.tif", ground())
    labels(folder / "labels.gpkg")
    return config(folder, **keys)


def found(path, name):
    """What one check says of a configuration."""
    view = View(read_source(path))
    return list(import_module(f"adapteo.check.{name}").CHECK.run(view))


def only(path, name):
    """The one thing that it says."""
    (finding,) = found(path, name)
    return finding

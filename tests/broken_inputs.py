"""A healthy session, and what people bring instead: each breaker spoils one thing in the folder of a session."""

import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from PIL import Image
from rasterio.transform import Affine

SIDE, GSD, LEFT, TOP = 96, 10.0, 500_000.0, 5_700_000.0
CRS = "EPSG:32632"
NAMES = ("blue", "green", "red", "nir08")
Breaker = Callable[[Path], object]


# ------------------------------------------------------------------------------------- what is healthy


def ground(seed=0, side=SIDE):
    """Reflectance times 10,000: stripes of two kinds of ground with noise, uint16."""
    stripes = np.where(np.arange(side) // 12 % 2, 500, 2500)
    return (np.random.default_rng(seed).gamma(6, 1 / 6, (4, side, side)) * stripes + 30).round().astype(np.uint16)


def write(path, values=None, *, at=0, names=NAMES, crs=CRS, place=None, **options):
    """A scene; `at` counts scenes to the east."""
    values = ground(at) if values is None else values
    place = place or Affine(GSD, 0, LEFT + GSD * SIDE * at, 0, -GSD, TOP)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    count, height, width = values.shape
    shape = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype}
    with rasterio.open(path, "w", crs=crs, transform=place, **shape, **options) as file:
        if names:
            file.descriptions = names
        file.write(values)
    return path


def squares():
    """Outlines of 8 x 8 pixels in the middle of the stripes, and their classes."""
    rows, cols = np.meshgrid(range(2, SIDE - 8, 12), range(2, SIDE * 2 - 8, 12), indexing="ij")
    x, y = LEFT + GSD * cols.ravel(), TOP - GSD * rows.ravel()
    kinds = np.where(cols.ravel() % SIDE // 12 % 2, "burnt", "unburnt")
    return shapely.box(x, y - 8 * GSD, x + 8 * GSD, y), kinds


OUTLINES, KINDS = squares()


def healthy(folder):
    write(folder / "scenes/a.tif", at=0)
    write(folder / "scenes/b.tif", at=1)
    write(folder / "new.tif", at=3)
    draw()(folder)


# -------------------------------------------------------------------------- one scene, and the new one


def _at(path):
    return 3 if path.name == "new.tif" else 1


def scene(change=None, **options) -> Breaker:
    """A scene with changed values, or written otherwise."""

    def breaker(path):
        values = ground(_at(path))
        write(path, change(values) if change else values, at=_at(path), **options)

    return breaker


def placed(change) -> Breaker:
    """A scene with a changed geotransform."""

    def breaker(path):
        write(path, at=_at(path), place=change(Affine(GSD, 0, LEFT + GSD * SIDE * _at(path), 0, -GSD, TOP)))

    return breaker


def everywhere(value):
    return lambda values: np.full(values.shape, value, np.float32)


def inside(value):
    def change(values):
        values = values.astype(np.float32)
        values[:, 20:60, 20:60] = value
        return values

    return change


def cut(share, rest=b"") -> Breaker:
    """The first part of a file whose header is whole, as of a download that broke off; and what follows."""

    def breaker(path):
        write(path, at=_at(path))
        content = path.read_bytes()
        with rasterio.open(path) as file:
            assert file.descriptions == NAMES
        size = int(len(content) * share)
        path.write_bytes(content[:size] + rest * (len(content) - size))

    return breaker


def picture(kind) -> Breaker:
    def breaker(path):
        Image.fromarray(ground(1)[:3].transpose(1, 2, 0).astype(np.uint8)).save(path, format=kind)

    return breaker


def holding(content: bytes) -> Breaker:
    def breaker(path):
        path.write_bytes(content)

    return breaker


def as_folder(path):
    path.unlink()
    path.mkdir()


# -------------------------------------------------------------------------------------------- labels


def draw(shapes=None, crs=CRS, **columns) -> Breaker:
    """Labels; the column `kind` unless others are given."""

    def breaker(folder):
        found = OUTLINES if shapes is None else np.asarray(shapes)
        path = folder / "labels.gpkg"
        path.unlink(missing_ok=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            gpd.GeoDataFrame(columns or {"kind": KINDS[: len(found)]}, geometry=found, crs=crs).to_file(path)

    return breaker


def every_fifth(change) -> Breaker:
    return draw([change(shape) if i % 5 == 0 else shape for i, shape in enumerate(OUTLINES)])


def bow_tie(shape):
    left, bottom, right, top = shape.bounds
    return shapely.Polygon([(left, bottom), (right, top), (right, bottom), (left, top)])


def around_the_world():
    """Drawn across the antimeridian by a program that does not know it: all of the globe but the place meant."""
    first, *rest = gpd.GeoSeries(OUTLINES, crs=CRS).to_crs(4326)
    return [shapely.box(-179.99, first.bounds[1], 179.99, first.bounds[3]), *rest]


def labels_as(content: bytes, name="labels.gpkg") -> Breaker:
    """Another file with labels, which the configuration names."""

    def breaker(folder):
        (folder / "labels.gpkg").unlink()
        (folder / name).write_bytes(content)
        yaml("labels: labels.gpkg", f"labels: {name}")(folder)

    return breaker


def table(head, line, encoding="utf-8") -> Breaker:
    """A CSV with a line for the middle of each label."""
    middles = gpd.GeoSeries(OUTLINES, crs=CRS).centroid.to_crs(4326)
    lines = [line(p.x, p.y, kind) for p, kind in zip(middles, KINDS, strict=True)]
    return labels_as("\n".join([head, *lines]).encode(encoding), "labels.csv")


def no_layers(folder):
    (folder / "labels.gpkg").unlink()
    database = sqlite3.connect(folder / "labels.gpkg")
    database.execute("PRAGMA application_id=1196444487")
    database.execute("CREATE TABLE notes (text)")
    database.commit()
    database.close()


def half_a_database(folder):
    path = folder / "labels.gpkg"
    path.write_bytes(path.read_bytes()[:20_000])


def masks(change, *, at=0, **options) -> Breaker:
    """Masks of both scenes in place of drawn labels; `change` makes bands of the class (0 or 1) of each pixel."""

    def breaker(folder):
        stripes = (np.arange(SIDE) // 12 % 2) * np.ones((1, SIDE, 1), int)
        for i, name in enumerate("ab"):
            write(folder / f"masks/{name}.tif", change(stripes), at=i + at, names=None, **options)
        (folder / "labels.gpkg").unlink()
        yaml("labels: labels.gpkg", "labels: masks/*.tif")(folder)
        yaml("class_column: kind", "")(folder)

    return breaker


# ------------------------------------------------------------------------------------- configurations


def yaml(old, new) -> Breaker:
    def breaker(folder):
        path = folder / "burn/adapteo.yaml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return breaker


def yaml_is(content: bytes) -> Breaker:
    return lambda folder: (folder / "burn/adapteo.yaml").write_bytes(content)

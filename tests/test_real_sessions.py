"""Whole sessions on real imagery: maps open in GDAL in the right place, with classes and colours.

That of Leipzig is docs/tutorial.md, see test_tutorial.py.
"""

import json
import shutil
import subprocess
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rio_cogeo.cogeo import cog_validate
from typer.testing import CliRunner

from adapteo import cli, config
from adapteo.figures import palette

LABELS = ("--labels", "labels.gpkg")
QUICK = ("method=frozen", "decoder=linear", "dataset.stride=null", "train.head_start=false", "train.head_rate=0.03")
COVERS = {1: "water", 2: "trees", 3: "flooded", 4: "crops", 5: "built", 6: "bare", 7: "snow", 9: "rangeland"}
WITH_OFFSET = {"S2L1C": {"282D_485L_3_3", "433D_629L_3_1", "609U_541L_3_0"}, "S2L2A": {"433D_629L_3_1"}}
"""See docs/results/terramind.md, where the evidence does not come from the rule that is tested here."""


def run(*args, code=0):
    result = CliRunner().invoke(cli.app, [str(arg) for arg in args])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def check_map(path, scene, names, epsg):
    """The map has the scene's place, its missing pixels, and the names and colours of the classes."""
    valid, errors, _ = cog_validate(str(path))
    assert valid, errors
    with rasterio.open(path) as mapped, rasterio.open(scene) as given:
        assert (mapped.shape, mapped.crs, mapped.transform) == (given.shape, given.crs, given.transform)
        assert mapped.crs.to_epsg() == epsg
        values = mapped.read(1)
        assert (mapped.dtypes, mapped.nodata) == (("uint8",), 255)
        np.testing.assert_array_equal(values == 255, ~given.read_masks().any(axis=0))
        assert set(np.unique(values)) <= {*range(len(names)), 255}
        assert tuple(mapped.colormap(1)[i][:3] for i in range(len(names))) == palette(len(names))
        assert [mapped.tags(1)[f"CLASS_{i}"] for i in range(len(names))] == list(names)
    style = path.with_suffix(".qml").read_text(encoding="utf-8")
    assert all(f'"{name}"' in style for name in names)
    gdalinfo = shutil.which("gdalinfo")
    if gdalinfo is None:
        said = path.with_suffix(".tif.aux.xml").read_text(encoding="utf-8")
        assert all(f">{name}<" in said for name in names)
        return values
    (band,) = json.loads(subprocess.check_output([gdalinfo, "-json", str(path)]))["bands"]
    assert (band["categories"], band["noDataValue"], band["colorInterpretation"]) == ([*names], 255, "Palette")
    assert tuple(tuple(entry[:3]) for entry in band["colorTable"]["entries"][: len(names)]) == palette(len(names))
    return values


def check_polygons(path, values, names, pixel, epsg):
    """They cover the map, in its classes and its coordinate system."""
    drawn = gpd.read_file(path, layer=Path(path).stem)
    assert drawn.crs.to_epsg() == epsg
    assert set(drawn["class"]) <= set(names)
    assert drawn["area_ha"].sum() == pytest.approx((values != 255).sum() * pixel**2 / 1e4, rel=1e-3)


def labels_by_index(scene, path, bands, step=9, half=2):
    """Squares on a scene, called by an index of two bands: high, low; what is between has no label."""
    with rasterio.open(scene) as file:
        first, second = file.read(bands).astype(float)
        place, crs = file.transform, file.crs
    index = (second - first) / np.maximum(first + second, 1)
    low, high = np.percentile(index, (35, 65))
    shapes, kinds = [], []
    for row in range(half + 1, index.shape[0] - half - 1, step):
        for col in range(half + 1, index.shape[1] - half - 1, step):
            value = index[row - half : row + half + 1, col - half : col + half + 1].mean()
            if low < value < high:
                continue
            x, y = place.c + place.a * (col - half), place.f + place.e * (row - half)
            side = place.a * (2 * half + 1)
            shapes.append(shapely.box(x, y - side, x + side, y))
            kinds.append("green" if value >= high else "bare")
    gpd.GeoDataFrame({"kind": kinds}, geometry=shapes, crs=crs).to_file(path)


def test_fields_in_austria(shared_data, tmp_path, monkeypatch):
    """Two dates of four bands without names in one file: init asks; the file is mapped as it is, and as two files."""
    monkeypatch.chdir(tmp_path)
    both = shared_data / "scenes/ftw_austria_8band_utm33.tif"
    labels_by_index(both, tmp_path / "labels.gpkg", (1, 4))
    named = ("--bands", "red,green,blue,nir")
    assert "has 8 bands and does not say which" in run("init", "fields", "--images", both, *LABELS, code=2)
    assert "add --dates-per-file 2" in run("init", "fields", "--images", both, *LABELS, *named, code=2)
    said = run("init", "fields", "--images", both, *LABELS, *named, "--dates-per-file", 2)
    assert "2 in each file, one after the other: days not known" in said
    assert "dates_per_file: 2" in (tmp_path / "fields/adapteo.yaml").read_text(encoding="utf-8")
    run("check", "fields", "--html", "check.html")
    run("fit", "fields", *QUICK, "train.epochs=2", "dataset.balance=null")
    assert "test:" in run("test", "fields", "--no-random")
    run("predict", "fields", both, "--out", "map.tif", *named, "--polygons", "map.gpkg", "--minimum-area", 1)
    values = check_map(tmp_path / "map.tif", both, ("bare", "green"), 32633)
    check_polygons("map.gpkg", values, ("bare", "green"), 10, 32633)
    drawn = gpd.read_file("labels.gpkg")
    with rasterio.open(both) as file:
        rows, cols = rasterio.transform.rowcol(file.transform, drawn.centroid.x, drawn.centroid.y)
        for i, date in enumerate(("20230415", "20230815")):  # of two windows of the year; the file does not say when
            with rasterio.open(f"field_{date}.tif", "w", **{**file.profile, "count": 4}) as one:
                one.write(file.read(range(4 * i + 1, 4 * i + 5)))
    assert (values[rows, cols] == (drawn["kind"] == "green")).mean() > 0.8
    run("predict", "fields", "field_20230415.tif", "field_20230815.tif", "--out", "again.tif", *named)
    with rasterio.open("again.tif") as again:
        np.testing.assert_array_equal(again.read(1), values)
    run("init", "series", "--images", "field_*.tif", *LABELS, *named, "--frames", 2)
    series, stack = (config.load(tmp_path / name).dataset for name in ("series", "fields"))
    np.testing.assert_array_equal(
        series.read("field_20230415/0_0").image, stack.read("ftw_austria_8band_utm33/0_0").image
    )


def test_water_in_spain(shared_data, tmp_path, monkeypatch):
    """Sen1Floods11: 13 bands of level 1C, and a mask where -1 means that nobody knows."""
    monkeypatch.chdir(tmp_path)
    folder = shared_data / "sen1floods11_spain"
    scene, mask = folder / "Spain_7370579_S2Hand.tif", folder / "Spain_7370579_LabelHand.tif"
    run("init", "water", "--images", scene, "--labels", mask, "--sensor", "sentinel2")
    text = (tmp_path / "water/adapteo.yaml").read_text(encoding="utf-8")
    assert "ignore_values: [-1" in text
    assert "sensor" in text or "band_names" in text
    run("check", "water")
    assert "chips" in run("chips", "water", "--out", "chips")
    with rasterio.open(next((tmp_path / "chips").rglob("*.tif"))) as chip:
        assert chip.crs is not None
    run("fit", "water", *QUICK[:3], "train.epochs=1", "dataset.class_names={0: dry, 1: water}")
    run("predict", "water", scene, "--out", "map.tif", "--probabilities")
    values = check_map(tmp_path / "map.tif", scene, ("dry", "water"), 4326)
    with rasterio.open(mask) as file:
        truth = file.read(1)
    assert (values[truth >= 0] == truth[truth >= 0]).mean() > 0.9


@pytest.mark.parametrize("product", ["S2L1C", "S2L2A"])
def test_land_cover_of_a_place_never_seen(shared_data, tmp_path, monkeypatch, product):
    """TerraMind's sites lie in five zones, some with the offset of 1000; Chile, which has it, is mapped unseen."""
    monkeypatch.chdir(tmp_path)
    folder = shared_data / "terramind_examples"
    args = ("--images", folder / product, "--labels", folder / "LULC", "--sensor", "sentinel2")
    assert "wrote cover/adapteo.yaml" in run("init", "cover", *args)
    text = (tmp_path / "cover/adapteo.yaml").read_text(encoding="utf-8")
    assert "offset: auto" in text
    assert "class_names: {1: class 1" in text
    checked = run("check", "cover", "--json")
    offset = next(part for part in checked.split('"name": ') if part.startswith('"offset"'))
    assert ("found in 3 of 5" in offset) == (product == "S2L1C"), offset
    found = config.load("cover").dataset
    scenes = [scene.name for scene in found.scenes_found]
    assert {name for i, name in enumerate(scenes) if found.scaling(i)[1] == pytest.approx(-0.1)} == WITH_OFFSET[product]
    assert all(found.scaling(i)[1] == 0 for i, name in enumerate(scenes) if name not in WITH_OFFSET[product])

    unseen = "433D_629L_3_1"
    seen = ", ".join(f"{product}/{name}.tif" for name in scenes if name != unseen)
    names = ", ".join(f"{value}: {name}" for value, name in COVERS.items())
    run("fit", "cover", *QUICK, "train.epochs=2", "train.batch=4", f"dataset.scenes=[{seen}]",
        f"dataset.class_names={{{names}}}")  # fmt: skip
    assert "snow" in run("test", "cover", "--no-random")
    accuracy = {}
    for name, epsg in ((unseen, 32718), ("609U_541L_3_0", 32616)):
        scene, out = folder / product / f"{name}.tif", tmp_path / f"{name}.tif"
        run("predict", "cover", scene, "--out", out, "--polygons", out.with_suffix(".gpkg"))
        values = check_map(out, scene, tuple(COVERS.values()), epsg)
        check_polygons(out.with_suffix(".gpkg"), values, COVERS.values(), 10, epsg)
        with rasterio.open(folder / "LULC" / f"{name}.tif") as truth:
            accuracy[name] = (np.array(list(COVERS))[values] == truth.read(1)).mean()
    assert accuracy["609U_541L_3_0"] > 0.9  # snow, which was seen
    assert accuracy[unseen] > 0.3  # of 8 classes in another climate
    assert "crops" in run("areas", f"{unseen}.tif")

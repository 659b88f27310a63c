"""Whole sessions on real imagery: maps open in GDAL in the right place, with classes and colours."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rio_cogeo.cogeo import cog_validate
from typer.testing import CliRunner

from adapteo import cli
from adapteo.figures import palette

LABELS = ("--labels", "labels.gpkg")


def run(*args, code=0):
    result = CliRunner().invoke(cli.app, [str(arg) for arg in args])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def check_map(path, scene, names):
    """The map has the scene's place, its missing pixels, and the names and colours of the classes."""
    valid, errors, _ = cog_validate(str(path))
    assert valid, errors
    with rasterio.open(path) as mapped, rasterio.open(scene) as given:
        assert (mapped.shape, mapped.crs, mapped.transform) == (given.shape, given.crs, given.transform)
        values = mapped.read(1)
        assert mapped.nodata == 255
        assert set(np.unique(values)) <= {*range(len(names)), 255}
        assert tuple(mapped.colormap(1)[i][:3] for i in range(len(names))) == palette(len(names))
    said = path.with_suffix(".tif.aux.xml").read_text(encoding="utf-8")
    style = path.with_suffix(".qml").read_text(encoding="utf-8")
    assert all(f">{name}<" in said and f'"{name}"' in style for name in names)
    return values


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


@pytest.mark.slow
def test_fields_in_austria(shared_data, tmp_path, monkeypatch):
    """Two dates of four bands without names in one file: init asks; and takes the dates as a file each."""
    monkeypatch.chdir(tmp_path)
    both = shared_data / "scenes/ftw_austria_8band_utm33.tif"
    labels_by_index(both, tmp_path / "labels.gpkg", (1, 4))
    assert "has 8 bands and does not say which" in run("init", "fields", "--images", both, *LABELS, code=2)
    with rasterio.open(both) as file:
        for i, date in enumerate(("20230415", "20230815")):  # of two windows of the year; the file does not say when
            with rasterio.open(f"field_{date}.tif", "w", **{**file.profile, "count": 4}) as one:
                one.write(file.read(range(4 * i + 1, 4 * i + 5)))
    assert "has 4 bands and does not say which" in run("init", "fields", "--images", "field_*.tif", *LABELS, code=2)
    run("init", "fields", "--images", "field_*.tif", *LABELS, "--bands", "red,green,blue,nir", "--frames", 2)
    assert "frames: 2" in (tmp_path / "fields/adapteo.yaml").read_text(encoding="utf-8")
    run("check", "fields", "--html", "check.html")
    run("fit", "fields", "method=frozen", "train.epochs=1", "decoder=linear", "dataset.stride=null")
    dates = ("field_20230415.tif", "field_20230815.tif")
    named = ("--bands", "red,green,blue,nir", "--polygons", "map.gpkg", "--minimum-area", 1)
    run("predict", "fields", *dates, "--out", "map.tif", *named)
    values = check_map(tmp_path / "map.tif", both, ("bare", "green"))
    drawn = gpd.read_file("labels.gpkg")
    with rasterio.open(both) as file:
        rows, cols = rasterio.transform.rowcol(file.transform, drawn.centroid.x, drawn.centroid.y)
    assert (values[rows, cols] == (drawn["kind"] == "green")).mean() > 0.8
    assert set(gpd.read_file("map.gpkg", layer="map")["class"]) == {"bare", "green"}


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
    small = ("method=frozen", "train.epochs=1", "decoder=linear", "dataset.stride=null")
    assert "chips" in run("chips", "water", "--out", "chips")
    with rasterio.open(next((tmp_path / "chips").rglob("*.tif"))) as chip:
        assert chip.crs is not None
    run("fit", "water", *small)
    run("predict", "water", scene, "--out", "map.tif", "--probabilities")
    values = check_map(tmp_path / "map.tif", scene, ("0", "1"))
    with rasterio.open(mask) as file:
        truth = file.read(1)
    assert (values[truth >= 0] == truth[truth >= 0]).mean() > 0.9


@pytest.mark.parametrize("product", ["S2L1C", "S2L2A"])
def test_land_cover_of_five_places_with_and_without_the_offset(shared_data, tmp_path, monkeypatch, product):
    """TerraMind's sites lie in five zones; which carry the offset of 1000 is tested in tests/check/test_offset.py."""
    monkeypatch.chdir(tmp_path)
    folder = shared_data / "terramind_examples"
    args = ("--images", folder / product, "--labels", folder / "LULC", "--sensor", "sentinel2")
    said = run("init", "cover", *args)
    assert "wrote cover/adapteo.yaml" in said
    text = (tmp_path / "cover/adapteo.yaml").read_text(encoding="utf-8")
    assert "offset: auto" in text
    checked = run("check", "cover", "--json")
    offset = next(part for part in checked.split('"name": ') if part.startswith('"offset"'))
    assert ("found in 3 of 5" in offset) == (product == "S2L1C"), offset

"""docs/tutorial.md is true: its commands run, and lead to a map that opens in GDAL in its place, colours and names."""

import re
import shlex
import shutil
import sqlite3
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate
from typer.testing import CliRunner

from adapteo import cli
from adapteo.figures import palette

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line)[1:] for line in re.findall(r"<!-- tutorial -->\n```sh\n(adapteo .*)\n```", PAGE)]
CLASSES = ("forest", "pasture", "urban", "water")
SCENE = Path("scenes/s2_leipzig_8band_utm32.tif")


@pytest.fixture
def here(shared_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenes").mkdir()
    for path in (shared_data / "scenes").glob("s2_leipzig*"):
        shutil.copyfile(path, tmp_path / "scenes" / path.name)
    return tmp_path


def play():
    """Output of each command, by its name."""
    said = {}
    for command in COMMANDS:
        result = CliRunner().invoke(cli.app, command)
        assert result.exit_code == 0, result.output
        said[command[0]] = result.output
    return said


def check_results(here):
    for file in ("map.tif", "map_probabilities.tif"):
        valid, errors, _ = cog_validate(str(here / file))
        assert valid, errors
    with rasterio.open("map.tif") as mapped, rasterio.open(SCENE) as scene:
        assert (mapped.shape, mapped.crs, mapped.transform) == (scene.shape, scene.crs, scene.transform)
        values, missing = mapped.read(1), ~scene.read_masks().any(axis=0)
        assert mapped.nodata == 255
        np.testing.assert_array_equal(values == 255, missing)
        assert set(np.unique(values[~missing])) <= {0, 1, 2, 3}
        colours = mapped.colormap(1)
        assert tuple(colours[i][:3] for i in range(4)) == palette(4)
    assert all(name in (here / "map.qml").read_text(encoding="utf-8") for name in CLASSES)
    assert all(name in (here / "map.tif.aux.xml").read_text(encoding="utf-8") for name in CLASSES)
    with rasterio.open("map_probabilities.tif") as file:
        assert (file.count, set(file.scales)) == (4, {1e-4})
        total = file.read(masked=True).astype(int).sum(axis=0)
        assert abs(total - 10_000).max() <= 4
    polygons = gpd.read_file("map.gpkg", layer="map")
    assert set(polygons["class"]) <= set(CLASSES)
    assert polygons["area_ha"].min() >= 0.1
    assert polygons["area_ha"].sum() == pytest.approx((~missing).sum() * 0.01, rel=1e-3)
    assert polygons.crs.to_epsg() == 32632
    with sqlite3.connect("map.gpkg") as database:
        assert database.execute("SELECT count(*) FROM layer_styles").fetchone() == (1,)
    database.close()
    return values


def test_the_tutorial_needs_six_commands():
    assert [command[0] for command in COMMANDS] == ["init", "check", "fit", "test", "predict", "areas"]


def test_the_tutorial(here):
    """The scores of the page are those of one machine; but the classes must be where the points are."""
    said = play()
    assert "0 FAIL, 4 WARN" in said["check"]
    assert (here / "check.html").stat().st_size > 50_000
    assert "random split" in " ".join(said["test"].split())
    assert "97 of 97 samples lie on training labels" in " ".join(said["areas"].split())
    values = check_results(here)
    points = gpd.read_file("scenes/s2_leipzig_landcover_points.gpkg")
    with rasterio.open(SCENE) as scene:
        rows, cols = rasterio.transform.rowcol(scene.transform, points.geometry.x, points.geometry.y)
    truth = points["land_cover"].map({name: i for i, name in enumerate(CLASSES)})
    assert (values[rows, cols] == truth).mean() > 0.85

"""A whole session: from scenes and labels to a map, by the commands that a person types."""

import numpy as np
import pytest
import rasterio
from test_init import write_labels, write_scene
from typer.testing import CliRunner

from adapteo import cli, config

NAMES = ("B02", "B03", "B04", "B11")


def done(*args):
    result = CliRunner().invoke(cli.app, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result


def paint(path, shift=0):
    """A scene in which the classes of `write_labels` differ."""
    write_scene(path, NAMES, shift=shift)
    with rasterio.open(path, "r+") as file:
        values = file.read()
        values += (np.arange(96) // 16 % 3 * 1500).astype(np.uint16)
        file.write(values)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "scenes/S2 eins.tif")
    write_labels(tmp_path / "labels ä.gpkg", "polygon", step=5)  # no multiple of the backbone's patch
    paint(tmp_path / "new.tif", shift=1)  # nothing says that it is of Sentinel-2
    return tmp_path


def test_from_scenes_and_labels_to_a_map(here, monkeypatch):
    done("init", "my fires", "--images", "scenes/*.tif", "--labels", "labels ä.gpkg")
    assert "sensor: sentinel2" in (here / "my fires/adapteo.yaml").read_text(encoding="utf-8")
    monkeypatch.chdir(here / "scenes")  # from anywhere
    done("fit", "../my fires", "train.epochs=8", "train.head_rate=0.01", "train.head_start=false", "decoder=linear")
    assert (here / "my fires/run/adapter").is_dir()
    monkeypatch.chdir(here)
    done("predict", "my fires", "new.tif", "--out", "map.tif")
    with rasterio.open("map.tif") as mapped, rasterio.open("new.tif") as scene:
        assert (mapped.shape, mapped.crs, mapped.transform) == (scene.shape, scene.crs, scene.transform)
        found = mapped.read(1)
    truth = np.broadcast_to(np.arange(96) // 16 % 3, found.shape)
    assert (found == truth).mean() > 0.8
    done("merge", "my fires", "--out", "merged.pt")
    assert (here / "merged.pt").is_file()


def test_files_of_two_dates(tmp_path, monkeypatch):
    """From files that stack dates to a map of such a file; what differs between the classes is the second date only."""
    monkeypatch.chdir(tmp_path)
    for path, shift in (("scenes/a_20230415_20230815.tif", 0), ("b_20230418_20230812.tif", 1)):
        write_scene(tmp_path / path, NAMES * 2, shift=shift)
        with rasterio.open(path, "r+") as file:
            values = file.read()
            values[4:] += (np.arange(96) // 16 % 3 * 2500).astype(np.uint16)
            file.write(values)
    write_labels(tmp_path / "labels.gpkg", "polygon", step=5)
    done("init", "crops", "--images", "scenes", "--labels", "labels.gpkg", "--sensor", "sentinel2")
    assert "dates_per_file: 2" in (tmp_path / "crops/adapteo.yaml").read_text(encoding="utf-8")
    done("check", "crops")
    done("chips", "crops", "--out", "chips")
    chips, survey = (config.load(tmp_path / path).dataset for path in ("chips/adapteo.yaml", "crops/adapteo.yaml"))
    assert (chips.frames, chips.bands, len(chips.split("val"))) == (2, survey.bands, len(survey.split("val")))
    np.testing.assert_array_equal(chips.read(chips.split("val")[0]).dates, [[2023, 105], [2023, 227]])
    said = done("fit", "crops", "train.epochs=10", "train.head_rate=0.01", "train.head_start=false", "decoder=linear")
    assert "" not in said.stderr.splitlines()  # no trace of a bar where there is no terminal
    assert not done("predict", "crops", "b_20230418_20230812.tif", "--out", "map.tif").stderr
    with rasterio.open("map.tif") as mapped, rasterio.open("b_20230418_20230812.tif") as scene:
        assert (mapped.shape, mapped.crs, mapped.transform) == (scene.shape, scene.crs, scene.transform)
        found = mapped.read(1)
    assert (found == np.broadcast_to(np.arange(96) // 16 % 3, found.shape)).mean() > 0.8

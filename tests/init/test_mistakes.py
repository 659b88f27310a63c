"""What people get wrong with ``adapteo init``: each mistake gets a few lines with the words that put it right."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from test_init import write_labels, write_scene
from typer.testing import CliRunner

from adapteo import cli


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scene(tmp_path / "scenes/a.tif")
    write_labels(tmp_path / "labels.gpkg")
    return tmp_path


def refused(*args):
    """The message of a command that ends with code 2; it has at most five lines, and wrote nothing."""
    result = CliRunner().invoke(cli.app, ["init", *args])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) <= 5
    assert not Path("burn/adapteo.yaml").exists()
    return result.stderr


def burn(*args, images="scenes/*.tif", labels="labels.gpkg"):
    return refused("burn", "--images", images, "--labels", labels, *args)


def test_a_pattern_that_fits_nothing_says_what_is_there(here):
    said = burn(images="scenes/*.tiff")
    assert "scenes/*.tiff: there is no such file" in said
    assert "a.tif" in said


def test_a_folder_that_is_not_there(here):
    assert f"there is no folder {here / 'scene'}" in burn(images="scene/*.tif")


def test_labels_that_are_not_there(here):
    said = burn(labels="label.gpkg")
    assert "--labels" in said
    assert "labels.gpkg" in said.partition("allowed")[2]


def test_scenes_and_labels_exchanged(here):
    assert "labels.gpkg" in burn(images="labels.gpkg", labels="scenes/a.tif")


def test_bands_that_no_one_knows(here):
    write_scene(here / "scenes/a.tif", (None,) * 4)
    said = burn()
    assert "has 4 bands and does not say which" in said
    assert "--bands blue,green,red,nir" in said


def test_names_of_bands_that_mean_nothing(here):
    write_scene(here / "scenes/a.tif", ("one", "two", "three", "four"))
    assert "it calls them one, two, three, four" in burn()


def test_too_few_names_for_the_bands(here):
    assert "--bands names 2 bands, but" in burn("--bands", "red,green")


def test_a_misspelt_band(here):
    assert "did you mean 'green'" in burn("--bands", "blue,gren,red,nir")


def test_names_that_differ_between_sensors(here):
    write_scene(here / "scenes/a.tif", ("B2", "B3", "B4", "B5"), gsd=30.0)
    write_labels(here / "labels.gpkg", gsd=30.0)
    said = burn()
    assert "differ between sensors" in said
    assert "--sensor sentinel2, --sensor hls_s30" in said
    assert "--sensor" in burn("--bands", "B2,B3,B4,B5")


def test_a_sensor_that_is_not_known(here):
    assert "did you mean 'sentinel2'" in burn("--sensor", "sentinel-2")


def test_bands_that_the_sensor_has_not(here):
    write_scene(here / "scenes/a.tif", ("B2", "B3", "B4", "B8A"))
    assert "landsat8 has no band 'B8A'" in burn("--sensor", "landsat8")


def test_values_of_no_known_scale(here):
    write_scene(here / "scenes/a.tif", level=50000)
    said = burn()
    assert "their scale cannot be told" in said
    assert "add --scale" in said


def test_a_wrong_scale(here):
    assert "--scale 0.1 makes the median" in burn("--scale", "0.1")


def test_an_offset_that_is_no_number(here):
    assert "--offset off is no number" in burn("--offset", "off")


def test_several_columns_that_could_be_the_class(here):
    write_labels(here / "labels.gpkg", surveyor=lambda i: ("Ada", "Bo")[i % 2])
    said = burn()
    assert "which column holds the class? kind (forest, meadow, water); surveyor (Ada, Bo)" in said
    assert "--class-column 'kind'" in said


def test_a_misspelt_column(here):
    assert "did you mean 'kind'" in burn("--class-column", "kinds")


def test_a_single_class(here):
    write_labels(here / "labels.gpkg", scar=lambda i: "burnt")
    said = burn("--class-column", "scar")
    assert "holds one class only, 'burnt'" in said
    assert "what has no label is ignored" in said


def test_lines_without_a_width(here):
    write_labels(here / "labels.gpkg", "line")
    assert "--line-width 8" in burn()


def test_several_layers(here):
    import geopandas as gpd

    gpd.read_file(here / "labels.gpkg").to_file(here / "labels.gpkg", layer="other", mode="a")
    assert "--layer 'labels'" in burn()


def test_several_vector_files(here):
    write_labels(here / "more.gpkg")
    assert "names 2 vector files; one holds all labels" in burn("--labels", "more.gpkg")
    assert "names 2 vector files; one holds all labels" in burn(labels="*.gpkg")


def test_a_class_column_for_masks(here):
    (here / "masks").mkdir()
    with rasterio.open(here / "scenes/a.tif") as scene:
        options = {**scene.profile, "count": 1, "dtype": "uint8"}
    with rasterio.open(here / "masks/a.tif", "w", **options) as file:
        file.write(np.arange(96, dtype=np.uint8).repeat(96).reshape(1, 96, 96) // 48)
    assert "masks have values, no columns" in burn("--class-column", "kind", labels="masks")


def test_labels_elsewhere_on_earth(here):
    write_scene(here / "scenes/a.tif", shift=500)
    assert "labels.gpkg" in burn()


def test_a_backbone_that_is_not_there(here):
    assert "did you mean 'prithvi'" in burn("--backbone", "pritvi")
    assert "prithvi/2.0-tiny-TL" in burn("--backbone", "prithvi/3.0")


def test_a_method_that_is_not_there(here):
    assert "--method loro: there is no such method; did you mean 'lora'" in burn("--method", "loro")


def test_a_project_that_is_there_already_is_kept(here):
    (here / "fire").mkdir()
    (here / "fire/adapteo.yaml").write_text("mine", encoding="utf-8")
    said = refused("fire", "--images", "scenes/*.tif", "--labels", "labels.gpkg")
    assert "--overwrite" in said
    assert (here / "fire/adapteo.yaml").read_text(encoding="utf-8") == "mine"


def test_a_file_in_the_place_of_the_name(here):
    assert "a project is a folder" in refused("fire.yaml", "--images", "scenes/*.tif", "--labels", "labels.gpkg")
    (here / "fire").write_text("", encoding="utf-8")
    assert "is a file, not a folder" in refused("fire", "--images", "scenes/*.tif", "--labels", "labels.gpkg")


def test_a_scene_without_a_place(here):
    write_scene(here / "scenes/a.tif", crs=None)
    assert "does not say where it lies on Earth" in burn()


def test_an_empty_file_among_the_scenes(here):
    (here / "scenes/b.tif").write_bytes(b"")
    assert "b.tif" in burn()


def test_dates_in_a_file_that_do_not_fit(here):
    write_scene(here / "scenes/a.tif", ("blue", "green", "red") * 2)
    assert "leave --frames out" in burn("--frames", "3")
    said = burn("--dates-per-file", "3")
    assert "2 times, and `dates_per_file` is 3" in said
    assert "--dates-per-file of init" in said
    assert "2 days" in burn("--dates-per-file", "2", "--dates", "2023-04-15")
    assert "2023-04-15" in burn("--dates", "15.4.2023")


def test_dates_in_a_file_that_does_not_name_its_bands(here):
    write_scene(here / "scenes/a.tif", (None,) * 6)
    assert "--dates-per-file 2" in burn("--bands", "blue,green,red")
    assert "--dates-per-file" in burn("--frames", "2")
    assert "has 3 bands of each date and does not say which" in burn("--dates-per-file", "2")


def test_all_dates_of_a_band_first(here):
    write_scene(here / "scenes/a.tif", ("blue", "blue", "green", "green"))
    assert "gdal_translate -b 1 -b 3 -b 2 -b 4" in burn()


def test_labels_in_the_place_of_the_name(here):
    assert "name the project first" in refused("labels.gpkg", "--images", "scenes/*.tif", "--labels", "burn")

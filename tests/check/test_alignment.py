"""Coordinate systems and orientation."""

import geopandas as gpd
import madesurvey as made
import pytest


def test_labels_in_another_system_are_moved(tmp_path):
    path = made.healthy(tmp_path)
    assert "moved" not in made.only(path, "alignment").problem
    table = gpd.read_file(tmp_path / "labels.gpkg").to_crs("EPSG:4326")
    table.to_file(tmp_path / "labels.gpkg")
    finding = made.only(path, "alignment")
    assert finding.level == "OK"
    assert "labels in WGS 84, moved to the scenes' system" in finding.problem


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ((7.0, 7.0, made.LEFT, 7.0, -7.0, made.TOP), "rotated"),
        ((10.0, 0.0, made.LEFT, 0.0, 10.0, made.TOP - 1280), "south to north"),
    ],
)
def test_rotated_and_upside_down_scenes_are_told(tmp_path, place, said):
    path = made.healthy(tmp_path)
    made.scene(tmp_path / "scenes/T20210731.tif", made.ground(), place=place)
    finding = made.only(path, "alignment")
    assert finding.level == "WARN"
    assert said in finding.problem
    assert "gdalwarp" in finding.change


def test_degrees_in_a_file_that_says_metres_fail(tmp_path):
    path = made.healthy(tmp_path)
    table = gpd.read_file(tmp_path / "labels.gpkg").to_crs("EPSG:4326").set_crs(made.CRS, allow_override=True)
    table.to_file(tmp_path / "labels.gpkg")
    finding = made.only(path, "alignment")
    assert finding.level == "FAIL"
    assert finding.change.endswith("add `labels_crs: EPSG:4326`")

"""Geometries."""

import madesurvey as made
import shapely


def test_repaired_and_dropped_ones_are_counted(tmp_path):
    path = made.healthy(tmp_path)
    shapes, classes = made.grid()
    x, y = shapes[0].centroid.coords[0]
    bow = shapely.Polygon([(x, y), (x + 60, y + 60), (x + 60, y), (x, y + 60)])
    made.labels(tmp_path / "labels.gpkg", [bow, shapely.Polygon(), *shapes[2:]], classes)
    first, second = made.found(path, "polygons")
    assert first.problem == "1 invalid geometry repaired"
    assert "1 feature without a geometry" in second.problem


def test_those_smaller_than_a_pixel_are_counted_with_their_rows(tmp_path):
    path = made.healthy(tmp_path)
    shapes, classes = made.grid()
    shapes[4] = shapes[4].centroid.buffer(3)
    made.labels(tmp_path / "labels.gpkg", shapes, classes)
    finding = made.only(path, "polygons")
    assert finding.problem == "1 polygon smaller than a pixel (10 m)"
    assert finding.details == ("rows 5, counted from 1",)


def test_valid_ones_are_counted(tmp_path):
    shapes, _ = made.grid()
    assert made.only(made.healthy(tmp_path), "polygons").problem == f"{len(shapes)} polygons, all valid"

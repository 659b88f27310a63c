"""Polygons written for QGIS: they come back, with their style, or nothing is written."""

import sqlite3
import weakref
from contextlib import closing
from xml.etree import ElementTree

import geopandas
import numpy as np
import pytest
import shapely
from shapely import MultiPolygon, box

from adapteo.data._geopackage import _finish
from adapteo.data.vector import Style, layers, read_labels, write_batches, write_polygons
from adapteo.errors import DataError

STYLE = Style("class", {"wood & <brush>": (0, 110, 20), "Größe": (10, 0, 255)})


def written(tmp_path, **options):
    path = tmp_path / "map of labels.gpkg"
    shapes = [box(5e5, 5e6, 5.001e5, 5.001e6), MultiPolygon([box(5e5 + x, 0, 5e5 + x + 5, 5) for x in (0, 10)])]
    columns = {"class": ["wood & <brush>", "Größe"], "code": np.array([0, 1]), "hectares": [1.0, 0.005]}
    write_polygons(path, shapes, columns, "EPSG:32633", "the map", STYLE, **options)
    return path, shapes


def test_polygons_come_back(tmp_path):
    path, shapes = written(tmp_path)
    back = geopandas.read_file(path, layer="the map")
    assert back.crs.to_epsg() == 32633
    assert back["class"].tolist() == ["wood & <brush>", "Größe"]
    assert back["hectares"].tolist() == [1.0, 0.005]
    assert shapely.equals(shapely.normalize(back.geometry.values), shapely.normalize(shapes)).all()
    assert layers(path) == ("the map",)
    assert read_labels(path, "class").classes == ("Größe", "wood & <brush>")
    assert list(tmp_path.iterdir()) == [path]


def test_the_style_is_where_qgis_looks_for_it(tmp_path):
    path, _ = written(tmp_path)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        columns = [row[1] for row in file.execute("PRAGMA table_info(layer_styles)")]
        assert columns == [
            "id", "f_table_catalog", "f_table_schema", "f_table_name", "f_geometry_column", "styleName", "styleQML",
            "styleSLD", "useAsDefault", "description", "owner", "ui", "update_time",
        ]  # fmt: skip
        listed = "SELECT data_type FROM gpkg_contents WHERE table_name = 'layer_styles'"
        assert file.execute(listed).fetchall() == [("attributes",)]
        query = (
            "SELECT f_table_catalog, f_table_schema, f_table_name, f_geometry_column, useAsDefault FROM layer_styles"
        )
        assert file.execute(query).fetchall() == [("", "", "the map", "geom", 1)]
        named = "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = 'the map'"
        assert file.execute(named).fetchone() == ("geom",)
        (text,) = file.execute("SELECT styleQML FROM layer_styles").fetchone()
    root = ElementTree.fromstring(text)
    renderer = root.find("renderer-v2")
    assert (renderer.get("type"), renderer.get("attr")) == ("categorizedSymbol", "class")
    symbols = {symbol.get("name"): symbol for symbol in renderer.find("symbols")}
    found = {}
    for category in renderer.find("categories"):
        layer = symbols[category.get("symbol")].find("layer")
        colour = {option.get("name"): option.get("value") for option in layer.find("Option")}["color"]
        assert {prop.get("k"): prop.get("v") for prop in layer.findall("prop")}["color"] == colour
        found[category.get("value")] = colour
    assert found == {"wood & <brush>": "0,110,20,255", "Größe": "10,0,255,255"}
    assert root.find("layerGeometryType").text == "2"


def test_a_map_without_a_place_and_without_polygons(tmp_path):
    write_polygons(tmp_path / "a.gpkg", [box(0, 0, 1, 1)], {"class": ["x"]}, None, "map")
    assert len(geopandas.read_file(tmp_path / "a.gpkg")) == 1
    with pytest.raises(DataError, match="does not say its coordinate system"):
        read_labels(tmp_path / "a.gpkg", "class")
    write_polygons(tmp_path / "b.gpkg", [], {"class": []}, "EPSG:4326", "map", STYLE)
    with pytest.raises(DataError, match="is empty"):
        read_labels(tmp_path / "b.gpkg", "class")


def test_batches_become_one_layer(tmp_path):
    whole, shapes = written(tmp_path)
    columns = {"class": ["wood & <brush>", "Größe"], "code": np.array([0, 1]), "hectares": [1.0, 0.005]}
    parts = [(shapes[i : i + 1], {name: values[i : i + 1] for name, values in columns.items()}) for i in range(2)]
    path = tmp_path / "parts.gpkg"
    write_batches(path, iter(parts), "EPSG:32633", "the map", STYLE)
    one, other = (geopandas.read_file(file, layer="the map") for file in (whole, path))
    assert one.equals(other)
    box_of_first = shapes[0].bounds
    assert len(geopandas.read_file(path, layer="the map", bbox=box_of_first)) == 1, "the index knows all batches"

    def breaks():
        yield parts[0]
        raise DataError("the map is damaged")

    before = path.read_bytes()
    with pytest.raises(DataError, match="damaged"):
        write_batches(path, breaks(), "EPSG:32633", "the map", STYLE)
    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {path.name, whole.name}


def test_a_batch_is_let_go_before_the_next_one(tmp_path):
    seen = []

    def batches():
        for _ in range(3):
            made = [np.array([box(0, 0, 1, 1)], object)]
            seen.append(weakref.ref(made[0]))
            yield made.pop(), {"code": np.array([1])}
            assert seen[-1]() is None

    write_batches(tmp_path / "a.gpkg", batches(), "EPSG:32633", "map")
    assert len(seen) == 3


def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    path, _ = written(tmp_path)
    before = path.read_bytes()
    with pytest.raises(DataError, match="not named like one"):
        write_polygons(tmp_path / "map.shp", [], {}, None, "map")
    with pytest.raises(ValueError, match="not as long"):
        write_polygons(path, [box(0, 0, 1, 1)], {"class": []}, "EPSG:4326", "map")
    with pytest.raises(ValueError, match="not written"):
        write_polygons(path, [], {"code": []}, "EPSG:4326", "map", STYLE)

    def fails(*args, **options):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("adapteo.data._geopackage._finish", fails)
    with pytest.raises(DataError, match="cannot write"):
        written(tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_fewer_polygons_than_given_is_an_error(tmp_path):
    path, _ = written(tmp_path)
    with pytest.raises(sqlite3.OperationalError, match="2 of 3 polygons"):
        _finish(path, "the map", 3, None)

"""Labels from the files that people have: what is read, what is left out and said, what is refused and why."""

import json
import subprocess
import sys
import zipfile

import geopandas
import numpy as np
import pandas
import pytest
import shapely
from shapely import LineString, MultiPoint, MultiPolygon, Point, Polygon, box

from adapteo.data.vector import layers, list_columns, read_labels
from adapteo.errors import DataError

BOW_TIE = Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])


def frame(geometry, crs=32633, **columns):
    columns = columns or {"type": ["a", "b"] * (len(geometry) // 2) + ["a"] * (len(geometry) % 2)}
    return geopandas.GeoDataFrame(columns, geometry=list(geometry), crs=crs)


def squares(count, start=1000.0):
    return [box(start + 10 * i, 0, start + 10 * i + 5, 5) for i in range(count)]


def geojson(path, features, **more):
    """Features are (geometry as GeoJSON, class)."""
    listed = [{"type": "Feature", "properties": {"type": kind}, "geometry": shape} for shape, kind in features]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": listed, **more}))
    return path


def problem(*args, **options):
    with pytest.raises(DataError) as caught:
        read_labels(*args, **options)
    assert len(str(caught.value).splitlines()) <= 5
    assert str(args[0]) in str(caught.value) or "file" in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------- formats


def as_geopackage(path, data):
    data.to_file(path / "labels.gpkg", layer="drawn")
    return path / "labels.gpkg"


def as_geojson(path, data):
    data.to_crs(4326).to_file(path / "labels.geojson")
    return path / "labels.geojson"


def as_shapefile(path, data):
    data.to_file(path / "labels.shp")
    return path / "labels.shp"


def as_zip(path, data):
    (path / "inner").mkdir()
    data.to_file(path / "inner/größe 1.shp")
    with zipfile.ZipFile(path / "labels.zip", "w") as archive:
        archive.writestr("read me.txt", "hello")
        for file in (path / "inner").iterdir():
            archive.write(file, f"a folder/{file.name}")
    return path / "labels.zip"


def as_geoparquet(path, data):
    pytest.importorskip("pyarrow")
    data.to_parquet(path / "labels.parquet")
    return path / "labels.parquet"


@pytest.mark.parametrize("write", [as_geopackage, as_geojson, as_shapefile, as_zip, as_geoparquet])
def test_every_format_gives_the_same(write, tmp_path):
    shapes = [box(5e5, 5.4e6, 5.01e5, 5.401e6), Polygon([(5.02e5, 5.4e6), (5.03e5, 5.4e6), (5.03e5, 5.402e6)])]
    path = write(tmp_path, frame(shapes, type=["wood", "lake"], region=["Tyrol", None], number=[1, 2]))
    labels = read_labels(path, "type", columns=("region", "number"))
    assert (labels.classes, labels.codes.tolist(), labels.kind) == (("lake", "wood"), [1, 0], "polygon")
    assert labels.codes.dtype == labels.rows.dtype == np.int64
    assert labels.columns["region"].tolist() == ["Tyrol", ""]
    assert labels.columns["number"].tolist() == ["1", "2"]
    assert (labels.dropped, labels.doubts, labels.repaired) == ((), (), 0)
    moved = labels.to_crs("EPSG:32633")
    assert shapely.area(shapely.symmetric_difference(moved.geometry, shapes)).max() < 200  # of a square kilometre
    assert moved.bounds == pytest.approx((5e5, 5.4e6, 5.03e5, 5.402e6), abs=0.1)
    assert list_columns(path)["type"] == ("lake", "wood")
    assert len(layers(path)) == 1


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("Latitude,LON,type\n48.5,14.25,a\n48.6,14.5,b\n", (14.25, 48.5)),
        ("\ufefflat;lng;type\n48,5;14,25;a\n48,6;14,5;b\n", (14.25, 48.5)),
        ("type\tx\ty\tepsg\na\t4660000\t2900000\t3035\nb\t4660100\t2900000\t3035\n", (4660000, 2900000)),
        ("type,easting,northing,crs\na,1,2,EPSG:32633\n,,,\nb,3,4,\n", (1, 2)),
    ],
)
def test_points_of_a_table(text, place, tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(text, encoding="utf-8")
    labels = read_labels(path, "type")
    assert (labels.kind, labels.classes) == ("point", ("a", "b"))
    assert (labels.geometry[0].x, labels.geometry[0].y) == place
    assert list(list_columns(path)) == ["type"]


def test_several_layers_must_be_named(tmp_path):
    path = tmp_path / "labels.gpkg"
    frame(squares(2)).to_file(path, layer="train")
    frame(squares(4)).to_file(path, layer="test", mode="a")
    assert layers(path) == ("train", "test")
    assert len(read_labels(path, "type", layer="test")) == 4
    assert problem(path, "type") == f"{path} has 2 layers\nallowed: train, test\nsay which one with `layer`"
    assert f"{path} has no layer 'tests'; did you mean 'test'?" in problem(path, "type", layer="tests")


def test_nothing_heavy_is_imported():
    """Neither torch at all, nor pandas and geopandas before a file is read."""
    code = (
        "import sys, adapteo.data.vector, adapteo.data._burn;print({'torch', 'pandas', 'pyogrio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ------------------------------------------------------------------------------------------- classes


def test_features_without_a_class_are_left_out_and_counted(tmp_path):
    path = as_geopackage(tmp_path, frame(squares(5), type=["b", None, "", "a ", "b"]))
    labels = read_labels(path, "type")
    assert (labels.classes, labels.codes.tolist(), labels.rows.tolist()) == (("a", "b"), [1, 0, 1], [0, 3, 4])
    assert labels.dropped == ("2 features without a class",)


def test_numbers_are_classes_in_the_order_of_numbers(tmp_path):
    """A missing value turns whole numbers into fractions in many files."""
    path = as_geopackage(tmp_path, frame(squares(4), type=[10.0, 9.0, np.nan, 10.0]))
    labels = read_labels(path, "type")
    assert (labels.classes, labels.codes.tolist()) == (("9", "10"), [1, 0, 1])
    assert read_labels(path, "type", classes=("10", "9")).codes.tolist() == [0, 1, 0]
    named = read_labels(path, "type", classes={9: "lake", 10: "wood", 11: "road"})
    assert (named.classes, named.codes.tolist()) == (("lake", "wood", "road"), [1, 0, 1])
    merged = read_labels(path, "type", classes={9: "land", 10: "land"})
    assert (merged.classes, merged.codes.tolist()) == (("land",), [0, 0, 0])


def test_codes_that_look_like_numbers_keep_their_zeros(tmp_path):
    path = as_geopackage(tmp_path, frame(squares(3), type=["0200", "0100", "1.0"]))
    assert read_labels(path, "type").classes == ("1", "0100", "0200")


def test_days_and_yes_or_no_are_text(tmp_path):
    days = np.array(["2023-05-01", "2023-06-02T10:30:00"], dtype="datetime64[ms]")
    for path in (as_geopackage, as_geoparquet):
        labels = read_labels(
            path(tmp_path, frame(squares(2), day=days, burnt=[True, False])), "burnt", columns=("day",)
        )
        assert labels.classes == ("false", "true")
        assert labels.columns["day"].tolist() == ["2023-05-01", "2023-06-02T10:30:00"]


def test_a_class_that_is_not_one_of_those_given_is_named(tmp_path):
    path = as_geopackage(tmp_path, frame(squares(3), type=["wood", "woood", "woood"]))
    text = problem(path, "type", classes=("wood", "lake"))
    assert "'woood' in column 'type' (2 features) is no class; did you mean 'wood'?" in text
    assert "allowed: wood, lake" in text


def test_columns_that_hold_no_classes_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    many = frame(squares(300), ndvi=rng.random(300), id=np.arange(300), empty=[None] * 300)
    path = as_geopackage(tmp_path, many)
    assert "holds measurements, e.g. 0.00" in problem(path, "ndvi")
    assert "holds 300 different values, no classes" in problem(path, "id")
    assert "column 'empty' is empty" in problem(path, "empty")
    text = problem(path, "nvdi")
    assert "has no column 'nvdi'; did you mean 'ndvi'?" in text
    assert "allowed: ndvi, id, empty" in text
    assert "has no column 'Region'" in problem(path, "id", columns=("Region",))


def test_names_that_differ_in_case_only_are_doubted(tmp_path):
    labels = read_labels(as_geopackage(tmp_path, frame(squares(2), type=["Wood", "wood"])), "type")
    assert labels.classes == ("Wood", "wood")
    assert labels.doubts == ("classes that differ only in upper and lower case: Wood, wood",)


# ----------------------------------------------------------------------------------------- geometries


def test_collections_multi_parts_and_heights_are_taken_apart(tmp_path):
    collection = shapely.GeometryCollection(
        [box(0, 0, 1, 1), shapely.GeometryCollection([Point(3, 3)]), LineString([(5, 5), (6, 6)])]
    )
    shapes = [
        MultiPolygon(squares(2)),
        MultiPoint([(100, 1), (101, 1)]),
        Polygon([(200, 0, 7), (201, 0, 7), (201, 1, 7)]),
    ]
    path = as_geopackage(tmp_path, frame([*shapes, collection]))
    labels = read_labels(path, "type")
    assert labels.kinds.tolist() == ["polygon"] * 2 + ["point"] * 2 + ["polygon"] * 2 + ["point", "line"]
    assert labels.rows.tolist() == [0, 0, 1, 1, 2, 3, 3, 3]
    assert labels.kind == "mixed"
    assert not shapely.has_z(labels.geometry).any()


def test_geometries_that_are_empty_or_cover_nothing_are_left_out(tmp_path):
    flat = Polygon([(0, 0), (1, 1), (2, 2), (0, 0)])
    path = as_geopackage(tmp_path, frame([None, Polygon(), flat, LineString([(1, 1), (1, 1)]), box(0, 0, 1, 1)]))
    labels = read_labels(path, "type")
    assert labels.rows.tolist() == [4]
    assert labels.dropped == (
        "2 features without a geometry", "2 features that cover nothing (no area, no length)",
    )  # fmt: skip


def test_rings_that_do_not_close_are_left_out_and_counted(tmp_path):
    open_ring = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1]]]}
    path = geojson(tmp_path / "labels.geojson", [(open_ring, "a"), ({"type": "Point", "coordinates": [1, 2]}, "b")])
    labels = read_labels(path, "type", classes=("a", "b"))
    assert labels.dropped == ("1 feature without a geometry",)
    assert labels.codes.tolist() == [1]


def test_self_intersections_are_repaired_and_counted(tmp_path):
    """What GDAL would fill stays: a bow tie becomes its two triangles, a hole outside is dropped."""
    outside = Polygon([(10, 0), (12, 0), (12, 2), (10, 2)], [[(20, 0), (21, 0), (21, 1)]])
    spike = Polygon([(30, 0), (32, 0), (32, 2), (32, 9), (32, 2), (30, 2)])
    path = as_geopackage(tmp_path, frame([BOW_TIE, outside, spike, box(40, 0, 41, 1)]))
    labels = read_labels(path, "type")
    assert labels.repaired == 3
    assert shapely.is_valid(labels.geometry).all()
    area = np.bincount(labels.rows, shapely.area(labels.geometry))
    np.testing.assert_allclose(area, [0.5, 4.5, 4, 1])
    assert labels.dropped == ()


def test_what_is_in_the_file_twice(tmp_path):
    one, same = box(1000, 0, 1001, 1), Polygon([(1001, 1), (1000, 1), (1000, 0), (1001, 0)])
    path = as_geopackage(tmp_path, frame([one, same, one, one, box(5, 5, 6, 6)], type=["a", "a", "b", "a", "b"]))
    labels = read_labels(path, "type")
    assert labels.rows.tolist() == [0, 2, 4]
    assert labels.dropped == ("2 features that are in the file twice",)
    assert labels.doubts == ("1 feature with the geometry of an earlier one and another class: the later one holds",)


def test_lines_get_their_width_when_they_are_read(tmp_path):
    path = as_geopackage(tmp_path, frame([LineString([(5e5, 5e6), (5.01e5, 5e6)])]))
    assert read_labels(path, "type").kind == "line"
    wide = read_labels(path, "type", line_width=12.0)
    assert wide.kind == "polygon"
    assert shapely.area(wide.geometry).sum() == pytest.approx(12_000, rel=2e-3)


def test_nothing_left_says_why(tmp_path):
    path = as_geopackage(tmp_path, frame([None, Polygon(), box(0, 0, 1, 1)], type=["a", "a", None]))
    assert "holds no labels: 1 feature without a class; 2 features without a geometry" in problem(path, "type")


def test_across_the_antimeridian(tmp_path):
    short_way = {"type": "Polygon", "coordinates": [[[179, 0], [-179, 0], [-179, 1], [179, 1], [179, 0]]]}
    beyond = {"type": "Polygon", "coordinates": [[[179, 5], [182, 5], [182, 6], [179, 6], [179, 5]]]}
    world = {"type": "Polygon", "coordinates": [[[-180, -80], [180, -80], [180, 80], [-180, 80], [-180, -80]]]}
    line = {"type": "LineString", "coordinates": [[179, 9], [-179, 9]]}
    point = {"type": "Point", "coordinates": [190, 9]}
    features = [(shape, "a") for shape in (short_way, beyond, world, line, point)]
    labels = read_labels(geojson(tmp_path / "labels.geojson", features), "type")
    bounds = [shapely.total_bounds(labels.geometry[labels.rows == row]).tolist() for row in range(5)]
    size = [shapely.area(labels.geometry[labels.rows == row]).sum() for row in range(3)]
    assert bounds[0] == [-180, 0, 180, 1]
    assert size == pytest.approx([2, 3, 360 * 160])
    assert shapely.length(labels.geometry[labels.rows == 3]).sum() == pytest.approx(2)
    assert bounds[4] == [-170, 9, -170, 9]
    assert labels.doubts == (
        "2 features with an edge of more than 180 degrees: taken to cross the antimeridian",
    )  # fmt: skip
    assert labels.within((-180, 0, -179.5, 1)).rows.tolist() == [0, 2]
    assert labels.within((170, 4, 180, 7)).rows.tolist() == [1, 2]


# --------------------------------------------------------------------------------- coordinate systems


def test_a_missing_coordinate_system_is_refused_and_can_be_given(tmp_path):
    shapefile = as_shapefile(tmp_path, frame(squares(2)))
    shapefile.with_suffix(".prj").unlink()
    text = problem(shapefile, "type")
    assert "does not say its coordinate system" in text
    assert "labels_crs" in text
    given = read_labels(shapefile, "type", crs="EPSG:32633")
    assert given.bounds == (1000, 0, 1015, 5)
    assert "'EPSG:99999' is no coordinate system" in problem(shapefile, "type", crs="EPSG:99999")
    with pytest.warns(UserWarning, match="crs"):
        frame(squares(2), crs=None).to_file(tmp_path / "labels.gpkg")
    assert "does not say its coordinate system" in problem(tmp_path / "labels.gpkg", "type")
    table = tmp_path / "points.csv"
    table.write_text("x,y,type\n1,2,a\n")
    assert "does not say its coordinate system" in problem(table, "type")


def test_exchanged_axes_are_found(tmp_path):
    table = tmp_path / "points.csv"
    table.write_text("lat,lon,type\n139.7,35.6,a\n139.8,35.7,b\n")
    text = problem(table, "type")
    assert "latitudes reach 139.8 degrees: longitude and latitude are exchanged" in text
    assert "the names of the two columns" in text
    path = geojson(tmp_path / "labels.geojson", [({"type": "Point", "coordinates": [35.6, 139.7]}, "a")])
    assert "longitude comes first" in problem(path, "type")


def test_metres_that_should_be_degrees_and_the_other_way_round(tmp_path):
    path = geojson(tmp_path / "labels.geojson", [({"type": "Point", "coordinates": [500000, 5400000]}, "a")])
    assert "coordinates reach 500000, 5.4e+06, which are no degrees" in problem(path, "type")
    assert read_labels(path, "type", crs="EPSG:32633").bounds[0] == 500000
    doubted = read_labels(as_geopackage(tmp_path, frame([box(14, 48, 15, 49)])), "type")
    assert doubted.doubts == ("coordinates look like degrees, but the file says 'WGS 84 / UTM zone 33N'",)


def test_a_system_without_a_place_on_earth(tmp_path):
    local = 'LOCAL_CS["quarry",UNIT["Meter",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
    labels = read_labels(as_geopackage(tmp_path, frame(squares(2, 1000), crs=32633)), "type", crs=local)
    with pytest.raises(DataError, match="no way from the coordinate system 'quarry' to 'WGS 84'"):
        labels.to_crs("EPSG:4326")


# ----------------------------------------------------------------------------------------- bad files


def broken_files(path):
    """Name, bytes, and what is said."""
    frame(squares(2)).to_file(path / "good.gpkg")
    frame(squares(2)).to_file(path / "good.geojson")
    frame(squares(2)).to_file(path / "good.shp")
    (path / "good.shx").unlink()
    good = (path / "good.geojson").read_bytes()
    return [
        ("empty.gpkg", b"", "is empty (0 bytes)"),
        ("half.gpkg", (path / "good.gpkg").read_bytes()[:30_000], "half written"),
        ("half.geojson", good[: len(good) // 2], "half written"),
        ("picture.gpkg", b"\x89PNG\r\n\x1a\n", "is no vector file that can be read"),
        ("text.geojson", b"hello", "is no vector file that can be read"),
        ("good.shp", None, "lacks its .shx file"),
        ("broken.zip", b"PK\x03\x04", "is no zip file, or is damaged"),
        ("half.parquet", b"PAR1....", "cannot read"),
        ("binary.csv", b"lat,lon,type\n\xff\xfe\xff,1,a\n", "is not a CSV file"),
        ("cells.csv", b"lat,lon,type\n1,2,a,b\n", "row 2 has more cells than the header"),
        ("word.csv", b"lat,lon,type\n1,2,a\nnorth,2,a\n", "row 3: lat 'north' is not a number"),
        ("nan.csv", b"lat,lon,type\nnan,2,a\n", "row 2: lat 'nan' is not a number"),
        ("half_a_place.csv", b"lat,lon,type\n1,,a\n", "row 2: lon '' is not a number"),
        ("nowhere.csv", b"town,type\nLinz,a\n", "has no columns of coordinates"),
        ("twice.csv", b"lat,lon,type,type\n1,2,a,b\n", "a column is named twice"),
        ("mixed.csv", b"x,y,type,epsg\n1,2,a,32633\n1,2,a,32632\n", "mixes coordinate systems: 32632, 32633"),
        ("no_such.csv", b"x,y,type,epsg\n1,2,a,99999\n", "'EPSG:99999' is no coordinate system"),
        ("nothing.csv", b"lat,lon,type\n", "column 'type' is empty"),
        ("missing.gpkg", None, "there is no file"),
    ]


def test_broken_files_are_named_and_explained(tmp_path):
    for name, content, said in broken_files(tmp_path):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        assert said in problem(path, "type"), name


def test_a_folder_a_zip_without_labels_and_a_table_without_shapes(tmp_path):
    (tmp_path / "folder.gpkg").mkdir()
    assert "is a folder" in problem(tmp_path / "folder.gpkg", "type")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "x")
    assert "holds no vector file" in problem(tmp_path / "a.zip", "type")
    table = pandas.DataFrame({"type": ["a"]})
    table.to_parquet(tmp_path / "table.parquet")
    assert "holds no geometries" in problem(tmp_path / "table.parquet", "type")
    shapefile = as_shapefile(tmp_path, frame(squares(1)))
    shapefile.with_suffix(".dbf").unlink()
    assert "its .dbf file is missing" in problem(shapefile, "type")

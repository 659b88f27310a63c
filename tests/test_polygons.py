"""Polygons of class maps against GDAL: drawn again they are the map, and they are what rasterio finds."""

import sqlite3
from contextlib import closing

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize, shapes
from shapely.geometry import shape

from adapteo import experiment
from adapteo.data.class_map import ClassMap
from adapteo.errors import ConfigError, DataError
from adapteo.polygons import check_options, polygons, polygons_of
from toy import BANDS, CLASSES, spell

NODATA = 255
UTM = rasterio.Affine(10, 0, 500_000, 0, -10, 5_600_000)
simplifies = pytest.mark.skipif(
    tuple(map(int, shapely.__version__.split(".")[:2])) < (2, 1), reason="shapely 2.1 simplifies coverages"
)


def write_map(
    path, values, *, crs="EPSG:32633", transform=UTM, names=("water", "forest", "field"), colours=True, **more
):
    options = {"driver": "GTiff", "count": 1, "height": values.shape[0], "width": values.shape[1], "nodata": NODATA}
    options |= {"dtype": values.dtype, "crs": crs, "transform": transform}
    with rasterio.open(path, "w", **(options | more)) as file:
        file.write(values, 1)
        file.update_tags(1, **{f"CLASS_{i}": name for i, name in enumerate(names)})
        if colours:
            file.write_colormap(1, {i: (10 * i, 200, 30, 255) for i in range(len(names))})
    return path


def random_map(seed, height=17, width=23, classes=3):
    values = np.random.default_rng(seed).integers(0, classes + 1, (height, width)).astype(np.uint8)
    values[values == classes] = NODATA
    return values


def read(path):
    found = pyogrio.read_dataframe(path, layer=path.stem)
    return found.geometry.to_numpy(), found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000), height=st.integers(1, 16), width=st.integers(1, 16), classes=st.integers(1, 3),
    connectivity=st.sampled_from([4, 8]), rotated=st.booleans(),
)  # fmt: skip
def test_drawn_again_they_are_the_map(tmp_path, seed, height, width, classes, connectivity, rotated):
    values = random_map(seed, height, width, classes)
    place = rasterio.Affine(8, 6, 500_000, 6, -8, 5_600_000) if rotated else UTM
    path = write_map(tmp_path / "map.tif", values, transform=place)
    geometry, table = read(polygons(path, tmp_path / "out.gpkg", connectivity=connectivity))
    assert shapely.is_valid(geometry).all()
    pairs = list(zip(geometry, table.code, strict=True))
    again = np.full(values.shape, NODATA, np.uint8) if not pairs else rasterize(
        pairs, values.shape, NODATA, transform=place, dtype="uint8"
    )  # fmt: skip
    np.testing.assert_array_equal(again, values)
    pixels = {code: int((values == code).sum()) for code in np.unique(values).tolist() if code != NODATA}
    assert {c: a for c, a in table.groupby("code").area_ha.sum().items()} == pytest.approx(
        {code: 0.01 * n for code, n in pixels.items()}
    )
    np.testing.assert_allclose(table.area_ha * 1e4, shapely.area(geometry), rtol=1e-9)
    # The same polygons as GDAL's: with 8 neighbours those that touch themselves are repaired first.
    expected = [
        (shapely.normalize(shapely.make_valid(shape(outline))), int(code))
        for outline, code in shapes(values, values != NODATA, connectivity, place)
    ]
    assert len(expected) == len(geometry)
    unlike = [
        code for g, code in pairs
        if not any(c == code and shapely.area(shapely.symmetric_difference(g, e)) < 1e-6 for e, c in expected)
    ]  # fmt: skip
    assert not unlike


@pytest.mark.parametrize("simplify", [0.0, pytest.param(1.0, marks=simplifies)])
def test_result_does_not_depend_on_strips_and_batches(tmp_path, monkeypatch, simplify):
    path = write_map(tmp_path / "map.tif", random_map(1, 60, 40))
    options = {"minimum_area": 0.03, "simplify": simplify}
    whole, table = read(polygons(path, tmp_path / "whole.gpkg", **options))
    monkeypatch.setattr("adapteo.data.class_map._PIXELS", 7 * 40)
    monkeypatch.setattr("adapteo.data._outlines._BATCH", 50)
    monkeypatch.setattr("adapteo.polygons._CHUNK", 9)
    parts, again = read(polygons(path, tmp_path / "parts.gpkg", **options))
    assert shapely.to_wkb(whole).tolist() == shapely.to_wkb(parts).tolist()
    assert table.drop(columns="geometry").equals(again.drop(columns="geometry"))


@simplifies
@pytest.mark.parametrize("tolerance", [0.8, 2.0])
def test_simplified_polygons_have_no_gaps_and_no_overlaps(tmp_path, tolerance):
    coarse = np.kron(random_map(5, 10, 12), np.ones((6, 6), np.uint8))
    shifted = np.array([np.roll(line, i % 6) for i, line in enumerate(coarse)])  # steps
    path = write_map(tmp_path / "map.tif", shifted)
    plain, _ = read(polygons(path, tmp_path / "plain.gpkg"))
    simple, table = read(polygons(path, tmp_path / "simple.gpkg", simplify=tolerance))
    assert shapely.coverage_is_valid(simple)
    assert shapely.is_valid(simple).all()
    assert shapely.area(simple).sum() == pytest.approx(shapely.area(shapely.union_all(simple)), rel=1e-9)
    assert shapely.get_num_coordinates(simple).sum() < 0.7 * shapely.get_num_coordinates(plain).sum()
    # No corner moves farther than the triangles that may go allow; the table keeps the area of the pixels.
    assert table.area_ha.sum() == pytest.approx((shifted != NODATA).sum() * 0.01)
    assert shapely.hausdorff_distance(plain, simple).max() < 10 * 6 * tolerance


def test_small_patches_go_to_a_neighbour_and_the_area_stays(tmp_path):
    values = random_map(2, 80, 80)
    path = write_map(tmp_path / "map.tif", values)
    geometry, table = read(polygons(path, tmp_path / "out.gpkg", minimum_area=0.1))
    assert table.area_ha.sum() == pytest.approx((values != NODATA).sum() * 0.01)
    assert shapely.area(shapely.union_all(geometry)) == pytest.approx((values != NODATA).sum() * 100)
    assert len(geometry) < len(read(polygons(path, tmp_path / "all.gpkg"))[0]) / 3


def test_classes_are_left_out_after_the_sieve(tmp_path):
    values = np.zeros((9, 9), np.uint8)
    values[3:6, 3:6] = 1
    values[4, 4] = 0  # a hole of one pixel, which the sieve closes
    path = write_map(tmp_path / "map.tif", values)
    geometry, table = read(polygons(path, tmp_path / "o.gpkg", minimum_area=0.02, leave_out=["water"]))
    assert table["class"].tolist() == ["forest"]
    assert shapely.area(geometry).tolist() == [900.0]
    assert shapely.get_num_interior_rings(shapely.get_geometry(geometry, 0)).tolist() == [0]
    with pytest.raises(DataError, match=r"no class 'lake'"):
        polygons(path, tmp_path / "o.gpkg", leave_out=["lake"])


def test_style_has_the_colours_of_the_map(tmp_path):
    path = write_map(tmp_path / "map.tif", random_map(3))
    out = polygons(path, tmp_path / "o.gpkg", leave_out=["field"])
    with closing(sqlite3.connect(out)) as file:
        ((name, qml),) = file.execute("SELECT f_table_name, styleQML FROM layer_styles").fetchall()
    assert name == "o"
    assert 'value="forest"' in qml
    assert "10,200,30,255" in qml
    assert "field" not in qml
    plain = polygons(write_map(tmp_path / "p.tif", random_map(3), colours=False), tmp_path / "p.gpkg")
    assert "layer_styles" not in pyogrio.list_layers(plain)[:, 0]


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", rasterio.Affine(0.01, 0, 12, 0, -0.01, 52)),
        ("EPSG:3857", rasterio.Affine(500, 0, 1_300_000, 0, -500, 6_600_000)),
        ("EPSG:2263", rasterio.Affine(300, 0, 950_000, 0, -300, 220_000)),  # in feet
        ("EPSG:3995", rasterio.Affine(5000, 0, -100_000, 0, -5000, 90_000)),  # around the North Pole
    ],
)
def test_areas_are_those_on_the_ellipsoid(tmp_path, crs, transform):
    values = np.ones((30, 40), np.uint8)
    values[:, 20:] = 2
    path = write_map(tmp_path / "map.tif", values, crs=crs, transform=transform)
    geometry, table = read(polygons(path, tmp_path / "o.gpkg"))
    dense = shapely.segmentize(geometry, abs(transform.a))
    way = pyproj.Transformer.from_crs(crs, pyproj.CRS(crs).geodetic_crs, always_xy=True)
    geod = pyproj.CRS(crs).get_geod()
    expected = []
    for part in dense:
        xy = shapely.get_coordinates(shapely.transform(part, lambda xy: np.column_stack(way.transform(*xy.T))))
        expected.append(abs(geod.polygon_area_perimeter(*xy.T)[0]) / 1e4)
    # Edges in the map's system are no geodesics; a foot's system is within 0.5 % of the ellipsoid, and counts as even.
    tolerance = 2e-3 if crs == "EPSG:2263" else 2e-4
    np.testing.assert_allclose(table.area_ha, expected, rtol=tolerance)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_map_without_a_place_counts_pixels(tmp_path):
    values = random_map(4)
    path = write_map(tmp_path / "map.tif", values, crs=None, transform=None)
    geometry, table = read(polygons(path, tmp_path / "o.gpkg"))
    np.testing.assert_allclose(table.area_px, shapely.area(geometry))
    with pytest.raises(DataError, match="no place on Earth"):
        polygons(path, tmp_path / "o.gpkg", minimum_area=1.0)


def test_a_map_of_nothing_has_no_polygons(tmp_path):
    path = write_map(tmp_path / "map.tif", np.full((5, 5), NODATA, np.uint8))
    geometry, table = read(polygons(path, tmp_path / "o.gpkg"))
    assert len(geometry) == 0
    assert list(table.columns) == ["code", "class", "area_ha", "geometry"]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((4, 4), np.float32), {"colours": False}, "holds float32"),
        (np.full((4, 4), -3, np.int16), {"colours": False}, "the code -3"),
    ],
)
def test_no_class_map(tmp_path, values, options, message):
    path = write_map(tmp_path / "map.tif", values, **options)
    with pytest.raises(DataError, match=message):
        polygons(path, tmp_path / "o.gpkg")
    assert not (tmp_path / "o.gpkg").exists()


def test_options_are_refused_before_a_map_is_drawn():
    with pytest.raises(DataError, match="not named like one"):
        check_options("map.shp", 0, 0)
    with pytest.raises(ConfigError, match="must be 0 or more"):
        check_options("map.gpkg", 0, -1)
    check_options("a_folder", 0, 0)


def test_wrong_calls(tmp_path):
    path = write_map(tmp_path / "map.tif", random_map(0))
    with pytest.raises(ConfigError, match="no 6 neighbours"):
        polygons(path, tmp_path / "o.gpkg", connectivity=6)
    with pytest.raises(ConfigError, match="must be 0 or more"):
        polygons(path, tmp_path / "o.gpkg", simplify=-1)
    with pytest.raises(DataError, match="not named like one"):
        polygons(path, tmp_path / "o.shp")
    with pytest.raises(DataError, match="there is no file"):
        polygons(tmp_path / "none.tif", tmp_path / "o.gpkg")
    broken = tmp_path / "broken.tif"
    broken.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"broken\.tif"):
        polygons(broken, tmp_path / "o.gpkg")


def test_sizes_of_classes(tmp_path):
    values = random_map(6)
    found = ClassMap.open(write_map(tmp_path / "map.tif", values)).sizes()
    codes, counts = np.unique(values, return_counts=True)
    expected = {
        (-1 if code == NODATA else code): (n, 100.0 * n) for code, n in zip(codes.tolist(), counts, strict=True)
    }
    assert found == expected


def test_polygons_of_what_was_predicted(tmp_path):
    one = write_map(tmp_path / "one.tif", random_map(1))
    assert polygons_of(one, [tmp_path / "scene.tif"], tmp_path / "p.gpkg") == (tmp_path / "p.gpkg",)
    folder = tmp_path / "maps"
    folder.mkdir()
    for name in ("a_map", "b_map", "older_map"):
        write_map(folder / f"{name}.tif", random_map(2))
    written = polygons_of(folder, [tmp_path / "a.tif", tmp_path / "b.jp2"], tmp_path / "polygons", minimum_area=0.05)
    assert written == (tmp_path / "polygons" / "a_map.gpkg", tmp_path / "polygons" / "b_map.gpkg")
    assert all(path.is_file() for path in written)


def test_polygons_of_a_map_that_was_predicted(tmp_path):
    """Names and colours of the classes come with the map."""
    run = experiment.fit(spell(tmp_path / "run", "train.epochs=1"))
    image = np.random.default_rng(0).uniform(0.02, 0.2, (3, 40, 50)).astype(np.float32)
    image[:, :9] = np.nan
    options = {"driver": "GTiff", "count": 3, "height": 40, "width": 50, "dtype": "float32", "nodata": np.nan}
    with rasterio.open(tmp_path / "scene.tif", "w", crs="EPSG:32633", transform=UTM, **options) as file:
        file.write(image)
        file.descriptions = BANDS
    out = run.predict(tmp_path / "scene.tif", tmp_path / "map.tif")
    geometry, table = read(polygons(out, tmp_path / "map.gpkg", connectivity=8))
    assert set(table["class"]) <= set(CLASSES)
    assert table.area_ha.sum() == pytest.approx(31 * 50 * 0.01)
    with rasterio.open(out) as file:
        again = rasterize(zip(geometry, table.code, strict=True), (40, 50), NODATA, transform=UTM, dtype="uint8")
        np.testing.assert_array_equal(again, file.read(1))
        red, green, blue, _ = file.colormap(1)[int(table.code[0])]
    with closing(sqlite3.connect(tmp_path / "map.gpkg")) as file:
        ((qml,),) = file.execute("SELECT styleQML FROM layer_styles").fetchall()
    assert f"{red},{green},{blue},255" in qml

"""Labels drawn into windows: against points in polygons, a drawing of the whole scene, and GDAL's own tools."""

import json
import pickle
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.features import rasterize

from adapteo._ignore import IGNORE
from adapteo.contracts import IGNORE as IGNORE_OF_CONTRACTS
from adapteo.data._burn import burn
from adapteo.data._projection import parse_crs, reproject
from adapteo.data._shapes import clean, to_grid
from adapteo.data.raster import read_raster
from adapteo.data.vector import Labels, read_labels, write_polygons

UTM = parse_crs("EPSG:32633", "test")
DEGREES = parse_crs("EPSG:4326", "test")
GRID = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_400_000.0)
QUICK = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
SLOW = settings(QUICK, max_examples=6)
gdal = pytest.mark.skipif(not shutil.which("gdal_rasterize"), reason="GDAL's own tools are not on this machine")


def labels(geometry, codes=None, crs=UTM):
    codes = np.arange(len(geometry)) if codes is None else np.asarray(codes)
    names = tuple(f"c{i}" for i in range(int(codes.max(initial=0)) + 1))
    rows = np.arange(len(geometry))
    return Labels(Path("drawn.gpkg"), np.array(geometry, dtype=object), codes, names, crs, rows)


def on_map(geometry, grid=GRID):
    """From pixel to map coordinates."""
    a, b, c, d, e, f = grid
    return shapely.transform(
        geometry, lambda p: np.stack([a * p[:, 0] + b * p[:, 1] + c, d * p[:, 0] + e * p[:, 1] + f], 1)
    )


def window(grid, row, col):
    return tuple(Affine(*grid) @ Affine.translation(col, row))[:6]


def centres(height, width):
    rows, cols = np.mgrid[:height, :width] + 0.5
    return cols, rows


def polygons(rng, count, size, vertices=24):
    """Stars with random radii, some with a hole, in pixel coordinates; they may reach beyond the scene."""
    out = []
    for _ in range(count):
        angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, vertices)))
        radius = rng.uniform(0.1, 0.7) * size * rng.uniform(0.3, 1, angle.size)
        ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
        middle = rng.uniform(-0.2, 1.2, 2) * size
        holes = [0.4 * ring + middle] if rng.random() < 0.3 else []
        shape = shapely.Polygon(ring + middle, holes)
        if shape.is_valid and shape.area > 0:
            out.append(shape)
    return out


def far_from_centres(shapes, height, width, by=1e-6):
    """Whether no edge runs through the centre of a pixel, where GDAL decides by its own rule."""
    cols, rows = centres(height, width)
    points = shapely.points(cols.ravel(), rows.ravel())
    return all((shapely.distance(shapely.boundary(shape), points) > by).all() for shape in shapes)


# ------------------------------------------------------------------------------------------- rules


def test_the_mark_of_what_is_not_learned_is_one():
    assert IGNORE == IGNORE_OF_CONTRACTS


def test_what_nobody_labelled_is_ignored_not_background():
    out = burn(labels([on_map(shapely.box(1, 1, 3, 2))], [0]), GRID, (4, 5), UTM)
    assert out.dtype == np.int64
    np.testing.assert_array_equal(out, [[-1] * 5, [-1, 0, 0, -1, -1], [-1] * 5, [-1] * 5])
    assert (burn(labels([], []), GRID, (4, 5), UTM) == IGNORE).all()


@QUICK
@given(seed=st.integers(0, 2**32), rotated=st.booleans())
def test_a_polygon_covers_the_pixels_whose_centre_lies_in_it(seed, rotated):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 40, 2).tolist()
    shapes = polygons(rng, rng.integers(1, 6), max(height, width))
    assume(far_from_centres(shapes, height, width))
    expected = np.full((height, width), IGNORE)
    for code, shape in enumerate(shapes):
        expected[shapely.contains_xy(shape, *centres(height, width))] = code
    grid = (6.0, 3.1, 5e5, 2.9, -7.0, 5.4e6) if rotated else GRID
    given = labels([on_map(shape, grid) for shape in shapes])
    np.testing.assert_array_equal(burn(given, grid, (height, width), UTM), expected)


@QUICK
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["few points", "many points", "edges through centres"]))
def test_windows_are_what_a_drawing_of_the_whole_scene_has_there(seed, kind):
    many = kind == "many points"
    rng = np.random.default_rng(seed)
    shapes = polygons(rng, 4, 48, vertices=900 if many else 12)
    shapes += [shapely.LineString(rng.uniform(-20, 70, (rng.integers(2, 700 if many else 5), 2))) for _ in range(3)]
    shapes += [shapely.Point(point) for point in rng.uniform(-3, 51, (5, 2))]
    if kind == "edges through centres":
        shapes = [shapely.set_precision(shape, 0.5) for shape in shapes]
        shapes = [
            shape for shape in shapes if shape.geom_type in ("Polygon", "LineString", "Point") and not shape.is_empty
        ]
    order = rng.permutation(len(shapes))
    drawn = [on_map(shapes[i]) for i in order]
    given, place = drawn, Affine(*GRID)
    if kind == "edges through centres":  # exact in pixels only: GDAL multiplies by 1 / 10
        given, place = [shapes[i] for i in order], Affine.identity()
    whole = rasterize(zip(given, range(len(given)), strict=True), (48, 48), IGNORE, transform=place, dtype="int32")
    given = labels(drawn)
    np.testing.assert_array_equal(burn(given, GRID, (48, 48), UTM), whole)
    for _ in range(4):
        row, col = rng.integers(0, 40, 2).tolist()
        height, width = min(rng.integers(1, 30), 48 - row), min(rng.integers(1, 30), 48 - col)
        part = burn(given, window(GRID, row, col), (height, width), UTM)
        np.testing.assert_array_equal(part, whole[row : row + height, col : col + width])


def test_later_features_cover_earlier_ones_whatever_they_are():
    first, second = shapely.box(0, 0, 4, 4), shapely.Point(2.5, 2.5)
    both = [on_map(first), on_map(second)]
    assert burn(labels(both), GRID, (4, 4), UTM, point_radius=1)[2, 1:4].tolist() == [1, 1, 1]
    assert (burn(labels(both[::-1]), GRID, (4, 4), UTM, point_radius=1) == 1).all()
    assert (burn(labels(both, [1, 0]), GRID, (4, 4), UTM) == 0).sum() == 1


@QUICK
@given(seed=st.integers(0, 2**32), radius=st.floats(0, 5))
def test_a_point_covers_its_pixel_and_those_within_a_radius(seed, radius):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-3, 23, (6, 2))
    if seed % 2:
        points = np.floor(points) + 0.5  # as points that were taken from the pixels of a raster
        radius = np.floor(radius)
    expected = np.full((20, 20), IGNORE)
    cols, rows = centres(20, 20)
    for code, (x, y) in enumerate(points):
        expected[
            (np.hypot(cols - x, rows - y) <= radius) | ((np.floor(x) == cols - 0.5) & (np.floor(y) == rows - 0.5))
        ] = code
    drawn = labels([on_map(shapely.Point(point)) for point in points])
    out = burn(drawn, GRID, (20, 20), UTM, point_radius=radius)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(burn(drawn, window(GRID, 5, 7), (9, 9), UTM, point_radius=radius), out[5:14, 7:16])


def test_a_line_has_the_width_on_the_ground_that_it_is_given():
    """In UTM, in degrees and in Web Mercator, where a metre at 60 degrees of latitude is two."""
    road = shapely.LineString([(499_003, 6_651_007), (501_111, 6_652_204)])
    length = road.length
    for crs in ("EPSG:32633", "EPSG:4326", "EPSG:3857"):
        parts, _ = reproject(np.array([road]), UTM, parse_crs(crs, "test"))
        wide = labels(parts, [0], parse_crs(crs, "test")).widened(40.0)
        assert wide.kind == "polygon"
        ground = wide.to_crs(UTM).geometry
        assert shapely.area(ground).sum() == pytest.approx(40 * length, rel=2e-3)
        grid = (10.0, 0.0, 498_500.0, 0.0, -10.0, 6_652_500.0)
        out = burn(labels(parts, [0], parse_crs(crs, "test")), grid, (200, 300), UTM, line_width=40.0)
        assert (out == 0).sum() * 100 == pytest.approx(40 * length, rel=0.01)
        np.testing.assert_array_equal(out, burn(wide, grid, (200, 300), UTM))


def test_widening_leaves_the_rest_alone():
    mixed = labels(
        [shapely.Point(5e5, 5e6), shapely.LineString([(5e5, 5e6), (5.1e5, 5e6)]), shapely.box(5e5, 5e6, 5.1e5, 5.1e6)]
    )
    wide = mixed.widened(10)
    assert wide.kinds.tolist() == ["point", "polygon", "polygon"]
    assert wide.codes.tolist() == [0, 1, 2]
    assert mixed.widened(10) is wide


# ------------------------------------------------------------------------------- coordinate systems


@QUICK
@given(
    lon=st.floats(-179.99, 179.99), lat=st.floats(-75, 75), size=st.floats(0.001, 5), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_edges_stay_straight_in_the_system_that_they_were_drawn_in(lon, lat, size, seed):
    """Points along the edges, each moved by PROJ, lie on the moved outline."""
    rng = np.random.default_rng(seed)
    corners = np.array([lon, lat]) + rng.uniform(-size, size, (5, 2))
    shape = shapely.convex_hull(shapely.MultiPoint(corners))
    west, _, east, _ = shape.bounds
    assume(shape.geom_type == "Polygon" and west > -180 and east < 180)
    target = f"EPSG:{32600 if lat >= 0 else 32700}"[:-2] + f"{int((lon + 180) // 6) + 1:02d}"
    moved, index = reproject(np.array([shape]), DEGREES, parse_crs(target, "test"))
    assert index.tolist() == [0]
    way = pyproj.Transformer.from_crs(4326, target, always_xy=True)
    along = [shape.exterior.interpolate(part, normalized=True) for part in np.linspace(0, 1, 300)]
    x, y = way.transform([p.x for p in along], [p.y for p in along])
    apart = shapely.distance(shapely.points(x, y), moved[0].exterior)
    assert apart.max() < 0.005 * max(1, np.tan(np.radians(abs(lat) + size))) + 1e-6


def test_the_same_system_in_other_words_moves_nothing():
    shape = on_map(shapely.box(0.5, 0.5, 3.5, 3.5))
    given = labels([shape])
    assert given.to_crs(rasterio.crs.CRS.from_epsg(32633).to_wkt()) is given
    assert given.to_crs("EPSG:32633") is given
    other = given.to_crs("EPSG:32632")
    assert other is given.to_crs("EPSG:32632")
    assert other.rows.tolist() == [0]


@pytest.mark.parametrize("epsg", [32633, 3035, 3857, 4326])
def test_labels_in_another_system_lie_where_they_were_drawn(epsg):
    """A pixel is labelled when its centre, moved to the labels' system, lies in the polygon."""
    rng = np.random.default_rng(epsg)
    to_degrees = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)
    from_degrees = pyproj.Transformer.from_crs(4326, epsg, always_xy=True)
    left, top = from_degrees.transform(14.2, 48.6)
    step = 300.0 if epsg != 4326 else 0.003
    grid = (step, 0.0, left, 0.0, -step, top)
    shapes = [shapely.transform(shape, lambda p: [14.2, 48.6] + p * [0.004, -0.003]) for shape in polygons(rng, 8, 60)]
    cols, rows = centres(60, 60)
    lon, lat = to_degrees.transform(left + step * cols, top - step * rows)
    expected = np.full((60, 60), IGNORE)
    for code, shape in enumerate(shapes):
        expected[shapely.contains_xy(shape, lon, lat)] = code
    out = burn(labels(shapes, crs=DEGREES), grid, (60, 60), rasterio.crs.CRS.from_epsg(epsg).to_wkt())
    assert (expected != IGNORE).sum() > 300
    np.testing.assert_array_equal(out, expected)


def test_a_polygon_around_the_world_reaches_every_scene():
    world = labels([shapely.box(-180, -90, 180, 90)], crs=DEGREES)
    for epsg, x, y in [(32633, 5e5, 5.4e6), (32701, 2e5, 8e6), (32660, 8e5, 1e5), (3413, 1e6, 1e6), (3857, 1e6, 1e6)]:
        grid = (1000.0, 0.0, x, 0.0, -1000.0, y)
        assert (burn(world, grid, (8, 8), rasterio.crs.CRS.from_epsg(epsg).to_wkt()) == 0).all(), epsg


def test_labels_elsewhere_do_not_appear():
    rng = np.random.default_rng(1)
    spots = [
        shapely.Point(lon, lat).buffer(3)
        for lon, lat in zip(rng.uniform(-175, 175, 300), rng.uniform(-80, 80, 300), strict=True)
    ]
    spots = [spot for spot in spots if not spot.intersects(shapely.box(5, 40, 25, 60))]
    grid = (1000.0, 0.0, 300_000.0, 0.0, -1000.0, 5_600_000.0)
    assert (burn(labels(spots, crs=DEGREES), grid, (300, 300), UTM) == IGNORE).all()


def test_across_the_antimeridian():
    """Drawn with the short edge over 180 degrees: one piece in UTM, and on both ends of a map in degrees."""
    drawn = shapely.Polygon([(179.9, -17), (-179.8, -17), (-179.8, -16.5), (179.9, -16.5)])
    cleaned = clean(np.array([drawn]), geographic=True)
    assert cleaned.wrapped == 1
    given = labels(cleaned.parts, [0] * len(cleaned.parts), DEGREES)
    out = burn(given, (1000.0, 0.0, 800_000.0, 0.0, -1000.0, 8_190_000.0), (80, 60), parse_crs("EPSG:32760", "test"))
    area = 0.3 * np.cos(np.radians(16.75)) * 111.32 * 0.5 * 110.6
    assert (out == 0).sum() == pytest.approx(area, rel=0.01)
    assert len(np.unique(np.flatnonzero((out == 0).any(0)))) == np.ptp(np.flatnonzero((out == 0).any(0))) + 1
    for left in (179.5, -180.5):  # two ways to write the same window
        degrees = burn(given, (0.1, 0.0, left, 0.0, -0.1, -16.0), (10, 10), DEGREES)
        np.testing.assert_array_equal(np.flatnonzero((degrees == 0).any(0)), [4, 5, 6])
    assert (burn(given, (1.0, 0.0, -90.0, 0.0, -1.0, 20.0), (40, 180), DEGREES) == IGNORE).all()


def test_a_polygon_of_a_region_costs_a_window_little():
    """What lies far from the window is not handed to GDAL."""
    angle = np.linspace(0, 2 * np.pi, 400_000, endpoint=False)
    radius = 20_000 + 100 * np.sin(997 * angle)
    ring = np.stack([20_000 + radius * np.cos(angle), 20_000 + radius * np.sin(angle)], 1)
    given = labels([on_map(shapely.Polygon(ring))])
    start = time.perf_counter()
    for col in range(0, 40_000, 4_000):
        out = burn(given, window(GRID, 20_000, col), (64, 64), UTM)
        cols, rows = centres(64, 64)
        x, y = cols + col - 20_000, rows
        far = np.abs(np.hypot(x, y) - 20_000 - 100 * np.sin(997 * np.arctan2(y, x))) > 0.1
        inside = np.hypot(x, y) < 20_000 + 100 * np.sin(997 * np.arctan2(y, x))
        np.testing.assert_array_equal((out == 0)[far], inside[far])
    assert time.perf_counter() - start < 10


# ------------------------------------------------------------------------------------ GDAL's own tools


def gdal_rasterize(path, out, shape, grid=GRID):
    a, _, c, _, e, f = grid
    extent = [str(v) for v in (c, f + e * shape[0], c + a * shape[1], f)]
    command = ["gdal_rasterize", "-q", "-a", "code", "-a_nodata", "-1", "-init", "-1", "-ot", "Int32", "-te", *extent]
    subprocess.run([*command, "-ts", str(shape[1]), str(shape[0]), path, out], check=True, capture_output=True)
    return read_raster(out, masked=False).array[0]


@gdal
@SLOW
@given(seed=st.integers(0, 2**32))
def test_equal_to_gdal_rasterize(seed, tmp_path):
    rng = np.random.default_rng(seed)
    shapes = [on_map(shape) for shape in polygons(rng, 12, 60)]
    path = tmp_path / f"{seed}.gpkg"
    write_polygons(path, shapes, {"code": np.arange(len(shapes))}, UTM, "drawn")
    expected = gdal_rasterize(path, tmp_path / f"{seed}.tif", (50, 70))
    given = read_labels(path, "code", classes=[str(i) for i in range(len(shapes))])
    np.testing.assert_array_equal(burn(given, GRID, (50, 70), UTM), expected)
    np.testing.assert_array_equal(burn(given, window(GRID, 11, 23), (20, 30), UTM), expected[11:31, 23:53])


@gdal
@pytest.mark.parametrize("kind", ["line", "point"])
def test_lines_and_points_equal_gdal_rasterize(kind, tmp_path):
    rng = np.random.default_rng(4)
    lines = [shapely.LineString(rng.uniform(-10, 70, (rng.integers(2, 6), 2))) for _ in range(15)]
    shapes = lines if kind == "line" else [shapely.Point(p) for p in rng.uniform(-5, 65, (200, 2))]
    path = tmp_path / "drawn.geojson"
    features = [
        {"type": "Feature", "properties": {"code": i}, "geometry": json.loads(shapely.to_geojson(on_map(shape)))}
        for i, shape in enumerate(shapes)
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    expected = gdal_rasterize(path, tmp_path / "out.tif", (60, 60))
    given = read_labels(path, "code", classes=[str(i) for i in range(len(shapes))])
    assert given.kind == kind
    np.testing.assert_array_equal(burn(given, GRID, (60, 60), UTM), expected)


@gdal
@SLOW
@given(seed=st.integers(0, 2**32), epsg=st.sampled_from([3035, 32632, 4326]))
def test_reprojection_equals_ogr2ogr(seed, epsg, tmp_path):
    """Drawn in degrees or metres elsewhere, moved by ogr2ogr with points on its edges, burnt by gdal_rasterize."""
    rng = np.random.default_rng(seed)
    crs = parse_crs(f"EPSG:{epsg}", "test")
    shapes, index = reproject(np.array([on_map(shape) for shape in polygons(rng, 10, 60)]), UTM, crs)
    corners = [shapely.simplify(shape, 1e-3 if epsg == 4326 else 100) for shape in shapes]
    path = tmp_path / f"{seed}.gpkg"
    write_polygons(path, corners, {"code": index}, crs, "drawn")
    moved = tmp_path / f"{seed}_utm.gpkg"
    step = "100" if epsg != 4326 else "0.001"
    command = ["ogr2ogr", "-q", "-t_srs", "EPSG:32633", "-segmentize", step, moved, path]
    subprocess.run(command, check=True, capture_output=True)
    expected = gdal_rasterize(moved, tmp_path / f"{seed}.tif", (60, 60))
    given = read_labels(path, "code", classes=[str(i) for i in range(12)])
    out = burn(given, GRID, (60, 60), UTM)
    assert (expected != IGNORE).any()
    assert (out != expected).sum() <= 1  # an edge may run within millimetres of a pixel's centre


# --------------------------------------------------------------------------------------------- real


def test_leipzig(shared_data):
    """Each point labels the pixel that it lies in: where it was taken, the bands have the values of its columns."""
    scene = read_raster(shared_data / "scenes/s2_leipzig_8band_utm32.tif")
    path = shared_data / "scenes/s2_leipzig_landcover_points.gpkg"
    points = read_labels(path, "land_cover", columns=("b08", "ndvi"))
    assert (points.kind, len(points), points.classes) == ("point", 97, ("forest", "pasture", "urban", "water"))
    assert np.bincount(points.codes).tolist() == [28, 20, 36, 13]
    out = burn(points, scene.transform, scene.array.shape[1:], scene.crs)
    assert np.bincount(out[out >= 0]).tolist() == [28, 20, 36, 13]
    place = to_grid(points.geometry, scene.transform)
    cols, rows = np.floor(shapely.get_x(place)).astype(int), np.floor(shapely.get_y(place)).astype(int)
    np.testing.assert_array_equal(out[rows, cols], points.codes)
    near_infrared = scene.array[[i for i, name in enumerate(scene.descriptions) if name in ("B08", "b08")] or [5]][0]
    np.testing.assert_array_equal(near_infrared[rows, cols], points.columns["b08"].astype(float))
    degrees = replace(points, geometry=points.to_crs("EPSG:4326").geometry, crs=DEGREES)
    again = burn(pickle.loads(pickle.dumps(degrees)), scene.transform, scene.array.shape[1:], scene.crs)
    np.testing.assert_array_equal(again, out)

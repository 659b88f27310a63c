"""Area tables: what is counted, where samples fall, what is written."""

import csv
import io
import json

import numpy as np
import pytest
import rasterio
import shapely
from rich.console import Console

from adapteo.areas import ASSUMPTION, areas
from adapteo.data.vector import read_labels, write_polygons
from adapteo.errors import ConfigError, DataError
from test_cli_maps import run
from test_polygons import NODATA, UTM, random_map, write_map

NAMES = ("water", "forest", "field")


@pytest.fixture
def given(tmp_path):
    values = random_map(0, 40, 50)
    return write_map(tmp_path / "map.tif", values), values


def points(path, cols, rows, classes, crs="EPSG:32633"):
    """A CSV of points at pixel coordinates."""
    lines = ["x,y,crs,type"]
    for col, row, name in zip(cols, rows, classes, strict=True):
        x, y = UTM.c + UTM.a * col, UTM.f + UTM.e * row
        lines.append(f"{x},{y},{crs},{name}")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def squares(path, boxes, classes, column="type"):
    geometry = [shapely.box(500_000 + 10 * c, 5_600_000 - 10 * (r + s), 500_000 + 10 * (c + s), 5_600_000 - 10 * r)
                for c, r, s in boxes]  # fmt: skip
    write_polygons(path, geometry, {column: np.array(classes, object)}, "EPSG:32633", "samples")
    return path


def text(table):
    console = Console(file=io.StringIO(), width=150)
    table.render(console)
    return console.file.getvalue()


def test_areas_are_pixels_times_their_area(given):
    path, values = given
    table = areas(path)
    counts = [int((values == code).sum()) for code in range(3)]
    assert [(row.code, row.name, row.pixels) for row in table.rows] == list(zip(range(3), NAMES, counts, strict=True))
    assert [row.mapped for row in table.rows] == pytest.approx([0.01 * n for n in counts])
    assert (table.unit, table.matrix, table.overall, table.warnings) == ("ha", None, None, ())
    assert "samples" not in text(table)
    lines = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [int(line["pixels"]) for line in lines] == counts
    assert sum(float(line["mapped_share"]) for line in lines) == pytest.approx(1, abs=1e-5)


def test_points_count_for_the_pixel_that_they_lie_in(given, tmp_path):
    path, values = given
    rng = np.random.default_rng(1)
    cols, rows = rng.uniform(-3, 50, 300), rng.uniform(0, 43, 300)
    truth = rng.integers(0, 3, 300)
    table = areas(path, reference=points(tmp_path / "p.csv", cols, rows, [NAMES[t].upper() for t in truth]),
                  class_column="type")  # fmt: skip
    expected, outside = np.zeros((3, 3), int), 0
    for col, row, true in zip(cols, rows, truth, strict=True):
        inside = 0 <= col < 50 and 0 <= row < 40 and values[int(row), int(col)] != NODATA
        outside += not inside
        if inside:
            expected[values[int(row), int(col)], true] += 1
    np.testing.assert_array_equal(table.matrix, expected)
    assert f"{outside} of 300 samples lie outside the map or on missing pixels: not used" in table.warnings
    assert [row.samples for row in table.rows] == expected.sum(1).tolist()
    # The estimated areas are a share of the map's.
    assert sum(r.estimated.value for r in table.rows) == pytest.approx(sum(r.mapped for r in table.rows))


def test_result_does_not_depend_on_strips(given, tmp_path, monkeypatch):
    path, _ = given
    boxes = [(c, r, 7) for c in range(0, 40, 9) for r in range(0, 30, 8)]
    samples = squares(tmp_path / "s.gpkg", boxes, [NAMES[i % 3] for i in range(len(boxes))])
    whole = areas(path, reference=samples, class_column="type")
    monkeypatch.setattr("adapteo.data.class_map._PIXELS", 150)
    parts = areas(path, reference=samples, class_column="type")
    np.testing.assert_array_equal(whole.matrix, parts.matrix)
    assert whole.to_csv() == parts.to_csv()


def test_polygons_count_for_most_of_their_pixels(tmp_path):
    values = np.zeros((10, 10), np.uint8)
    values[:, 4:] = 1
    values[0, :] = NODATA
    path = write_map(tmp_path / "map.tif", values)
    # Mostly 0; mostly 1; as many of both: the lower code; between four centres: the pixel of a point inside.
    boxes = [(1, 1, 4), (3, 2, 5), (3, 7, 2), (6.6, 3.6, 0.3)]
    table = areas(path, reference=squares(tmp_path / "s.gpkg", boxes, ["water", "forest", "forest", "water"]),
                  class_column="type")  # fmt: skip
    np.testing.assert_array_equal(table.matrix, [[1, 1, 0], [1, 1, 0], [0, 0, 0]])


def test_weak_samples_are_told(given, tmp_path):
    path, values = given
    (row,), (col,) = (v[:1] for v in np.nonzero(values == 1))
    rows, cols = np.nonzero(values == 0)
    reference = points(tmp_path / "p.csv", [col + 0.5, *(cols[:5] + 0.5)], [row + 0.5, *(rows[:5] + 0.5)],
                       ["forest"] + ["water"] * 5)  # fmt: skip
    table = areas(path, reference=reference, class_column="type")
    said = text(table)
    assert "only one sample lies where the map says forest" in said
    assert "no sample lies where the map says field" in said
    assert "fewer than 20 samples in water" in said
    assert ASSUMPTION in " ".join(said.split())
    assert np.isnan(table.rows[1].users.error)
    plain = table.as_dict()
    assert plain["classes"][1]["users_accuracy"] == {"value": 1.0, "standard_error": None, "low": None, "high": None}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    (line,) = (line for line in csv.DictReader(io.StringIO(table.to_csv())) if line["class"] == "forest")
    assert (line["users_accuracy"], line["users_accuracy_se"]) == ("1", "")


def test_samples_among_the_training_labels_are_told(given, tmp_path):
    path, _ = given
    training = squares(tmp_path / "t.gpkg", [(5, 5, 4)], ["water"])
    cols, rows = [6.5, 9.4, 12.0, 30.0], [6.5, 8.0, 7.0, 30.0]
    reference = points(tmp_path / "p.csv", cols, rows, ["water"] * 4)
    table = areas(path, reference=reference, class_column="type", training=training)
    assert any(w.startswith("2 of 4 samples lie on training labels") for w in table.warnings)
    apart = points(tmp_path / "q.csv", cols[2:], rows[2:], ["water"] * 2)
    table = areas(path, reference=apart, class_column="type", training=training)
    assert not any("training" in warning for warning in table.warnings)


def test_error_matrix_from_a_file(given, tmp_path):
    path, _ = given
    matrix = tmp_path / "matrix.csv"
    matrix.write_text(",field,water,forest\nwater,1,20,3\nforest,2,0,30\nfield,25,1,0\n", encoding="utf-8")
    table = areas(path, reference=matrix)
    np.testing.assert_array_equal(table.matrix, [[20, 3, 1], [0, 30, 2], [1, 0, 25]])
    assert table.rows[0].users.value == pytest.approx(20 / 24)
    assert areas(path, reference=matrix, design="random").rows[0].estimated.error > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (",water,lake\nwater,1,2\n", "no class 'lake'"),
        (",water\nwater,0.5\n", "'0.5' in the row of water is no count"),
        (",water\n", "no error matrix"),
        (",water\nwater,1,2\n", "no error matrix"),
    ],
)
def test_no_error_matrix(given, tmp_path, content, message):
    matrix = tmp_path / "matrix.csv"
    matrix.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        areas(given[0], reference=matrix)


def test_wrong_references(given, tmp_path):
    path, _ = given
    with pytest.raises(DataError, match=r"no class 'lake'"):
        areas(path, reference=points(tmp_path / "p.csv", [1], [1], ["lake"]), class_column="type")
    with pytest.raises(DataError, match=r"none of the 1 samples"):
        areas(path, reference=points(tmp_path / "q.csv", [900], [1], ["water"]), class_column="type")
    with pytest.raises(ConfigError, match="class of the samples"):
        areas(path, reference=tmp_path / "p.gpkg")
    with pytest.raises(ConfigError, match="no design"):
        areas(path, design="clever")
    lines = tmp_path / "lines.geojson"
    feature = {"type": "Feature", "properties": {"type": "water"},
               "geometry": {"type": "LineString", "coordinates": [[15, 50.5], [15.001, 50.5]]}}  # fmt: skip
    lines.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}), encoding="utf-8")
    with pytest.raises(DataError, match="holds lines"):
        areas(path, reference=lines, class_column="type")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_map_without_a_place_counts_pixels(tmp_path):
    values = random_map(2)
    path = write_map(tmp_path / "map.tif", values, crs=None, transform=None)
    table = areas(path)
    assert (table.unit, table.rows[1].mapped) == ("pixels", (values == 1).sum())
    with pytest.raises(DataError, match="no place on Earth"):
        areas(path, reference=points(tmp_path / "p.csv", [1], [1], ["water"]), class_column="type")


def test_areas_in_degrees(tmp_path):
    """One degree at the equator is 12,308.8 km² on WGS 84 (closed form of the zone's area, 1/360 of it)."""
    a, f = 6_378_137.0, 1 / 298.257223563
    e = np.sqrt(f * (2 - f))

    def zone(lat):
        s = np.sin(np.radians(lat))
        return a**2 * (1 - e**2) / 2 * (s / (1 - (e * s) ** 2) + np.arctanh(e * s) / e)

    transform = rasterio.Affine(0.1, 0, 10, 0, -0.1, 60)
    path = write_map(tmp_path / "map.tif", np.zeros((1200, 10), np.uint8), crs="EPSG:4326", transform=transform)
    expected = (zone(60) - zone(-60)) * np.radians(1.0) / 1e4
    assert areas(path).rows[0].mapped == pytest.approx(expected, rel=1e-5)


def test_command(given, tmp_path):
    path, _ = given
    matrix, out = tmp_path / "matrix.csv", tmp_path / "areas.csv"
    matrix.write_text(",water,forest,field\nwater,20,3,1\nforest,0,30,2\nfield,1,0,25\n", encoding="utf-8")
    result = run("areas", path, "--reference", matrix, "--out", out)
    assert result.exit_code == 0, result.output
    assert "overall accuracy" in result.stdout
    assert out.read_text().startswith("code,class,pixels,mapped_ha,mapped_share,samples,estimated_ha")
    result = run("areas", path, "--reference", matrix, "--out", tmp_path / "areas.json")
    assert json.loads((tmp_path / "areas.json").read_text())["unit"] == "ha"
    assert run("areas", path, "--out", tmp_path / "areas.txt").exit_code == 2


def test_real_points_on_a_real_scene(shared_data, tmp_path):
    """Leipzig: a map from the centres of the classes in half of the points, judged by the other half."""
    scene, labels = (shared_data / "scenes" / name for name in (
        "s2_leipzig_8band_utm32.tif", "s2_leipzig_landcover_points.gpkg"
    ))  # fmt: skip
    found = read_labels(labels, "land_cover")
    with rasterio.open(scene) as file:
        image, crs, place = file.read(), file.crs, file.transform
    x, y = shapely.get_coordinates(found.to_crs(crs.to_wkt()).geometry).T
    col, row = ((x - place.c) / place.a).astype(int), ((y - place.f) / place.e).astype(int)
    half = np.arange(len(x)) % 2 == 0
    spread = np.nanstd(image, axis=(1, 2))[:, None, None]
    centres = [np.nanmean(image[:, row, col][:, half & (found.codes == c)], axis=1) for c in range(4)]
    distance = np.stack([(((image - c[:, None, None]) / spread) ** 2).sum(0) for c in centres])
    missing = np.isnan(image).any(0)
    values = np.where(missing, NODATA, np.where(missing, 0, distance).argmin(0)).astype(np.uint8)
    path = write_map(tmp_path / "map.tif", values, crs=crs, transform=place, names=found.classes)
    samples = tmp_path / "samples.csv"
    lines = [f"{x[i]},{y[i]},EPSG:32632,{found.classes[found.codes[i]]}" for i in np.flatnonzero(~half)]
    samples.write_text("\n".join(["x,y,crs,land_cover", *lines]), encoding="utf-8")
    table = areas(path, reference=samples, class_column="land_cover", training=labels, design="random")
    expected = np.zeros((4, 4), int)
    inside = ~half & (values[row, col] != NODATA)
    np.add.at(expected, (values[row, col][inside], found.codes[inside]), 1)
    np.testing.assert_array_equal(table.matrix, expected)
    assert table.overall.value > 0.7
    assert sum(r.mapped for r in table.rows) == pytest.approx((~missing).sum() * abs(place.a * place.e) / 1e4)
    assert any("on training labels" in warning for warning in table.warnings)

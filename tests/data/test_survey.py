"""Scenes and labels drawn on them, made here; and the real ones of Leipzig."""

import warnings
from dataclasses import replace
from itertools import combinations

import geopandas as gpd
import numpy as np
import pytest
import shapely

import adapteo
from adapteo.contracts import IGNORE
from adapteo.data._blocks_fit import autocorrelation_range
from adapteo.data._survey_scenes import day_in_name
from adapteo.data._survey_splits import SurveySplits
from adapteo.data.raster import Raster, read_raster, write_image
from adapteo.data.statistics import statistics
from adapteo.data.survey import Survey
from adapteo.errors import ConfigError, DataError

BANDS = ("blue", "green", "red", "nir08")
CRS = "EPSG:32632"
LEFT, TOP = 500_000.0, 5_700_000.0


def scene(path, size=(64, 96), at=(0, 0), names=BANDS, crs=CRS, gsd=10.0, level=0):
    """A scene whose first band is the row and whose second is the column on a common grid; ``at`` is row, column."""
    rows, cols = np.mgrid[: size[0], : size[1]]
    layers = [rows + at[0], cols + at[1], *([rows * 0 + 500 + level] * (len(names) - 2))][: len(names)]
    place = (gsd, 0.0, LEFT + gsd * at[1], 0.0, -gsd, TOP - gsd * at[0]) if crs else None
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without a place
        write_image(path, Raster(np.stack(layers).astype(np.uint16), names, None, crs, place))


def points(path, pixels, classes, crs=CRS, **columns):
    """A label at the middle of each pixel (row, column)."""
    xy = [(LEFT + 10 * (col + 0.5), TOP - 10 * (row + 0.5)) for row, col in pixels]
    table = gpd.GeoDataFrame({"kind": classes, **columns}, geometry=shapely.points(xy), crs=CRS)
    (table if crs == CRS else table.to_crs(crs)).to_file(path)


def every(step, size=(64, 96)):
    return [(row, col) for row in range(2, size[0], step) for col in range(3, size[1], step)]


@pytest.fixture
def made(tmp_path):
    """One scene with a point every 4 pixels, whose class changes every 16 columns."""
    scene(tmp_path / "scenes/a.tif")
    pixels = every(4)
    points(tmp_path / "labels.gpkg", pixels, ["ab"[col // 16 % 2] for _, col in pixels])
    return Survey(str(tmp_path), "scenes/*.tif", "labels.gpkg", "kind", scale=0.001, chip=16)


def parts(survey):
    return {name: survey.split(name) for name in ("train", "val", "test", *survey.holdouts)}


def labelled(survey, key):
    """Rows and columns on the common grid that have a label in a sample, and their classes."""
    sample = survey.read(key)
    at = np.nonzero(sample.target != IGNORE)
    grid = np.round(sample.image[0, :2, *at] / survey.scale).astype(int)
    return {(int(r), int(c)): int(k) for (r, c), k in zip(grid, sample.target[at], strict=True)}


def by_part(survey):
    return {name: {p for key in keys for p in labelled(survey, key)} for name, keys in parts(survey).items()}


# --------------------------------------------------------------------------------------------- samples


def test_a_window_holds_the_pixels_of_the_scene_and_the_labels_that_lie_there(made):
    found = {}
    for keys in parts(made).values():
        for key in keys:
            sample = made.read(key)
            row, col = map(int, key.removeprefix("a/").split("_"))
            np.testing.assert_allclose(sample.image[0, 0, :, 0], np.arange(row, row + 16) / 1000, rtol=1e-5)
            np.testing.assert_allclose(sample.image[0, 1, 0], np.arange(col, col + 16) / 1000, rtol=1e-5)
            assert sample.image.shape == (1, 4, 16, 16)
            assert sample.image.dtype == np.float32
            assert sample.target.shape == (16, 16)
            assert sample.target.dtype == np.int64
            found |= labelled(made, key)
    expected = {(row, col): col // 16 % 2 for row, col in every(4)}
    assert found.items() <= expected.items()
    assert len(found) > 0.6 * len(expected)
    assert made.bands == BANDS
    assert made.classes == ("a", "b")
    assert made.gsd == 10


def test_labels_in_another_coordinate_system_fall_on_the_same_pixels(made, tmp_path):
    pixels = every(4)
    points(tmp_path / "degrees.geojson", pixels, ["ab"[c // 16 % 2] for _, c in pixels], crs="EPSG:4326")
    other = replace(made, labels="degrees.geojson")
    assert other.split("train") == made.split("train")
    for key in made.split("train"):
        np.testing.assert_array_equal(other.read(key).target, made.read(key).target)


def test_only_the_bands_that_are_asked_for_are_read_in_their_order(made):
    key = made.split("train")[0]
    whole, some = made.read(key), made.read(key, ["nir08", "blue"])
    np.testing.assert_array_equal(some.image, whole.image[:, [3, 0]])


def test_windows_at_the_edge_are_filled_up_with_missing_pixels(tmp_path):
    scene(tmp_path / "a.tif", (20, 20))
    pixels = every(2, (20, 20))
    points(tmp_path / "l.gpkg", pixels, ["ab"[c % 2] if i % 3 else "a" for i, (_, c) in enumerate(pixels)])
    survey = Survey(
        str(tmp_path), "a.tif", "l.gpkg", "kind", chip=16, scale=0.001, splits=SurveySplits("random", seed=1)
    )
    keys = [key for found in parts(survey).values() for key in found]
    assert sorted(keys) == ["a/0_0", "a/0_16", "a/16_0", "a/16_16"]
    corner = survey.read("a/16_16")
    assert np.isnan(corner.image[0, 0]).sum() == 256 - 16
    assert (corner.target[4:] == IGNORE).all()
    assert (corner.target[:, 4:] == IGNORE).all()


def test_windows_without_labels_are_no_samples(tmp_path):
    scene(tmp_path / "a.tif")
    pixels = [(2, 2), (3, 20), (40, 70), (63, 95)]
    points(tmp_path / "l.gpkg", pixels, list("abab"))
    survey = Survey(str(tmp_path), "a.tif", "l.gpkg", "kind", chip=16, splits=SurveySplits("random"))
    assert {k for found in survey.plan.parts.values() for k in found} == {"a/0_0", "a/0_16", "a/32_64", "a/48_80"}


def test_what_is_missing_is_missing_whatever_says_so(tmp_path, made):
    survey = replace(made, nodata=500.0)
    assert np.isnan(survey.read(survey.split("train")[0]).image[:, 2:]).all()


def test_dates_come_from_the_name_and_place_from_the_window(tmp_path, made):
    (tmp_path / "scenes/a.tif").rename(tmp_path / "scenes/S2_20210731T101031.tif")
    sample = made.read(made.split("train")[0])
    assert sample.dates.tolist() == [[2021, 212]]
    assert sample.latlon == pytest.approx([51.45, 9.0], abs=0.02)
    assert sample.group == "S2_20210731T101031"
    assert day_in_name("x_2020-02-30_2020-02-29.tif").isoformat() == "2020-02-29"
    assert day_in_name("tile_12345678901.tif") is None


def test_the_offset_is_found_in_each_scene_by_itself(tmp_path):
    for name, added in (("a", 0), ("b", 1000)):
        pixels = np.full((4, 32, 32), 300 + added, np.uint16)
        place = (10.0, 0.0, LEFT + (name == "b") * 320, 0.0, -10.0, TOP)
        write_image(tmp_path / f"{name}.tif", Raster(pixels, BANDS, None, CRS, place))
    pixels = every(4, (32, 64))
    points(tmp_path / "l.gpkg", pixels, ["ab"[i % 2] for i in range(len(pixels))])
    survey = Survey(
        str(tmp_path), "?.tif", "l.gpkg", "kind", chip=8, scale=1e-4, offset="auto", splits=SurveySplits("random")
    )
    keys = [key for found in parts(survey).values() for key in found]
    assert {key[0] for key in keys} == {"a", "b"}
    for key in keys:
        np.testing.assert_allclose(survey.read(key).image, 0.03, atol=1e-6)
    assert survey.radiometry(np.full((4, 9, 9), 1300.0)) == (1e-4, -0.1)


def test_statistics_and_fingerprint_follow_the_data(made, tmp_path):
    found = statistics(made, made.split("train"))
    images = np.stack([made.read(key).image[0] for key in made.split("train")])
    np.testing.assert_allclose(found.mean, images.mean(axis=(0, 2, 3)), rtol=1e-5)
    before = made.fingerprint()
    assert replace(made).fingerprint() == before
    assert replace(made, scale=0.01).fingerprint() != before
    points(tmp_path / "labels.gpkg", every(8), ["ab"[i % 2] for i in range(len(every(8)))])
    assert replace(made).fingerprint() != before


def test_polygons_and_lines_cover_what_lies_in_them(tmp_path, made):
    box = shapely.box(LEFT + 100, TOP - 300, LEFT + 700, TOP - 100)  # rows 10 to 29, columns 10 to 69
    line = shapely.LineString([(LEFT + 25, TOP - 405), (LEFT + 945, TOP - 405)])
    table = gpd.GeoDataFrame({"kind": ["field", "road"]}, geometry=[box, line], crs=CRS)
    table.to_file(tmp_path / "drawn.gpkg")
    survey = replace(made, labels="drawn.gpkg", line_width=30.0, splits=SurveySplits("random"))
    found = {}
    for keys in survey.plan.parts.values():
        for key in keys:
            found |= labelled(survey, key)
    field = {(r, c) for r in range(10, 30) for c in range(10, 70)}
    assert {p for p, k in found.items() if survey.classes[k] == "field"} == field
    road = {p for p, k in found.items() if survey.classes[k] == "road"}
    assert {r for r, _ in road} == {39, 40, 41}
    assert {c for _, c in road} >= set(range(3, 94))


# ---------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize("stride", [16, 8])
@pytest.mark.parametrize(
    "splits",
    [
        SurveySplits(),
        SurveySplits(size=320, buffer=30),
        SurveySplits(size=16, unit="pixels"),
        SurveySplits("random"),
        SurveySplits("random", buffer=50, seed=3),
    ],
    ids=lambda s: f"{s.by}-{s.size}-{s.buffer}",
)
def test_no_pixel_of_an_image_is_in_two_parts(made, splits, stride):
    survey = replace(made, splits=splits, stride=stride)
    seen = {}
    for name, keys in parts(survey).items():
        pixels = [survey.read(key).image[0, :2].reshape(2, -1).T for key in keys]
        seen[name] = {tuple(pair) for pair in np.concatenate(pixels).round(4).tolist()}
    for one, other in combinations(seen.values(), 2):
        assert not one & other


def test_overlapping_windows_are_for_training_only(made):
    apart, dense = (replace(made, stride=s, splits=SurveySplits(size=320)) for s in (16, 8))
    assert len(dense.split("train")) > 2 * len(apart.split("train"))
    assert set(apart.split("train")) <= set(dense.split("train"))
    assert dense.split("test") == apart.split("test")
    assert by_part(dense) == by_part(apart)


@pytest.mark.parametrize("buffer", [15.0, 45.0, 90.0])
def test_training_labels_near_a_test_block_are_ignored(made, buffer):
    splits = SurveySplits(size=320, buffer=buffer, seed=1)
    free, kept = (by_part(replace(made, splits=replace(splits, buffer=b))) for b in (0.0, buffer))
    blocks = {(r // 32, c // 32) for name in ("val", "test") for r, c in free[name]}

    def distance(row, col):
        """From the middle of a pixel to the nearest block that tests, in metres."""
        gaps = []
        for top, left in blocks:
            down = max(32 * top - row - 0.5, row + 0.5 - 32 * top - 32, 0)
            across = max(32 * left - col - 0.5, col + 0.5 - 32 * left - 32, 0)
            gaps.append(10 * np.hypot(down, across))
        return min(gaps)

    assert kept["train"] == {p for p in free["train"] if distance(*p) > buffer}
    assert len(kept["train"]) < len(free["train"])
    assert kept["test"] == free["test"]
    assert kept["val"] == free["val"]


def test_whole_blocks_go_to_one_part(made):
    found = by_part(replace(made, splits=SurveySplits(size=320)))
    homes = {}
    for name, pixels in found.items():
        for row, col in pixels:
            assert homes.setdefault((row // 32, col // 32), name) == name
    assert len(homes) == 6
    assert {name for name in homes.values()} == {"train", "val", "test"}


def test_two_dates_of_a_place_are_divided_alike(tmp_path, made):
    scene(tmp_path / "scenes/b.tif", at=(16, 16), level=100)
    for splits in (SurveySplits(size=160), SurveySplits("random")):
        found = by_part(replace(made, splits=splits))
        for one, other in combinations(found.values(), 2):
            assert not one & other
    with pytest.raises(DataError, match="is empty"):  # both show the same labels: one unit
        replace(made, splits=SurveySplits("scene")).split("test")


def test_by_scene(tmp_path, made):
    for i in range(1, 4):
        scene(tmp_path / f"scenes/s{i}.tif", at=(100 * i, 0))
    pixels = [(row + 100 * i, col) for i in range(4) for row, col in every(8)]
    points(tmp_path / "labels.gpkg", pixels, ["ab"[i % 2] for i in range(len(pixels))])
    survey = replace(made, splits=SurveySplits("scene", test=("s2",), holdout={"far": "s3"}, fractions=(0.5, 0.5, 0)))
    homes = {name: {key.split("/")[0] for key in keys} for name, keys in parts(survey).items()}
    assert homes["test"] == {"s2"}
    assert homes["far"] == {"s3"}
    assert homes["train"] | homes["val"] == {"a", "s1"}
    assert homes["train"] != homes["val"]
    with pytest.raises(DataError, match="no scene 's9'"):
        replace(made, splits=SurveySplits("scene", test=("s9",))).split("test")


def test_by_region(tmp_path, made):
    pixels = every(4)
    regions = ["north" if row < 30 else "south" if col < 40 else "east" for row, col in pixels]
    points(tmp_path / "labels.gpkg", pixels, ["ab"[i % 2] for i in range(len(pixels))], area=regions)
    survey = replace(made, splits=SurveySplits("region", column="area", val=("south",), test=("east",)))
    found = by_part(survey)
    truth = dict(zip(pixels, regions, strict=True))
    for name, region in (("train", "north"), ("val", "south"), ("test", "east")):
        assert {truth[p] for p in found[name]} == {region}
        assert {survey.group(key) for key in survey.split(name)} == {region}


@pytest.fixture
def dated(tmp_path, made):
    """The same place on four dates."""
    for day in ("20200105", "20200310", "20210720", "20220801"):
        scene(tmp_path / f"scenes/s_{day}.tif", level=int(day[3]))
    (tmp_path / "scenes/a.tif").unlink()
    return made


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"test": ("2022",), "val": ("2021-07",)}, {"2022": "test", "2021": "val", "2020": "train"}),
        ({"test": ("from 2022-01-01",), "val": ("2021-07-20",)}, {"2022": "test", "2021": "val", "2020": "train"}),
        ({"train": ("before 2021-07-20",), "val": ("2021",), "test": ("2022",)}, {"2020": "train", "2021": "val"}),
        ({"val": ("2021",), "test": ("2022",), "holdout": {"spring": "2020-03"}}, {"2022": "test", "2021": "val"}),
    ],
)
def test_by_date(dated, given, expected):
    survey = replace(dated, splits=SurveySplits("date", **given))
    for year, part in expected.items():
        assert {p for p, keys in parts(survey).items() for key in keys if key.startswith(f"s_{year}01")} <= {part}
        assert any(key.startswith(f"s_{year}") for key in survey.split(part))
    months = {key[2:8] for key in survey.split("train")}
    assert months == ({"202001"} if survey.holdouts else {"202001", "202003"})
    assert sum("other dates of these places" in note for note in survey.notes) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"test": ("July",)}, "is no date"),
        ({"test": ("after 2021",)}, "is no date"),
        ({"test": ("2019",)}, "no scene is of"),
        ({"test": ("2022",), "val": ("from 2022-01-01",)}, "in both"),
    ],
)
def test_dates_that_cannot_be_meant(dated, given, said):
    with pytest.raises(DataError, match=said):
        replace(dated, splits=SurveySplits("date", **given)).split("train")


def test_overlapping_windows_of_one_date_do_not_reach_into_another_date(dated):
    survey = replace(dated, stride=8, splits=SurveySplits("date", test=("2022",), val=("2021",)))
    whole = replace(survey, stride=None)
    assert len(survey.split("train")) > 3 * len(whole.split("train"))  # test windows of the same place are no obstacle
    assert survey.split("test") == whole.split("test")


def test_a_scene_without_a_date_is_named(made):
    with pytest.raises(DataError, match="has no date"):
        replace(made, splits=SurveySplits("date", test=("2022",))).split("train")


def test_a_hold_out_is_a_box(made):
    west = made.read("a/0_0" if "a/0_0" in made.split("train") else made.split("train")[0]).latlon
    assert west is not None
    survey = replace(made, splits=SurveySplits(size=160, holdout={"left": (9.0, 51.0, 9.0 + 0.0046, 52.0)}))
    found = by_part(survey)
    assert {col // 16 for _, col in found["left"]} == {0, 1}
    assert not any(col < 32 for name in ("train", "val", "test") for _, col in found[name])


def test_random_only_when_asked_and_with_a_warning(made):
    assert not any("random" in note for note in made.notes)
    assert any("too good" in note for note in replace(made, splits=SurveySplits("random")).notes)


def test_rare_classes_and_small_scenes_are_seen_more_often(tmp_path, made):
    scene(tmp_path / "scenes/b.tif", (16, 32), at=(200, 0))
    pixels = every(4) + [(row + 200, col) for row, col in every(4, (16, 32))]
    points(tmp_path / "labels.gpkg", pixels, ["ab"[row % 64 < 16 and col < 32] for row, col in pixels])
    survey = replace(made, balance="classes", splits=SurveySplits("random"))
    keys = survey.split("train")
    weights = survey.weights(keys)
    rare = [1 in labelled(survey, key).values() for key in keys]
    assert min(w for w, r in zip(weights, rare, strict=True) if r) > 2 * max(
        w for w, r in zip(weights, rare, strict=True) if not r
    )
    (note,) = [note for note in survey.notes if note.startswith("balance: classes")]
    assert "a 50.0%" in note
    assert "b 50.0%" in note
    weights = replace(survey, balance="scenes").weights(keys)
    small = np.array([key.startswith("b/") for key in keys])
    assert weights[small].sum() == pytest.approx(weights[~small].sum())
    assert replace(survey, balance=None).weights(keys) is None
    assert not any("balance" in note for note in replace(survey, balance=None).notes)


def test_the_same_seed_divides_alike(made):
    for splits in (SurveySplits(), SurveySplits("random")):
        one, same, other = (parts(replace(made, splits=replace(splits, seed=s))) for s in (0, 0, 5))
        assert one == same
        assert one != other


# -------------------------------------------------------------------------------- autocorrelation range


def mosaic(rng, per_metre, size=1000.0, count=700):
    """Labels of a plane that random lines cut into cells, each of a random class of 4: points, classes, cells.

    A stretch of length h is cut by a Poisson number of lines with mean ``per_metre * h``, so that two places lie in
    different cells with the probability 1 - exp(-per_metre h): the practical range is 3 / per_metre.
    """
    radius = size
    lines = rng.poisson(np.pi * radius * per_metre)
    angle, offset = rng.uniform(0, 2 * np.pi, lines), rng.uniform(0, radius, lines)
    normal = np.column_stack([np.cos(angle), np.sin(angle)])
    xy = rng.uniform(-size / 2, size / 2, (count, 2))
    _, cell = np.unique(xy @ normal.T > offset, axis=0, return_inverse=True)
    return xy, rng.integers(0, 4, cell.max() + 1)[cell.ravel()]


@pytest.mark.parametrize("true", [60.0, 120.0, 240.0])
def test_the_range_of_a_random_mosaic_is_found(true):
    rng = np.random.default_rng(7)
    found = [autocorrelation_range(*mosaic(rng, 3 / true), 1.0) for _ in range(16)]
    assert np.median([r.distance for r in found]) == pytest.approx(true, rel=0.25)
    assert all(r.reached for r in found)


def test_labels_without_structure_have_no_range():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        found = autocorrelation_range(rng.uniform(0, 1000, (800, 2)), rng.integers(0, 3, 800), 1.0)
        assert found.distance < 60


def test_a_trend_over_the_whole_place_is_said_to_be_longer_than_half_of_it():
    xy = np.random.default_rng(0).uniform(0, 1000, (800, 2))
    found = autocorrelation_range(xy, (xy[:, 0] > 500).astype(int), 1.0)
    assert found.distance > 450
    assert not found.reached


def test_one_class_or_few_points_give_no_range():
    xy = np.random.default_rng(0).uniform(0, 1000, (100, 2))
    assert autocorrelation_range(xy, np.zeros(100, int), 1.0).distance == 0
    assert autocorrelation_range(xy[:3], np.array([0, 1, 0]), 1.0).distance == 0


def test_blocks_are_as_large_as_the_range(tmp_path):
    scene(tmp_path / "a.tif", (400, 400))
    xy, codes = mosaic(np.random.default_rng(1), 3 / 60, size=400.0)
    pixels = np.unique(np.floor(xy + 200).astype(int), axis=0, return_index=True)
    points(tmp_path / "l.gpkg", pixels[0].tolist(), [f"c{codes[i]}" for i in pixels[1]])
    survey = Survey(str(tmp_path), "a.tif", "l.gpkg", "kind", chip=16, scale=0.001)
    plan = survey.plan
    assert plan.range.distance == pytest.approx(60, rel=0.35)
    assert plan.block == np.ceil(plan.range.distance / 16) * 16
    assert any("blocks of" in note for note in survey.notes)


# ---------------------------------------------------------------------------------------------- errors


def refusal(survey, kind=DataError):
    with pytest.raises(kind) as caught:
        survey.read(survey.split("train")[0])
    text = str(caught.value)
    assert len(text.splitlines()) <= 5
    return text


def test_labels_that_miss_all_scenes(tmp_path, made):
    points(tmp_path / "labels.gpkg", [(5000, 5000), (5001, 5003)], ["a", "b"])
    text = refusal(made)
    assert "labels.gpkg" in text
    assert "2 labels" in text
    assert "a.tif" in text
    assert "labels_crs" in text


def test_labels_with_exchanged_axes(tmp_path, made):
    (tmp_path / "labels.csv").write_text("kind,x,y\n" + "".join(f"a,{TOP - i},{LEFT + i}\n" for i in (5, 50, 500)))
    text = refusal(replace(made, labels="labels.csv", labels_crs=CRS))
    assert "with x and y exchanged they lie in a.tif" in text


def test_a_scene_without_a_place(tmp_path, made):
    scene(tmp_path / "scenes/b.tif", crs=None)
    text = refusal(made)
    assert "b.tif" in text
    assert "no coordinate system" in text
    assert "gdal_edit" in text


def test_a_class_that_is_not_listed(made):
    text = refusal(replace(made, class_names=("a", "c")))
    assert "'b'" in text
    assert "labels.gpkg" in text


def test_scenes_that_differ_in_bands(tmp_path, made):
    scene(tmp_path / "scenes/b.tif", at=(64, 0), names=BANDS[:3])
    assert "b.tif has 3 bands, a.tif has 4" in refusal(made)
    scene(tmp_path / "scenes/b.tif", at=(64, 0), names=("blue", "green", "pan", "nir08"))
    assert "b.tif has no band 'red'" in refusal(replace(made))


def test_bands_in_another_order_are_found_by_their_names(tmp_path, made):
    scene(tmp_path / "scenes/b.tif", at=(64, 0), names=("red", "nir08", "green", "blue"))
    points(tmp_path / "labels.gpkg", [(70, 5), (70, 40), (5, 5), (5, 40)], list("abab"))
    survey = replace(made, splits=SurveySplits("random", fractions=(1.0, 0.0, 0.0)))
    key = next(key for key in survey.split("train") if key.startswith("b/"))
    row, col = map(int, key.removeprefix("b/").split("_"))
    image = survey.read(key).image[0]
    np.testing.assert_allclose(image[2, :, 0] * 1000, 64 + row + np.arange(16), rtol=1e-5)
    np.testing.assert_allclose(image[3, 0] * 1000, col + np.arange(16), rtol=1e-5)
    np.testing.assert_allclose(survey.read(key, ["nir08"]).image[0], image[3:], rtol=0)


def test_scenes_that_differ_in_pixel_size(tmp_path, made):
    scene(tmp_path / "scenes/b.tif", gsd=20.0, at=(500, 500))
    assert "20 m" in refusal(made)


def test_what_holds_no_scene_is_refused(tmp_path, made):
    (tmp_path / "scenes/S2A.SAFE").mkdir()
    assert "S2A.SAFE holds no images" in refusal(replace(made, scenes="scenes/*.SAFE"))
    assert "no file fits" in refusal(replace(made, scenes="scenes/*.vrt"))
    (tmp_path / "scenes/S2A.zip").write_bytes(b"")
    assert "an archive" in refusal(replace(made, scenes="scenes/*.zip"))


def test_too_few_labels_for_all_parts(tmp_path, made):
    points(tmp_path / "labels.gpkg", [(2, 2), (3, 3)], ["a", "b"])
    with pytest.raises(DataError, match="is empty") as caught:
        made.split("test")
    assert "splits" in str(caught.value)


def test_values_that_are_no_reflectance(made):
    assert "median" in refusal(replace(made, scale=1.0))


def test_grids_that_differ_at_one_place(tmp_path, made):
    place = (10.0, 0.0, LEFT + 4.0, 0.0, -10.0, TOP)
    write_image(tmp_path / "scenes/b.tif", Raster(np.full((4, 64, 96), 100, np.uint16), BANDS, None, CRS, place))
    text = refusal(made)
    assert "a.tif" in text
    assert "b.tif" in text
    assert "by: scene" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chip": 0}, "chip is 0"),
        ({"stride": 5}, "stride is 5"),
        ({"point_radius": -1.0}, "point_radius"),
        ({"line_width": 0.0}, "line_width"),
    ],
)
def test_sizes_that_make_no_windows(made, change, words):
    with pytest.raises(ConfigError, match=words):
        replace(made, **change)


@pytest.mark.parametrize(
    "wrong",
    [{"by": "chance"}, {"by": "region"}, {"by": "scene", "size": 5.0}, {"test": ("a",)}, {"size": 0.0},
     {"fractions": (0.5, 0.2, 0.2)}, {"holdout": {"test": (0.0, 0.0, 1.0, 1.0)}}],
)  # fmt: skip
def test_splits_that_mean_nothing(wrong):
    with pytest.raises(ConfigError):
        SurveySplits(**wrong)


# --------------------------------------------------------------------------------------- from end to end


def test_a_run_learns_what_was_drawn_and_maps_the_scene(tmp_path):
    """Two halves of a scene that differ in the near infrared, and squares on them: the map has these halves."""
    rng = np.random.default_rng(0)
    pixels = rng.normal(800, 40, (4, 64, 96))
    pixels[3, :, 48:] += 2500
    place = (10.0, 0.0, LEFT, 0.0, -10.0, TOP)
    write_image(tmp_path / "scene.tif", Raster(pixels.astype(np.uint16), BANDS, None, CRS, place))
    corners = [(row, col) for row in range(3, 64, 16) for col in range(3, 96, 16)]
    squares = [shapely.box(LEFT + 10 * c, TOP - 10 * (r + 9), LEFT + 10 * (c + 9), TOP - 10 * r) for r, c in corners]
    kinds = ["dark" if col < 48 else "bright" for _, col in corners]
    gpd.GeoDataFrame({"kind": kinds}, geometry=squares, crs=CRS).to_file(tmp_path / "drawn.gpkg")
    section = {"name": "survey", "root": str(tmp_path), "scenes": "scene.tif", "labels": "drawn.gpkg",
               "class_column": "kind", "class_names": ["dark", "bright"], "scale": 1e-4, "chip": 16}  # fmt: skip
    given = {"dataset": section, "backbone": "nano", "method": "frozen", "decoder": "linear",
             "train": {"epochs": 1, "workers": 0}, "out": str(tmp_path / "run")}  # fmt: skip
    run = adapteo.fit(given, show=False)
    run.predict(tmp_path / "scene.tif", tmp_path / "map.tif")
    mapped = read_raster(tmp_path / "map.tif", masked=False)
    assert mapped.transform == place
    truth = np.repeat([[0] * 48 + [1] * 48], 64, axis=0)
    assert (mapped.array[0] == truth).mean() > 0.95


# ------------------------------------------------------------------------------------------------ real


def test_the_points_of_leipzig(shared_data):
    folder = shared_data / "scenes"
    survey = Survey(
        str(folder), "s2_leipzig*.tif", "s2_leipzig_landcover_points.gpkg", "land_cover", sensor="sentinel2",
        scale=1e-4, chip=16,
    )  # fmt: skip
    assert survey.classes == ("forest", "pasture", "urban", "water")
    assert survey.bands == ("blue", "green", "red", "rededge075", "rededge078", "nir", "swir16", "ndvi")
    stored = read_raster(folder / "s2_leipzig_8band_utm32.tif").array
    table = gpd.read_file(folder / "s2_leipzig_landcover_points.gpkg")
    drawn = 0
    for name in ("train", "val", "test"):
        counts = np.zeros(4, int)
        for key in survey.split(name):
            sample = survey.read(key)
            counts += np.bincount(sample.target[sample.target >= 0], minlength=4)
            # The points carry the values of the pixels that they were drawn on.
            for row, col in np.argwhere(sample.target != IGNORE):
                value = round(float(sample.image[0, 0, row, col]) * 1e4)
                kind = survey.classes[sample.target[row, col]]
                assert ((table["b02"] == value) & (table["land_cover"] == kind)).any()
        drawn += counts.sum()
        assert (counts > 0).all(), name
    assert drawn > 60
    assert 300 < np.median(stored[0]) < 3000

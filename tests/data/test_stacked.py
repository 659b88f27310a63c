"""Files that stack several dates: seen by the names of their bands, and read date by date."""

from dataclasses import replace
from datetime import date

import geopandas as gpd
import numpy as np
import pytest
import shapely

from adapteo import config
from adapteo._scene_images import match_bands, taken_in_order
from adapteo._taken import place_and_dates
from adapteo.data._stacked import stack_of, stacked_days
from adapteo.data._survey_splits import SurveySplits
from adapteo.data.folder import Folder
from adapteo.data.raster import Raster, open_scene, read_raster, write_image
from adapteo.data.survey import Survey
from adapteo.errors import ConfigError, DataError

RGB = ("blue", "green", "red")
PLACE = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_700_000.0)
CRS = "EPSG:32632"


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (RGB * 3, (3, RGB)),
        (("0_B2", "0_B3", "1_B2", "1_B3"), (2, ("B2", "B3"))),
        (("B02_1", "B03_1", "B02_2", "B03_2"), (2, ("B02", "B03"))),
        (("2023-04-15_red", "2023-04-15_nir", "2023-08-15_red", "2023-08-15_nir"), (2, ("red", "nir"))),
        (
            tuple(f"{t}_{t}_T33UWP_{b}" for t in ("20230415T101021", "20230815T101021") for b in ("B2", "B3")),
            (2, ("B2", "B3")),
        ),
        (("ndvi", "ndvi", "ndvi"), (3, ("ndvi",))),
        (RGB, None),
        (("B1", "B2", "B3", "B4"), None),
        (("nir_narrow", "swir_1", "swir_2"), None),
        (("SWIR_1", "SWIR_2"), None),
        (("blue", "green", "blue"), None),
        (("a", "b", "a", "b"), None),
        ((None,) * 6, None),
        ((), None),
    ],
)
def test_dates_by_the_names_of_the_bands(names, found):
    assert stack_of(names, "a.tif") == found


def test_all_dates_of_a_band_first_is_refused_with_the_order_that_mends_it():
    with pytest.raises(DataError, match="all 3 dates of red first, then of nir") as caught:
        stack_of(("red",) * 3 + ("nir",) * 3, "a.tif")
    order = [int(word) for word in str(caught.value).split("gdal_translate ")[1].split() if word.isdigit()]
    assert [(("red",) * 3 + ("nir",) * 3)[i - 1] for i in order] == ["red", "nir"] * 3
    assert order == [1, 4, 2, 5, 3, 6]


def test_days_by_the_name_of_the_file_or_of_its_bands():
    days = [date(2023, 4, 15), date(2023, 8, 15)]
    assert stacked_days("field_20230415_2023-08-15", (None,) * 4, 2) == days
    assert stacked_days("field_20230415", (None,) * 4, 2) == []
    assert stacked_days("field", ("20230415_B2", "20230415_B3", "20230815_B2", "20230815_B3"), 2) == days
    assert stacked_days("field", ("20230815_B2", "20230815_B3", "20230415_B2", "20230415_B3"), 2) == []
    assert stacked_days("field", ("20230415_B2", "20230416_B3", "20230815_B2", "20230815_B3"), 2) == []


def stack(path, names=RGB, dates=2, size=(64, 64)):
    """Band b of date d holds 1000 d + 100 b + the row."""
    rows = np.mgrid[: size[0], : size[1]][0]
    values = np.stack([1000 * d + 100 * b + rows for d in range(dates) for b in range(len(RGB))])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Raster(values.astype(np.uint16), tuple(names), None, CRS, PLACE))


@pytest.fixture
def made(tmp_path):
    stack(tmp_path / "scenes/a_20230415_20230815.tif", RGB * 2)
    at = [(row, col) for row in range(2, 64, 4) for col in range(2, 64, 4)]
    shapes = shapely.points([(500_000 + 10 * (c + 0.5), 5_700_000 - 10 * (r + 0.5)) for r, c in at])
    gpd.GeoDataFrame({"kind": ["ab"[c // 8 % 2] for _, c in at]}, geometry=shapes, crs=CRS).to_file(
        tmp_path / "labels.gpkg"
    )
    random = SurveySplits("random", fractions=(0.5, 0.25, 0.25))
    return Survey(
        str(tmp_path), "scenes/*.tif", "labels.gpkg", "kind", scale=1e-4, chip=16, dates_per_file=2, splits=random
    )


def test_a_window_holds_the_dates_of_its_file(made):
    assert (made.bands, made.frames) == (RGB, 2)
    key = made.split("train")[0]
    row = int(key.rpartition("/")[2].split("_")[0])
    sample = made.read(key, ("red", "blue"))
    assert sample.image.shape == (2, 2, 16, 16)
    expected = np.array([[200, 0], [1200, 1000]]) + row
    np.testing.assert_allclose(sample.image[:, :, 0, 0], expected / 1e4, atol=1e-7)
    np.testing.assert_array_equal(sample.dates, [[2023, 105], [2023, 227]])


def test_a_window_holds_what_a_folder_of_the_same_file_does(made, tmp_path):
    """`dates_per_file` means the same in both datasets."""
    window = made.read("a_20230415_20230815/16_32")
    chip = read_raster(tmp_path / "scenes/a_20230415_20230815.tif", masked=False)
    part = (10.0, 0.0, 500_320.0, 0.0, -10.0, 5_699_840.0)
    write_image(
        tmp_path / "chips/20230415_20230815.tif",
        Raster(chip.array[:, 16:32, 32:48].astype(np.uint16), chip.descriptions, None, CRS, part),
    )
    same = Folder(str(tmp_path), images="chips/*.tif", scale=1e-4, dates_per_file=2, date_format="%Y%m%d")
    sample = same.read("20230415_20230815")
    np.testing.assert_allclose(sample.image, window.image, atol=1e-7)
    np.testing.assert_array_equal(sample.dates, window.dates)
    np.testing.assert_allclose(sample.latlon, window.latlon, atol=1e-5)


def test_names_with_a_number_before_them_and_files_without_names(made, tmp_path):
    path = tmp_path / "scenes/a_20230415_20230815.tif"
    key = made.split("train")[0]
    before = made.read(key).image
    stack(path, [f"{d}_{name}" for d in range(2) for name in ("B2", "B3", "B4")])
    numbered = replace(made, sensor="sentinel2")
    assert numbered.bands == RGB
    np.testing.assert_array_equal(numbered.read(key).image, before)
    stack(path, (None,) * 6)
    named = replace(made, band_names=RGB)
    np.testing.assert_array_equal(named.read(key).image, before)


def test_days_that_are_said_and_days_that_nobody_knows(made, tmp_path):
    key = made.split("train")[0]
    said = replace(made, dates=("2022-01-01", "2022-12-31"))
    np.testing.assert_array_equal(said.read(key).dates, [[2022, 1], [2022, 365]])
    path = tmp_path / "scenes/a_20230415_20230815.tif"
    path.rename(tmp_path / "scenes/a_20230415.tif")  # one day for two dates
    assert np.isnan(replace(made).read(key.replace("_20230815", "")).dates).all()


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"dates_per_file": 0}, "dates_per_file is 0"),
        ({"dates_per_file": 2, "frames": 3}, "frames is 3 and dates_per_file 2"),
        ({"dates_per_file": 1, "frames": 1, "dates": ("2023-01-01",)}, "stack several"),
        ({"dates": ("2023-01-01",)}, "2 days"),
        ({"dates": ("2023-01-02", "2023-01-01")}, "the earliest first"),
        ({"dates": ("2023-01-01", "summer")}, "2023-04-15"),
    ],
)
def test_what_cannot_be_meant(made, keys, problem):
    with pytest.raises(ConfigError) as caught:
        replace(made, **keys)
    assert problem in str(caught.value)


def test_files_that_do_not_fit(made, tmp_path):
    def problem(**keys):
        with pytest.raises(DataError) as caught:
            return replace(made, frames=1, **keys).bands
        return str(caught.value)

    assert "6 bands, which is not 4 dates" in problem(dates_per_file=4)
    assert "2 times, and `dates_per_file` is 3" in problem(dates_per_file=3)
    assert "`dates_per_file: 2` if it stacks so many dates" in problem(dates_per_file=1, band_names=RGB)
    stack(tmp_path / "scenes/a_20230415_20230815.tif", [name for name in RGB for _ in range(2)])
    assert "all 2 dates of blue first" in problem(dates_per_file=2)


def test_in_a_configuration(made, tmp_path):
    """Days are written without quotes; what is saved is read again."""
    path = tmp_path / "run.yaml"
    path.write_text(
        "dataset: {name: survey, root: ., scenes: scenes/*.tif, labels: labels.gpkg, class_column: kind, scale: 1e-4,\n"
        "  chip: 16, dates_per_file: 2, dates: [2022-01-01, 2022-12-31]}\n"
        "backbone: nano\nmethod: lora\ndecoder: linear\n",
        encoding="utf-8",
    )
    run = config.load(path)
    assert (run.dataset.frames, run.dataset.dates) == (2, ("2022-01-01", "2022-12-31"))
    saved = tmp_path / "saved.yaml"
    saved.write_text(config.dump(run), encoding="utf-8")
    assert config.load(saved).dataset == run.dataset


def test_a_map_finds_bands_and_days_of_such_a_file(tmp_path):
    """The bands by their names, whatever numbers or days stand before them; and each date's day."""
    path = tmp_path / "a.tif"
    stack(path, [f"{day}_{name}" for day in ("20230415", "20230815") for name in ("B4", "B3", "B2")])
    with open_scene(path) as scene:
        assert match_bands(scene, RGB, "sentinel2", frames=2) == (3, 2, 1)
        assert not taken_in_order(scene, "sentinel2", 2)
        np.testing.assert_array_equal(place_and_dates(scene, 2)[1], [[2023, 105], [2023, 227]])
    stack(path, [name for name in RGB for _ in range(2)])
    with open_scene(path) as scene, pytest.raises(DataError, match="all 2 dates of blue first"):
        match_bands(scene, RGB, frames=2)
    path = path.rename(tmp_path / "b_20230415_20230815.tif")
    stack(path, (None,) * 6)
    with open_scene(path) as scene:
        np.testing.assert_array_equal(place_and_dates(scene, 2)[1], [[2023, 105], [2023, 227]])
        assert place_and_dates(scene, 3)[1] is None

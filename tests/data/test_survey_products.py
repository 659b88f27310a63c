"""Surveys on products as agencies deliver them, and on series of dates."""

from dataclasses import replace

import geopandas as gpd
import numpy as np
import products
import pytest
import shapely

import adapteo
from adapteo.contracts import IGNORE
from adapteo.data._survey_splits import SurveySplits
from adapteo.data.raster import read_raster
from adapteo.data.survey import Survey
from adapteo.errors import ConfigError, DataError

RANDOM = SurveySplits("random", fractions=(0.6, 0.2, 0.2))


def squares(path, side, gsd, step, crs=products.UTM):
    """Squares of two classes, left and right, on a grid of ``side`` pixels."""
    boxes, kinds = [], []
    for row in range(1, side - step // 2, step):
        for col in range(1, side - step // 2, step):
            x, y = products.LEFT + gsd * col, products.TOP - gsd * row
            boxes.append(shapely.box(x, y - gsd * step / 2, x + gsd * step / 2, y))
            kinds.append("left" if col < side // 2 else "right")
    gpd.GeoDataFrame({"kind": kinds}, geometry=boxes, crs=products.UTM).to_crs(crs).to_file(path)


@pytest.fixture
def safe(tmp_path):
    def change(name, values):
        values[:, values.shape[1] // 2 :] += 3000
        return values

    _, stored = products.safe(tmp_path, bands=("B02", "B04", "B8A", "B11"), change=change)
    squares(tmp_path / "drawn.gpkg", 120, 10, 12, "EPSG:4326")
    survey = Survey(str(tmp_path), "*.SAFE", "drawn.gpkg", "kind", chip=24, splits=RANDOM)
    return survey, stored


def test_a_survey_on_a_safe_product_needs_neither_bands_nor_scale(safe):
    survey, stored = safe
    assert survey.bands == ("blue", "red", "nir08", "swir16")
    assert survey.gsd == 10
    labelled = 0
    for key in survey.split("train"):
        sample = survey.read(key)
        row, col = map(int, key.split("/")[1].split("_"))
        expected = (stored["B04"][row : row + 24, col : col + 24] - 1000.0) / 10000
        np.testing.assert_allclose(sample.image[0, 1], expected, atol=1e-6)
        assert sample.dates.tolist() == [[2023, 165]]
        labelled += (sample.target != IGNORE).sum()
    assert labelled > 500
    assert survey.encoding(key) == pytest.approx((1e-4, -0.1))
    assert survey.radiometry(np.zeros((4, 2, 2))) == pytest.approx((1e-4, -0.1))
    some = replace(survey, band_names=("swir16", "B8A"), sensor="sentinel2")
    assert (some.bands, some.gsd) == (("swir16", "nir08"), 20)
    # The metadata know the offset; nobody has to guess.
    assert replace(survey, offset="auto").read(key).image[0, 1, 0, 0] == pytest.approx(sample.image[0, 1, 0, 0])


def test_what_the_user_says_of_numbers_goes_before_the_product(safe):
    survey, stored = safe
    key = survey.split("train")[0]
    row, col = map(int, key.split("/")[1].split("_"))
    found = replace(survey, scale=2e-4, offset=0.0).read(key, ["red"]).image[0, 0, 0, 0]
    assert found == pytest.approx(stored["B04"][row, col] * 2e-4, rel=1e-5)


def test_the_fingerprint_follows_each_file_of_a_product(safe, tmp_path):
    survey, _ = safe
    before = survey.fingerprint()
    band = next(tmp_path.glob("*.SAFE/GRANULE/*/IMG_DATA/R20m/*_B11_20m.jp2"))
    band.write_bytes(band.read_bytes() + b"\0")
    assert replace(survey).fingerprint() != before


@pytest.fixture
def series(tmp_path):
    stored = {}
    for i, day in enumerate(("2021100", "2021212", "2021300")):
        _, stored[day] = products.hls(tmp_path / "hls", day=day, seed=i)
    squares(tmp_path / "drawn.gpkg", 40, 30, 4)
    survey = Survey(
        str(tmp_path), "hls", "drawn.gpkg", "kind", band_names=("red", "nir08"), chip=8, frames=2, splits=RANDOM
    )
    return survey, stored


def test_dates_of_a_place_become_frames_in_order_of_time(series):
    survey, stored = series
    assert survey.frames == 2
    assert len(survey.scenes_found) == 1
    key = survey.split("train")[0]
    sample = survey.read(key)
    assert sample.image.shape == (2, 2, 8, 8)
    assert sample.dates.tolist() == [[2021, 212], [2021, 300]]
    row, col = map(int, key.split("/")[1].split("_"))
    for frame, day in enumerate(("2021212", "2021300")):
        for band, name in enumerate(("B04", "B8A")):
            expected = stored[day][name][row : row + 8, col : col + 8] * 1e-4
            np.testing.assert_allclose(sample.image[frame, band], expected, atol=1e-6)
    np.testing.assert_array_equal(survey.read(key, ["nir08"]).image[:, 0], sample.image[:, 1])


def test_series_that_are_none(series, tmp_path):
    survey, _ = series
    with pytest.raises(DataError, match="3 dates") as caught:
        replace(survey, frames=4).split("train")
    assert "2021-04-10" in str(caught.value)
    with pytest.raises(ConfigError, match="frames is 0"):
        replace(survey, frames=0)
    products.write(tmp_path / "plain.tif", np.ones((2, 40, 40), np.uint16), gsd=30.0, names=("red", "nir08"))
    with pytest.raises(DataError, match=r"plain.tif has no date"):
        replace(survey, scenes=("hls", "plain.tif"), frames=2).split("train")


def test_names_that_differ_in_the_date_are_one_place(tmp_path):
    for place, left in (("north", 0), ("south", 5000)):
        for i, day in enumerate(("2023-06-01", "2023-07-01")):
            values = np.full((2, 32, 32), 100 * i + left, np.uint16)
            # The second date lies half a pixel beside the first.
            products.write(
                tmp_path / f"{place}_{day}.tif", values, left=products.LEFT + left + 5 * i, names=("red", "nir")
            )
    squares(tmp_path / "drawn.gpkg", 32, 10, 4)
    survey = Survey(str(tmp_path), "*.tif", "drawn.gpkg", "kind", chip=8, scale=1e-4, frames=2, splits=RANDOM)
    assert [scene.name for scene in survey.scenes_found] == ["north_2023-06-01", "south_2023-06-01"]
    image = survey.read(survey.split("train")[0]).image
    assert image[0, 0].max() == 0
    np.testing.assert_allclose(image[1, 0, :, 1:], 0.01, rtol=1e-5)


def test_a_run_on_a_safe_product_maps_the_product(safe, tmp_path):
    assert safe
    section = {"name": "survey", "root": str(tmp_path), "scenes": "*.SAFE", "labels": "drawn.gpkg",
               "class_column": "kind", "chip": 24, "splits": {"by": "random"}}  # fmt: skip
    given = {"dataset": section, "backbone": "nano", "method": "frozen", "decoder": "linear",
             "train": {"epochs": 1, "workers": 0}, "out": str(tmp_path / "run")}  # fmt: skip
    run = adapteo.fit(given, show=False)
    product = next(tmp_path.glob("*.SAFE"))
    run.predict(product, tmp_path / "map.tif")
    mapped = read_raster(tmp_path / "map.tif", masked=False)
    assert mapped.transform == (10.0, 0.0, products.LEFT, 0.0, -10.0, products.TOP)
    assert mapped.array.shape == (1, 120, 120)
    truth = np.repeat([[0] * 60 + [1] * 60], 120, axis=0)
    assert (mapped.array[0] == truth).mean() > 0.9

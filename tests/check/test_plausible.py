"""Values that cannot be."""

import madesurvey as made
import numpy as np


def test_values_outside_are_counted_by_band(tmp_path):
    values = made.ground()
    values[1, :13] = 30_000
    made.scene(tmp_path / "scenes/a.tif", values)
    made.labels(tmp_path / "labels.gpkg")
    finding = made.only(made.config(tmp_path), "plausible")
    assert finding.level == "WARN"
    assert "10 % of the values of green lie outside -0.1 to 1.6" in finding.problem


def test_an_index_that_was_scaled_like_reflectance_is_told(tmp_path):
    index = np.random.default_rng(0).uniform(-1, 1, (1, 128, 160))
    values = np.concatenate([made.ground(), index]).astype(np.float32)
    made.scene(tmp_path / "scenes/a.tif", values, names=(*made.BANDS, "ndvi"))
    made.labels(tmp_path / "labels.gpkg")
    finding = made.only(made.config(tmp_path), "plausible")
    assert finding.level == "WARN"
    assert finding.change == "leave it out: `train.bands: [blue, green, red, nir08, swir16, swir22]`"


def test_a_wrong_scale_is_told_by_its_own_check(tmp_path):
    assert made.only(made.healthy(tmp_path, scale=1), "plausible").level == "OK"

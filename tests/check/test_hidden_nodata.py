"""Values that mean nothing without saying so."""

import madesurvey as made
import numpy as np
import pytest


@pytest.mark.parametrize(("value", "rows", "level"), [(0, 32, "FAIL"), (0, 4, "WARN"), (-9999, 32, "FAIL")])
def test_a_border_of_one_value_is_found(tmp_path, value, rows, level):
    values = made.ground()
    values[:, :rows] = value
    made.labels(tmp_path / "labels.gpkg")
    made.scene(tmp_path / "scenes/a.tif", values)
    finding = made.only(made.config(tmp_path), "hidden_nodata")
    assert finding.level == level
    assert finding.change.endswith(f"add `nodata: {value}`")
    assert made.only(made.config(tmp_path, nodata=value), "hidden_nodata").level == "OK"
    made.scene(tmp_path / "scenes/a.tif", values, nodata=value)
    assert made.only(made.config(tmp_path), "hidden_nodata").level == "OK"


def test_dark_pixels_here_and_there_are_none(tmp_path):
    values = made.ground()
    values[0, :40] = 0
    made.scene(tmp_path / "scenes/a.tif", values)
    made.labels(tmp_path / "labels.gpkg")
    assert made.only(made.config(tmp_path), "hidden_nodata").level == "OK"


@pytest.mark.parametrize(("other", "level"), [(1, "FAIL"), (0, "WARN")])
def test_255_in_masks_is_told(tmp_path, other, level):
    made.scene(tmp_path / "scenes/a.tif", made.ground())
    mask = np.full((1, 128, 160), 255, np.uint8)
    mask[0, ::2] = 1
    mask[0, 1:40:2] = other
    made.scene(tmp_path / "masks/a.tif", mask, names=None)
    path = made.config(tmp_path, labels="masks/*.tif", class_column=None)
    finding = made.only(path, "hidden_nodata")
    assert finding.level == level
    assert finding.problem.startswith("255 on ")

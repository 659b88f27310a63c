"""Scenes with nothing in them."""

import madesurvey as made
import numpy as np


def beside(folder, values, **keys):
    path = made.healthy(folder)
    made.scene(folder / "scenes/z.tif", values, at=(0, 200), **keys)
    return path


def test_all_missing_fails(tmp_path):
    finding = made.only(beside(tmp_path, np.zeros((6, 64, 64), np.int16), nodata=0), "blank")
    assert (finding.level, finding.path) == ("FAIL", "z")


def test_constant_fails_and_one_constant_band_warns(tmp_path):
    values = np.full((6, 64, 64), 700, np.int16)
    assert made.only(beside(tmp_path, values), "blank").level == "FAIL"
    values = made.ground(size=(64, 64))
    values[2] = 5
    finding = made.only(beside(tmp_path, values), "blank")
    assert finding.level == "WARN"
    assert "1 band (red)" in finding.problem


def test_saturated_pixels_are_told(tmp_path):
    values = made.ground(size=(64, 64)).astype(np.uint16)
    values[:, :16] = 65535
    finding = made.only(beside(tmp_path, values), "blank")
    assert finding.level == "WARN"
    assert "25 % at the limit" in finding.problem

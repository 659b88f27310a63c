"""Missing pixels."""

import madesurvey as made
import numpy as np


def with_gap(folder, rows, bands=slice(None), value=np.nan):
    values = made.ground().astype(np.float32)
    values[bands, :rows] = value
    made.scene(folder / "scenes/a.tif", values)
    made.labels(folder / "labels.gpkg")
    return made.config(folder)


def test_the_share_is_right(tmp_path):
    finding = made.only(with_gap(tmp_path, 32), "missing")
    assert finding.level == "OK"
    assert finding.details == ("a: 25 % missing",)


def test_half_missing_is_a_warning(tmp_path):
    finding = made.only(with_gap(tmp_path, 96), "missing")
    assert (finding.level, finding.path) == ("WARN", "a")
    assert "75 %" in finding.problem


def test_missing_in_some_bands_only_is_a_warning(tmp_path):
    finding = made.only(with_gap(tmp_path, 32, slice(2)), "missing")
    assert "in some bands only" in finding.problem


def test_infinite_values_are_counted(tmp_path):
    finding = made.found(with_gap(tmp_path, 2, slice(1), np.inf), "missing")[0]
    assert finding.level == "WARN"
    assert finding.problem.startswith("320 infinite values")

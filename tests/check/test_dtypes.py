"""Types and sizes of values."""

import madesurvey as made
import numpy as np


def three(folder, odd):
    for i in range(2):
        made.scene(folder / f"scenes/{i}.tif", made.ground(i), at=(0, 200 * i))
    made.scene(folder / "scenes/odd.tif", odd, at=(0, 400))
    made.labels(folder / "labels.gpkg")
    return made.config(folder)


def test_reflectance_among_digital_numbers_fails(tmp_path):
    finding = made.only(three(tmp_path, made.ground(2).astype(np.float32) / 1e4), "dtypes")
    assert (finding.level, finding.path) == ("FAIL", "odd")
    assert "float32: odd" in finding.details


def test_another_type_with_values_of_the_same_size_warns(tmp_path):
    finding = made.only(three(tmp_path, made.ground(2).astype(np.float32)), "dtypes")
    assert (finding.level, finding.path) == ("WARN", "odd")


def test_all_alike_is_well(tmp_path):
    assert made.only(three(tmp_path, made.ground(2)), "dtypes").problem == "all of one type (int16)"

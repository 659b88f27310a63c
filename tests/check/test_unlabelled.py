"""Unlabelled area."""

import madesurvey as made
import numpy as np


def test_the_share_is_that_of_the_pixels(tmp_path):
    path = made.healthy(tmp_path)
    shapes, _ = made.grid()
    rest = 100 * (1 - len(shapes) * 64 / (128 * 160))
    finding = made.only(path, "unlabelled")
    assert finding.problem.startswith(f"{rest:.0f} % of the scenes")
    assert finding.problem.endswith("ignored, not background")
    assert finding.level == "WARN"


def test_a_full_mask_is_well(tmp_path):
    made.scene(tmp_path / "scenes/a.tif", made.ground())
    mask = np.ones((1, 128, 160), np.uint8)
    mask[0, :, ::2] = 2
    made.scene(tmp_path / "masks/a.tif", mask, names=None)
    finding = made.only(made.config(tmp_path, labels="masks/*.tif", class_column=None), "unlabelled")
    assert finding.level == "OK"
    assert finding.problem.startswith("0 % of the scenes")

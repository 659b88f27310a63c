"""Scale against the pre-training."""

import madesurvey as made
import numpy as np
import pytest


@pytest.mark.parametrize(
    ("factor", "scale", "right"), [(1, 1.0, 1e-4), (1e-4, 1e-4, 1.0), (255 / 1e4, 1.0, 1 / 255), (1, 1e-5, 1e-4)]
)
def test_the_scale_that_fits_is_named(tmp_path, factor, scale, right):
    made.scene(tmp_path / "scenes/a.tif", (made.ground() * factor).astype(np.float32))
    made.labels(tmp_path / "labels.gpkg")
    finding = made.only(made.config(tmp_path, scale=scale), "scale")
    assert finding.level == "FAIL"
    named = float(finding.change.rpartition("scale: ")[2].rstrip("`"))
    assert named == pytest.approx(right, rel=0.02)


def test_what_is_near_the_pretraining_is_well(tmp_path):
    finding = made.only(made.healthy(tmp_path), "scale")
    assert finding.level == "OK"
    assert "prithvi 2.0-300M" in finding.problem
    assert len(finding.details) == 6


def test_without_a_known_backbone_reflectance_is_still_told_from_digital_numbers(tmp_path):
    path = made.healthy(tmp_path, backbone="unet", scale=1)
    assert made.only(path, "scale").change.endswith("`scale: 0.0001`")


def test_one_band_far_away_is_a_warning(tmp_path):
    means = (*made.MEANS[:3], 9000, *made.MEANS[4:])
    made.scene(tmp_path / "scenes/a.tif", made.ground(means=means))
    made.labels(tmp_path / "labels.gpkg")
    finding = made.only(made.config(tmp_path), "scale")
    assert finding.level == "WARN"
    assert finding.problem.startswith("nir08")


def test_linear_radar_is_told_from_decibel(tmp_path):
    power = np.random.default_rng(0).gamma(4, 0.02, (2, 128, 160)).astype(np.float32)
    made.labels(tmp_path / "labels.gpkg")
    for values, level in ((power, "FAIL"), (10 * np.log10(power), "OK")):
        made.scene(tmp_path / "scenes/a.tif", values, names=("vv", "vh"))
        path = made.config(tmp_path, backbone={"name": "terramind"}, scale=None)
        assert made.only(path, "scale").level == level

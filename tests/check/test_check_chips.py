"""Datasets of chips are checked as far as that means something for them."""

import madesurvey as made
import numpy as np
import pytest
import yaml

from adapteo.check import names, run


def chips(folder, count=12, **keys):
    """Chips of 32 x 32 pixels with masks; every third of each class alone."""
    for i in range(count):
        made.scene(folder / f"images/{i:02}.tif", made.ground(i, (32, 32)), at=(0, 40 * i))
        mask = np.full((1, 32, 32), 0, np.uint8)
        mask[0, :, 16:] = 1
        made.scene(folder / f"masks/{i:02}.tif", mask, at=(0, 40 * i), names=None)
    dataset = {
        "name": "folder", "root": ".", "images": "images/*.tif", "masks": "masks/*.tif",
        "class_names": ["dry", "wet"], "scale": 0.0001,
    }  # fmt: skip
    path = folder / "chips.yaml"
    path.write_text(yaml.safe_dump({"dataset": dataset | keys, "backbone": "prithvi"}, sort_keys=False))
    return path


def test_checks_that_need_scenes_are_named(tmp_path):
    checked = run(chips(tmp_path))
    assert not checked.failed
    assert set(checked.skipped.values()) == {"only for a `survey` dataset"}
    assert {finding.name for finding in checked.findings} | checked.skipped.keys() == set(names())
    assert {"alignment", "leakage", "polygons"} <= checked.skipped.keys()


@pytest.mark.parametrize(("scale", "fails"), [(0.0001, False), (0.000001, True)])
def test_their_scale_is_compared(tmp_path, scale, fails):
    checked = run(chips(tmp_path, scale=scale))
    assert ("scale" in {f.name for f in checked.findings if f.level == "FAIL"}) == fails


def test_the_same_chip_in_train_and_test_fails(tmp_path):
    path = chips(tmp_path)
    for i in range(1, 12):
        made.scene(tmp_path / f"images/{i:02}.tif", made.ground(0, (32, 32)), at=(0, 40 * i))
    failed = [finding for finding in run(path).findings if finding.level == "FAIL"]
    assert [finding.name for finding in failed] == ["duplicates"]
    assert "test" in failed[0].problem
    assert "train" in failed[0].problem


def test_a_broken_chip_is_a_finding(tmp_path):
    path = chips(tmp_path)
    (tmp_path / "images/03.tif").write_bytes((tmp_path / "images/03.tif").read_bytes()[:300])
    failed = [finding for finding in run(path).findings if finding.level == "FAIL"]
    assert len(failed) == 1
    assert "03.tif" in failed[0].problem

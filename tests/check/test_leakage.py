"""Training and test on the same ground."""

from dataclasses import replace

import madesurvey as made

from adapteo.check import View, leakage, read_source


def test_blocks_keep_splits_apart(tmp_path):
    finding = made.only(made.healthy(tmp_path), "leakage")
    assert finding.level == "OK"
    assert "blocks of 320 m" in finding.problem


def test_a_random_split_warns(tmp_path):
    finding = made.only(made.healthy(tmp_path, splits={"by": "random"}), "leakage")
    assert finding.level == "WARN"
    assert finding.change == "burn.yaml, line 10: `by: block`"


def test_windows_of_different_splits_on_the_same_ground_fail(tmp_path, monkeypatch):
    """The plan keeps them apart; here it is made to fail."""
    path = made.healthy(tmp_path)
    made.scene(tmp_path / "scenes/later.tif", made.ground(seed=1))
    view = View(read_source(path))
    windows = dict(view.plan.windows)
    moved = next(key for key in windows if key.startswith("later/") and windows[key].part == "train")
    windows[moved] = replace(windows[moved], part="test")
    monkeypatch.setitem(view._known, "plan", replace(view.plan, windows=windows))
    finding = next(iter(leakage.CHECK.run(view)))
    assert finding.level == "FAIL"
    assert moved in finding.problem


def test_blocks_smaller_than_the_labels_range_warn(tmp_path):
    made.scene(tmp_path / "scenes/a.tif", made.ground())
    shapes, _ = made.grid()
    halves = ["a" if shape.centroid.x < made.LEFT + 800 else "b" for shape in shapes]
    made.labels(tmp_path / "labels.gpkg", shapes, halves)
    finding = made.only(made.config(tmp_path, splits=None), "leakage")
    assert finding.level == "WARN"
    assert "resemble each other" in finding.problem

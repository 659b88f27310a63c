"""Classes."""

import madesurvey as made
import numpy as np


def test_names_that_differ_by_case_and_space(tmp_path):
    path = made.healthy(tmp_path)
    shapes, classes = made.grid()
    names = {"a": "water", "b": "Water"}
    made.labels(tmp_path / "labels.gpkg", shapes, [names[c] for c in classes])
    finding = made.only(path, "classes")
    assert finding.level == "WARN"
    assert "'Water': Water, 'water': Water" in finding.change


def test_one_class_fails(tmp_path):
    path = made.healthy(tmp_path)
    shapes, classes = made.grid()
    made.labels(tmp_path / "labels.gpkg", shapes, ["burnt"] * len(classes))
    finding = made.only(path, "classes")
    assert finding.level == "FAIL"
    assert "one class, 'burnt'" in finding.problem


def test_labels_without_a_class_are_counted(tmp_path):
    path = made.healthy(tmp_path)
    shapes, classes = made.grid()
    classes[:3] = [None] * 3
    made.labels(tmp_path / "labels.gpkg", shapes, classes)
    finding = made.only(path, "classes")
    assert finding.problem == "3 features without a class: left out"
    assert "'kind'" in finding.change


def test_a_class_that_no_pixel_has(tmp_path):
    path = made.healthy(tmp_path)
    shapes, classes = made.grid()
    made.labels(tmp_path / "labels.gpkg", [*shapes, made.box(9000, 9000)], [*classes, "rare"])
    finding = made.only(path, "classes")
    assert finding.level == "WARN"
    assert finding.problem == "no pixel of a scene has the class rare"


def test_strange_values_in_masks(tmp_path):
    made.scene(tmp_path / "scenes/a.tif", made.ground())
    mask = np.ones((1, 128, 160), np.uint8)
    mask[0, ::2], mask[0, :10] = 2, 7
    made.scene(tmp_path / "masks/a.tif", mask, names=None)
    path = made.config(tmp_path, labels="masks/*.tif", class_column=None, class_names={"1": "x", "2": "y"})
    finding = made.only(path, "classes")
    assert finding.level == "WARN"
    assert "7 (1,600 pixels)" in finding.problem

"""Samples and classes of the splits."""

import madesurvey as made

from adapteo.check import View, read_source


def levels(path):
    return [(finding.level, finding.problem) for finding in made.found(path, "balance")]


def test_every_class_in_every_split_is_well(tmp_path):
    finding = made.only(made.healthy(tmp_path), "balance")
    assert finding.level == "OK"
    view = View(read_source(made.config(tmp_path)))
    assert f"train {len(view.dataset.split('train'))}" in finding.problem


def test_an_empty_split_fails(tmp_path):
    path = made.healthy(tmp_path, splits={"fractions": [0.8, 0.0, 0.2], "size": 320})
    assert ("FAIL", "the split 'val' has no sample") in levels(path)


def test_few_samples_warn(tmp_path):
    path = made.healthy(tmp_path, chip=64, splits={"by": "random"})
    assert any(level == "WARN" and said.startswith("few samples: train") for level, said in levels(path))


def test_a_class_that_a_split_lacks_is_named(tmp_path):
    path = made.healthy(tmp_path)
    shapes, classes = made.grid()
    made.labels(tmp_path / "labels.gpkg", [*shapes, made.box(90, 90, 2, 2)], [*classes, "rare"])
    told = [said for level, said in levels(path) if level == "WARN" and "has no pixel of rare" in said]
    assert len(told) == 2


def test_a_rare_class_warns(tmp_path):
    path = made.healthy(tmp_path, splits={"by": "random", "fractions": [0.98, 0.01, 0.01]})
    shapes, classes = made.grid()
    tiny = [made.box(row, 12, 2, 2) for row in (0, 16, 32)]
    made.labels(tmp_path / "labels.gpkg", [*shapes, *tiny], [*classes, *["rare"] * 3])
    assert any(said.startswith("rare: less than 1 %") for _, said in levels(path))

"""Polygons of different classes over each other."""

import madesurvey as made
import pytest


@pytest.mark.parametrize(("classes", "level"), [(["a", "b"], "WARN"), (["a", "a"], "OK")])
def test_common_ground_is_measured(tmp_path, classes, level):
    path = made.healthy(tmp_path)
    shapes, others = made.grid()
    pair = [made.box(0, 0, 6, 6), made.box(3, 4, 6, 6)]
    kept = [(s, c) for s, c in zip(shapes, others, strict=True) if not s.intersects(made.box(0, 0, 14, 14))]
    made.labels(tmp_path / "labels.gpkg", [*pair, *(s for s, _ in kept)], [*classes, *(c for _, c in kept)])
    finding = made.only(path, "overlapping")
    assert finding.level == level
    if level == "WARN":
        assert "rows 1 (a) and 2 (b): 6 pixels" in finding.problem


def test_neighbours_do_not_overlap(tmp_path):
    path = made.healthy(tmp_path)
    shapes = [made.box(0, 8 * i) for i in range(10)]
    made.labels(tmp_path / "labels.gpkg", shapes, list("ab" * 5))
    assert made.only(path, "overlapping").level == "OK"

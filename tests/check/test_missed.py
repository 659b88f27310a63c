"""Labels that lie in no scene."""

import madesurvey as made
import shapely

from adapteo.check import run


def test_they_are_counted_with_their_rows(tmp_path):
    path = made.healthy(tmp_path)
    shapes, classes = made.grid()
    shapes[2:4] = [made.box(5000, 5000), made.box(6000, 5000)]
    made.labels(tmp_path / "labels.gpkg", shapes, classes)
    finding = made.only(path, "missed")
    assert finding.level == "WARN"
    assert f"2 labels of {len(shapes)}" in finding.problem
    assert finding.problem.endswith("rows 3, 4")


def test_those_with_exchanged_axes_fail(tmp_path):
    path = made.healthy(tmp_path)
    shapes, classes = made.grid()
    shapes[5] = shapely.transform(shapes[5], lambda xy: xy[:, ::-1])
    made.labels(tmp_path / "labels.gpkg", shapes, classes)
    first, second = made.found(path, "missed")
    assert (first.level, second.level) == ("FAIL", "WARN")
    assert "x and y exchanged" in first.problem
    assert first.details == ("rows 6",)


def test_all_with_exchanged_axes_are_one_fail_of_the_whole(tmp_path):
    path = made.healthy(tmp_path)
    shapes, classes = made.grid()
    made.labels(tmp_path / "labels.gpkg", shapely.transform(shapes, lambda xy: xy[:, ::-1]), classes)
    (failed,) = [finding for finding in run(path).findings if finding.level == "FAIL"]
    assert "x and y exchanged" in failed.problem

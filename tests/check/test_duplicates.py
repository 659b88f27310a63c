"""The same pixels twice."""

import madesurvey as made


def test_one_file_under_two_names_fails(tmp_path):
    path = made.healthy(tmp_path)
    made.scene(tmp_path / "scenes/copy.tif", made.ground())
    finding = made.only(path, "duplicates")
    assert finding.level == "FAIL"
    assert "T20210731" in finding.problem
    assert "copy" in finding.problem


def test_the_same_pixels_elsewhere_warn(tmp_path):
    path = made.healthy(tmp_path)
    made.scene(tmp_path / "scenes/moved.tif", made.ground(), at=(0, 500))
    assert made.only(path, "duplicates").level == "WARN"


def test_a_part_of_another_scene_is_found(tmp_path):
    path = made.healthy(tmp_path)
    made.scene(tmp_path / "scenes/part.tif", made.ground()[:, 20:100, 30:150], at=(20, 30))
    finding = made.only(path, "duplicates")
    assert finding.level == "WARN"
    assert "where they overlap" in finding.problem


def test_other_dates_of_one_place_are_no_duplicates(tmp_path):
    path = made.healthy(tmp_path)
    made.scene(tmp_path / "scenes/later.tif", made.ground(seed=1))
    assert made.only(path, "duplicates").level == "OK"

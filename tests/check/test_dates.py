"""Dates of the scenes."""

import madesurvey as made
import pytest


def dated(folder, *names):
    for i, name in enumerate(names):
        made.scene(folder / f"scenes/{name}.tif", made.ground(i), at=(0, 200 * i))
    made.labels(folder / "labels.gpkg")
    return made.config(folder)


@pytest.mark.parametrize(
    ("names", "level", "said"),
    [
        (["a", "b"], "OK", "no scene has a date"),
        (["a_20210731", "b_20210810"], "OK", "2021-07-31 to 2021-08-10"),
        (["a_20210731", "b"], "WARN", "1 scene of 2 without a date"),
        (["a_19610731"], "WARN", "before 1972"),
        (["a_20210101", "b_20210111", "c_20210121", "d_20211231"], "WARN", "between 2021-01-21 and 2021-12-31"),
    ],
)
def test_dates(tmp_path, names, level, said):
    finding = made.only(dated(tmp_path, *names), "dates")
    assert finding.level == level
    assert said in finding.problem

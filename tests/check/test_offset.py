"""The Sentinel-2 offset, in made and real scenes."""

import madesurvey as made
import numpy as np
import pytest

L1C = "[B1, B2, B3, B4, B5, B6, B7, B8, B8A, B9, B10, B11, B12]"
L2A = "[B1, B2, B3, B4, B5, B6, B7, B8, B8A, B9, B11, B12]"
CLASSES = {1: "water", 2: "trees", 3: "flooded", 4: "crops", 5: "built", 6: "bare", 7: "snow", 8: "cloud", 9: "range"}


def two(folder, names=("a", "b"), **keys):
    """The second scene has 1000 added."""
    for i, name in enumerate(names):
        values = made.ground(i) + np.int16(1000 * i)
        made.scene(folder / f"scenes/{name}.tif", values, at=(0, 200 * i))
    made.labels(folder / "labels.gpkg")
    return made.config(folder, **keys)


def test_some_scenes_with_it_fail(tmp_path):
    finding = made.only(two(tmp_path), "offset")
    assert (finding.level, finding.path) == ("FAIL", "b")
    assert finding.problem.startswith("1 of 2 scenes")
    assert finding.change.endswith("add `offset: auto`")
    assert [detail.partition(" in")[0] for detail in finding.details] == ["a: no offset", "b: offset of 1000"]


def test_auto_is_well_and_says_where_it_is(tmp_path):
    finding = made.only(two(tmp_path, offset="auto"), "offset")
    assert finding.level == "OK"
    assert "1 of 2 scenes" in finding.problem


def test_taking_it_from_scenes_without_it_fails(tmp_path):
    finding = made.only(two(tmp_path, offset=-0.1), "offset")
    assert (finding.level, finding.path) == ("FAIL", "a")
    assert "0.1 too low" in finding.effect


@pytest.mark.parametrize(
    ("name", "level"),
    [("S2A_MSIL2A_20220731T_N0510_R1", "FAIL"), ("S2A_MSIL2A_20210731T_N0301_R1", "WARN"), ("plain", "WARN")],
)
def test_metadata_decide_when_all_scenes_look_the_same(tmp_path, name, level):
    made.scene(tmp_path / f"scenes/{name}.tif", made.ground() + np.int16(1000))
    made.labels(tmp_path / "labels.gpkg")
    finding = made.only(made.config(tmp_path), "offset")
    assert finding.level == level
    assert ("made before it" in finding.problem) == ("N0301" in name)


def test_landsat_has_none(tmp_path):
    assert "landsat8 has none" in made.only(two(tmp_path, sensor="landsat8"), "offset").problem


@pytest.mark.parametrize(
    ("product", "bands", "having"),
    [("S2L1C", L1C, ["282D_485L_3_3", "433D_629L_3_1", "609U_541L_3_0"]), ("S2L2A", L2A, ["433D_629L_3_1"])],
)
def test_real_sites(tmp_path, shared_data, product, bands, having):
    """Which carry it is known from the cirrus band, and from regression of L2A on L1C; see `radiometry`."""
    path = made.config(
        tmp_path, "terramind", root=str(shared_data / "terramind_examples"), scenes=f"{product}/*.tif",
        labels="LULC/*.tif", class_column=None, class_names={str(k): v for k, v in CLASSES.items()},
        band_names=bands.strip("[]").split(", "), sensor="sentinel2", splits={"by": "scene"}, chip=56,
    )  # fmt: skip
    finding = made.only(path, "offset")
    assert finding.level == "FAIL"
    assert finding.problem.startswith(f"{len(having)} of 5 scenes")
    assert [detail.partition(":")[0] for detail in finding.details if "offset of 1000" in detail] == having
    assert len(finding.details) == 5

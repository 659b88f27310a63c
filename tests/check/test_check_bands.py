"""Names and order of the bands."""

import madesurvey as made


def test_names_in_the_file_against_the_configuration(tmp_path):
    names = ["red", "green", "blue", "nir08", "swir16", "swir22"]
    finding = made.only(made.healthy(tmp_path, band_names=names), "bands")
    assert (finding.level, finding.path) == ("FAIL", "T20210731.tif")
    assert "band 1 is called 'blue', configured as red (2 such bands)" in finding.problem


def test_another_order_in_one_scene_is_seen_in_the_values(tmp_path):
    for i in range(4):
        made.scene(tmp_path / f"scenes/{i}.tif", made.ground(i), at=(0, 200 * i))
    strange = made.ground(9)[[0, 1, 3, 2, 4, 5]]
    made.scene(tmp_path / "scenes/strange.tif", strange, at=(0, 1000))
    made.labels(tmp_path / "labels.gpkg")
    finding = next(f for f in made.found(made.config(tmp_path), "bands") if f.path == "strange")
    assert finding.level == "WARN"
    assert "in the order blue, green, nir08, red, swir16, swir22" in finding.problem
    assert "-b 1 -b 2 -b 4 -b 3 -b 5 -b 6" in finding.change


def test_scenes_alike_are_well(tmp_path):
    for i in range(5):
        made.scene(tmp_path / f"scenes/{i}.tif", made.ground(i), at=(0, 200 * i))
    made.labels(tmp_path / "labels.gpkg")
    assert made.only(made.config(tmp_path), "bands").level == "OK"


def test_a_backbone_that_knows_none_of_them_fails(tmp_path):
    made.scene(tmp_path / "scenes/a.tif", made.ground(means=(500,)), names=("elevation",))
    made.labels(tmp_path / "labels.gpkg")
    finding = made.only(made.config(tmp_path, scale=1), "bands")
    assert finding.level == "FAIL"
    assert "none of the bands elevation" in finding.problem


def test_a_backbone_that_misses_most_of_its_bands_warns(tmp_path):
    made.scene(tmp_path / "scenes/a.tif", made.ground(means=made.MEANS[:2]), names=made.BANDS[:2])
    made.labels(tmp_path / "labels.gpkg")
    finding = made.only(made.config(tmp_path), "bands")
    assert finding.level == "WARN"
    assert "6 such bands, 2 of them are here" in finding.problem


def test_one_sensor_of_a_backbone_of_several_sensors_will_do(tmp_path):
    made.scene(tmp_path / "scenes/a.tif", -made.ground(means=(1000, 1700)), names=("vv", "vh"))
    made.labels(tmp_path / "labels.gpkg")
    assert made.only(made.config(tmp_path, "terramind", scale=0.01), "bands").level == "OK"

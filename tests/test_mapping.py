"""Which files become which map: one by one, together, again."""

import numpy as np
import pytest
import rasterio
from rasterio import Affine

from adapteo import experiment
from adapteo.errors import ConfigError, DataError
from adapteo.mapping import Mosaic, Watch
from toy import BANDS, Toy, spell


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return experiment.fit(spell(folder, "method=frozen", "train.epochs=1", "train.rate=1e-3"))


def write(path, array, corner=(500_000, 5_500_000), crs="EPSG:32632", names=BANDS, **tags):
    profile = {"driver": "GTiff", "count": len(array), "height": array.shape[1], "width": array.shape[2]}
    place = {"crs": crs, "transform": Affine(10, 0, corner[0], 0, -10, corner[1])}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", dtype=array.dtype, **profile, **place) as file:
        file.write(array)
        file.descriptions = names
        file.update_tags(**tags)
    return path


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.fixture
def whole():
    return Toy(side=64).read("test-00").image[0].copy()


def halves(folder, whole):
    """Two scenes of one raster that share columns 24 to 40."""
    left = write(folder / "left.tif", whole[:, :, :40], acquisition_date="2024-05-02")
    right = write(folder / "right.tif", whole[:, :, 24:], (500_240, 5_500_000), acquisition_date="2024-05-01")
    return left, right


def test_a_mosaic_of_one_scene_is_its_map(tmp_path, made, whole):
    scene = write(tmp_path / "scene.tif", whole)
    made.predict(scene, tmp_path / "one.tif", probabilities=True)
    made.predict(scene, tmp_path / "two.tif", probabilities=True, mosaic=Mosaic())
    for name in ("{}.tif", "{}_probabilities.tif"):
        np.testing.assert_array_equal(read(tmp_path / name.format("one")), read(tmp_path / name.format("two")))


def test_scenes_are_put_together_and_overlaps_follow_the_dates(tmp_path, made, whole):
    left, right = halves(tmp_path, whole)
    for scene in (left, right):
        made.predict(scene, tmp_path / f"{scene.stem}_alone.tif", probabilities=True)
    alone = [rasterio.open(tmp_path / f"{name}_alone_probabilities.tif") for name in ("left", "right")]
    shares = np.full((2, 3, 64, 64), np.nan)
    shares[0, :, :, :40], shares[1, :, :, 24:] = (file.read() for file in alone)
    for file in alone:
        file.close()
    for overlap in ("mean", "first", "last"):
        out = tmp_path / overlap / "map.tif"
        made.predict([left, right], out, probabilities=True, mosaic=Mosaic(overlap=overlap))
        with rasterio.open(out) as file, rasterio.open(left) as first:
            assert (file.shape, file.transform, file.crs) == ((64, 64), first.transform, first.crs)
        with rasterio.open(out.with_name("map_probabilities.tif")) as file:
            found = file.read().astype(float)
        expected = {"mean": np.nanmean(shares, axis=0), "last": shares[0].copy(), "first": shares[1].copy()}[overlap]
        other = shares[1] if overlap == "last" else shares[0]
        expected = np.where(np.isnan(expected), other, expected)
        # Columns 24 to 28 and 36 to 40 lie in windows that reach over the edge of a scene, which alone there are not.
        for columns in (slice(0, 24), slice(28, 36), slice(40, 64)):
            assert np.abs(found - expected)[:, :, columns].max() <= 1
    with pytest.raises(ConfigError, match="overlap 'best'"):
        made.predict([left, right], tmp_path / "m.tif", mosaic=Mosaic(overlap="best"))


def test_a_mosaic_over_two_zones(tmp_path, made, whole):
    first = write(tmp_path / "a.tif", whole, (730_000, 5_500_000))
    west, _, _, north = rasterio.warp.transform_bounds(
        "EPSG:32632", "EPSG:32633", 730_400, 5_499_400, 731_000, 5_500_000
    )
    second = write(tmp_path / "b.tif", whole, (round(west, -1), round(north, -1)), "EPSG:32633")
    out = made.predict([first, second], tmp_path / "map.tif", mosaic=Mosaic())
    with rasterio.open(out) as file:
        found = file.read(1)
        assert file.crs.to_epsg() == 32632
        assert (found != 255).sum() > 1.4 * 64 * 64
        assert (found == 255).any(), "corners that no scene has"
    again = made.predict([first, second], tmp_path / "readers.tif", mosaic=Mosaic(), readers=2)
    assert again.read_bytes() == out.read_bytes()
    with pytest.raises(ConfigError, match="0 readers"):
        made.predict([first, second], out, readers=0)
    made.predict([first, second], tmp_path / "coarse.tif", mosaic=Mosaic("EPSG:32633", 20.0))
    with rasterio.open(tmp_path / "coarse.tif") as file:
        assert (file.crs.to_epsg(), file.res) == (32633, (20.0, 20.0))


def test_scenes_of_one_name_do_not_overwrite_each_other(tmp_path, made, whole):
    scenes = [write(tmp_path / name / "scene.tif", whole) for name in ("a", "b")]
    made.predict(scenes, tmp_path / "maps")
    assert {path.name for path in (tmp_path / "maps").glob("*.tif")} == {"scene_map.tif", "scene_2_map.tif"}


def stop_in_the_second(made, scenes, out):
    calls = iter(range(10**6))

    def stop(module, args):
        if next(calls) == 1:
            raise KeyboardInterrupt

    handle = made.model.backbone.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        made.predict(scenes, out)
    handle.remove()


def test_maps_that_are_there_are_not_drawn_again(tmp_path, made, whole):
    scenes = list(halves(tmp_path, whole[:, :16]))
    out = tmp_path / "maps"
    stop_in_the_second(made, scenes, out)
    assert {path.name for path in out.glob("*.tif")} == {"left_map.tif"}
    calls, said = [], []
    handle = made.model.backbone.register_forward_pre_hook(lambda *_: calls.append(1))
    made.predict(scenes, out, progress=Watch(tell=said.append))
    count = len(calls)
    assert said == ["left_map.tif is there already"]
    assert {path.name for path in out.glob("*.tif")} == {"left_map.tif", "right_map.tif"}
    write(scenes[0], whole[:, :16, :39])  # another scene of the same name
    made.predict(scenes, out, progress=Watch(tell=said.append))
    handle.remove()
    assert len(calls) > count
    assert said[1:] == ["right_map.tif is there already"]
    assert read(out / "left_map.tif").shape == (16, 39)


def test_folder_with_one_file_per_band(tmp_path, made, whole):
    one = write(tmp_path / "scene.tif", whole)
    for i, name in enumerate(("B02", "B03", "B04")):
        write(tmp_path / "bands" / f"scene_{name}.tif", whole[i : i + 1], names=(None,))
    made.predict(one, tmp_path / "one.tif")
    made.predict(tmp_path / "bands", tmp_path / "two.tif")
    np.testing.assert_array_equal(read(tmp_path / "one.tif"), read(tmp_path / "two.tif"))


def test_a_map_never_replaces_a_scene(tmp_path, made, whole):
    scene = write(tmp_path / "scene.tif", whole)
    before = scene.read_bytes()
    with pytest.raises(DataError, match="would replace the scene"):
        made.predict(scene, scene)
    with pytest.raises(DataError, match="no scene"):
        made.predict([], tmp_path / "map.tif")
    assert scene.read_bytes() == before


def test_a_wrong_name_is_refused_before_anything_is_read(tmp_path, made):
    with pytest.raises(DataError, match=r"'map\.png' is not named like one"):
        made.predict([tmp_path / "no_such_scene.tif"], tmp_path / "map.png")

"""The accessor gives what `FittedRun.predict` writes for the same file, however the array came about."""

import subprocess
import sys

import numpy as np
import pytest
import rasterio
from rasterio import Affine

from adapteo import experiment
from adapteo.errors import ConfigError, DataError
from toy import BANDS, CLASSES, spell

xr = pytest.importorskip("xarray")
import adapteo.xarray  # noqa: E402, F401  # registers the accessor

PLACE = Affine(10, 0, 500_000, 0, -10, 5_500_000)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return experiment.fit(spell(tmp_path_factory.mktemp("run"), "train.epochs=1"))


def values(height=45, width=70, seed=0):
    image = np.random.default_rng(seed).uniform(0.02, 0.2, (3, height, width)).astype(np.float32)
    image[:, :10, :12] = np.nan
    return image


def write_scene(path, array, names=BANDS, **more):
    options = {"driver": "GTiff", "count": len(array), "height": array.shape[1], "width": array.shape[2]}
    with rasterio.open(path, "w", dtype=array.dtype, crs="EPSG:32632", transform=PLACE, **options, **more) as file:
        file.write(array)
        file.descriptions = names
    return path


def make(array, names=BANDS, dims=("band", "y", "x"), **coords):
    height, width = array.shape[-2:]
    x, y = 500_000 + 10 * (np.arange(width) + 0.5), 5_500_000 - 10 * (np.arange(height) + 0.5)
    reference = xr.DataArray(0, attrs={"crs_wkt": rasterio.CRS.from_epsg(32632).to_wkt()})
    coords = {"y": y, "x": x, "spatial_ref": reference, **({"band": list(names)} if names else {}), **coords}
    return xr.DataArray(array, coords, dims)


@pytest.fixture(scope="module")
def expected(run, tmp_path_factory):
    """Map and probabilities of `values()` through files."""
    folder = tmp_path_factory.mktemp("files")
    out = run.predict(
        write_scene(folder / "scene.tif", values(), nodata=np.nan), folder / "map.tif", probabilities=True
    )
    with rasterio.open(out) as file, rasterio.open(folder / "map_probabilities.tif") as shares:
        return file.read(1), shares.read()


def test_the_map_of_an_array_is_that_of_the_file(run, expected):
    array = make(values())
    found = array.adapteo.predict(run)
    np.testing.assert_array_equal(found.values, expected[0])
    assert (found.values == 255).sum() == 120
    assert found.dims == ("y", "x")
    assert found.dtype == np.uint8
    assert found.coords["x"].equals(array.coords["x"])
    assert found.coords["spatial_ref"].attrs == array.coords["spatial_ref"].attrs
    assert found.attrs["flag_values"].tolist() == [0, 1, 2]
    assert found.attrs["flag_meanings"] == " ".join("_".join(name.split()) for name in CLASSES)
    assert found.attrs["_FillValue"] == 255


def test_probabilities(run, expected):
    progress = []
    found = make(values()).adapteo.predict(run, probabilities=True, progress=lambda *done: progress.append(done))
    np.testing.assert_array_equal(found["map"].values, expected[0])
    seen = expected[0] != 255
    np.testing.assert_array_equal(np.isnan(found["probability"].values), np.broadcast_to(~seen, (3, *seen.shape)))
    np.testing.assert_allclose(found["probability"].values[:, seen], expected[1][:, seen] / 10_000, atol=0.5001e-4)
    assert found["probability"].coords["class"].values.tolist() == list(CLASSES)
    assert progress[-1][0] == progress[-1][1] > 0


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.transpose("y", "x", "band"),
        lambda a: a.isel(band=[2, 0, 1]),
        lambda a: a.expand_dims("time"),
        lambda a: a.rename(x="lon", y="lat"),
        lambda a: a.assign_coords(band=[1, 2, 3]).assign_attrs(long_name=BANDS),
        lambda a: a.drop_vars("band"),  # as many as the dataset has: in its order
        lambda a: a.to_dataset("band"),
        lambda a: (a * 10_000).assign_attrs(scale_factor=1e-4, add_offset=0.0),
        lambda a: a.fillna(-9999).assign_attrs(_FillValue=-9999),
    ],
    ids=["order of dimensions", "order of bands", "one date", "names of dimensions", "long_name", "no names", "dataset",
         "scale in attributes", "fill value in attributes"],
)  # fmt: skip
def test_however_it_is_written(run, expected, change):
    found = change(make(values())).adapteo.predict(run)
    assert (found.values == expected[0]).mean() > 0.995  # what was scaled and scaled back is not quite the same
    np.testing.assert_array_equal(found.values == 255, expected[0] == 255)


def test_stored_numbers_with_a_scale(run, expected):
    stored = make(values() * 10_000)
    with pytest.raises(DataError, match=r"not reflectance") as caught:
        stored.adapteo.predict(run)
    assert "scaling=(0.0001, 0)" in str(caught.value)
    found = stored.adapteo.predict(run, scaling=(1e-4, 0.0))
    assert (found.values == expected[0]).mean() > 0.995


def test_arrays_of_dask_are_computed_by_windows(run, expected):
    dask = pytest.importorskip("dask.array")
    largest = []

    def watched(block):
        largest.append(block.size)
        return block

    lazy = dask.from_array(values(), chunks=(3, 16, 16)).map_blocks(watched, dtype=np.float32, meta=np.empty((0, 0, 0)))
    largest.clear()
    found = make(lazy).adapteo.predict(run)
    np.testing.assert_array_equal(found.values, expected[0])
    assert max(largest) <= 3 * 16 * 16


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rioxarray 0.19 with affine 3.1
def test_files_through_rioxarray(run, expected, tmp_path):
    rioxarray = pytest.importorskip("rioxarray")
    path = write_scene(tmp_path / "scene.tif", values(), nodata=np.nan)
    with rioxarray.open_rasterio(path) as scene:
        found = scene.adapteo.predict(run)
    np.testing.assert_array_equal(found.values, expected[0])
    assert found.rio.crs == rasterio.CRS.from_epsg(32632)
    assert found.rio.transform() == PLACE
    found.rio.to_raster(tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        np.testing.assert_array_equal(file.read(1), expected[0])
        assert (file.nodata, file.crs.to_epsg(), file.transform) == (255, 32632, PLACE)
    # Stored integers whose file says scale and nodata, decoded or not.
    stored = np.where(np.isnan(values()), 0, values() * 10_000).astype(np.uint16)
    path = write_scene(tmp_path / "stored.tif", stored, nodata=0)
    with rasterio.open(path, "r+") as file:
        file.scales = (1e-4,) * 3
    maps = []
    for decoded in (True, False):
        with rioxarray.open_rasterio(path, mask_and_scale=decoded) as scene:
            maps.append(scene.adapteo.predict(run).values)
    assert (maps[0] == maps[1]).mean() > 0.999
    np.testing.assert_array_equal(maps[0] == 255, expected[0] == 255)


def test_date_and_place_reach_the_model(run, monkeypatch):
    seen = {}
    logits = type(run).logits

    def spy(self, images, *, dates=None, latlon=None):
        seen.update(dates=dates, latlon=latlon)
        return logits(self, images, dates=dates, latlon=latlon)

    monkeypatch.setattr(type(run), "logits", spy)
    make(values(), time=np.datetime64("2024-02-29", "ns")).adapteo.predict(run)
    np.testing.assert_array_equal(seen["dates"], [[2024, 60]])
    assert seen["latlon"] == pytest.approx([49.651, 9.005], abs=1e-3)
    make(values()).drop_vars("spatial_ref").adapteo.predict(run)
    assert seen == {"dates": None, "latlon": None}


def test_wrong_arrays(run):
    array = make(values())
    with pytest.raises(DataError, match="2 dates, the model takes 1"):
        xr.concat([array, array], "time").adapteo.predict(run)
    with pytest.raises(DataError, match="no dimension 'x'"):
        array.rename(x="across").adapteo.predict(run)
    with pytest.raises(DataError, match="the dimension 'level'"):
        array.expand_dims("level").adapteo.predict(run)
    with pytest.raises(DataError, match="cannot find"):
        array.assign_coords(band=["red", "green", "swir16"]).adapteo.predict(run)
    with pytest.raises(DataError, match="2 are named"):
        array.adapteo.predict(run, bands=["red", "green"])


def test_tasks_without_a_map(tmp_path):
    found = experiment.fit(spell(tmp_path, "train.epochs=1", kind="classification"))
    with pytest.raises(ConfigError, match="draws no map"):
        make(values()).adapteo.predict(found)


def test_regression(tmp_path):
    found = experiment.fit(spell(tmp_path / "run", "train.epochs=1", kind="regression"))
    out = found.predict(write_scene(tmp_path / "scene.tif", values(), nodata=np.nan), tmp_path / "map.tif")
    result = make(values()).adapteo.predict(found)
    with rasterio.open(out) as file:
        np.testing.assert_array_equal(result.values, file.read(1))
    with pytest.raises(ConfigError, match="no probabilities"):
        make(values()).adapteo.predict(found, probabilities=True)


def test_without_xarray_the_extra_is_named():
    code = "import sys; sys.modules['xarray'] = None\nimport adapteo.xarray"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "pip install 'adapteo[xarray]'" in done.stderr

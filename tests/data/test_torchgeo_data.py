"""torchgeo's data sets as ours: a class like torchgeo's stands in, and torchgeo's own where it is installed."""

import dataclasses
import importlib.util
import sys
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
import torch

from adapteo import config, experiment
from adapteo.contracts import IGNORE
from adapteo.data.torchgeo import TorchGeo
from adapteo.errors import ConfigError, DataError
from toy import spell

BANDS = ("B02", "B03", "B04")


class Chips:
    """Like a `torchgeo.datasets.NonGeoDataset` with masks."""

    classes = ("background", "water")
    counts: ClassVar = {"train": 6, "validation": 3, "test": 4}

    def __init__(self, root="data", split="train", bands=BANDS, transforms=None, download=False):
        if root == "nowhere":
            raise FileNotFoundError("\nDataset not found in `root='nowhere'`\nand `download=False`")
        assert split in self.counts, f"no split {split}"
        self.split, self.bands = split, bands

    def __len__(self):
        return self.counts[self.split]

    def arrays(self, index):
        rng = np.random.default_rng([len(self.split), index])
        mask = rng.integers(0, 2, (16, 16))
        image = np.where(mask, 400, 1500) + rng.normal(0, 100, (len(self.bands), 16, 16))
        image[:, 0, 0] = -1
        mask[3, 3] = 9
        return image.astype(np.float32), mask

    def __getitem__(self, index):
        image, mask = self.arrays(index)
        return {"image": torch.from_numpy(image), "mask": torch.from_numpy(mask)}


class Scenes(Chips):
    classes: ClassVar = ["Forest", "Lake"]

    def __getitem__(self, index):
        return {"image": torch.from_numpy(self.arrays(index)[0]), "label": torch.tensor(index % 2)}


class Tags(Chips):
    def __getitem__(self, index):
        image = torch.from_numpy(self.arrays(index)[0])
        return {"image": torch.stack([image, image * 2]), "label": torch.tensor([1, index % 2])}


class Boxes(Chips):
    def __getitem__(self, index):
        return {"image": torch.zeros(3, 4, 4), "boxes": torch.zeros(0, 4)}


class Whole:
    def __init__(self, root="data"):
        pass


@pytest.fixture
def installed(monkeypatch):
    package, datasets = ModuleType("torchgeo"), ModuleType("torchgeo.datasets")
    for each in (Chips, Scenes, Tags, Boxes, Whole):
        setattr(datasets, each.__name__, each)
    package.datasets = datasets
    monkeypatch.setitem(sys.modules, "torchgeo", package)
    monkeypatch.setitem(sys.modules, "torchgeo.datasets", datasets)


def make(source="Chips", **more):
    options = {"sensor": "sentinel2", "scale": 1e-4, "nodata": -1.0, "ignore": 9, "split_names": {"val": "validation"}}
    return TorchGeo("here", source, **(options | more))


def test_masks(installed):
    dataset = make()
    assert (dataset.bands, dataset.classes, dataset.task) == (
        ("blue", "green", "red"), ("background", "water"), "segmentation"
    )  # fmt: skip
    assert [len(dataset.split(name)) for name in ("train", "val", "test")] == [6, 3, 4]
    key = dataset.split("val")[2]
    image, mask = Chips(split="validation").arrays(2)
    sample = dataset.read(key)
    assert sample.image.shape == (1, 3, 16, 16)
    assert sample.image.dtype == np.float32
    assert np.isnan(sample.image[0, :, 0, 0]).all()
    np.testing.assert_allclose(sample.image[0, :, 1:], image[:, 1:] * 1e-4, rtol=1e-6)
    np.testing.assert_array_equal(sample.target, np.where(mask == 9, IGNORE, mask))
    np.testing.assert_array_equal(dataset.read(key, ["red", "blue"]).image, sample.image[:, [2, 0]])


def test_labels(installed):
    dataset = make("Scenes")
    assert (dataset.task, dataset.classes) == ("classification", ("Forest", "Lake"))
    assert [int(dataset.read(key).target) for key in dataset.split("train")] == [0, 1] * 3


def test_several_labels_and_dates(installed):
    dataset = make("Tags")
    assert (dataset.task, dataset.frames) == ("multilabel", 2)
    sample = dataset.read(dataset.split("train")[1])
    np.testing.assert_array_equal(sample.target, np.array([1, 1], np.float32))
    np.testing.assert_allclose(sample.image[1, :, 1:], sample.image[0, :, 1:] * 2, rtol=1e-6)


def test_arguments_choose_bands(installed):
    dataset = make(arguments={"bands": ["B04", "B08"]})
    assert dataset.bands == ("red", "nir")
    assert dataset.read(dataset.split("test")[0]).image.shape[1] == 2
    with pytest.raises(DataError, match="1 bands are named"):
        make(band_names=("red",)).read("train-0000000")


def test_fingerprint_changes_with_what_is_asked(installed):
    prints = {make().fingerprint(), make(scale=1.0).fingerprint(), make(arguments={"bands": ["B02"]}).fingerprint()}
    assert len(prints) == 3
    assert make().fingerprint() in prints


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"source": "Chip"}, ConfigError, "no data set 'Chip'; did you mean 'Chips'"),
        ({"source": "Whole"}, ConfigError, "has no splits"),
        ({"source": "Boxes"}, DataError, "they hold image, boxes"),
        ({"split_names": {"train": "learn"}}, DataError, "cannot be opened for 'train': no split learn"),
        ({"arguments": {"colour": "red"}}, DataError, "unexpected keyword argument 'colour'"),
    ],
)
def test_what_does_not_fit(installed, options, error, message):
    with pytest.raises(error, match=message):
        _ = make(**options).task


def test_files_that_are_not_there(installed):
    with pytest.raises(DataError, match="Dataset not found in") as caught:
        TorchGeo("nowhere", "Chips").split("train")
    assert len(str(caught.value).splitlines()) <= 5
    with pytest.raises(DataError, match="the split 'vall' does not exist"):
        make().split("vall")


def test_without_torchgeo_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchgeo", None)
    monkeypatch.setitem(sys.modules, "torchgeo.datasets", None)
    with pytest.raises(ConfigError, match=r"adapteo\[torchgeo\]"):
        TorchGeo("here").split("train")


def test_a_run_learns_from_it(installed, tmp_path):
    base = spell(tmp_path, "train.epochs=1")
    run = config.load({**vars(base), "dataset": make()})
    assert experiment.fit(run).test().tables["test"].row("all").metrics["miou"][0] > 0
    kept = config.load(tmp_path / "config.yaml").dataset
    assert dataclasses.replace(kept, root="here") == make()


@pytest.mark.skipif(importlib.util.find_spec("torchgeo") is None, reason="torchgeo is not installed")
def test_a_data_set_of_torchgeo_itself(tmp_path):
    """EuroSAT's layout of folders and lists, with chips of our own."""
    import rasterio
    from torchgeo.datasets import EuroSAT

    folder = tmp_path / EuroSAT.base_dir
    for part in ("train", "val", "test"):
        files = [f"{name}_{part}.tif" for name in ("Forest", "River")]
        for file in files:
            path = folder / file.partition("_")[0] / file
            path.parent.mkdir(parents=True, exist_ok=True)
            with rasterio.open(path, "w", driver="GTiff", count=13, height=64, width=64, dtype="uint16",
                               crs="EPSG:32632", transform=rasterio.Affine(10, 0, 0, 0, -10, 0)) as image:  # fmt: skip
                image.write(np.arange(13 * 64 * 64, dtype=np.uint16).reshape(13, 64, 64))
        names = "".join(file.replace(".tif", ".jpg") + "\n" for file in files)
        (tmp_path / f"eurosat-{part}.txt").write_text(names, encoding="utf-8")
    dataset = TorchGeo(str(tmp_path), "EuroSAT", sensor="sentinel2", scale=1e-4)
    sample = dataset.read(dataset.split("train")[0])
    assert sample.image.shape == (1, 13, 64, 64)
    assert (dataset.task, dataset.classes) == ("classification", ("Forest", "River"))
    red = dataset.bands.index("red")
    np.testing.assert_allclose(sample.image[0, red].ravel(), np.arange(3 * 4096, 4 * 4096) * 1e-4, rtol=1e-6)

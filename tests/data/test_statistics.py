"""Statistics of a split: right to the last digits, kept, and found out anew when something changes."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from adapteo.contracts import IGNORE, Dataset, Sample
from adapteo.data.statistics import statistics
from adapteo.errors import DataError

READ = []


@dataclass(frozen=True)
class Made(Dataset):
    """Twelve images from numbers; every read is noted."""

    kind: str = "segmentation"
    factor: float = 1.0

    bands = ("red", "nir", "vv")
    classes = ("a", "b", "c")

    @property
    def task(self):
        return self.kind

    def split(self, name):
        return tuple(f"k{i}" for i in range(12))

    def read(self, key, bands=None):
        READ.append(key)
        i = int(key[1:])
        random = np.random.default_rng(i)
        image = (random.random((2, 3, 6, 5 + i % 2)) * (i + 1) / 20 + 0.05).astype(np.float32) * np.float32(self.factor)
        image[:, 2] = -10 - image[:, 2]
        image[0, :, 0, : i % 4] = np.nan
        target = random.integers(-1, 2, image.shape[-2:]) if self.kind == "segmentation" else np.array(i % 3)
        if self.kind == "multilabel":
            target = np.array([1, i % 2, 0], np.float32)
        positions = [self.bands.index(b) for b in bands or self.bands]
        return Sample(key, image[:, positions], target)

    def fingerprint(self):
        return f"{self.kind} {self.factor}"


@pytest.fixture(autouse=True)
def _nothing_read():
    READ.clear()


def test_mean_and_deviation_equal_numpy_over_all_pixels():
    dataset = Made()
    found = statistics(dataset, dataset.split("train"))
    images = [dataset.read(key).image for key in dataset.split("train")]
    for band in range(3):
        values = np.concatenate([image[:, band].ravel() for image in images]).astype(np.float64)
        assert found.mean[band] == pytest.approx(np.nanmean(values), rel=1e-12)
        assert found.std[band] == pytest.approx(np.nanstd(values), rel=1e-12)
        assert found.pixels[band] == np.isfinite(values).sum()
    assert found.normalisation.source == "dataset"


def test_bands_in_the_order_asked_for():
    dataset = Made()
    every = statistics(dataset, dataset.split("train"))
    some = statistics(dataset, dataset.split("train"), ("vv", "red"))
    assert some.mean == (every.mean[2], every.mean[0])


@pytest.mark.parametrize("kind", ["segmentation", "classification", "multilabel"])
def test_classes_are_counted(kind):
    dataset = Made(kind)
    found = statistics(dataset, dataset.split("train"))
    targets = [dataset.read(key).target for key in dataset.split("train")]
    if kind == "multilabel":
        assert found.classes == (12, 6, 0)
    else:
        flat = np.concatenate([t.ravel() for t in targets])
        assert found.classes == tuple(int((flat == k).sum()) for k in range(3))
        assert (flat == IGNORE).any() == (kind == "segmentation")
    assert sum(found.frequencies) == pytest.approx(1)


def test_they_are_kept_until_something_changes(tmp_path):
    dataset = Made()
    first = statistics(dataset, dataset.split("train"))
    assert len(READ) == 12
    assert statistics(dataset, dataset.split("train")) == first
    assert len(READ) == 12
    statistics(replace(dataset, factor=1.5), dataset.split("train"))
    assert len(READ) == 24
    statistics(dataset, dataset.split("train")[:5])
    assert len(READ) == 29


def test_a_broken_cache_is_made_again(monkeypatch, tmp_path):
    monkeypatch.setenv("ADAPTEO_CACHE", str(tmp_path))
    dataset = Made()
    first = statistics(dataset, dataset.split("train"))
    (file,) = tmp_path.rglob("*.json")
    file.write_text("{")
    assert statistics(dataset, dataset.split("train")) == first
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_number_of_threads_changes_no_digit(monkeypatch, tmp_path):
    dataset = Made()
    one = statistics(dataset, dataset.split("train"), workers=1)
    monkeypatch.setenv("ADAPTEO_CACHE", str(tmp_path))
    assert statistics(dataset, dataset.split("train"), workers=4) == one


@dataclass(frozen=True)
class Blank(Made):
    value: float = np.nan

    def read(self, key, bands=None):
        sample = super().read(key, bands)
        sample.image[:, 1] = self.value
        return sample


def test_a_band_without_data_is_named():
    with pytest.raises(DataError, match="the band nir has no valid pixel in 12"):
        statistics(Blank(), ("k0",) * 12)


def test_a_constant_band_becomes_zero():
    found = statistics(Blank(value=0.5), ("k0", "k1"))
    assert found.std[1] == 0
    assert found.normalisation.std[1] == 1


def test_reflectance_that_was_scaled_twice_is_refused():
    with pytest.raises(DataError, match="too dark for reflectance"):
        statistics(Made(factor=1e-4), ("k0", "k1"))

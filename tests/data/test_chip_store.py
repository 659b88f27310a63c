"""Decoded samples on disk are the samples, bit for bit, and are read from nowhere else."""

import numpy as np
import pytest

from adapteo.contracts import Sample
from adapteo.data._chip_store import ChipStore, chip_shelves
from adapteo.data.loader import Loader, Reading
from toy import Toy


class Stored(Toy):
    """`Toy` as an archive of whole numbers."""

    scale = (1e-4, -0.1)

    def radiometry(self, overview):
        return self.scale

    def read(self, key, bands=None):
        sample = super().read(key, bands)
        numbers = np.rint((sample.image - self.scale[1]) / self.scale[0]).astype(np.int16)
        image = numbers.astype(np.float32)
        image *= self.scale[0]
        image += self.scale[1]
        image[..., 0, :3] = np.nan
        sample.image = image
        sample.dates = np.array([[2021, 200.0]], np.float32)
        sample.latlon = np.array([52.5, np.nan], np.float32)
        return sample


def same(one: Sample, two: Sample) -> None:
    for name in ("image", "target", "dates", "latlon"):
        a, b = getattr(one, name), getattr(two, name)
        assert (a is None) == (b is None)
        if a is not None:
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert a.tobytes() == b.tobytes()
    assert (one.key, one.group) == (two.key, two.group)


@pytest.mark.parametrize("kind", ["segmentation", "classification", "multilabel", "regression"])
@pytest.mark.parametrize(("made", "width"), [(Stored, 2), (Toy, 4)])
def test_samples_come_back_bit_for_bit_in_as_few_bytes_as_they_need(tmp_path, kind, made, width):
    dataset = made(kind=kind)
    first = dataset.read("train-00")
    store = ChipStore(dataset, None, first, chip_shelves(tmp_path, 2**30))
    assert store.get("train-00") is None
    for key in dataset.split("train"):
        store.put(dataset.read(key))
    again = ChipStore(dataset, None, first, chip_shelves(tmp_path, 2**30))
    for key in dataset.split("train"):
        same(again.get(key), dataset.read(key))
    label = {"segmentation": 256, "classification": 1, "multilabel": 12, "regression": 1024}[kind]
    facts = 8 + 8 if made is Stored else 0
    assert store.form.size() == 3 * 256 * width + label + facts


def test_what_has_another_size_or_other_values_is_not_stored(tmp_path):
    dataset = Stored(odd=True)
    store = ChipStore(dataset, None, dataset.read("train-00"), chip_shelves(tmp_path, 2**30))
    for key in ("train-00", "train-01"):
        store.put(dataset.read(key))
    finer = dataset.read("train-02")
    finer.image[0, 0, 5, 5] += 1e-5
    store.put(finer)
    nothing = dataset.read("train-04")
    nothing.target = None
    store.put(nothing)
    assert [store.get(f"train-0{i}") is None for i in (0, 1, 2, 4)] == [False, True, True, True]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_split_larger_than_memory_is_decoded_once_for_all_loaders(workers):
    dataset = Stored()
    reading = Reading(workers, memory=0.0)
    Toy.opened.clear()
    for _ in range(2):
        loader = Loader(dataset, dataset.split("train"), 4, bands=("red", "blue"), reading=reading)
        batches = [list(loader.epoch(number)) for number in range(2)]
    assert len(Toy.opened) == len(dataset.split("train")) + 1, "and the first by each loader, for its form"
    plain = Loader(dataset, dataset.split("train"), 4, bands=("red", "blue"), reading=Reading(0, memory=0.0, disk=0.0))
    for one, two, three in zip(batches[0], batches[1], plain.epoch(0), strict=True):
        for batch in (one, two):
            assert batch.images.numpy().tobytes() == three.images.numpy().tobytes()
            assert batch.target.numpy().tobytes() == three.target.numpy().tobytes()


def test_beyond_the_limit_samples_are_read_each_time():
    dataset = Stored()
    row = 3 * 256 * 2 + 256 + 16
    reading = Reading(0, memory=0.0, disk=(2 * row + 100) / 2**30)
    loader = Loader(dataset, dataset.split("train"), 2, reading=reading)
    list(loader.epoch(0))
    Toy.opened.clear()
    list(loader.epoch(1))
    assert Toy.opened == list(dataset.split("train"))[2:]


def test_another_dataset_or_other_bands_do_not_share(tmp_path):
    shelves = chip_shelves(tmp_path, 2**30)
    first = Stored().read("train-00")
    keys = [
        ChipStore(dataset, bands, first, shelves).shelf.key
        for dataset, bands in ((Stored(), None), (Stored(noise=0.1), None), (Stored(), ("red", "green", "blue")))
    ]
    assert len(set(keys)) == 3

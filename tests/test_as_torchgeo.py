"""Our data sets in torchgeo's form: the same numbers, and batches that torch's loader makes of them."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from adapteo.contracts import IGNORE
from adapteo.errors import DataError
from adapteo.torchgeo import as_torchgeo
from toy import BANDS, CLASSES, Toy


class Patchy(Toy):
    def read(self, key, bands=None):
        sample = super().read(key, bands)
        sample.image[..., 0, 0] = np.nan
        sample.latlon = np.array([50.0, 12.0], np.float32)
        return sample


def test_samples_are_those_of_the_data_set():
    dataset = Patchy()
    chips = as_torchgeo(dataset, "val", missing=-9.0)
    assert len(chips) == len(dataset.split("val"))
    assert (chips.classes, chips.all_bands) == (list(CLASSES), BANDS)
    for key, chip in zip(dataset.split("val"), chips, strict=True):
        sample = dataset.read(key)
        assert chip["key"] == key
        assert (chip["image"][:, 0, 0] == -9).all()
        np.testing.assert_array_equal(chip["image"][:, 1:].numpy(), sample.image[0, :, 1:])
        np.testing.assert_array_equal(chip["mask"].numpy(), sample.target)
        assert chip["mask"].dtype == torch.int64
        assert chip["mask"].min() == IGNORE == -1
        assert chip["latlon"].tolist() == [50.0, 12.0]
        assert "dates" not in chip


@pytest.mark.parametrize(("kind", "name", "dtype"), [
    ("classification", "label", torch.int64), ("multilabel", "label", torch.float32),
    ("regression", "mask", torch.float32),
])  # fmt: skip
def test_every_kind_of_label(kind, name, dtype):
    sample = as_torchgeo(Toy(kind=kind), "train")[0]
    assert sample[name].dtype == dtype
    assert {"mask", "label"} & set(sample) == {name}


def test_batches_and_processes():
    chips = as_torchgeo(Toy(), "train", transforms=lambda sample: {**sample, "image": sample["image"] * 2})
    batch = next(iter(DataLoader(chips, batch_size=2)))
    assert batch["image"].shape == (2, *chips[0]["image"].shape)
    torch.testing.assert_close(batch["image"][1] / 2, as_torchgeo(Toy(), "train")[1]["image"])
    copy = pickle.loads(pickle.dumps(as_torchgeo(Toy(), "train")))
    torch.testing.assert_close(copy[1]["image"], as_torchgeo(Toy(), "train")[1]["image"])


def test_ends():
    chips = as_torchgeo(Toy(), "test")
    with pytest.raises(IndexError):
        chips[len(chips)]

    class Empty(Toy):
        def split(self, name):
            raise DataError(f"the split '{name}' does not exist")

    with pytest.raises(DataError, match="does not exist"):
        as_torchgeo(Empty(), "nothing")

"""Batches: the same whatever the threads, processes and the batch that one starts from."""

import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from adapteo.contracts import IGNORE, Dataset, Sample
from adapteo.data.augment import Augment
from adapteo.data.loader import BLANK, Loader, Reading, collate
from adapteo.errors import DataError

READ = []


@dataclass(frozen=True)
class Made(Dataset):
    """Images whose pixels say which one they are."""

    broken: str = ""
    seconds: float = 0.0

    bands = ("red", "nir")
    classes = ("a", "b")
    task = "segmentation"

    def split(self, name):
        return tuple(f"k{i}" for i in range(11))

    def read(self, key, bands=None):
        READ.append(key)
        time.sleep(self.seconds)
        if key == self.broken:
            raise DataError(f"{key}.tif is damaged")
        image = np.arange(2 * 16, dtype=np.float32).reshape(1, 2, 4, 4) + 100 * int(key[1:])
        return Sample(
            key, image[:, : len(bands or self.bands)], np.ones((4, 4), np.int64), None, None, np.zeros(2, "f4")
        )

    def fingerprint(self):
        return ""


KEYS = Made().split("train")


@pytest.fixture(autouse=True)
def _no_thread_stays():
    READ.clear()
    yield
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("adapteo-read") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "a reading thread is still there"
        time.sleep(0.01)


def seen(batches):
    return [batch.keys for batch in batches]


def test_without_seed_the_order_is_that_of_the_keys():
    loader = Loader(Made(), KEYS, 4)
    batches = list(loader.epoch())
    assert len(batches) == len(loader) == 3
    assert sum(seen(batches), ()) == KEYS
    assert batches[0].images.shape == (4, 1, 2, 4, 4)
    assert batches[0].images.dtype == torch.float32
    assert batches[0].target.dtype == torch.int64
    assert batches[0].latlon.shape == (4, 2)
    assert batches[0].dates is None
    assert batches[0].gsd == 10.0


def test_a_smaller_last_batch_can_be_left_out():
    loader = Loader(Made(), KEYS, 4, shuffle=7, drop_last=True)
    batches = list(loader.epoch())
    assert len(batches) == len(loader) == 2
    assert all(len(batch) == 4 for batch in batches)
    only = Loader(Made(), KEYS, 20, drop_last=True)
    assert [len(batch) for batch in only.epoch()] == [11]  # nothing would be left


def test_each_epoch_is_another_permutation_and_repeats_itself():
    loader = Loader(Made(), KEYS, 4, shuffle=7)
    first, second = (sum(seen(loader.epoch(n)), ()) for n in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second) == sorted(KEYS)
    assert sum(seen(Loader(Made(), KEYS, 4, shuffle=7).epoch(1)), ()) == second


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("memory", [0.0, 1.0])
def test_threads_and_memory_change_nothing(workers, memory):
    def batches(workers, memory):
        reading = Reading(workers=workers, memory=memory, ahead=1)
        loader = Loader(Made(), KEYS, 3, shuffle=0, augment=Augment(zoom=(0.5, 2)), reading=reading)
        return [batch for n in range(2) for batch in loader.epoch(n)]

    for a, b in zip(batches(workers, memory), batches(0, 0.0), strict=True):
        assert a.keys == b.keys
        torch.testing.assert_close(a.images, b.images, rtol=0, atol=0, equal_nan=True)


def test_turned_images_lie_in_a_batch_as_others_do():
    """In the usual order of memory, by which kernels round: else a batch of one image would depend on its turn."""
    batches = [batch for n in range(8) for batch in Loader(Made(), KEYS, 1, shuffle=0, augment=Augment()).epoch(n)]
    assert all(batch.images.is_contiguous() and batch.target.is_contiguous() for batch in batches)
    looks = {tuple((batch.images[0, 0, 0].flatten() - 100 * int(batch.keys[0][1:])).tolist()) for batch in batches}
    assert len(looks) == 8


def test_an_epoch_can_be_entered_at_any_batch():
    loader = Loader(Made(), KEYS, 3, shuffle=3, augment=Augment())
    whole = list(loader.epoch(5))
    for start in range(len(loader) + 1):
        part = list(Loader(Made(), KEYS, 3, shuffle=3, augment=Augment()).epoch(5, start))
        assert seen(part) == seen(whole[start:])
        assert all(torch.equal(a.images, b.images) for a, b in zip(part, whole[start:], strict=True))


@pytest.mark.parametrize("world", [2, 3])
def test_processes_divide_each_batch(world):
    whole = list(Loader(Made(), KEYS, 6, shuffle=1, augment=Augment()).epoch(2))
    ranks = [
        list(Loader(Made(), KEYS, 6, shuffle=1, augment=Augment(), part=(rank, world)).epoch(2))
        for rank in range(world)
    ]
    for number, batch in enumerate(whole):
        for rank in range(world):
            assert ranks[rank][number].keys == batch.keys[rank::world]
            assert torch.equal(ranks[rank][number].images, batch.images[rank::world])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_process_without_a_sample_in_the_last_batch_gets_a_blank(workers):
    assert [len(Loader(Made(), KEYS, 5, part=(0, world))) for world in (1, 2, 5)] == [3, 3, 3]
    ranks = [list(Loader(Made(), KEYS, 5, part=(r, 3), reading=Reading(workers)).epoch()) for r in range(3)]
    assert [[batch.keys for batch in rank][-1] for rank in ranks] == [("k10",), (BLANK,), (BLANK,)]
    blank, seen = ranks[1][-1], ranks[0][-1]
    assert torch.equal(blank.images, seen.images)
    assert (blank.target == IGNORE).all()
    assert not (seen.target == IGNORE).any(), "the kept sample is not changed"


def test_what_fits_is_read_once():
    for _ in range(2):
        loader = Loader(Made(), KEYS, 4, reading=Reading(memory=1e-4))
        READ.clear()
        for number in range(3):
            list(loader.epoch(number))
        assert sorted(READ) == sorted(KEYS)
    loader = Loader(Made(), KEYS, 4, reading=Reading(memory=1e-6, disk=0.0))
    READ.clear()
    for number in range(3):
        list(loader.epoch(number))
    assert len(READ) == 33


def test_the_memory_can_be_set_from_outside(monkeypatch):
    monkeypatch.setenv("ADAPTEO_MEMORY", "0.5")
    assert Reading().budget == 2**29
    assert Reading(memory=2).budget == 2**31


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_out_as_it_was_and_where_it_belongs(workers):
    loader = Loader(Made(broken="k5"), KEYS, 4, reading=Reading(workers=workers))
    batches = loader.epoch()
    assert next(batches).keys == KEYS[:4]
    with pytest.raises(DataError, match=r"k5.tif is damaged"):
        next(batches)


def test_leaving_early_leaves_no_thread_and_reads_little():
    loader = Loader(Made(seconds=0.01), KEYS * 20, 2, reading=Reading(workers=2, ahead=2, memory=0, disk=0))
    batches = loader.epoch()
    next(batches)
    batches.close()
    time.sleep(0.05)
    assert len(READ) <= 10


def test_an_interrupt_in_the_consumer_ends_reading():
    def consume():
        for _ in Loader(Made(seconds=0.01), KEYS, 1).epoch():
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        consume()
    assert time.monotonic() - began < 2


def test_waiting_is_counted():
    slow = Loader(Made(seconds=0.02), KEYS, 4, reading=Reading(workers=1))
    list(slow.epoch())
    assert 0.1 < slow.waited < 5
    ahead = Loader(Made(seconds=0.005), KEYS, 4, reading=Reading(workers=2))
    for _ in ahead.epoch():
        time.sleep(0.15)
    assert ahead.waited < 0.25


def test_it_refuses_nonsense():
    with pytest.raises(ValueError, match="needs the seed"):
        Loader(Made(), KEYS, 4, augment=Augment())
    with pytest.raises(ValueError, match="below world"):
        Loader(Made(), KEYS, 4, part=(2, 2))


# ------------------------------------------------------------------------------------------- collate


def test_smaller_images_are_padded_with_missing():
    samples = [
        Sample("a", np.zeros((1, 2, 4, 6), np.float32), np.zeros((4, 6), np.int64)),
        Sample("b", np.ones((1, 2, 5, 3), np.float32), np.ones((5, 3), np.int64)),
    ]
    batch = collate(samples)
    assert batch.images.shape == (2, 1, 2, 5, 6)
    assert batch.images[1, ..., :5, :3].eq(1).all()
    assert batch.images[1].isnan().sum() == 2 * (30 - 15)
    assert (batch.target[1] == IGNORE).sum() == 30 - 15
    heights = [Sample(s.key, s.image, s.target.astype(np.float32)) for s in samples]
    assert collate(heights).target[1].isnan().sum() == 15


def test_one_label_per_image_becomes_a_vector():
    image = np.zeros((1, 1, 2, 2), np.float32)
    assert collate([Sample("a", image, np.array(1)), Sample("b", image, np.array(0))]).target.tolist() == [1, 0]
    several = [Sample(k, image, np.array([1, 0, 1], np.float32)) for k in "ab"]
    assert collate(several).target.shape == (2, 3)


def test_what_does_not_fit_together_is_named():
    one = Sample("a", np.zeros((1, 2, 4, 4), np.float32), np.array(1))
    with pytest.raises(DataError, match="'b' has 1 dates x 3 bands, 'a' has 1 x 2"):
        collate([one, Sample("b", np.zeros((1, 3, 4, 4), np.float32), np.array(1))])
    with pytest.raises(DataError, match="'b' has no label"):
        collate([one, Sample("b", one.image)])

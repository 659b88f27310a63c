"""From keys to batches: read ahead by threads, the same batches whatever the number of threads and processes.

    order = permutation(seed, epoch) ──▶ global batches ──▶ this process's items ──▶ read, augment ──▶ collate

Nothing depends on what was read before, so an epoch can be entered at any batch. GDAL and JPEG decoding release the
interpreter lock, so threads are enough and images need not be copied between processes.
"""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from threading import Event, Lock
from typing import Protocol

import numpy as np
import torch

from adapteo.contracts import IGNORE, Batch, Dataset, Sample
from adapteo.data._cache import cache_folder
from adapteo.data._chip_store import ChipStore, chip_shelves
from adapteo.data.augment import Augment
from adapteo.errors import DataError
from adapteo.shelf import Shelves

BLANK = ""
"""Key of what a process gets when a last batch has fewer samples than there are processes: an image without labels,
so that the process takes part in the step and adds nothing."""
_GIB = 2**30


@dataclass(frozen=True)
class Reading:
    """How to read; none of it changes what is read.

    Attributes:
        workers: threads; 0 reads when asked.
        ahead: batches that are prepared in advance.
        memory: GiB for decoded samples; a split that fits is read once. None for ``$ADAPTEO_MEMORY`` or 1.
        disk: GiB in the cache folder for decoded samples of splits that do not fit into memory; those that were not
            used for the longest time make room. None for ``$ADAPTEO_DISK`` or 10; 0 for none.
    """

    workers: int = 2
    ahead: int = 2
    memory: float | None = None
    disk: float | None = None

    @property
    def shelves(self) -> Shelves | None:
        """Where decoded samples are kept on disk."""
        given = float(os.environ.get("ADAPTEO_DISK", "10")) if self.disk is None else self.disk
        return chip_shelves(cache_folder(), given * _GIB) if given > 0 else None

    @property
    def budget(self) -> float:
        """Bytes for decoded samples."""
        given = float(os.environ.get("ADAPTEO_MEMORY", "1")) if self.memory is None else self.memory
        return given * _GIB


class Batches(Protocol):
    """What a training needs of a `Loader`.

    Attributes:
        waited: as of `Loader`.
    """

    waited: float

    def __len__(self) -> int:
        """Batches per epoch."""

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yield them from batch ``start`` on."""


class Loader:
    """Batches of a split, epoch after epoch.

    Attributes:
        waited: seconds that the consumer has waited for data since the loader was made.
    """

    def __init__(  # noqa: PLR0913  # all but three by name
        self,
        dataset: Dataset,
        keys: Sequence[str],
        batch: int,
        *,
        bands: Sequence[str] | None = None,
        shuffle: int | None = None,
        weights: np.ndarray | None = None,
        augment: Augment | None = None,
        part: tuple[int, int] = (0, 1),
        reading: Reading | None = None,
        drop_last: bool = False,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            dataset: labelled images.
            keys: of the samples.
            batch: samples per batch over all processes.
            bands: which, in which order; None for all.
            shuffle: seed of order and augmentation; None for the order of the keys and no augmentation.
            weights: how often each sample is seen, relative to the others; None for once per epoch. Needs `shuffle`.
            augment: what may happen to a sample; needs `shuffle`. One that is seen twice in an epoch looks the same.
            part: (rank, world): of n processes that divide each batch, this is the rank-th.
            reading: threads and memory.
            drop_last: leave out a last batch that is smaller than the others, unless it is the only one.
        """
        if augment is not None and shuffle is None:
            raise ValueError("augmentation needs the seed `shuffle`")
        if weights is not None and shuffle is None:
            raise ValueError("weights need the seed `shuffle`")
        if weights is not None and (len(weights) != len(keys) or np.min(weights) < 0 or not np.sum(weights) > 0):
            raise ValueError("weights must be one number per key, none below 0 and not all 0")
        if batch < 1 or not 0 <= part[0] < part[1]:
            raise ValueError(f"batch {batch} must be 1 or more, and rank {part[0]} below world {part[1]}")
        self.dataset, self.keys, self.batch = dataset, tuple(keys), batch
        self.bands = None if bands is None else tuple(bands)
        self.shuffle, self.augment, self.part, self.weights = shuffle, augment, part, weights
        self.reading, self.drop_last = reading or Reading(), drop_last
        self.waited = 0.0
        self._kept: dict[int, Sample] = {}
        self._keep: bool | None = None  # not known before the first sample
        self._chips: ChipStore | None = None
        self._deciding = Lock()

    def __len__(self) -> int:
        """Batches per epoch, the same for every process; the last one may be smaller."""
        full = len(self.keys) // self.batch
        return full if self.drop_last and full else -(-len(self.keys) // self.batch)

    def order(self, epoch: int) -> np.ndarray:
        """Positions of the keys in the order of an epoch, over all processes.

        With weights there are as many, but some more than once and others not at all: a sample that should be seen
        2.3 times is seen twice or three times.
        """
        if self.shuffle is None:
            return np.arange(len(self.keys))
        random = np.random.default_rng([self.shuffle, epoch])
        if self.weights is None:
            return random.permutation(len(self.keys))
        # Systematic sampling, from a random order so that neighbours are not drawn in place of each other.
        mixed = random.permutation(len(self.keys))
        until = np.cumsum(self.weights[mixed] / self.weights.sum()) * len(self.keys)
        drawn = np.searchsorted(until, np.arange(len(self.keys)) + random.random(), side="right")
        return random.permutation(mixed[np.minimum(drawn, len(self.keys) - 1)])

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yield this process's share of each batch of an epoch, from batch ``start`` on.

        Raises:
            DataError: as `Dataset.read` raised it in a thread, at the batch that it belongs to.
        """
        order = self.order(number)
        shares = (self._share(order, index) for index in range(start, len(self)))
        if self.reading.workers == 0:
            for share in shares:
                began = time.perf_counter()
                batch = self._batch(self._samples(share, number, Event()), share, number)
                self.waited += time.perf_counter() - began
                yield batch
            return
        pool, stop = ThreadPoolExecutor(self.reading.workers, "adapteo-read"), Event()
        try:
            waiting: deque[tuple[np.ndarray, list[Future[list[Sample]]]]] = deque()
            while True:
                began = time.perf_counter()
                for share in islice(shares, max(0, self.reading.ahead + 1 - len(waiting))):
                    pieces = np.array_split(share, min(self.reading.workers, len(share)))
                    waiting.append((share, [pool.submit(self._samples, piece, number, stop) for piece in pieces]))
                if not waiting:
                    return
                share, futures = waiting.popleft()
                batch = self._batch([s for future in futures for s in future.result()], share, number)
                self.waited += time.perf_counter() - began
                yield batch
        finally:  # also when the consumer stops early, fails or is interrupted: only samples under way are finished
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _batch(self, samples: list[Sample], share: np.ndarray, epoch: int) -> Batch:
        """Make a batch of the samples at the positions of ``share``, on the thread of the consumer."""
        return collate(samples, self.dataset.gsd)

    def _share(self, order: np.ndarray, index: int) -> np.ndarray:
        """Positions that this process reads of a batch; -1 - p for a blank of the size of p."""
        batch, (rank, world) = order[index * self.batch : (index + 1) * self.batch], self.part
        return batch[rank::world] if rank < len(batch) else -1 - batch[:1]

    def _samples(self, positions: np.ndarray, epoch: int, stop: Event) -> list[Sample]:
        return [
            self._sample(int(position), epoch) if position >= 0 else _blank(self._sample(-1 - int(position), epoch))
            for position in positions
            if not stop.is_set()
        ]

    def _sample(self, position: int, epoch: int) -> Sample:
        sample = self._kept.get(position)
        if sample is None:
            sample = self._decoded(self.keys[position])
            if self._keep:
                self._kept[position] = sample
        if self.augment is None or self.shuffle is None:
            return sample
        return self.augment(sample, self.shuffle, epoch, position)

    def _decoded(self, key: str) -> Sample:
        """Read a sample, from the disk's store where it is there."""
        with self._deciding:
            if self._keep is None:
                return self._first(key)
        stored = None if self._chips is None else self._chips.get(key)
        if stored is not None:
            return stored
        sample = self.dataset.read(key, self.bands)
        if self._chips is not None:
            self._chips.put(sample)
        return sample

    def _first(self, key: str) -> Sample:
        """Read a sample that decides where all are kept."""
        sample, shelves = self.dataset.read(key, self.bands), self.reading.shelves
        keep = _bytes(sample) * len(self.keys) <= self.reading.budget
        if not keep and shelves is not None:
            self._chips = ChipStore(self.dataset, self.bands, sample, shelves)
            self._chips.put(sample)
        self._keep = keep
        return sample


def collate(samples: Sequence[Sample], gsd: float = 10.0) -> Batch:
    """Stack samples. Smaller images are padded below and to the right with missing pixels and ignored labels.

    Raises:
        DataError: samples differ in frames or bands, or only some have a label, date or place.
    """
    shapes = {sample.image.shape[:2] for sample in samples}
    if len(shapes) > 1:
        first, other = samples[0], next(s for s in samples if s.image.shape[:2] != samples[0].image.shape[:2])
        raise DataError(
            f"'{other.key}' has {other.image.shape[0]} dates x {other.image.shape[1]} bands, "
            f"'{first.key}' has {first.image.shape[0]} x {first.image.shape[1]}"
        )
    size = np.max([sample.image.shape[-2:] for sample in samples], axis=0)
    return Batch(
        _joined([_padded(sample.image, size) for sample in samples]),
        _stack([_padded_target(sample.target, size) for sample in samples], samples, "label"),
        _stack([sample.dates for sample in samples], samples, "date"),
        _stack([sample.latlon for sample in samples], samples, "place"),
        gsd,
        tuple(sample.key for sample in samples),
    )


def _blank(sample: Sample) -> Sample:
    """The same image with all of its label ignored."""
    target = sample.target
    if target is not None:
        target = np.full_like(target, IGNORE if target.dtype.kind == "i" else np.nan)
    return replace(sample, key=BLANK, target=target)


def _padded(array: np.ndarray, size: np.ndarray) -> np.ndarray:
    if array.shape[-2:] == tuple(size):
        return array
    out = np.full((*array.shape[:-2], *size), IGNORE if array.dtype.kind == "i" else np.nan, array.dtype)
    out[..., : array.shape[-2], : array.shape[-1]] = array
    return out


def _padded_target(target: np.ndarray | None, size: np.ndarray) -> np.ndarray | None:
    return target if target is None or target.ndim < 2 else _padded(target, size)


def _stack(arrays: Sequence[np.ndarray | None], samples: Sequence[Sample], what: str) -> torch.Tensor | None:
    """Stack what all samples have, or give None when none has it."""
    lacking = [sample.key for sample, array in zip(samples, arrays, strict=True) if array is None]
    if len(lacking) == len(samples):
        return None
    if lacking:
        raise DataError(f"'{lacking[0]}' has no {what}, other samples of the batch have one")
    return _joined([array for array in arrays if array is not None])


def _joined(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    """Stack arrays, which may be turned views, in the usual order of memory; numpy would keep that of the views."""
    out = np.empty((len(arrays), *arrays[0].shape), arrays[0].dtype)
    return torch.from_numpy(np.stack(arrays, out=out))


def _bytes(sample: Sample) -> int:
    arrays = (sample.image, sample.target, sample.dates, sample.latlon)
    return sum(array.nbytes for array in arrays if array is not None)

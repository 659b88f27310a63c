"""Mean and standard deviation of each band, and how often each class occurs, over the training split; found out once.

    mean, M2 of two sets:  n = n1 + n2,  d = mean2 - mean1,  mean = mean1 + d n2 / n,  M2 = M2_1 + M2_2 + d^2 n1 n2 / n

(Chan, Golub and LeVeque 1983, doi:10.1080/00031305.1983.10483115), in float64; missing pixels do not count.
"""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from adapteo.bands import BY_NAME
from adapteo.contracts import Dataset, Normalisation, Sample
from adapteo.data._cache import cache_folder
from adapteo.errors import DataError
from adapteo.files import replacing

_VERSION = 1  # of the cached file
_CHUNK = 32  # samples in memory at a time


@dataclass(frozen=True)
class Statistics:
    """Of some samples of a dataset.

    Attributes:
        bands: canonical names.
        mean, std: one value per band, in physical units; the standard deviation is that of the population.
        pixels: valid pixels per band.
        classes: how often each class occurs: pixels, or samples where a sample has one label; empty for regression.
        samples: how many were read.
    """

    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixels: tuple[int, ...]
    classes: tuple[int, ...]
    samples: int

    @property
    def normalisation(self) -> Normalisation:
        """Z-score with these values; a band that is constant becomes 0."""
        return Normalisation(self.mean, tuple(std if std > 0 else 1.0 for std in self.std), "dataset")

    @property
    def frequencies(self) -> tuple[float, ...]:
        """Share of each class."""
        total = max(1, sum(self.classes))
        return tuple(count / total for count in self.classes)


def statistics(
    dataset: Dataset, keys: Sequence[str], bands: Sequence[str] | None = None, workers: int = 2
) -> Statistics:
    """Return the statistics of some samples, from the cache when nothing has changed.

    Args:
        dataset: labelled images.
        keys: of the samples, usually ``dataset.split("train")``.
        bands: which, in which order; None for all.
        workers: threads that read.

    Raises:
        DataError: a file cannot be read, a band has no valid pixel, or values are too small to be reflectance.
    """
    names = tuple(bands) if bands is not None else dataset.bands
    path = cache_folder() / "statistics" / f"{_digest(dataset, keys, names)}.json"
    found = _load(path)
    if found is None:
        found = _compute(dataset, keys, names, workers)
        with replacing(path) as beside:
            beside.write_text(json.dumps(asdict(found)), encoding="utf-8")
    _check(found, dataset)
    return found


def _digest(dataset: Dataset, keys: Sequence[str], bands: Sequence[str]) -> str:
    content = [_VERSION, dataset.fingerprint(), list(keys), list(bands)]
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def _load(path: Path) -> Statistics | None:
    """Read a cached file; one that is broken or of another version is made again."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        bands, mean, std, pixels, classes = (tuple(fields[n]) for n in ("bands", "mean", "std", "pixels", "classes"))
        return Statistics(bands, mean, std, pixels, classes, int(fields["samples"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _compute(dataset: Dataset, keys: Sequence[str], bands: tuple[str, ...], workers: int) -> Statistics:
    moments = _Moments(len(bands))
    classes = np.zeros(len(dataset.classes), np.int64)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        try:
            for start in range(0, len(keys), _CHUNK):
                # In the order of the keys, so that the last digit does not depend on which thread was first.
                for sample in pool.map(lambda key: dataset.read(key, bands), keys[start : start + _CHUNK]):
                    moments.add(sample.image)
                    classes += _count_classes(sample, len(classes))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    std = np.sqrt(moments.m2 / np.maximum(moments.count, 1))
    return Statistics(
        bands,
        tuple(moments.mean.tolist()),
        tuple(std.tolist()),
        tuple(moments.count.tolist()),
        tuple(classes.tolist()),
        len(keys),
    )


class _Moments:
    """Running count, mean and sum of squared deviations per band."""

    def __init__(self, bands: int) -> None:
        self.count = np.zeros(bands, np.int64)
        self.mean = np.zeros(bands)
        self.m2 = np.zeros(bands)

    def add(self, image: np.ndarray) -> None:
        """Take in an image ``(t, c, h, w)``."""
        values = image.swapaxes(0, 1).reshape(image.shape[1], -1).astype(np.float64)
        valid = np.isfinite(values)
        count = valid.sum(1)
        mean = np.where(valid, values, 0).sum(1) / np.maximum(count, 1)
        m2 = (np.where(valid, values - mean[:, None], 0) ** 2).sum(1)
        total = np.maximum(self.count + count, 1)
        delta = mean - self.mean
        self.mean += delta * count / total
        self.m2 += m2 + delta**2 * self.count * count / total
        self.count += count


def _count_classes(sample: Sample, classes: int) -> np.ndarray:
    target = sample.target
    if target is None or not classes:
        return np.zeros(classes, np.int64)
    if target.dtype.kind == "f":  # multi-label
        return target.astype(np.int64)
    return np.bincount(target[target >= 0].ravel(), minlength=classes)


def _check(found: Statistics, dataset: Dataset) -> None:
    """Refuse what would train without a word and to no end."""
    for name, count in zip(found.bands, found.pixels, strict=True):
        if not count:
            raise DataError(
                f"the band {name} has no valid pixel in {found.samples} training images",
                fix="check the dataset's `nodata` and `scale`, or leave the band out",
            )
    optical = [m for m, name in zip(found.mean, found.bands, strict=True) if BY_NAME[name].kind == "optical"]
    if optical and 0 < max(map(abs, optical)) < 1e-3:
        raise DataError(
            f"the brightest band has a mean of {max(optical):.2g}, too dark for reflectance (0 to 1)",
            fix="is `scale` applied to values that are reflectance already? set `scale: 1`",
        )

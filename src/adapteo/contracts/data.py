"""What is measured: samples, batches, labelled datasets, and the statistics that normalise them.

No torch is imported here: whoever only looks at scenes and labels (`adapteo init`, `adapteo check`) does without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_TENSORS = ("images", "target", "dates", "latlon")


@dataclass
class Sample:
    """One image with its label, as a dataset reads it (NumPy, no torch, no normalisation).

    Attributes:
        key: unique, stable name, e.g. the file stem; written in reports.
        image: ``(t, c, h, w)`` float32 in physical units, NaN where nothing was observed.
        target: segmentation ``(h, w)`` int64 with `IGNORE`; classification int64 scalar; multi-label ``(k,)`` float32;
            regression ``(h, w)`` float32 with NaN; None when there is no label.
        group: region or event, for tables by group.
        dates: ``(t, 2)`` float32 of year and day of year (1..366), NaN when unknown.
        latlon: ``(2,)`` float32 of latitude and longitude in degrees, NaN when unknown.
    """

    key: str
    image: np.ndarray
    target: np.ndarray | None = None
    group: str | None = None
    dates: np.ndarray | None = None
    latlon: np.ndarray | None = None


@dataclass
class Batch:
    """What a backbone and a task see.

    Attributes:
        images: ``(b, t, c, h, w)`` float32, NaN where missing until `Normalisation` has run.
        target: stacked targets of the samples (see `Sample`), or None.
        dates: ``(b, t, 2)`` year and day of year, NaN when unknown.
        latlon: ``(b, 2)`` degrees, NaN when unknown.
        gsd: ground sample distance in metres.
        keys: sample keys, for reports.
        stored: what a frozen part of the backbone made of the images, read from a cache; None to compute it. With it
            the images have their size, but no dates and bands: ``(b, 0, 0, h, w)``.
    """

    images: "Tensor"
    target: "Tensor | None" = None
    dates: "Tensor | None" = None
    latlon: "Tensor | None" = None
    gsd: float = 10.0
    keys: tuple[str, ...] = ()
    stored: "tuple[Tensor, ...] | None" = None

    def to(self, device: "torch.device | str") -> "Batch":
        """Move every tensor to a device."""
        having = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {name: having[name].to(device, non_blocking=True) for name in _TENSORS if having[name] is not None}
        if self.stored is not None:
            moved["stored"] = tuple(values.to(device, non_blocking=True) for values in self.stored)
        return Batch(**having | moved)

    def with_images(self, images: "Tensor") -> "Batch":
        """Return the same batch with other images."""
        return replace(self, images=images)

    def __len__(self) -> int:
        return len(self.images)


class Dataset(ABC):
    """Labelled images: owns bands, scale, classes, ignore value and splits. Concrete ones are frozen dataclasses.

    Everything here is cheap except `read`; nothing needs torch.
    """

    @property
    @abstractmethod
    def bands(self) -> tuple[str, ...]:
        """Canonical names (`adapteo.bands`) of the channels of `Sample.image`, in order."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Class names; empty for regression."""

    @property
    @abstractmethod
    def task(self) -> str:
        """Key of the task that fits the labels: "segmentation", "classification", "multilabel" or "regression"."""

    @abstractmethod
    def split(self, name: str) -> Sequence[str]:
        """Keys of the samples of "train", "val", "test" or a hold-out (see `holdouts`).

        Raises:
            DataError: when the split is empty, or shares samples with another one.
        """

    @property
    def holdouts(self) -> tuple[str, ...]:
        """Names of further test splits in places that the training has not seen."""
        return ()

    @abstractmethod
    def read(self, key: str, bands: Sequence[str] | None = None) -> Sample:
        """Read one sample; thread-safe.

        Args:
            key: as in `split`.
            bands: the bands wanted, in this order (a subset of `bands`); None for all. Only these are read from disk.

        Raises:
            DataError: names the file that is missing, corrupt or does not fit.
        """

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the data before the training, one line each."""
        return ()

    @property
    def frames(self) -> int:
        """Number of dates per sample."""
        return 1

    @property
    def gsd(self) -> float:
        """Ground sample distance in metres."""
        return 10.0

    @property
    def colours(self) -> Mapping[int, tuple[int, int, int]] | None:
        """RGB (0..255) by class index, or None for a default palette."""
        return None

    def group(self, key: str) -> str | None:
        """Region or event of a sample, for tables by group; cheap, reads no image."""
        return None

    @property
    def split_note(self) -> str | None:
        """What the reader of a test table has to know of how the samples were divided."""
        return None

    def by_chance(self) -> "Dataset | None":
        """The same samples divided by chance, as many in each part; None where that would be no other split."""
        return None

    def weights(self, keys: Sequence[str]) -> np.ndarray | None:
        """How often each of these training samples is to be seen, relative to the others; None for equally often."""
        return None

    def radiometry(self, overview: np.ndarray) -> tuple[float, float]:
        """Scale and offset that turn the stored numbers of a new scene into physical units.

        Args:
            overview: ``(c, h, w)`` pieces of the scene, for datasets that look at the values to decide.
        """
        return 1.0, 0.0

    def published_statistics(self, bands: Sequence[str]) -> "Normalisation | None":
        """Mean and standard deviation that the dataset was published with, for some of its bands, in physical units.

        None (the default) when there are none; they are then computed from the training split.
        """
        return None

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash that changes when files, bands or scale change; key of cached statistics."""


@dataclass(frozen=True)
class Normalisation:
    """Per-band z-score, the last thing that happens to an image before the backbone.

    Attributes:
        mean, std: one value per band, in the physical units of `adapteo.bands`.
        source: "pretraining", "dataset" or "given"; recorded, because the choice changes results.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str = "pretraining"

    def __call__(self, images: "Tensor") -> "Tensor":
        """Normalise ``(b, t, c, h, w)``; missing values become 0, the mean of their band."""
        mean = images.new_tensor(self.mean).view(1, 1, -1, 1, 1)
        std = images.new_tensor(self.std).view(1, 1, -1, 1, 1)
        return ((images - mean) / std).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)

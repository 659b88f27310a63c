"""Our data sets for torchgeo's trainers, or any other that takes samples as dictionaries of tensors.

chips = as_torchgeo(adapteo.config.load("flood.yaml").dataset, "train")
chips[0]["image"], chips[0]["mask"]

torchgeo itself is not needed. The other way round, a data set of torchgeo as one of ours, is ``name: torchgeo``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from adapteo.contracts import Dataset

__all__ = ["ForTorchGeo", "as_torchgeo"]
Transform = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class ForTorchGeo(TorchDataset[dict[str, Any]]):
    """One split of a data set in the form of a ``torchgeo.datasets.NonGeoDataset``.

    A sample holds ``image`` (c, h, w) float32, or (t, c, h, w) of several dates; ``mask`` (h, w) int64 with -1 where
    nothing is to be learned (give the loss ``ignore_index=-1``), float32 for a regression; or ``label``, int64 or
    float32 of 0 and 1 for each class; ``key``; and where they are known ``dates`` (t, 2) of year and day of year and
    ``latlon`` (2) in degrees.

    Attributes:
        dataset: ours.
        keys: of the split.
        missing: stands for missing values in images, which are NaN here and which torchgeo's models do not expect.
        transforms: called with each sample.
    """

    dataset: Dataset
    keys: tuple[str, ...]
    missing: float = 0.0
    transforms: Transform | None = None

    @property
    def classes(self) -> list[str]:
        """Class names, as torchgeo has them."""
        return list(self.dataset.classes)

    @property
    def all_bands(self) -> tuple[str, ...]:
        """Canonical names of the channels."""
        return self.dataset.bands

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read one sample.

        Raises:
            IndexError: there are not so many.
        """
        found = self.dataset.read(self.keys[index])
        image = torch.from_numpy(np.where(np.isnan(found.image), np.float32(self.missing), found.image))
        sample: dict[str, Any] = {"image": image[0] if len(image) == 1 else image, "key": found.key}
        if found.target is not None:
            dense = found.target.ndim == 2
            sample["mask" if dense else "label"] = _tensor(found.target)
        sample |= {name: _tensor(value) for name, value in (("dates", found.dates), ("latlon", found.latlon))
                   if value is not None}  # fmt: skip
        return self.transforms(sample) if self.transforms else sample


def as_torchgeo(
    dataset: Dataset, split: str, *, missing: float = 0.0, transforms: Transform | None = None
) -> ForTorchGeo:
    """Give a split of one of our data sets the form of torchgeo's.

    Args:
        dataset: ours.
        split: "train", "val", "test" or a hold-out.
        missing: see `ForTorchGeo`.
        transforms: see `ForTorchGeo`.

    Raises:
        DataError: there is no such split.
    """
    return ForTorchGeo(dataset, tuple(dataset.split(split)), missing, transforms)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))

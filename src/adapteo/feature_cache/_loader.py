"""Batches with stored features in place of images; what is missing is computed on the way, and stored."""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapteo.contracts import Batch, Sample
from adapteo.data.augment import dihedral
from adapteo.data.loader import Loader, collate
from adapteo.errors import DataError
from adapteo.feature_cache._codes import CODES, Code
from adapteo.model import Boundary, Model, blank
from adapteo.shelf import NAME, Shelf, Shelves

_FORMAT = "2"


@dataclass(frozen=True)
class Source:
    """Where features come from: everything they depend on beside the image and its orientation.

    Attributes:
        model: its backbone up to the boundary makes them.
        boundary: up to where.
        size: of the images, height and width.
        identity: in words: the backbone's configuration, the dataset's fingerprint, the precision.
        pooled: keep the mean of a map over the image instead, for labels per image; a network beside the trunk reads
            the whole one all the same.
    """

    model: Model
    boundary: Boundary
    size: tuple[int, int]
    identity: str
    pooled: bool = False

    def compute(self, batch: Batch) -> tuple[Tensor, ...]:
        """What is stored of images in physical units, on the model's device."""
        device = next(self.model.parameters()).device
        stored = self.boundary.reach(self.model, batch.to(device))
        return tuple(self._pool(values, kind) for values, kind in zip(stored, self.kinds(), strict=True))

    def kinds(self) -> list[str]:
        """Name of each array that `compute` gives: "map 3", or "block 9" for what that block sees."""
        boundary = self.boundary
        return [f"map {index}" for index in boundary.maps] + [f"block {index}" for index in boundary.seen]

    def _pool(self, values: Tensor, kind: str) -> Tensor:
        return values.mean((2, 3), keepdim=True) if self._pools(kind) else values

    def _pools(self, kind: str) -> bool:
        return self.pooled and self.boundary.side is None and kind.startswith("map")

    def shelves(self, shelves: Shelves, code: str) -> list[tuple[Shelf, Code, torch.Size]]:
        """A shelf for each array, with how and in which shape its rows are stored.

        Image means are small, and always stored as they are. A map depends on the blocks before it only, so it is
        shared by methods that train other blocks or networks beside them, and by decoders that read other maps.
        """
        shapes = [values.shape[1:] for values in self.compute(blank(self.model, self.size))]
        digests = _digests(self.model, self.boundary.block)
        found = []
        for kind, shape in zip(self.kinds(), shapes, strict=True):
            name = "float32" if self._pools(kind) else code
            block = int(kind.split()[1])
            taps = self.model.backbone.taps
            depth = taps[block] + 1 if kind.startswith("map") else block
            last = kind.startswith("map") and depth == self.boundary.blocks  # behind the norm: the digest of the whole
            made = (kind.split()[0], depth, digests[-1 if last else depth], self._pools(kind), name, tuple(shape))
            normalisation = (self.model.normalisation.mean, self.model.normalisation.std)
            facts = (_FORMAT, made, self.size, normalisation, self.identity)
            key = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
            about = {
                "what": f"{kind} of {type(self.model.backbone).__name__}, {'x'.join(map(str, self.size))} pixels",
                "shape": list(shape), "stored_as": name, "error": CODES[name].error, "source": self.identity,
            }  # fmt: skip
            found.append((Shelf(shelves, key, CODES[name].size(shape), about), CODES[name], shape))
        return found


class FeatureLoader(Loader):
    """Batches of a loader with ``stored`` features; labels are read once and kept in memory.

    A batch with images of another size than the source's comes as it is.
    """

    def __init__(
        self,
        loader: Loader,
        source: Source,
        shelves: Shelves,
        code: str = "bf16",
        autocast: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
        note: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            loader: gives order, images and labels.
            source: of features that are missing.
            shelves: where they are kept.
            code: how, see `CODES`.
            autocast: the precision in which they are computed.
            note: is told when there is no room.

        Raises:
            ValueError: the loader's augmentation does not leave images whole.
        """
        if loader.augment is not None and not loader.augment.whole:
            raise ValueError("windows that are drawn at random cannot be stored")
        bands, augment, reading = loader.bands, loader.augment, loader.reading
        super().__init__(
            loader.dataset, loader.keys, loader.batch, bands=bands, shuffle=loader.shuffle, augment=augment,
            part=loader.part, reading=reading, drop_last=loader.drop_last, weights=loader.weights,
        )  # fmt: skip
        self.source, self.autocast, self._note = source, autocast, note
        with autocast():
            self._arrays = source.shelves(shelves, code)
        self._keys = frozenset(shelf.key for shelf, _, _ in self._arrays)
        self._labels: dict[int, Sample] = {}
        self._labels_bytes = 0
        self._full = False

    # ---- on the reading threads

    def _sample(self, position: int, epoch: int) -> Sample:
        """The label alone, where the features are stored; else the whole sample."""
        label = self._labels.get(position) or self._kept.get(position)
        if label is None and self.bands is not None and self._maybe_stored(position):
            label = self._keep_label(position, self.dataset.read(self.keys[position], self.bands[:1]))
        if label is not None and self._is_stored(label, position, epoch):
            return self._turned(label, position, epoch)
        sample = super()._sample(position, epoch)
        if self.augment is None:
            self._keep_label(position, sample)
        return sample

    def _maybe_stored(self, position: int) -> bool:
        image = _image(self.keys[position])
        return all(shelf.knows(image) for shelf, _, _ in self._arrays)

    def _is_stored(self, sample: Sample, position: int, epoch: int) -> bool:
        name = self._name(sample, self._element(position, epoch))
        return _size(sample) == self.source.size and all(shelf.has(name) for shelf, _, _ in self._arrays)

    def _keep_label(self, position: int, sample: Sample) -> Sample:
        """Keep what is not the image, while it fits."""
        label = replace(sample, image=np.empty((0, 0, *sample.image.shape[-2:]), np.float32))
        size = 0 if label.target is None else label.target.nbytes
        if position not in self._labels and self._labels_bytes + size <= self.reading.budget:
            self._labels[position] = label
            self._labels_bytes += size
        return label

    def _element(self, position: int, epoch: int) -> int:
        """Element of D4; for images that are not square the one without transposition, which does nothing there."""
        if self.augment is None or self.shuffle is None:
            return 0
        element = self.augment.element(self.shuffle, epoch, position)
        return element if self.source.size[0] == self.source.size[1] else element & 3

    def _turned(self, label: Sample, position: int, epoch: int) -> Sample:
        target = label.target
        if target is not None and target.ndim == 2:
            target = dihedral(target, self._element(position, epoch))
        return replace(label, image=np.empty((0, 0, *label.image.shape[-2:]), np.float32), target=target)

    @staticmethod
    def _name(sample: Sample, element: int) -> bytes:
        """Name of an image's row: its key, then its date, place and orientation."""
        look = hashlib.sha256(bytes([element]))
        for fact in (sample.dates, sample.latlon):
            look.update(b"none" if fact is None else np.ascontiguousarray(fact, np.float32).tobytes())
        return _image(sample.key) + look.digest()[: NAME // 2]

    # ---- on the thread of the consumer

    def _batch(self, samples: list[Sample], share: np.ndarray, epoch: int) -> Batch:
        positions = [int(p) if p >= 0 else -1 - int(p) for p in share]
        if any(_size(sample) != self.source.size for sample in samples):
            whole = [s if s.image.size else self._again(s, p, epoch) for s, p in zip(samples, positions, strict=True)]
            return collate(whole, self.dataset.gsd)
        names = [
            self._name(replace(sample, key=self.keys[position]), self._element(position, epoch))
            for sample, position in zip(samples, positions, strict=True)
        ]
        rows: dict[bytes, list[np.ndarray]] = {}
        for i, (name, sample) in enumerate(zip(names, samples, strict=True)):
            found = [] if sample.image.size else [shelf.row(name) for shelf, _, _ in self._arrays]
            present = [row for row in found if row is not None]
            if len(present) == len(self._arrays):
                rows[name] = present
            elif found:  # another process has made room in the meantime
                samples[i] = self._again(sample, positions[i], epoch)
        rows |= self._computed({name: s for name, s in zip(names, samples, strict=True) if name not in rows})
        stored = tuple(
            code.decode([rows[name][index] for name in names], shape)
            for index, (_, code, shape) in enumerate(self._arrays)
        )
        nothing = np.empty((0, 0, *self.source.size), np.float32)
        return replace(collate([replace(s, image=nothing) for s in samples], self.dataset.gsd), stored=stored)

    def _again(self, label: Sample, position: int, epoch: int) -> Sample:
        """The whole sample of one whose label was enough, as it seemed."""
        return replace(super()._sample(position, epoch), key=label.key, target=label.target)

    def _computed(self, samples: dict[bytes, Sample]) -> dict[bytes, list[np.ndarray]]:
        """Compute and store features that are missing; return them as they are stored, by name."""
        if not samples:
            return {}
        with self.autocast():
            values = self.source.compute(collate(list(samples.values()), self.dataset.gsd))
        names = list(samples)
        rows = [code.encode(v) for v, (_, code, _) in zip(values, self._arrays, strict=True)]
        for index, (shelf, _, _) in enumerate(self._arrays):
            if not self._full:
                self._store(shelf, names, rows[index])
        return {name: [array[i] for array in rows] for i, name in enumerate(names)}

    def _store(self, shelf: Shelf, names: Sequence[bytes], rows: np.ndarray) -> None:
        try:
            granted, reason = shelf.add(names, rows, self._keys), f"{shelf.shelves.folder} has reached its limit"
        except DataError as error:
            granted, reason = False, error.problem
        if not granted:
            self._full = True
            if self._note:
                self._note(f"features are computed anew each time from here on: {reason}")


def _image(key: str) -> bytes:
    """First half of the names of an image's rows."""
    return hashlib.sha256(key.encode()).digest()[: NAME // 2]


def _size(sample: Sample) -> tuple[int, int]:
    return (int(sample.image.shape[-2]), int(sample.image.shape[-1]))


def _digests(model: Model, block: int) -> list[str]:
    """Hashes of everything before block 0, 1, … ``block``, and last of the whole backbone, but for ways beside it."""
    backbone, total = model.backbone, hashlib.sha256()

    def take(prefix: str, keep: Callable[[str], bool]) -> None:
        for name, value in sorted(backbone.state_dict().items()):
            if name.startswith(prefix) and keep(name):
                total.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
                total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)

    take("", lambda name: not name.startswith(("blocks.", "norm.", "route.")))
    found = [total.hexdigest()]
    for index in range(block):
        take(f"blocks.{index}.", lambda name: True)
        found.append(total.hexdigest())
    take("norm.", lambda name: True)
    return [*found, total.hexdigest()]

"""Which trainings can share a pass, and what they share."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapteo import config, registry
from adapteo.assembly import adapt_model, assemble, chosen_bands
from adapteo.checkpoint import RANDOM
from adapteo.config import Run, Train
from adapteo.contracts import Batch, Decoder, Normalisation
from adapteo.data.loader import Loader
from adapteo.errors import ConfigError
from adapteo.experiment import Training
from adapteo.feature_cache import FeatureLoader, Source, with_features
from adapteo.model import Boundary, Model, boundary
from adapteo.one_pass._reader import Reader, View
from adapteo.tracing import NoDraws, give_shapes, without_values

_OWN = (
    "epochs", "rate", "head_rate", "weight_decay", "clip", "schedule", "warmup", "plateau_patience", "plateau_factor",
    "select", "patience", "head_start", "tensorboard",
)  # fmt: skip
"""Keys of the training that leave batches and frozen blocks as they are."""


class Heads(Decoder):
    """Several decoders on the same maps, their logits side by side; reads what any of them reads.

    Args:
        decoders: of as many models.
        maps: number of maps of the backbone.
    """

    def __init__(self, decoders: list[Decoder], maps: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(decoders)
        self.reads = tuple(sorted({index % maps - maps for decoder in decoders for index in decoder.reads}))

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Concatenate along the channels."""
        return torch.cat([head(maps, size) for head in self.heads], dim=1)


@dataclass(frozen=True)
class Group:
    """Trainings whose batches and frozen blocks are the same.

    Attributes:
        members: the first one's backbone computes what all of them need.
        size: of the images, height and width.
        trained: the same of what is trained on.
    """

    members: list[Training]
    size: tuple[int, int]
    trained: tuple[int, int]

    @staticmethod
    def key(run: Run) -> str:
        """Name what trainings of a group have in common: all but decoder, folder, and what of `train` is their own.

        The seed is their own where the order of samples has one (``train.order_seed``).
        """
        train = run.train
        order = train.seed if train.order_seed is None else train.order_seed
        plain: dict[str, Any] = {f.name: f.default for f in fields(Train) if f.name in _OWN}
        common = replace(
            run,
            decoder=registry.load("decoders", "linear")(),
            method=registry.load("methods", "frozen")(),
            train=replace(train, **plain, seed=0, order_seed=order),
            out=Path(),
        )
        return f"{config.name_of(run.method)}\n{config.dump(common)}"

    @classmethod
    def of(cls, training: Training) -> "Group | None":
        """Begin a group; None where nothing at the start of the backbone is frozen."""
        run, model = training.run, training.model
        first = run.dataset.read(training.loaders[0].keys[0], model.backbone.bands[:1])
        size = (int(first.image.shape[-2]), int(first.image.shape[-1]))
        if boundary(model, size) is None:
            return None
        model.to(training.fabric.device)
        crop = run.train.crop
        return cls([training], size, size if crop is None else (crop, crop))

    def admit(self, training: Training) -> bool:
        """Take one of the same `key` in, where its frozen blocks are the same; they are held in memory once then."""
        first, model = self.members[0], training.model
        ours, other = boundary(first.model, self.size), boundary(model, self.size)
        if ours is None or other is None or replace(ours, maps=()) != replace(other, maps=()):
            return False
        model.to(first.fabric.device)
        if training.planned.memory != first.planned.memory or not _share(first.model, model):
            return False
        self.members.append(training)
        return True

    def readers(self) -> list[tuple[View, View]]:
        """What each of the members trains and validates on."""
        first = self.members[0]
        taps = len(first.model.backbone.taps)
        heads = Heads([member.model.decoder for member in self.members], taps)
        trunk = Model(first.model.backbone, heads, first.model.normalisation)
        loaders = with_features(
            first.run, trunk, first.loaders, untouched=False, autocast=first.fabric.autocast, note=first.observer.note
        )
        made: list[list[View]] = [[] for _ in self.members]
        keep = (first.run.train.accumulate, 1)
        for loader, size, count in zip(loaders, (self.trained, self.size), keep, strict=True):
            reader, source = self._reader(trunk, loader, size, count)
            for views, member in zip(made, self.members, strict=True):
                views.append(_view(reader, source, member.model))
            reader.views = [views[-1] for views in made]
        return [(train, val) for train, val in made]

    def _reader(self, trunk: Model, loader: Loader, size: tuple[int, int], keep: int) -> tuple[Reader, Source]:
        first = self.members[0]
        device = first.fabric.device
        if isinstance(loader, FeatureLoader):
            return Reader(loader, lambda batch: batch.to(device), keep), loader.source
        found = boundary(trunk, size)
        assert found is not None, "that of the members is none"
        source = Source(trunk, found, size, "", pooled=not first.run.task.dense)

        def compute(batch: Batch) -> Batch:
            batch = batch.to(device)
            if batch.images.shape[-2:] != size:
                return batch
            with first.fabric.autocast():
                stored = source.compute(batch)
            return replace(batch, images=batch.images.new_empty(len(batch), 0, 0, *size), stored=stored)

        return Reader(loader, compute, keep), source


def frozen_start(run: Run) -> bool:
    """Whether the first blocks of a run's backbone are frozen, so that trainings of it can share a pass.

    Looks at a model without values; one that cannot do without them shares nothing.

    Raises:
        DataError: no training image can be read.
    """
    first = run.dataset.read(run.dataset.split("train")[0])
    size = (int(first.image.shape[-2]), int(first.image.shape[-1]))
    try:
        zeros = (0.0,) * len(chosen_bands(run, run.dataset.bands))
        plain = Normalisation(zeros, tuple(zero + 1 for zero in zeros), "given")
        backbone = replace(run.backbone, weights=RANDOM)  # type: ignore[type-var]  # a dataclass, see `config`
        with torch.device("meta"), NoDraws():
            model = assemble(replace(run, backbone=backbone), normalisation=plain).model
            adapt_model(model, run, run.dataset.classes)
        with without_values():
            give_shapes(model)
            return boundary(model, size) is not None
    except (ConfigError, RuntimeError, TypeError, ValueError):  # the training itself will say what is wrong, if it is
        return False


def _view(reader: Reader, source: Source, model: Model) -> View:
    own = boundary(model, source.size)
    assert own is not None, "it was admitted"
    return View(reader, model, own, _places(source, own))


def _places(source: Source, own: Boundary) -> tuple[int, ...]:
    """Of what a member needs among all that is computed."""
    kinds = source.kinds()
    return tuple(kinds.index(kind) for kind in replace(source, boundary=own).kinds())


def _share(first: Model, other: Model) -> bool:
    """Let a model hold the frozen tensors of the first one in place of its own; False when they are not equal."""
    mine, frozen = _frozen(first), _frozen(other)
    same = mine.keys() == frozen.keys() and all(_equal(value, mine[name]) for name, value in frozen.items())
    pairs = zip(first.backbone.buffers(), other.backbone.buffers(), strict=False)
    if not same or not all(_equal(*pair) for pair in pairs if pair[0].shape == pair[1].shape):
        return False
    for name, value in frozen.items():
        value.data = mine[name].data
    return True


def _frozen(model: Model) -> dict[str, Tensor]:
    """Frozen parameters of a backbone, without ways beside it."""
    named = model.backbone.named_parameters()
    return {name: p for name, p in named if not p.requires_grad and not name.startswith("route.")}


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)

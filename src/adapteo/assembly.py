"""From a configuration to the parts of a run: model with its base weights, and loaders of the splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from adapteo.bands import resolve, resolve_all
from adapteo.checkpoint import Base, load_base
from adapteo.config import Run
from adapteo.contracts import Backbone, Batch, Dataset, Normalisation, adapt
from adapteo.data.augment import Augment
from adapteo.data.loader import Loader, Reading
from adapteo.data.statistics import statistics
from adapteo.errors import ConfigError, DataError
from adapteo.model import Model, features
from adapteo.quantise import quantise
from adapteo.vit import set_memory

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Imagery:
    """What a model has to know about the images and labels it works on; written into the adapter's card.

    With it a model can be loaded and map scenes where the training data are not at hand.

    Attributes:
        bands: canonical names of all bands of the dataset, in order.
        frames, gsd, classes, colours: as in `adapteo.contracts.Dataset`.
    """

    bands: tuple[str, ...]
    frames: int
    gsd: float
    classes: tuple[str, ...]
    colours: Mapping[int, tuple[int, int, int]] | None

    @classmethod
    def of(cls, dataset: Dataset) -> "Imagery":
        """Ask a dataset."""
        return cls(dataset.bands, dataset.frames, dataset.gsd, dataset.classes, dataset.colours)

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> "Imagery":
        """Read what was written into an adapter's card."""
        saved = card["imagery"]
        colours = saved["colours"] and {int(index): tuple(rgb) for index, rgb in saved["colours"].items()}
        return cls(tuple(saved["bands"]), saved["frames"], saved["gsd"], tuple(saved["classes"]), colours)


@dataclass(frozen=True)
class Assembled:
    """A model before any method, and what it was made from.

    Attributes:
        model: untouched backbone with its base weights, new decoder.
        base: where the weights came from.
        bands: that the backbone takes, in its order.
        left_out: bands of the dataset that it does not take.
    """

    model: Model
    base: Base
    bands: tuple[str, ...]
    left_out: tuple[str, ...]


def assemble(run: Run, imagery: Imagery | None = None, normalisation: Normalisation | None = None) -> Assembled:
    """Build backbone, base weights and decoder for a run's dataset.

    Args:
        run: the configuration; everything new is drawn from its seed.
        imagery: of an earlier training; None to ask the dataset.
        normalisation: of an earlier training; None for what the configuration asks.

    Raises:
        ConfigError: when the backbone takes none of the dataset's bands.
        WeightsError: when the base weights do not fit.
    """
    imagery = imagery or Imagery.of(run.dataset)
    bands = chosen_bands(run, imagery.bands)
    torch.manual_seed(run.train.seed)
    backbone = run.backbone.build(bands, imagery.frames)
    base = load_base(backbone, run.backbone.weights)
    torch.manual_seed(run.train.seed)
    decoder = run.decoder.build(features(backbone), run.task.outputs(imagery.classes), run.task.dense)
    left_out = tuple(band for band in imagery.bands if band not in bands)
    return Assembled(Model(backbone, decoder, normalisation or _normalisation(run, backbone)), base, bands, left_out)


def adapt_model(model: Model, run: Run, classes: Sequence[str], sample: Batch | None = None) -> bool:
    """Let the run's method act on an untouched model, in place; everything new is drawn from the run's seed.

    A method that leads its own way through the backbone gives maps of other channels or strides, for which the decoder
    is built anew.

    Args:
        model: of `assemble`, with its base weights.
        run: the configuration.
        classes: of the dataset.
        sample: images in physical units, on which the gradients of a trunk in fewer bytes are checked; None for no
            check.

    Returns:
        True when the decoder is another one.
    """
    before = features(model.backbone)
    torch.manual_seed(run.train.seed)
    adapt(model.backbone, run.method)
    set_memory(model.backbone, "lean" if run.train.memory == "auto" else run.train.memory)  # training has chosen before
    quantise(model.backbone, run.train.trunk, None if sample is None else model.prepared(sample))
    after = features(model.backbone)
    if after == before:
        return False
    torch.manual_seed(run.train.seed)
    model.decoder = run.decoder.build(after, run.task.outputs(classes), run.task.dense)
    return True


def chosen_bands(run: Run, available: Sequence[str]) -> tuple[str, ...]:
    """Bands that a run's model gets, in order: those of ``train.bands``, else all of the dataset that it takes.

    Raises:
        ConfigError: the backbone takes none of them, or a band that is asked for is not there or not taken.
    """
    if run.train.bands is None:
        bands = run.backbone.accepts(available)
        if not bands:
            raise ConfigError(
                f"the backbone takes none of the dataset's bands ({', '.join(available)})",
                fix="choose another backbone (`adapteo list backbones`), or correct dataset.bands",
            )
        return bands
    wanted = resolve_all(run.train.bands)
    for band in wanted:
        if band not in available:
            raise ConfigError(f"train.bands: the dataset has no band '{band}'", allowed=available)
        if band not in run.backbone.accepts(wanted):
            raise ConfigError(f"train.bands: the backbone does not take '{band}'", fix="leave it out")
    if not wanted:
        raise ConfigError("train.bands is empty", allowed=available, fix="name at least one, or leave it out for all")
    return wanted


def _normalisation(run: Run, backbone: Backbone) -> Normalisation:
    given = run.train.statistics
    if given is not None:
        known = {resolve(name): pair for name, pair in given.items()}
        for band in backbone.bands:
            if band not in known:
                raise ConfigError(f"train.statistics has no band '{band}'", allowed=backbone.bands, fix="add it")
        mean, std = zip(*(known[band] for band in backbone.bands), strict=True)
        return Normalisation(tuple(mean), tuple(std), "given")
    pretraining = backbone.normalisation
    if run.train.normalise == "pretraining" and pretraining is not None:
        return pretraining
    published = run.dataset.published_statistics(backbone.bands)
    if published is not None:
        return replace(published, source="dataset")
    return statistics(run.dataset, run.dataset.split("train"), backbone.bands).normalisation


def loader(
    run: Run, split: str, bands: tuple[str, ...], *, shuffled: bool = False, fabric: "Fabric | None" = None
) -> Loader:
    """Make the loader of a split; a shuffled one augments as well.

    Raises:
        DataError: the split is empty.
    """
    train, keys = run.train, run.dataset.split(split)
    seed = train.seed if train.order_seed is None else train.order_seed
    if not keys:
        raise DataError(
            f"the split '{split}' has no images",
            fix="move some of the training images there, or change how the dataset is split",
        )
    return Loader(
        run.dataset,
        keys,
        train.batch,
        bands=bands,
        shuffle=seed if shuffled else None,
        weights=run.dataset.weights(keys) if shuffled else None,
        augment=_augment(run) if shuffled else None,
        part=(fabric.global_rank, fabric.world_size) if fabric else (0, 1),
        reading=Reading(train.workers),
        drop_last=shuffled and train.drop_last,
    )


def _augment(run: Run) -> Augment | None:
    train = run.train
    if train.augment == "none" and train.crop is None:
        return None
    zoom = (0.75, 1.33) if train.augment == "d4+crop" else (1.0, 1.0)
    return Augment(d4=train.augment != "none", crop=train.crop, zoom=zoom)


def splits(dataset: Dataset) -> tuple[str, ...]:
    """Names of all splits of a dataset."""
    return ("train", "val", "test", *dataset.holdouts)

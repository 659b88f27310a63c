"""What one way to train takes, from a step without values."""

import copy
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from adapteo import machine, meter
from adapteo.assembly import Imagery, adapt_model, assemble, chosen_bands
from adapteo.config import Run, name_of
from adapteo.contracts import Batch, Normalisation, trainable_count
from adapteo.contracts.method import stored
from adapteo.data.loader import collate
from adapteo.errors import ConfigError
from adapteo.feature_cache import Source
from adapteo.machine import Limit
from adapteo.model import Boundary, Model, boundary
from adapteo.quantise import PackedLinear, make_ready
from adapteo.tracing import Counter, NoDraws, Step, Trace, give_shapes, trace, without_values
from adapteo.vit import Block

_ADAM_BYTES = 28  # that a step of AdamW reads or writes for each trained number in float32


@dataclass(frozen=True)
class Need:
    """What one way to train takes.

    Attributes:
        name: for people: the method, or what differs from the configuration.
        changes: overrides that turn the configuration into this one.
        parameters: as `adapteo.meter.parameters`.
        memory: bytes by what they are for; they add up to what a run measures.
        peak: most bytes that are alive at any moment: what the memory must have.
        images: in a step of one device.
        operations: of a training image, forward and backward; a multiplication and an addition are two.
        once: operations of an image in the first epoch in addition, to store features.
        seconds: of an epoch after the first, estimated; None where that machine is not here.
        adapter: bytes of the adapter's files.
    """

    name: str
    changes: tuple[str, ...]
    parameters: dict[str, int]
    memory: dict[str, int]
    peak: int
    images: int
    operations: int
    once: int
    seconds: float | None
    adapter: int

    @property
    def total(self) -> int:
        """Bytes that a run measures."""
        return sum(self.memory.values())

    @property
    def trained(self) -> int:
        """Numbers that are trained, the decoder's included."""
        return self.parameters["backbone_trained"] + self.parameters["decoder_trained"]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "total": self.total}


class UntraceableError(ConfigError):
    """A model that cannot run without values, so that there is no plan."""


@dataclass(frozen=True)
class Shapes:
    """What has to be known of a dataset.

    Attributes:
        imagery: bands, dates, classes.
        example: a batch of one training image, cut as in training.
        samples: number of training images.
    """

    imagery: Imagery
    example: Batch
    samples: int

    @classmethod
    def of(cls, run: Run) -> "Shapes":
        """Ask the dataset, and read one image.

        Raises:
            DataError: when there is none, or it cannot be read.
        """
        imagery, keys = Imagery.of(run.dataset), run.dataset.split("train")
        sample = run.dataset.read(keys[0], chosen_bands(run, imagery.bands))
        example, side = collate([sample], run.dataset.gsd), run.train.crop
        if side is not None:
            images, target = example.images[..., :1, :1].expand(*example.images.shape[:-2], side, side), example.target
            if target is not None and target.ndim == 3:
                target = target[:, :1, :1].expand(1, side, side)
            example = replace(example, images=images, target=target)
        return cls(imagery, example, len(keys))


class Planner:
    """Finds the needs of variants of one run; the untouched model of no values is made once.

    Args:
        run: the configuration.
        limit: of the memory; says whether times of this machine make sense.
    """

    def __init__(self, run: Run, limit: Limit) -> None:
        self.run, self.limit, self.shapes = run, limit, Shapes.of(run)
        self._plain: dict[str, Model] = {}
        self._found: dict[str, Need] = {}

    def need(self, name: str, changes: tuple[str, ...] = (), **given: Any) -> Need:
        """Trace a step, unless the same way was traced before.

        Args:
            name: for people.
            changes: what to write for it.
            given: keys of `train` that differ, or ``method``.

        Raises:
            ConfigError: the method does not work with the backbone.
            UntraceableError: the model looks at values.
        """
        method = given.pop("method", self.run.method)
        run = replace(self.run, method=method, train=replace(self.run.train, **given))
        if run.train.memory == "auto":
            run = replace(run, train=replace(run.train, memory="lean"))
        key = repr((method, run.train))
        try:
            if key not in self._found:
                self._found[key] = self._traced(run)
            return replace(self._found[key], name=name, changes=changes)
        except (RuntimeError, TypeError, ValueError) as error:  # whatever code that looks at values does without them
            reason = str(error).partition("\n")[0]
            raise UntraceableError(
                f"{name_of(run.backbone)} with {name_of(method)} cannot be traced without values: {reason}",
                fix="train without a plan; the bill at the end says what it took",
            ) from error

    def coarser(self, need: Need, kind: str) -> Need:
        """What the run as it is takes with its trunk in fewer bytes, from what it takes now: without another trace.

        Autograd keeps the same, and the same is computed. The peak is a bound: it is told as if it came while the
        largest weight is unpacked.

        Args:
            need: of the run as it is.
            kind: of trunk.

        Raises:
            ConfigError: nothing is frozen.
        """
        model = self._adapted(replace(self.run, train=replace(self.run.train, trunk=kind)))
        weights = sum(_bytes(each) for each in (*model.parameters(), *model.buffers()))
        packed = [each for each in model.modules() if isinstance(each, PackedLinear)]
        unpacked = max(each.in_features * each.out_features for each in packed) * torch.float32.itemsize
        return replace(
            need, name=f"{need.name}, trunk={kind}", changes=(*need.changes, f"train.trunk={kind}"),
            memory=need.memory | {"weights": weights}, peak=need.peak - need.memory["weights"] + weights + unpacked,
        )  # fmt: skip

    def recomputes(self) -> bool:
        """Whether there are blocks of transformers, and a method that sends gradients through them."""
        model = self._adapted(self.run)
        return trainable_count(model.backbone) > 0 and any(isinstance(each, Block) for each in model.modules())

    @property
    def multiple(self) -> int:
        """What the sides of images must be multiples of."""
        return self._untouched(self.run).backbone.multiple

    def _adapted(self, run: Run) -> Model:
        """The model that trains, on the device of no values."""
        make_ready(run.train.trunk)
        with torch.device("meta"), NoDraws():
            model = copy.deepcopy(self._untouched(run))
            adapt_model(model, run, self.shapes.imagery.classes)
        return model

    def _traced(self, run: Run) -> Need:
        model = self._adapted(run)
        images = max(1, min(-(-run.train.batch // run.train.devices), self.shapes.samples))
        with without_values():
            give_shapes(model)
            batch, first = _through_cache(run, model, _blank(self.shapes.example, images))
            found = trace(Step(run, model, batch))
            left = sum(_bytes(t) for t in (*stored(model.backbone).values(), *model.decoder.state_dict().values()))
        parameters, memory = meter.parameters(model.backbone, model.decoder), found.memory
        parts = {
            "weights": memory.weights, "gradients": memory.gradients, "optimiser": memory.optimiser,
            "activations": memory.activations - found.decoder, "decoder": found.decoder,
        }  # fmt: skip
        buckets = memory.gradients if run.train.devices > 1 else 0  # of data-parallel training
        peak = max(found.peak, first.peak + memory.optimiser) + buckets
        trained = parameters["backbone_trained"] + parameters["decoder_trained"]
        seconds = self._seconds(run, found, images, trained)
        return Need(
            "", (), parameters, parts, peak, images, found.operations // images, first.operations // images, seconds,
            left,
        )  # fmt: skip

    def _untouched(self, run: Run) -> Model:
        """The model before any method, on the device of no values."""
        key = repr(run.backbone)
        if key not in self._plain:
            backbone = replace(run.backbone, weights="random")  # type: ignore[type-var]  # a dataclass, see `config`
            zeros = (0.0,) * len(chosen_bands(run, self.shapes.imagery.bands))
            normalisation = Normalisation(zeros, tuple(z + 1 for z in zeros), "given")
            with torch.device("meta"), NoDraws():
                self._plain[key] = assemble(replace(run, backbone=backbone), self.shapes.imagery, normalisation).model
        return self._plain[key]

    def _seconds(self, run: Run, found: Trace, images: int, trained: int) -> float | None:
        if not self.limit.here:
            return None
        speed = machine.speed("cuda" if self.limit.gpu else "cpu", run.train.precision)
        steps = -(-self.shapes.samples // (images * run.train.devices))
        gradients = found.products / speed.products + found.convolutions / speed.convolutions
        return steps * (gradients + trained * _ADAM_BYTES / speed.moved / run.train.accumulate)


def _blank(example: Batch, images: int) -> Batch:
    """A batch without values, of so many images like the example."""

    def like(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else torch.empty(images, *tensor.shape[1:], dtype=tensor.dtype)

    blank = torch.empty(images, *example.images.shape[1:], dtype=example.images.dtype)
    return replace(
        example, images=blank, target=like(example.target), dates=like(example.dates), latlon=like(example.latlon),
        keys=(),
    )  # fmt: skip


def _through_cache(run: Run, model: Model, batch: Batch) -> tuple[Batch, Trace]:
    """What a step sees where features are stored, and what computing them takes once."""
    train, nothing = run.train, Trace()
    if train.cache_features == "off" or train.crop is not None or train.augment == "d4+crop":
        return batch, nothing
    size = (int(batch.images.shape[-2]), int(batch.images.shape[-1]))
    found: Boundary | None = boundary(model, size)
    if found is None:
        return batch, nothing
    model.boundary = found
    source = Source(model, found, size, "", pooled=not run.task.dense)
    there = [*model.parameters(), *model.buffers(), batch.images]
    with torch.autocast("cpu", torch.bfloat16, enabled=train.precision == "bf16"), Counter(there) as counter:
        kept = source.compute(batch)
    empty = torch.empty(len(batch), 0, 0, *size)
    first = Trace(peak=counter.peak, products=counter.products, convolutions=counter.convolutions)
    return replace(batch, images=empty, stored=tuple(values.float() for values in kept)), first


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()

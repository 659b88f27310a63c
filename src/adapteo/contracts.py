"""The nouns. Read this page first: everything else implements one of them.

    Sample ──▶ Batch ──▶ Backbone (+ Method) ──▶ Decoder ──▶ Task

A value moves left to right once. Shapes: b batch, t time, c channel, h and w pixels, n tokens, d width.
Images are always ``(b, t, c, h, w)`` in physical units (reflectance 0..1, radar dB); NaN is the one mark for missing.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar, Protocol, final

import numpy as np
import torch
from torch import Tensor, nn

from adapteo.errors import ConfigError, WeightsError

IGNORE = -1
"""The one internal value of a target that is not to be learned; datasets map their own ignore values to it."""


# ---------------------------------------------------------------------------------------------- data


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
    """

    images: Tensor
    target: Tensor | None = None
    dates: Tensor | None = None
    latlon: Tensor | None = None
    gsd: float = 10.0
    keys: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> "Batch":
        """Move every tensor to a device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in moved.items()}
        return Batch(**moved)

    def with_images(self, images: Tensor) -> "Batch":
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

    def radiometry(self, overview: np.ndarray) -> tuple[float, float]:
        """Scale and offset that turn the stored numbers of a new scene into physical units.

        Args:
            overview: ``(c, h, w)`` pieces of the scene, for datasets that look at the values to decide.
        """
        return 1.0, 0.0

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash that changes when files, bands or scale change; key of cached statistics."""


@dataclass(frozen=True)
class Normalisation:
    """Per-band z-score, the last thing that happens to an image before the backbone.

    Attributes:
        mean, std: one value per band, in the physical units of `adapteo.bands`.
        source: "pretraining" or "dataset"; recorded, because the choice changes results.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str = "pretraining"

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise ``(b, t, c, h, w)``; missing values become 0, the mean of their band."""
        mean = images.new_tensor(self.mean).view(1, 1, -1, 1, 1)
        std = images.new_tensor(self.std).view(1, 1, -1, 1, 1)
        return torch.nan_to_num((images - mean) / std, nan=0.0, posinf=0.0, neginf=0.0)


# ------------------------------------------------------------------------------------------ backbone


@dataclass(frozen=True)
class Weights:
    """Where the pretrained weights of a backbone are; data only, `adapteo.checkpoint` does the loading.

    Attributes:
        repo: repository id on the Hugging Face hub.
        file: file name in it (or in a local folder).
        revision: commit, tag or branch of the repository.
        sha256: of the file, or "" when it has not been verified.
        licence: SPDX name.
        packaged: True when the file is part of this package (``adapteo/backbones/<file>``).
    """

    repo: str
    file: str
    licence: str
    revision: str = "main"
    sha256: str = ""
    packaged: bool = False


@dataclass(frozen=True)
class Remapped:
    """A checkpoint in our key names: every upstream key is in `state` or named in `skipped` with the reason."""

    state: dict[str, Tensor]
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """How the tokens of one image lie: ``prefix`` class tokens, then a block of patches; anything after is ignored.

    Attributes:
        height, width: patches.
        prefix: tokens before the patches that belong to no place.
        stack: leading or trailing token axis beside space, e.g. time or channel groups, and its size.
        spatial_first: True when the order is (h, w, stack), False for (stack, h, w).
        merge: "concat" puts the stack into channels, "mean" averages it.
    """

    height: int
    width: int
    prefix: int = 0
    stack: int = 1
    spatial_first: bool = False
    merge: str = "concat"

    @property
    def patches(self) -> int:
        """Number of patch tokens."""
        return self.height * self.width * self.stack

    def to_map(self, tokens: Tensor) -> Tensor:
        """Turn tokens ``(b, n, d)`` into a feature map ``(b, d * stack or d, height, width)``."""
        b, _, d = tokens.shape
        x = tokens[:, self.prefix : self.prefix + self.patches]
        if self.spatial_first:
            x = x.reshape(b, self.height, self.width, self.stack, d).permute(0, 3, 4, 1, 2)
        else:
            x = x.reshape(b, self.stack, self.height, self.width, d).permute(0, 1, 4, 2, 3)
        if self.merge == "mean":
            return x.mean(1)
        return x.reshape(b, self.stack * d, self.height, self.width)


class Backbone(nn.Module, ABC):
    """A pretrained encoder of tokens. Subclasses give `embed`, `blocks`, `norm` and facts; `forward` is final.

    Attributes:
        bands: canonical names of the input channels, in the order that this instance was built for.
        dim: width d of the tokens.
        patch: pixels per patch side.
        frames: dates per image this instance was built for.
        taps: indices of the blocks whose output the decoder sees; the last block is always among them.
        merges: how the stack axis of the grid reaches the channels (see `Grid.merge`); decides `channels`.
        weights: where the pretrained weights are, None when there are none.
        blocks: transformer blocks, each ``(b, n, d) -> (b, n, d)``.
        norm: applied to the last tap only.
    """

    bands: tuple[str, ...]
    dim: int
    patch: int
    frames: int = 1
    merges: str = "concat"
    taps: tuple[int, ...]
    weights: Weights | None = None
    blocks: nn.ModuleList
    norm: nn.Module

    @abstractmethod
    def embed(self, batch: Batch) -> tuple[Tensor, Grid]:
        """Turn normalised images into tokens ``(b, n, d)`` with position and metadata already added."""

    @property
    @abstractmethod
    def normalisation(self) -> Normalisation:
        """Pre-training statistics for `bands`, in physical units."""

    @abstractmethod
    def remap(self, state: Mapping[str, Tensor]) -> Remapped:
        """Translate an upstream checkpoint to the keys of this instance (pure; no I/O).

        Raises:
            WeightsError: when a key is neither used nor known to be superfluous.
        """

    @abstractmethod
    def unmap(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate a plain state dict of this instance back to the upstream checkpoint's keys."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each feature map that `forward` returns."""
        width = self.dim * self.frames if self.merges == "concat" else self.dim
        return (width,) * len(self.taps)

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each feature map in pixels."""
        return (self.patch,) * len(self.taps)

    @final  # type: ignore[misc]  # nn.Module declares forward as an attribute
    def forward(self, batch: Batch) -> list[Tensor]:
        """Return one feature map ``(b, channels[i], h / patch, w / patch)`` per tap, the last one after `norm`."""
        tokens, grid = self.embed(batch)
        maps = []
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in self.taps:
                maps.append(grid.to_map(self.norm(tokens) if index == last else tokens))
        return maps


class BackboneSpec(ABC):
    """Configuration of a backbone: a frozen dataclass whose fields are the keys a user may write.

    The first paragraph of the class docstring of a concrete one is the help text. Every spec has a field
    ``weights``: "pretrained" (hub or package), "random", or the path of a local file or folder.
    """

    weights: str

    @abstractmethod
    def accepts(self, bands: Sequence[str]) -> tuple[str, ...]:
        """Return those of the bands that this backbone can take, in the given order."""

    @abstractmethod
    def build(self, bands: Sequence[str], frames: int = 1) -> Backbone:
        """Build the module with random weights for these bands (subset and order free) and number of dates.

        Raises:
            ConfigError: when the backbone cannot take a band, or that many dates.
        """


def default_taps(depth: int) -> tuple[int, ...]:
    """Four evenly spaced blocks, the last included: depth 12 gives 2, 5, 8, 11 (as in arXiv 2504.17397)."""
    count = min(4, depth)
    return tuple(depth * (i + 1) // count - 1 for i in range(count))


# -------------------------------------------------------------------------------------------- method


class Wrapper(nn.Module, ABC):
    """A module that stands in for ``inner`` with the same signature and adds something trainable."""

    inner: nn.Module

    @abstractmethod
    def merged(self) -> nn.Module:
        """Return a plain module that computes the same.

        Raises:
            ConfigError: when this kind cannot be merged.
        """


class Method(ABC):
    """A way of adapting a backbone: a frozen dataclass whose fields are the keys a user may write.

    `apply` is called by `adapt` after everything has been frozen; it replaces modules by `Wrapper`s or unfreezes
    parameters. What is saved is what requires grad.
    """

    identity_at_start: ClassVar[bool] = True
    mergeable: ClassVar[bool] = True
    default_rate: ClassVar[float] = 1e-3
    """Learning rate of AdamW when the user names none; the order of magnitude that searches find for this method."""

    @abstractmethod
    def apply(self, backbone: Backbone) -> None:
        """Add to, or unfreeze parts of, a frozen backbone, in place.

        Raises:
            ConfigError: when the backbone has nothing this method can act on.
        """

    @abstractmethod
    def parameters_formula(self, backbone: Backbone) -> int:
        """Number of trainable backbone parameters by closed formula, for an untouched backbone."""

    def adapter_state(self, backbone: Backbone) -> dict[str, Tensor]:
        """Tensors of the adapter file of an adapted backbone: by default what requires grad, detached, on the CPU."""
        return {name: p.detach().cpu().contiguous() for name, p in trainable(backbone).items()}

    def load_adapter_state(self, backbone: Backbone, state: Mapping[str, Tensor]) -> None:
        """Copy the tensors of an adapter file into an adapted backbone, in place.

        Raises:
            WeightsError: when a tensor is missing, superfluous or of another shape; nothing is copied then.
        """
        copy_exactly(trainable(backbone), state)

    def adapter_config(self, backbone: Backbone) -> dict[str, object]:
        """What the JSON beside the adapter file says about the method: by default its kind and its fields."""
        return {"peft_type": f"ADAPTEO_{type(self).__name__.upper()}", **vars(self)}


def adapt(backbone: Backbone, method: Method) -> Backbone:
    """Freeze a backbone, then let a method act on it, in place.

    Raises:
        ConfigError: when the method leaves nothing to train although its formula says otherwise.
    """
    backbone.requires_grad_(False)
    expected = method.parameters_formula(backbone)
    method.apply(backbone)
    found = trainable_count(backbone)
    if found != expected:
        raise ConfigError(
            f"{type(method).__name__} trains {found:,} parameters here, its formula says {expected:,}",
            fix="this is a bug in the method; please report it with the backbone's name",
        )
    return backbone


def merge(backbone: Backbone) -> Backbone:
    """Replace every wrapper by its plain equivalent, in place; inner wrappers first.

    Raises:
        ConfigError: when a wrapper cannot be merged.
    """
    for parent, name, child in list(_children_depth_first(backbone)):
        if isinstance(child, Wrapper):
            setattr(parent, name, child.merged())
    return backbone


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Named parameters that require grad."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def trainable_count(module: nn.Module) -> int:
    """Number of parameters that require grad."""
    return sum(p.numel() for p in trainable(module).values())


def copy_exactly(into: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy a state into tensors of the same names and shapes, in place, or change nothing.

    Raises:
        WeightsError: when a tensor is missing, superfluous or of another shape.
    """
    missing, superfluous = sorted(into.keys() - state.keys()), sorted(state.keys() - into.keys())
    if missing or superfluous:
        kind, names = ("lacks", missing) if missing else ("has superfluous", superfluous)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise WeightsError(
            f"the adapter {kind} '{names[0]}'{more}; it was made with another method, other fields or another backbone",
            fix="give the method and the backbone that are written in the adapter's JSON file",
        )
    for name, tensor in into.items():
        if tensor.shape != state[name].shape:
            raise WeightsError(f"'{name}' is {tuple(state[name].shape)} in the adapter, {tuple(tensor.shape)} here")
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(state[name])


def replace_modules(root: nn.Module, kind: type[nn.Module], make: "ModuleMaker") -> int:
    """Replace each submodule of a kind for which ``make(module)`` is not None; return how many were replaced."""
    count = 0
    for parent, name, child in list(_children_depth_first(root)):
        if isinstance(child, kind) and (new := make(child)) is not None:
            setattr(parent, name, new)
            count += 1
    return count


class ModuleMaker(Protocol):
    """Takes a module and returns its replacement, or None to leave it."""

    def __call__(self, module: nn.Module, /) -> nn.Module | None:
        """Make the replacement."""


def _children_depth_first(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for name, child in module.named_children():
        yield from _children_depth_first(child)
        yield module, name, child


# ------------------------------------------------------------------------------------------- decoder


@dataclass(frozen=True)
class Features:
    """What a decoder is told about the backbone: channels and stride in pixels of each map, last = deepest."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]


class DecoderSpec(ABC):
    """Configuration of a decoder: a frozen dataclass whose fields are the keys a user may write."""

    linear: ClassVar[bool] = False
    """True when the logits are linear in the last feature map, so that fitting the decoder is a convex problem.

    Such a module has a further method ``absorb(scale)``: with scale ``(channels,)``, change the weights so that
    features give the logits that features divided by the scale gave.
    """

    @abstractmethod
    def build(self, features: Features, outputs: int, dense: bool) -> nn.Module:
        """Build the module.

        Returns:
            A module with ``forward(maps, size)``: a list of feature maps ``(b, channels[i], h_i, w_i)`` and the label
            grid ``(h, w)`` to logits ``(b, outputs, h, w)`` when dense, else ``(b, outputs)``.
        """


# ---------------------------------------------------------------------------------------------- task


class Task(ABC):
    """Loss, prediction and metrics. Concrete ones are frozen dataclasses.

    Losses are sums with a separate weight, so that the mean over several micro-batches or processes is exactly the
    mean over all their samples. Metrics are functions of *statistics*, one row of additive numbers per image: tables by
    group are sums over a group's rows, bootstrap intervals sums over resampled rows, and no image is looked at twice.
    """

    dense: ClassVar[bool]
    """True when there is a label per pixel."""
    monitor: ClassVar[str]
    """Name of the metric that picks the best checkpoint."""
    higher_is_better: ClassVar[bool] = True

    @abstractmethod
    def outputs(self, classes: Sequence[str]) -> int:
        """Number of output channels of the decoder."""

    @abstractmethod
    def weight(self, target: Tensor) -> Tensor:
        """Normaliser of each loss term for this target: ``(terms,)``; depends on nothing but the target."""

    @abstractmethod
    def loss(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Loss of a batch, its terms divided by ``weight`` (of this batch, or summed over several): scalar."""

    @abstractmethod
    def predict(self, logits: Tensor) -> Tensor:
        """Turn logits into what a map holds: class index, label vector, or value."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits into probabilities of the same shape (values themselves for regression)."""

    @abstractmethod
    def statistics(self, logits: Tensor, target: Tensor) -> Tensor:
        """One row of additive statistics per image: ``(b, k)`` float64."""

    @abstractmethod
    def metrics(self, statistics: Tensor, classes: Sequence[str]) -> dict[str, Tensor]:
        """Turn statistics ``(..., k)`` into named metrics, each ``(...)``; per-class ones are named ``iou/water``.

        NaN where a metric is not defined (a class that neither occurs nor is predicted).
        """

    def confusion(self, statistics: Tensor, classes: Sequence[str]) -> Tensor | None:
        """Confusion matrix ``(..., k, k)``, rows truth, that the statistics hold; None for a task without one."""
        return None

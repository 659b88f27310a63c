"""Pretrained encoders: two shapes of network behind one face, their weights, and their configuration."""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from torch import Tensor, nn

from adapteo.contracts.data import Batch, Normalisation
from adapteo.errors import DataError


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
    """A pretrained encoder: normalised images in, feature maps out. A `TokenBackbone` or a `StageBackbone`.

    Attributes:
        bands: canonical names of the input channels, in the order that this instance was built for.
        frames: dates per image this instance was built for.
        blocks: the trunk in order, what methods act on: transformer blocks, or stages.
        norm: applied to the last tap only.
        taps: indices of the blocks whose output the decoder sees, rising; the last block is always among them.
        route: None, or what a method put in the place of the plain way through the blocks.
        weights: where the pretrained weights are, None when there are none.
    """

    bands: tuple[str, ...]
    frames: int = 1
    blocks: nn.ModuleList
    norm: nn.Module
    taps: tuple[int, ...]
    route: "Route | None"
    weights: Weights | None = None

    def __init__(self) -> None:
        super().__init__()
        self.route = None  # not in the class body, where it would hide the submodule of the same name

    @property
    @abstractmethod
    def normalisation(self) -> Normalisation | None:
        """Pre-training statistics for `bands`, in physical units; None, when there are none, for the dataset's."""

    @abstractmethod
    def remap(self, state: Mapping[str, Tensor]) -> Remapped:
        """Translate an upstream checkpoint to the keys of this instance (pure; no I/O).

        Raises:
            WeightsError: when a key is neither used nor known to be superfluous.
        """

    @abstractmethod
    def unmap(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate a plain state dict of this instance back to the upstream checkpoint's keys."""

    @abstractmethod
    def plain_channels(self) -> tuple[int, ...]:
        """Channels of each map without a route."""

    @abstractmethod
    def plain_strides(self) -> tuple[int, ...]:
        """Stride of each map in pixels, without a route."""

    @abstractmethod
    def plain_multiple(self) -> int:
        """What the sides of an image must be multiples of, without a route."""

    @abstractmethod
    def enter(self, batch: Batch) -> tuple[Tensor, Grid | None]:
        """What the first block sees of normalised images, and how its tokens lie when it is tokens."""

    @final
    def plain_forward(self, batch: Batch) -> list[Tensor]:
        """Feature maps of the taps, without a route."""
        x, grid = self.enter(batch)
        return self.advance(x, grid)[1]

    @final
    def advance(
        self, x: Tensor, grid: Grid | None, start: int = 0, stop: int | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Go on from what block ``start`` sees to what block ``stop`` sees, or through all blocks.

        Returns:
            What the next block would see, and the maps of the taps on the way.
        """
        for module in self.blocks.modules():
            if isinstance(module, GridReader):
                module.grid = grid
        maps, last = [], len(self.blocks) - 1
        for index in range(start, len(self.blocks) if stop is None else stop):
            x = self.blocks[index](x)
            if index in self.taps:
                tapped = self.norm(x) if index == last else x
                maps.append(tapped if grid is None else grid.to_map(tapped))
        return x, maps

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each feature map that `forward` returns."""
        return self.route.channels if self.route is not None else self.plain_channels()

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each feature map in pixels."""
        return self.route.strides if self.route is not None else self.plain_strides()

    @property
    def multiple(self) -> int:
        """Height and width of the images must be multiples of this many pixels; `adapteo.model` pads."""
        return math.lcm(self.plain_multiple(), self.route.multiple if self.route is not None else 1)

    @final  # type: ignore[misc]  # nn.Module declares forward as an attribute
    def forward(self, batch: Batch) -> list[Tensor]:
        """Return one map ``(b, channels[i], h / strides[i], w / strides[i])`` per tap, the last one after `norm`."""
        if self.route is not None:
            maps: list[Tensor] = self.route(self, batch)
            return maps
        return self.plain_forward(batch)


class GridReader(nn.Module):
    """A module inside a block that must know how the tokens lie; `TokenBackbone` tells it before each pass.

    Attributes:
        grid: of the tokens that come next.
    """

    grid: Grid | None = None


class TokenBackbone(Backbone):
    """A plain vision transformer: all blocks see the same tokens. Subclasses give `embed`, `blocks` and facts.

    Attributes:
        dim: width d of the tokens.
        patch: pixels per patch side.
        merges: how the stack axis of the grid reaches the channels (see `Grid.merge`); decides `channels`.
        blocks: each ``(b, n, d) -> (b, n, d)``.
    """

    dim: int
    patch: int
    merges: str = "concat"

    @abstractmethod
    def embed(self, batch: Batch) -> tuple[Tensor, Grid]:
        """Turn normalised images into tokens ``(b, n, d)`` with position and metadata already added."""

    def plain_channels(self) -> tuple[int, ...]:
        """Width of the tokens, times the dates when they are concatenated."""
        width = self.dim * self.frames if self.merges == "concat" else self.dim
        return (width,) * len(self.taps)

    def plain_strides(self) -> tuple[int, ...]:
        """The patch, for each tap."""
        return (self.patch,) * len(self.taps)

    def plain_multiple(self) -> int:
        """The patch."""
        return self.patch

    @final
    def enter(self, batch: Batch) -> tuple[Tensor, Grid]:
        """Embed."""
        return self.embed(batch)


class StageBackbone(Backbone):
    """A hierarchical network (ResNet, ConvNeXt, Swin): each stage returns a coarser map. One date.

    Attributes:
        widths: channels of each stage's output.
        reductions: stride in pixels of each stage's output.
        blocks: the stages, each ``(b, c, h, w) -> (b, c', h', w')``; the stem is part of the first one.
    """

    widths: tuple[int, ...]
    reductions: tuple[int, ...]

    def plain_channels(self) -> tuple[int, ...]:
        """Widths of the tapped stages."""
        return tuple(self.widths[tap] for tap in self.taps)

    def plain_strides(self) -> tuple[int, ...]:
        """Strides of the tapped stages."""
        return tuple(self.reductions[tap] for tap in self.taps)

    def plain_multiple(self) -> int:
        """The stride of the last stage."""
        return self.reductions[-1]

    @final
    def enter(self, batch: Batch) -> tuple[Tensor, None]:
        """Images ``(b, c, h, w)`` of the only date."""
        b, t, c, h, w = batch.images.shape
        if (t, c) != (1, len(self.bands)):
            raise DataError(
                f"the images have {t} dates and {c} bands; built for 1 date and {len(self.bands)} bands",
                fix="build the backbone with the dataset's bands; for several dates choose a backbone of tokens",
            )
        return batch.images.reshape(b, c, h, w).to(next(self.parameters()).dtype), None


class Route(nn.Module, ABC):
    """A way through a token backbone that a method puts in the place of the plain one (ViT-Adapter, side networks).

    It holds what is new; the backbone's own modules come as an argument, so that each module has one owner.

    Attributes:
        channels, strides: of the maps it returns, in pixels.
        multiple: what the sides of an image must be multiples of, beside the backbone's own demand.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    multiple: int = 1

    @abstractmethod
    def forward(self, backbone: TokenBackbone, batch: Batch) -> list[Tensor]:
        """Return one map per entry of `channels`."""


@dataclass(frozen=True)
class TrunkReads:
    """What of the plain way through a backbone a network beside it reads.

    Attributes:
        maps: positions of maps, counted from 0, rising.
        blocks: blocks of which it reads what they see, rising; the number of blocks for what is behind the last one,
            before `norm`. Without what methods let trail.
    """

    maps: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()


class SideRoute(Route):
    """A route that leaves the plain way as it is and adds to what comes out of it (side networks).

    Where the trunk is frozen, `reach` builds no graph, and what it gives depends on the image alone: it can be stored,
    and `go_on` trains on what was stored.
    """

    def reads(self, backbone: Backbone) -> TrunkReads | None:
        """Say what `reach` gives, maps before what blocks see; None where it is something else.

        It is stored under these names, for all methods that read the same; what has no name here is not stored.
        """
        return None

    @abstractmethod
    def reach(self, backbone: Backbone, batch: Batch) -> tuple[tuple[Tensor, ...], Grid | None]:
        """What the trunk gives for normalised images, and how tokens lie when it is tokens."""

    @abstractmethod
    def go_on(
        self,
        backbone: Backbone,
        stored: tuple[Tensor, ...],
        grid: Grid | None,
        read: Collection[int] | None = None,
    ) -> list[Tensor]:
        """Maps from what `reach` gave; those at positions that are not ``read`` may come without channels."""

    def forward(self, backbone: Backbone, batch: Batch) -> list[Tensor]:
        """Do both."""
        return self.go_on(backbone, *self.reach(backbone, batch))


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

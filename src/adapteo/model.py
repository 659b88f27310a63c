"""Normalisation, backbone and decoder as one module: physical images in, logits on the label grid out."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import (
    Backbone,
    Batch,
    Decoder,
    Features,
    Grid,
    Normalisation,
    SideRoute,
    TrunkReads,
    trainable,
)


class Model(nn.Module):
    """What is trained, tested and used for maps.

    Args:
        backbone: adapted or plain.
        decoder: built for ``features(backbone)``.
        normalisation: for the backbone's bands.

    Attributes:
        boundary: says what ``stored`` of a batch is, see `adapteo.feature_cache`; None without a cache.
    """

    boundary: "Boundary | None" = None

    def __init__(self, backbone: Backbone, decoder: Decoder, normalisation: Normalisation) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self.normalisation = normalisation

    def forward(self, batch: Batch) -> Tensor:
        """Logits ``(b, outputs, h, w)`` for dense tasks, else ``(b, outputs)``, for images in physical units.

        Images whose sides are no multiples of what the backbone asks for are continued by their edge values to the
        right and below, and the logits cut back.
        """
        height, width = batch.images.shape[-2:]
        logits: Tensor = self.decoder(self.features(batch), self.padded((height, width)))
        return logits[..., :height, :width] if logits.ndim == 4 else logits

    def features(self, batch: Batch) -> list[Tensor]:
        """Feature maps of the backbone for images in physical units."""
        if batch.stored is not None:
            assert self.boundary is not None, "who stores features says which"
            return self.boundary.go_on(self.backbone, batch.stored)
        maps: list[Tensor] = self.backbone(self.prepared(batch))
        return maps

    def prepared(self, batch: Batch) -> Batch:
        """Images as the backbone wants them: normalised, and padded."""
        return batch.with_images(pad_to_multiple(self.normalisation(batch.images), self.backbone.multiple))

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width that the backbone sees of images of this size; the grid that the decoder answers on."""
        multiple = self.backbone.multiple
        return -(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple


@dataclass(frozen=True)
class Boundary:
    """Where the frozen part of a backbone ends, and what is known of an image there.

    That is the maps at ``maps``, and after them what the blocks ``seen`` see: block ``block``, unless nothing is left
    to compute, or those that a network beside the trunk reads.

    Attributes:
        block: all before this one are frozen; the number of blocks when the whole backbone is.
        maps: positions of the maps that are tapped before and that the decoder reads, counted from 0, rising.
        total: number of maps of the backbone.
        blocks: of the backbone.
        grid: how tokens lie, for images of one size; None for stages.
        side: what a network beside the trunk reads, which goes on from there; None for the plain way.
        read: positions of the maps that the decoder reads.
    """

    block: int
    maps: tuple[int, ...]
    total: int
    blocks: int
    grid: Grid | None
    side: TrunkReads | None = None
    read: frozenset[int] | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to compute."""
        return self.side is None and self.block == self.blocks

    @property
    def seen(self) -> tuple[int, ...]:
        """Blocks of which what they see is stored; the number of blocks for what is behind the last one."""
        if self.side is not None:
            return self.side.blocks
        return () if self.complete else (self.block,)

    @torch.no_grad()
    def reach(self, model: Model, batch: Batch) -> tuple[Tensor, ...]:
        """Compute what is stored of images in physical units, in evaluation mode."""
        backbone = model.backbone.eval()
        if self.side is not None:
            return _side(backbone).reach(backbone, model.prepared(batch))[0]
        x, grid = backbone.enter(model.prepared(batch))
        x, maps = backbone.advance(x, grid, stop=self.block)
        return (*(maps[index] for index in self.maps), *(() if self.complete else (x,)))

    def go_on(self, backbone: Backbone, stored: tuple[Tensor, ...]) -> list[Tensor]:
        """Compute all maps from what was stored; those that nobody reads come without channels."""
        if self.side is not None:
            return _side(backbone).go_on(backbone, stored, self.grid, self.read)
        known = dict(zip(self.maps, stored, strict=False))
        rest = [] if self.complete else backbone.advance(stored[-1], self.grid, self.block)[1]
        before = self.total - len(rest)
        nothing = stored[0].new_zeros(len(stored[0]), 0, 1, 1)
        return [*(known.get(index, nothing) for index in range(before)), *rest]


def boundary(model: Model, size: tuple[int, int], *, untouched: bool = False) -> Boundary | None:
    """Find where the frozen part of a model's backbone ends, for images of ``size`` (height, width).

    Args:
        model: adapted, or before any method.
        size: of the images.
        untouched: True before any method, when nothing of the backbone moves whatever its parameters say.

    Returns:
        None when not even the first block is frozen, or a method leads a way of its own: but one beside the trunk is
        told by what it reads, where all of the trunk is frozen.
    """
    backbone = model.backbone
    if backbone.route is not None:
        return None if untouched else _beside(model, size)
    count, moved = len(backbone.blocks), set() if untouched else set(trainable(backbone))
    frozen = min((int(name.split(".")[1]) for name in moved if name.startswith("blocks.")), default=count)
    if any(name.startswith("norm.") for name in moved):  # it stands behind the last block
        frozen = min(frozen, count - 1)
    elsewhere = any(not name.startswith(("blocks.", "norm.")) for name in moved)
    if elsewhere or not frozen:
        return None
    read = _read(model)
    maps = tuple(i for i, tap in enumerate(backbone.taps) if tap < frozen and i in read)
    if frozen == count and not maps:
        return None
    return Boundary(frozen, maps, len(backbone.taps), count, _grid(model, size), read=read)


def _beside(model: Model, size: tuple[int, int]) -> Boundary | None:
    """Where a network beside the trunk begins."""
    backbone = model.backbone
    reads = backbone.route.reads(backbone) if isinstance(backbone.route, SideRoute) else None
    if reads is None or any(not name.startswith("route.") for name in trainable(backbone)):
        return None
    count = len(backbone.blocks)
    return Boundary(count, reads.maps, len(backbone.taps), count, _grid(model, size), reads, _read(model))


def _read(model: Model) -> frozenset[int]:
    """Positions of the maps that the decoder reads."""
    return frozenset(index % len(model.backbone.taps) for index in model.decoder.reads)


def _side(backbone: Backbone) -> SideRoute:
    assert isinstance(backbone.route, SideRoute), "the boundary was found with this route in place"
    return backbone.route


@torch.no_grad()
def _grid(model: Model, size: tuple[int, int]) -> Grid | None:
    """How the tokens of an image lie."""
    return model.backbone.enter(model.prepared(blank(model, size)))[1]


def blank(model: Model, size: tuple[int, int]) -> Batch:
    """An image of zeros on the model's device, of an unknown day and place."""
    frames, device = model.backbone.frames, next(model.parameters()).device
    images = torch.zeros(1, frames, len(model.backbone.bands), *size, device=device)
    dates, place = (torch.full(shape, math.nan, device=device) for shape in ((1, frames, 2), (1, 2)))
    return Batch(images, dates=dates, latlon=place)


def features(backbone: Backbone) -> Features:
    """What the decoder is told about a backbone."""
    return Features(backbone.channels, backbone.strides)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Continue ``(b, t, c, h, w)`` by its edge values to the right and below until both sides are multiples."""
    b, t, c, h, w = images.shape
    right, below = -w % multiple, -h % multiple
    if not right and not below:
        return images
    padded = F.pad(images.flatten(0, 1), (0, right, 0, below), mode="replicate")
    return padded.view(b, t, c, h + below, w + right)


def decoder_state(model: Model) -> dict[str, Tensor]:
    """Everything of the decoder, buffers included, on the CPU."""
    return {key: value.detach().to("cpu", copy=True) for key, value in model.decoder.state_dict().items()}


def frozen_in_eval(model: Model) -> None:
    """Training mode, except for what is frozen: frozen BatchNorm must not move and frozen dropout must not drop."""
    model.train()
    if _trains(model.backbone) is False:
        model.backbone.eval()


def _trains(module: nn.Module) -> bool | None:
    """Whether something of a module is trained, None without parameters; if so, what is frozen in it is in evaluation.

    In one pass over the modules, as this is done at each step, which with stored features is short.
    """
    found = [(child, _trains(child)) for child in module.children()]
    own = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
    if any(own) or any(trains for _, trains in found):
        for child, trains in found:
            if trains is False:
                child.eval()
        return True
    return False if own or any(trains is False for _, trains in found) else None


@torch.no_grad()
def predict_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Logits in float32, with the model (or what wraps it) in evaluation mode."""
    model.eval()
    logits: Tensor = model(batch)
    return logits.float()

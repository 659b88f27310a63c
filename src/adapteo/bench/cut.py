"""The first blocks of a backbone, for smoke runs: drawn once in a process, and copied."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from adapteo import registry
from adapteo.contracts import Backbone, BackboneSpec, StageBackbone, default_taps


@dataclass(frozen=True)
class Cut(BackboneSpec):
    """The first blocks of another backbone, evenly tapped; one of stages stays whole.

    Attributes:
        of: the backbone: its name and fields.
        depth: number of blocks.
        weights: "random".
    """

    of: Mapping[str, Any]
    depth: int
    weights: str = "random"

    def accepts(self, bands: Sequence[str]) -> tuple[str, ...]:
        """What the whole backbone accepts."""
        return self.whole().accepts(bands)

    def build(self, bands: Sequence[str], frames: int = 1) -> Backbone:
        """Copy the first blocks of the whole backbone."""
        return copy.deepcopy(_cut(_Key(self), tuple(bands), frames))

    def whole(self) -> BackboneSpec:
        """The other backbone."""
        given = {key: value for key, value in self.of.items() if key != "name"}
        spec: BackboneSpec = registry.load("backbones", self.of["name"])(**{**given, "weights": self.weights})
        return spec


class _Key:
    """A choice as a key of a cache: its mapping is none by itself, and a device without memory has its own copy."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self._facts = (repr(sorted(cut.of.items())), cut.depth, cut.weights, str(torch.get_default_device()))

    def __hash__(self) -> int:
        return hash(self._facts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._facts == other._facts


@cache
def _cut(key: _Key, bands: tuple[str, ...], frames: int) -> Backbone:
    backbone = key.cut.whole().build(bands, frames)
    if not isinstance(backbone, StageBackbone):
        backbone.blocks, backbone.taps = backbone.blocks[: key.cut.depth], default_taps(key.cut.depth)
    return backbone

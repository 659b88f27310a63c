"""A backbone that gets some of the bands it could take; for the smoke runs, of its first blocks only."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from adapteo import registry
from adapteo.contracts import Backbone, BackboneSpec, StageBackbone, default_taps


@dataclass(frozen=True)
class Chosen(BackboneSpec):
    """Another backbone, with a choice of bands.

    Attributes:
        of: the backbone: its name and fields.
        bands: the only ones that it is to get, where the dataset has them; None for all.
        depth: keep only so many transformer blocks, evenly tapped; for trying things out.
        weights: see `adapteo.contracts.BackboneSpec`.
    """

    of: Mapping[str, Any]
    bands: tuple[str, ...] | None = None
    depth: int | None = None
    weights: str = "pretrained"

    def accepts(self, bands: Sequence[str]) -> tuple[str, ...]:
        """Those that the backbone takes and that are chosen."""
        return tuple(band for band in self._spec().accepts(bands) if self.bands is None or band in self.bands)

    def build(self, bands: Sequence[str], frames: int = 1) -> Backbone:
        """Build the backbone; one that is cut is drawn once in a process, and copied."""
        if self.depth is None:
            return self._spec().build(bands, frames)
        return copy.deepcopy(_cut(_Hashable(self), tuple(bands), frames, self.depth))

    def _spec(self) -> BackboneSpec:
        given = {key: value for key, value in self.of.items() if key != "name"}
        spec: BackboneSpec = registry.load("backbones", self.of["name"])(**{**given, "weights": self.weights})
        return spec


class _Hashable:
    """A spec as a key of a cache; its mapping is none by itself."""

    def __init__(self, chosen: Chosen) -> None:
        self.chosen = chosen
        self._key = (repr(sorted(chosen.of.items())), chosen.weights)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashable) and self._key == other._key


@cache
def _cut(key: _Hashable, bands: tuple[str, ...], frames: int, depth: int) -> Backbone:
    backbone = key.chosen._spec().build(bands, frames)
    if not isinstance(backbone, StageBackbone):
        backbone.blocks, backbone.taps = backbone.blocks[:depth], default_taps(depth)
    return backbone

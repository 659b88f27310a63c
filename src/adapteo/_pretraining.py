"""What imagery each backbone was pre-trained on, read from ``backbones/imagery.json``. No torch.

The file is written from the backbones' code by ``make docs``. Backbones without an entry have no statistics in our
units (timm, torchgeo: see their own documentation), or no pre-training (unet).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

_FILE = Path(__file__).parent / "backbones" / "imagery.json"


@dataclass(frozen=True)
class Pretraining:
    """One published model.

    Attributes:
        backbone: its key in a configuration.
        keys: further keys of the configuration that choose this one, e.g. ``{"variant": "2.0-300M"}``.
        default: True when leaving all keys out gives this one.
        sensors: that the images came from.
        gsd: metres per pixel of the images; None when they had no scale.
        bands: mean and standard deviation in physical units (reflectance, dB) by canonical name; 0 and 1 where the
            pre-training took reflectance as it is.
        other_bands: that it takes as well, without statistics.
        groups: bands that it takes only together; None when it takes any subset.
        frames: most dates per image.
        multiple: what the sides of an image must be multiples of, in pixels.
        parameters: of the encoder.
        licence: of the weights, SPDX.
        repo, file: where the weights are on the Hugging Face hub.
        packaged: True when the weights are part of this package, so that nothing is fetched.
    """

    backbone: str
    keys: Mapping[str, str]
    default: bool
    sensors: tuple[str, ...]
    gsd: float | None
    bands: Mapping[str, tuple[float, float]]
    other_bands: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...] | None
    frames: int
    multiple: int
    parameters: int
    licence: str
    repo: str
    file: str
    packaged: bool

    @property
    def title(self) -> str:
        """For people: "prithvi 2.0-300M"."""
        return " ".join([self.backbone, *self.keys.values()])

    def known(self, bands: Sequence[str]) -> tuple[str, ...]:
        """Those of the bands that it was pre-trained on, in the given order."""
        if self.groups is None:
            return tuple(band for band in bands if band in self.bands)
        whole = {band for group in self.groups if set(group) <= set(bands) for band in group}
        return tuple(band for band in bands if band in whole)


@cache
def pretrainings() -> tuple[Pretraining, ...]:
    """All entries, in the order of the file."""
    return tuple(_entry(raw) for raw in json.loads(_FILE.read_text(encoding="utf-8")))


def pretraining_of(backbone: str, keys: Mapping[str, object] = MappingProxyType({})) -> Pretraining | None:
    """The entry of a configured backbone, or None when nothing is known of it.

    Args:
        backbone: key, e.g. "prithvi".
        keys: as in the configuration or of the dataclass; what does not choose the pre-training is passed over, and
            what is left out is as in the default.
    """
    entries = [entry for entry in pretrainings() if entry.backbone == backbone]
    default = next((entry.keys for entry in entries if entry.default), {})
    wanted = {name: keys.get(name, value) for name, value in default.items()}
    return next((entry for entry in entries if entry.keys == wanted), None)


def _entry(raw: Mapping[str, object]) -> Pretraining:
    return Pretraining(**{key: _frozen(value) for key, value in raw.items()})  # type: ignore[arg-type]


def _frozen(value: object) -> object:
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return MappingProxyType({key: _frozen(item) for key, item in value.items()})
    return value

"""Synthetic multispectral scenes: land cover, floods and burn scars in regions that differ, from a seed alone.

For demonstrations, tests and pre-training without a network. The numbers say how methods compare under a known shift
between regions; they say nothing about any real place. A scene is a function of (seed, split, region, index).
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from adapteo.bands import HLS6, resolve_all
from adapteo.contracts import IGNORE, Dataset, Sample
from adapteo.data._regions import COVERS, REGIONS
from adapteo.data._scene import KINDS, make_scene
from adapteo.errors import ConfigError, DataError, closest

_CLASSES = MappingProxyType(
    {"landcover": COVERS, "flood": ("dry", "permanent water", "flood"), "burn": ("unburned", "burned")}
)
_COLOURS = MappingProxyType(
    {
        "landcover": (
            (40, 90, 200), (190, 160, 120), (170, 210, 90), (240, 200, 60),
            (60, 150, 60), (20, 90, 60), (200, 60, 60), (120, 190, 190),
        ),
        "flood": ((225, 220, 205), (30, 70, 150), (70, 180, 240)),
        "burn": ((200, 210, 180), (170, 40, 30)),
    }
)  # fmt: skip
_SPLITS = ("train", "val", "test", "holdout")
_DATASET = 1
"""First word of every seed sequence of this dataset; pre-training uses another, so no scene is shared."""
_MAP = 2
_GSD = 30.0


@dataclass(frozen=True)
class Scenes(Dataset):
    """Synthetic 6-band scenes with land cover, flood or burn-scar labels; made from a seed, nothing is downloaded.

    Attributes:
        labels: "landcover" (8 classes), "flood" (dry, permanent water, flood) or "burn" (2 classes).
        size: side of a chip in pixels of 30 m.
        train, val, test: number of chips, taken from the training regions in turn.
        heldout: number of chips of the hold-out region.
        regions: training regions.
        holdout: region that only the hold-out split shows; its split has the region's name. Empty for none.
        frames: dates per chip; floods and fires happen before the last one, which the labels describe.
        seed: of everything.
    """

    labels: Literal["landcover", "flood", "burn"] = "flood"
    size: int = 64
    train: int = 32
    val: int = 32
    test: int = 96
    heldout: int = 96
    regions: tuple[str, ...] = ("temperate", "mediterranean", "boreal", "tropical")
    holdout: str = "delta"
    frames: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be made.

        Raises:
            ConfigError: unknown label or region, a hold-out region that is trained on, impossible sizes.
        """
        _known("labels", self.labels, KINDS)
        if not self.regions:
            raise ConfigError("'regions' is empty", allowed=REGIONS)
        for name in (*self.regions, *((self.holdout,) if self.holdout else ())):
            _known("region", name, tuple(REGIONS))
        if self.holdout in self.regions:
            raise ConfigError(
                f"the hold-out region '{self.holdout}' is also a training region", fix="remove it from 'regions'"
            )
        for key, least in {"size": 16, "frames": 1, "train": 0, "val": 0, "test": 0, "heldout": 0, "seed": 0}.items():
            if vars(self)[key] < least:
                raise ConfigError(f"'{key}' is {vars(self)[key]}, it must be at least {least}")

    @property
    def bands(self) -> tuple[str, ...]:
        """The six HLS bands."""
        return HLS6

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the chosen labels."""
        return _CLASSES[self.labels]

    @property
    def task(self) -> str:
        """Segmentation."""
        return "segmentation"

    @property
    def holdouts(self) -> tuple[str, ...]:
        """The hold-out region."""
        return (self.holdout,) if self.holdout else ()

    @property
    def gsd(self) -> float:
        """30 m, as HLS."""
        return _GSD

    @property
    def colours(self) -> Mapping[int, tuple[int, int, int]]:
        """One colour per class."""
        return dict(enumerate(_COLOURS[self.labels]))

    def split(self, name: str) -> Sequence[str]:
        """Keys ``split-region-index``; the training regions take turns.

        Raises:
            DataError: no such split, or it has no chips.
        """
        available = ("train", "val", "test", *self.holdouts)
        if name not in available:
            raise DataError(f"scenes have no split '{name}'{closest(name, available)}", allowed=available)
        part = "holdout" if name in self.holdouts else name
        count = self.heldout if part == "holdout" else vars(self)[name]
        if count == 0:
            raise DataError(f"split '{name}' is empty", fix=f"set '{'heldout' if part == 'holdout' else name}' above 0")
        regions = self.holdouts if part == "holdout" else self.regions
        return [f"{part}-{regions[i % len(regions)]}-{i:05d}" for i in range(count)]

    def group(self, key: str) -> str | None:
        """Region of a chip."""
        return self._parse(key)[1]

    def read(self, key: str, bands: Sequence[str] | None = None) -> Sample:
        """Make the chip.

        Raises:
            DataError: when the key is none of this dataset.
        """
        part, region, index = self._parse(key)
        entropy = (_DATASET, self.seed, _SPLITS.index(part), crc32(region.encode()), index)
        scene = make_scene(entropy, REGIONS[region], (self.size, self.size), self.labels, self.frames)
        wanted = [HLS6.index(band) for band in resolve_all(bands)] if bands is not None else slice(None)
        return Sample(key, scene.image[:, wanted], scene.truth[self.labels], region, scene.dates, scene.latlon)

    def fingerprint(self) -> str:
        """Hash of the fields and of what the generator makes of a small scene."""
        probe = make_scene((_DATASET,), REGIONS["temperate"], (16, 16), self.labels, self.frames)
        content = np.round(probe.image, 3).tobytes() + probe.truth[self.labels].tobytes()
        return hashlib.sha256(repr(self).encode() + content).hexdigest()

    def _parse(self, key: str) -> tuple[str, str, int]:
        part, _, rest = key.partition("-")
        region, _, index = rest.partition("-")
        places = self.holdouts if part == "holdout" else self.regions
        if part not in _SPLITS or region not in places or not index.isdecimal():
            raise DataError(f"'{key}' is no chip of this dataset", fix="keys look like train-temperate-00003")
        return part, region, int(index)


@dataclass(frozen=True)
class SceneMap:
    """A georeferenced scene as a sensor product would deliver it.

    Attributes:
        image: digital numbers ``(6, h, w)`` uint16, reflectance times 10,000, 0 for no data.
        truth: class index ``(h, w)`` uint8, 255 where unknown.
        transform: affine coefficients a, b, c, d, e, f (pixel to map coordinates, in metres).
        epsg: code of the UTM zone.
        bands: descriptions of the bands.
        nodata: value of missing pixels in ``image``.
        truth_nodata: value of unknown pixels in ``truth``.
        scale: factor from digital number to reflectance.
    """

    image: NDArray[np.uint16]
    truth: NDArray[np.uint8]
    transform: tuple[float, float, float, float, float, float]
    epsg: int
    bands: tuple[str, ...] = HLS6
    nodata: int = 0
    truth_nodata: int = 255
    scale: float = 1e-4


def scene_map(
    labels: str = "flood", region: str = "delta", shape: tuple[int, int] = (512, 512), seed: int = 0
) -> SceneMap:
    """Make a large scene with truth and georeference; no pixel of it is in any split of `Scenes`.

    Args:
        labels: "landcover", "flood" or "burn".
        region: name of a region.
        shape: height and width in pixels of 30 m.
        seed: another seed is another scene.

    Raises:
        ConfigError: unknown labels or region.
    """
    _known("labels", labels, KINDS)
    _known("region", region, tuple(REGIONS))
    scene = make_scene((_MAP, seed, crc32(region.encode())), REGIONS[region], shape, labels)
    numbers = np.clip(np.round(scene.image[0] * 10000), 1, 65535).astype(np.uint16)
    truth = np.where(scene.truth[labels] == IGNORE, 255, scene.truth[labels]).astype(np.uint8)
    y, x = np.mgrid[: shape[0], : shape[1]]
    outside = x / shape[1] + y / shape[0] < 0.15  # the edge of the swath cuts a corner
    numbers[:, outside] = 0
    truth[outside] = 255
    epsg, east, north = _utm(*(float(v) for v in scene.latlon))
    return SceneMap(numbers, truth, (_GSD, 0.0, east, 0.0, -_GSD, north), epsg)


def _utm(latitude: float, longitude: float) -> tuple[int, float, float]:
    """EPSG code of the zone and coordinates in it, on a sphere and to whole pixels; good to some kilometres."""
    zone = math.floor((longitude + 180) / 6) + 1
    away = math.radians(longitude - (6 * zone - 183)) * math.cos(math.radians(latitude))
    east = 500_000 + 0.9996 * 6_371_000 * away
    north = 0.9996 * 6_371_000 * math.radians(latitude) + (10_000_000 if latitude < 0 else 0)
    return (32600 if latitude >= 0 else 32700) + zone, round(east / _GSD) * _GSD, round(north / _GSD) * _GSD


def _known(key: str, given: str, allowed: Sequence[str]) -> None:
    if given not in allowed:
        raise ConfigError(f"'{key}' cannot be '{given}'{closest(given, allowed)}", allowed=allowed)


DATASET = Scenes

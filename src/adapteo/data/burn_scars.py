"""HLS Burn Scars: 804 chips of the United States, 2018 to 2021, from Harmonized Landsat Sentinel-2.

Phillips et al. 2023, doi:10.57967/hf/0956, https://huggingface.co/datasets/ibm-nasa-geospatial/hls_burn_scars (CC BY
4.0). Chips of 512 x 512 pixels of 30 m in UTM, six bands, cut around the scar.

    root/training/subsetted_512x512_HLS.S30.T10SEH.2018190.v1.4_merged.tif    6 bands, float32, reflectance
                  subsetted_512x512_HLS.S30.T10SEH.2018190.v1.4.mask.tif      int16: -1 no data, 0, 1 burn scar
    root/validation/…

A second layout has all chips in ``data/`` and the lists ``splits/{train,val,test}.txt``, as IBM/terramind uses it.
The name says the MGRS tile and the day (year and day of year).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from adapteo.bands import HLS6
from adapteo.contracts import Dataset, Normalisation, Sample
from adapteo.data._burn_scars_files import FOLDERS, KEY, NAME, chips, fetch, folders
from adapteo.data._chips import Chip
from adapteo.data._labels import ClassTable
from adapteo.data._lists import PAPER, Lists
from adapteo.data._overlap import check_keys
from adapteo.data._published import (
    as_published,
    by_key,
    chip_of,
    fingerprint,
    keys_of,
    normalisation,
    positions,
    read_target,
)
from adapteo.data.radiometry import BRIGHTEST, check_range
from adapteo.data.raster import Raster, read_raster
from adapteo.errors import ConfigError, DataError

HOLDOUT = "holdout"

_FILL = (-9999.0, 9999.0, -0.9999)
"""Stored values that are missing, beside what a file says and pixels that are 0 in all bands. HLS fills with -9999;
the configuration of NASA-IMPACT/hls-foundation-os names it for this dataset, PANGAEA's reader looks for 9999, and
-0.9999 is the first after conversion to reflectance."""

_OFFICIAL = MappingProxyType({
    "blue": (0.033349706741586264, 0.02269135568823774), "green": (0.05701185520536176, 0.026807560223070237),
    "red": (0.05889748132001316, 0.04004109844362779), "nir08": (0.2323245113436119, 0.07791732423672691),
    "swir16": (0.1972854853760658, 0.08708738838140137), "swir22": (0.11944914225186566, 0.07241979477437814),
})  # fmt: skip
"""Mean and standard deviation of ``configs/burn_scars.py`` of NASA-IMPACT/hls-foundation-os; TerraTorch's are these."""
_PAPER = MappingProxyType({
    "blue": (0.0525628887, 0.0308036711), "green": (0.0779808834, 0.0375606678), "red": (0.0946640745, 0.0549106970),
    "nir08": (0.2139334530, 0.0701380521), "swir16": (0.2355762571, 0.0910611823),
    "swir22": (0.1710367799, 0.0835518017),
})  # fmt: skip
"""Those of IBM/peft-geofm ``datamodules/burn_scars.py``, the code of arXiv 2504.17397."""

_DIGESTS = MappingProxyType({
    "train_data.txt": "f1dca5c488c7a7451f3aa82f20677c18b3b22a2d96b59d68215494e3dba6f393",
    "val_data.txt": "50a98be7974a2fec73af62b5f54063d938bcfe93cd9802b90eb33eb78f4d7f3e",
    "test_data.txt": "c61ddcb5a434da3f5e63edd7c87549af104c6cc69345876a8ed770844bab1788",
    "train_subsets/train_data_0.10_0.txt": "8b53958128806b5ca0fc88828ad642453f3e17040fc2489c155a4bd992abfc80",
    "train_subsets/train_data_0.10_1.txt": "258099c79dca77ab1e7922cedba0bfbd55d7ff9858fc6b3949008b56c476d885",
    "train_subsets/train_data_0.10_2.txt": "bcdba77f45cac57e1606bb219d3d0f7bcad2faa5179edf2d86ca19d02788b0ee",
})  # fmt: skip


@dataclass(frozen=True)
class BurnScars(Dataset):
    """HLS Burn Scars: 804 chips of six bands at 30 m over the United States, 2018 to 2021.

    Attributes:
        root: folder that holds ``training`` and ``validation`` (or ``data`` and ``splits``).
        splits: "official": ``validation`` is the test, and `val_fraction` of the tiles of ``training`` the validation
            (or the lists in ``splits``, where a copy has them); "paper" for the lists of arXiv 2504.17397 (524, 160
            and 120 chips); or a folder or web address with ``train_data.txt``, ``val_data.txt``, ``test_data.txt``.
        train_list: list of the training chips that replaces the split's own, for runs with few labels; relative to the
            folder of the lists, or a path or web address. With ``splits: paper`` there are three draws of 10 %:
            ``train_subsets/train_data_0.10_0.txt``, ``…_1.txt`` and ``…_2.txt``.
        val_fraction: see `splits`; whole tiles, so that no place is in both.
        holdout: UTM grid zones, e.g. ``[10S, 10T]``, whose chips leave all splits and become the split "holdout".
        download: fetch what is missing from the Hugging Face hub (2.6 GB, 5.5 GB unpacked), and the lists.
    """

    root: str
    splits: str = "official"
    train_list: str = ""
    val_fraction: float = 0.1
    holdout: tuple[str, ...] = ()
    download: bool = False

    def __post_init__(self) -> None:
        """Refuse impossible fields.

        Raises:
            ConfigError: a fraction outside 0 to 1, or a zone that is not written like 10S.
        """
        if not 0 < self.val_fraction < 1:
            raise ConfigError(f"val_fraction is {self.val_fraction:g}", allowed=["more than 0 and less than 1"])
        for zone in self.holdout:
            if not re.fullmatch(r"\d\d[A-Z]", zone):
                raise ConfigError(f"holdout: '{zone}' is no UTM grid zone", fix="write it like 10S or 09U")

    # ------------------------------------------------------------------------------------- contract

    @property
    def bands(self) -> tuple[str, ...]:
        """The six HLS bands."""
        return HLS6

    @property
    def classes(self) -> tuple[str, ...]:
        """Unburnt and burnt."""
        return ("not burned", "burn scar")

    @property
    def task(self) -> str:
        """Segmentation."""
        return "segmentation"

    @property
    def gsd(self) -> float:
        """30 m."""
        return 30.0

    @property
    def holdouts(self) -> tuple[str, ...]:
        """The zones of `holdout`, together."""
        return (HOLDOUT,) if self.holdout else ()

    @property
    def colours(self) -> Mapping[int, tuple[int, int, int]]:
        """One colour per class."""
        return {0: (200, 210, 180), 1: (170, 40, 30)}

    def split(self, name: str) -> Sequence[str]:
        """Keys ``tile.day`` of one part, e.g. ``T10SEH.2018190``; see `Dataset.split`."""
        return keys_of(self._parts, name)

    def group(self, key: str) -> str | None:
        """UTM grid zone, e.g. 10S: 6 degrees of longitude, 8 of latitude."""
        return key[1:4]

    def read(self, key: str, bands: Sequence[str] | None = None) -> Sample:
        """Read one chip; see `Dataset.read`. All bands of a pixel lie together on disk, so all are read."""
        chip = chip_of(self._chips, key)
        wanted = positions(self.bands, bands, NAME)
        with as_published(NAME):
            raster = read_raster(chip.images[0])
            image = _reflectance(raster, chip.images[0])
            assert chip.mask is not None, "every chip is labelled"
            target = read_target(chip.mask, image.shape[1:], self._table)
        return Sample(
            key,
            np.ascontiguousarray(image[None, wanted]),
            target,
            self.group(key),
            _date(key),
            np.array(raster.latlon or (np.nan, np.nan), np.float32),
        )

    def radiometry(self, overview: np.ndarray) -> tuple[float, float]:
        """Of a new scene: reflectance, as the chips are, or times 10,000, as HLS is distributed."""
        values = overview[np.isfinite(overview)]
        return (1e-4 if values.size and np.median(values) > BRIGHTEST else 1.0), 0.0

    def published_statistics(self, bands: Sequence[str]) -> Normalisation | None:
        """Statistics that the dataset's authors and TerraTorch use; with lists, those of the paper's code."""
        return normalisation(_OFFICIAL if self.splits == "official" else _PAPER, bands)

    def fingerprint(self) -> str:
        """Hash of all files and of how they are read."""
        return fingerprint(list(self._chips.values()), (self.bands, _FILL, self._table))

    # ------------------------------------------------------------------------------------ what is there

    @property
    def _table(self) -> ClassTable:
        return ClassTable.of(self.classes, ignore=-1)

    @property
    def _root(self) -> Path:
        return Path(self.root).expanduser()

    @cached_property
    def _chips(self) -> dict[str, Chip]:
        return by_key(self._parts)

    # ------------------------------------------------------------------------------------------- splits

    @cached_property
    def _parts(self) -> dict[str, list[Chip]]:
        if self.download:
            fetch(self._root)
        found = chips(self._root)
        every = {key: chip for part in found.values() for key, chip in part.items()}
        parts = {name: [_listed(every, key) for key in keys] for name, keys in self._keys(found).items()}
        check_keys(parts)
        if self.holdout:
            parts = {name: [c for c in part if self.group(c.key) not in self.holdout] for name, part in parts.items()}
            parts[HOLDOUT] = [chip for key, chip in sorted(every.items()) if self.group(key) in self.holdout]
        return parts

    def _keys(self, found: Mapping[str, Mapping[str, Chip]]) -> dict[str, list[str]]:
        """Keys by part."""
        lists = self._lists()
        if lists is not None:
            train = self._training(lists) if self.train_list else lists.part("train", _parse) or []
            return {"train": train, **{name: lists.part(name, _parse) or [] for name in ("val", "test")}}
        training, test = (sorted(found[folder]) for folder in FOLDERS)
        val = _whole_tiles(training, self.val_fraction)
        train = [key for key in training if key not in val]
        return {"train": self._training(None) if self.train_list else train, "val": sorted(val), "test": test}

    def _training(self, lists: Lists | None) -> list[str]:
        return (lists or Lists(str(self._root), self.download)).training(self.train_list, _parse)

    def _lists(self) -> Lists | None:
        """Where the lists are; None for those that follow from the folders."""
        if self.splits == "paper":
            return Lists(f"{PAPER}/burn_scars", self.download, _DIGESTS)
        if self.splits != "official":
            return Lists(self.splits, self.download)
        return None if folders(self._root) == FOLDERS else Lists(str(self._root / "splits"))


def _parse(entry: str) -> str | None:
    match = KEY.search(entry)
    return match[0] if match else None


def _listed(found: Mapping[str, Chip], key: str) -> Chip:
    if key not in found:
        raise DataError(f"the splits list '{key}', but there is no file of that chip", fix="correct `splits` or `root`")
    return found[key]


def _whole_tiles(keys: Sequence[str], fraction: float) -> set[str]:
    """Keys of tiles in random order, always the same, until they are the fraction or more."""
    tiles = sorted({key.partition(".")[0] for key in keys})
    chosen: set[str] = set()
    for i in np.random.default_rng(0).permutation(len(tiles)):
        if len(chosen) >= fraction * len(keys):
            break
        chosen |= {key for key in keys if key.startswith(f"{tiles[i]}.")}
    return chosen


def _reflectance(raster: Raster, path: Path) -> np.ndarray:
    """Reflectance ``(6, h, w)``, NaN where nothing was observed.

    Raises:
        DataError: other than six bands, or values that cannot be reflectance.
    """
    image = raster.array
    if len(image) != len(HLS6):
        raise DataError(f"{path} has {len(image)} bands, not {len(HLS6)}: {', '.join(HLS6)}")
    missing = (image == 0).all(0) | np.isnan(image)
    for fill in _FILL:
        missing |= np.isclose(image, fill, rtol=0, atol=1e-5)
    image[missing] = np.nan
    check_range(image, HLS6, 1.0, path)
    return image


def _date(key: str) -> np.ndarray:
    """Year and day of year ``(1, 2)``."""
    match = KEY.fullmatch(key)
    return np.array([(int(match[2]), int(match[3])) if match else (np.nan, np.nan)], np.float32)


DATASET = BurnScars

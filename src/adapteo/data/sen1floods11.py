"""Sen1Floods11: surface water of 11 floods, labelled by hand on Sentinel-2 and Sentinel-1; Bolivia is held out.

Bonafilia et al. 2020, doi:10.1109/CVPRW50498.2020.00113; version 1.1, https://github.com/cloudtostreet/Sen1Floods11.
446 chips of 512 x 512 pixels in EPSG:4326, about 10 m each: 252 train, 89 val, 90 test of ten floods, 15 of Bolivia.

    root/v1.1/data/flood_events/HandLabeled/S2Hand/Ghana_1078550_S2Hand.tif    13 bands, int16, L1C x 10,000, 0 missing
                                            S1Hand/Ghana_1078550_S1Hand.tif    VV, VH, float32, decibel, NaN missing
                                            LabelHand/Ghana_1078550_LabelHand.tif    int16: -1 no data, 0, 1 water
    root/v1.1/splits/flood_handlabeled/flood_train_data.csv    Ghana_1078550_S1Hand.tif,Ghana_1078550_LabelHand.tif
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from adapteo.bands import SENTINEL2_L1C
from adapteo.contracts import Dataset, Normalisation, Sample
from adapteo.data._chips import Chip
from adapteo.data._download import fetch, fetch_all, one_at_a_time
from adapteo.data._images import Encoding, Frames, read_frames
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
from adapteo.errors import DataError

_NAME = "Sen1Floods11"
_BUCKET = "https://storage.googleapis.com/sen1floods11/v1.1"
HOLDOUT = "bolivia"

DATES = MappingProxyType({
    "Bolivia": date(2018, 2, 15), "Ghana": date(2018, 9, 19), "India": date(2016, 8, 12), "Mekong": date(2018, 8, 4),
    "Nigeria": date(2018, 9, 20), "Pakistan": date(2017, 6, 28), "Paraguay": date(2018, 10, 31),
    "Somalia": date(2018, 5, 5), "Spain": date(2019, 9, 18), "Sri-Lanka": date(2017, 5, 28), "USA": date(2019, 5, 22),
})  # fmt: skip
"""Day of the Sentinel-2 image of each flood (``s2_date`` of Sen1Floods11_Metadata.geojson, where Mekong is Cambodia);
Sentinel-1 flew at most two days earlier or later."""

_STATISTICS = MappingProxyType({
    "coastal": (0.16450718, 0.06977374), "blue": (0.1412956, 0.07406382), "green": (0.13795798, 0.07370365),
    "red": (0.12353792, 0.08692279), "rededge071": (0.1481099, 0.07778555), "rededge075": (0.23991728, 0.09105416),
    "rededge078": (0.28587557, 0.10690993), "nir": (0.26345379, 0.10096586), "nir08": (0.30902815, 0.11798815),
    "nir09": (0.04911151, 0.03380113), "cirrus": (0.00652506, 0.01463465), "swir16": (0.2044958, 0.09772074),
    "swir22": (0.11912015, 0.07659938), "vv": (-10.184408, 4.255339), "vh": (-16.895273, 5.290568),
})  # fmt: skip
"""Mean and standard deviation, reflectance and decibel. Optical: IBM/peft-geofm (the code of arXiv 2504.17397)
``datamodules/sen1floods11.py``, the same as TerraTorch's. Radar: PANGAEA ``configs/dataset/sen1floods11.yaml``."""


_DIGESTS = MappingProxyType({
    "train_data.txt": "899ee084e400fefdbe139a52aa3d292072edea4c3695afcc5a5a0383af5ff69d",
    "valid_data.txt": "45eca7a5b701ac3e8f8b2fd5a52ab443cf6be0d3649116a867fc2c1fdbad1541",
    "test_data.txt": "b707770200485f909f8e0afcfb06b43cf9137ebca7b09460797a828effb9b42e",
    "bolivia_data.txt": "6b8239d95214af1c9ecfb70dec058872e7dcf831591bff80ff4d61a643e06434",
    "train_subsets/flood_train_data_0.10_0.txt": "136b09fb35a7e60e96103ba14dd43e9da11c73b308f7dfcc969e14d0c630d18a",
    "train_subsets/flood_train_data_0.10_1.txt": "d197266b0b52724d1b06da82fe604d82ea272cf96dd70ca5215615bad962ed19",
    "train_subsets/flood_train_data_0.10_2.txt": "95f09cb0938cff9847861a31b7b878d3cafe07cafb2bd2f3231a690e47fae700",
})  # fmt: skip


@dataclass(frozen=True)
class _Layout:
    """Where a copy of the dataset keeps its files, relative to its base folder."""

    s2: str
    s1: str
    labels: str
    lists: str

    def files(self, base: Path, key: str, radar: bool) -> tuple[Path, ...]:
        """Sentinel-2, labels, and Sentinel-1 when wanted."""
        layers = ((self.s2, "S2Hand"), (self.labels, "LabelHand"), (self.s1, "S1Hand"))
        return tuple(base / folder / f"{key}_{name}.tif" for folder, name in layers[: 3 if radar else 2])


_HAND = "data/flood_events/HandLabeled"
_ORIGINAL = _Layout(f"{_HAND}/S2Hand", f"{_HAND}/S1Hand", f"{_HAND}/LabelHand", "splits/flood_handlabeled")
_TERRAMIND = _Layout("data/S2L1CHand", "data/S1GRDHand", "data/LabelHand", "splits")
"""As the configurations of IBM/terramind have it; the file names are the original ones."""

_KEY = re.compile(r"([A-Za-z]+(?:-[A-Za-z]+)*_\d+)(?:_\w+)?(?:\.tif)?")
_OPTICAL = Encoding(SENTINEL2_L1C, scale=1e-4, nodata=0.0)
_RADAR = Encoding(("vv", "vh"))


@dataclass(frozen=True)
class Sen1Floods11(Dataset):
    """Sen1Floods11: 446 hand-labelled chips of 11 floods (Sentinel-2 L1C, 13 bands; Sentinel-1), Bolivia held out.

    Attributes:
        root: folder that holds ``v1.1`` (or is it).
        radar: also offer the bands ``vv`` and ``vh`` of Sentinel-1, in decibel.
        splits: "official"; "paper" for the lists of arXiv 2504.17397 (the same chips); or a folder or web address that
            holds ``train_data.txt``, ``valid_data.txt``, ``test_data.txt`` and ``bolivia_data.txt``.
        train_list: list of the training chips that replaces the split's own, for runs with few labels; relative to the
            folder of the lists, or a path or web address. With ``splits: paper`` there are three draws of 10 %:
            ``train_subsets/flood_train_data_0.10_0.txt``, ``…_1.txt`` and ``…_2.txt``.
        download: fetch what is missing from the public bucket (1.0 GB, with radar 1.7 GB) and the lists.
    """

    root: str
    radar: bool = False
    splits: str = "official"
    train_list: str = ""
    download: bool = False

    # ------------------------------------------------------------------------------------- contract

    @property
    def bands(self) -> tuple[str, ...]:
        """The 13 bands of Sentinel-2, and with `radar` VV and VH."""
        return SENTINEL2_L1C + (_RADAR.bands if self.radar else ())

    @property
    def classes(self) -> tuple[str, ...]:
        """Anything else, and water."""
        return ("not water", "water")

    @property
    def task(self) -> str:
        """Segmentation."""
        return "segmentation"

    @property
    def holdouts(self) -> tuple[str, ...]:
        """Bolivia."""
        return (HOLDOUT,) if self._parts[HOLDOUT] else ()

    @property
    def colours(self) -> Mapping[int, tuple[int, int, int]]:
        """One colour per class."""
        return {0: (225, 220, 205), 1: (30, 70, 150)}

    def split(self, name: str) -> Sequence[str]:
        """Keys ``event_number`` of one part; see `Dataset.split`."""
        return keys_of(self._parts, name)

    def group(self, key: str) -> str | None:
        """The flood, by the name of its country or river."""
        return key.rpartition("_")[0]

    def read(self, key: str, bands: Sequence[str] | None = None) -> Sample:
        """Read one chip; see `Dataset.read`."""
        chip = chip_of(self._chips, key)
        wanted = positions(self.bands, bands, _NAME)
        optical = [i for i in wanted if i < len(SENTINEL2_L1C)]
        radar = [i for i in wanted if i >= len(SENTINEL2_L1C)]
        with as_published(_NAME):
            pieces: list[Frames] = []
            if optical:
                pieces.append(read_frames(chip.images[0], _OPTICAL, optical))
            if radar:
                pieces.append(read_frames(chip.images[1], _RADAR, [i - len(SENTINEL2_L1C) for i in radar]))
            shapes = [piece.image.shape[2:] for piece in pieces]
            if len(set(shapes)) > 1:
                raise DataError(f"{chip.images[1]} has {shapes[1]} pixels, {chip.images[0].name} {shapes[0]}")
            assert chip.mask is not None, "every chip is labelled"
            target = read_target(chip.mask, shapes[0], self._table)
        order = [(optical + radar).index(i) for i in wanted]
        image = np.concatenate([piece.image for piece in pieces], axis=1)[:, order]
        return Sample(
            key,
            np.ascontiguousarray(image),
            target,
            self.group(key),
            _date(key),
            np.array(pieces[0].latlon or (np.nan, np.nan), np.float32),
        )

    def radiometry(self, overview: np.ndarray) -> tuple[float, float]:
        """Reflectance times 10,000, as Sentinel-2 products are stored.

        Raises:
            DataError: with `radar`, where no one scale fits both kinds of bands.
        """
        if self.radar:
            raise DataError(
                "a scene of reflectance and decibel has no one scale",
                fix="store it in physical units and give `scaling` 1 and 0",
            )
        return _OPTICAL.scale, 0.0

    def published_statistics(self, bands: Sequence[str]) -> Normalisation | None:
        """Statistics of the training split that the paper and TerraTorch normalise with; radar from PANGAEA."""
        return normalisation(_STATISTICS, bands)

    def fingerprint(self) -> str:
        """Hash of all files and of how they are read."""
        return fingerprint(list(self._chips.values()), (self.bands, _OPTICAL, _RADAR, self._table))

    # ------------------------------------------------------------------------------------ what is there

    @property
    def _table(self) -> ClassTable:
        return ClassTable.of(self.classes, ignore=-1)

    @cached_property
    def _chips(self) -> dict[str, Chip]:
        return by_key(self._parts)

    @cached_property
    def _place(self) -> tuple[Path, _Layout]:
        """Base folder and layout of this copy; the original ones when nothing is there yet."""
        root = Path(self.root).expanduser()
        places = [(base, layout) for layout in (_ORIGINAL, _TERRAMIND) for base in (root / "v1.1", root)]
        return next(((base, layout) for base, layout in places if (base / layout.s2).is_dir()), places[0])

    @cached_property
    def _parts(self) -> dict[str, list[Chip]]:
        base, layout = self._place
        if not self.download and not (base / layout.s2).is_dir():
            raise self._absent(f"there is no folder {base / layout.s2}")
        keys = self._keys()
        missing = self._missing(keys)
        if missing and self.download:
            with one_at_a_time(base):
                missing = self._missing(keys)
                fetch_all({self._address(path): path for path in missing}, _NAME)
        elif missing:
            more = f" and {len(missing) - 1:,} more files" if len(missing) > 1 else ""
            raise self._absent(f"{missing[0]}{more} of the splits are missing")
        parts = {}
        for part, found in keys.items():
            paths = [(key, layout.files(base, key, self.radar)) for key in found]
            parts[part] = [Chip(key, (s2, *s1), label) for key, (s2, label, *s1) in paths]
        check_keys(parts)
        return parts

    def _missing(self, keys: Mapping[str, Sequence[str]]) -> list[Path]:
        """Files of these chips that are not on disk, found with one look into each folder."""
        base, layout = self._place
        wanted = [path for found in keys.values() for key in found for path in layout.files(base, key, self.radar)]
        there = {folder: set(_names(folder)) for folder in {path.parent for path in wanted}}
        return [path for path in wanted if path.name not in there[path.parent]]

    def _address(self, path: Path) -> str:
        """Where the bucket keeps a file of this copy."""
        base, layout = self._place
        folders = zip(astuple(layout), astuple(_ORIGINAL), strict=True)
        return next(f"{_BUCKET}/{theirs}/{path.name}" for ours, theirs in folders if path.parent == base / ours)

    def _absent(self, problem: str) -> DataError:
        base, layout = self._place
        return DataError(
            f"{_NAME}: {problem}",
            fix=f"expected: {base / layout.s2} with *_S2Hand.tif, beside it LabelHand and S1Hand (radar), "
            f"and {base / layout.lists}\n"
            "from: the bucket gs://sen1floods11/v1.1, see https://github.com/cloudtostreet/Sen1Floods11\n"
            "or set `download: true` in the dataset section (1.0 GB, with radar 1.7 GB)",
        )

    # ------------------------------------------------------------------------------------------- splits

    def _keys(self) -> dict[str, list[str]]:
        """Keys by part, as the lists have them."""
        lists = self._lists()
        keys = {name: lists.part(name, _parse) or [] for name in ("val", "test")}
        train = lists.training(self.train_list, _parse) if self.train_list else lists.part("train", _parse)
        listed = lists.part(HOLDOUT, _parse, needed=False)
        return {"train": train or [], **keys, HOLDOUT: self._of_bolivia() if listed is None else listed}

    def _lists(self) -> Lists:
        if self.splits == "paper":
            return Lists(f"{PAPER}/sen1floods11", self.download, _DIGESTS)
        if self.splits != "official":
            return Lists(self.splits, self.download)
        base, layout = self._place
        folder = base / layout.lists
        if self.download and layout is _ORIGINAL and (missing := _lists_missing(folder)):
            with one_at_a_time(base):
                for path in missing:
                    if not path.is_file():
                        fetch(self._address(path), path)
        if not folder.is_dir():
            raise self._absent(f"there is no folder {folder}")
        return Lists(str(folder))

    def _of_bolivia(self) -> list[str]:
        """Chips of Bolivia on disk, for copies without a list of them: the flood as a whole is held out."""
        base, layout = self._place
        names = [_KEY.fullmatch(name) for name in sorted(_names(base / layout.labels))]
        return [name[1] for name in names if name is not None and name[1].startswith("Bolivia_")]


def _parse(entry: str) -> str | None:
    match = _KEY.fullmatch(entry.rpartition("/")[2])
    return match[1] if match else None


def _lists_missing(folder: Path) -> list[Path]:
    paths = [folder / f"flood_{name}_data.csv" for name in ("train", "valid", "test", HOLDOUT)]
    return [path for path in paths if not path.is_file() and not path.with_suffix(".txt").is_file()]


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _date(key: str) -> np.ndarray:
    """Year and day of year ``(1, 2)``, NaN for a flood that is not in the table."""
    day = DATES.get(key.rpartition("_")[0])
    return np.array([(day.year, day.timetuple().tm_yday) if day else (np.nan, np.nan)], np.float32)


DATASET = Sen1Floods11

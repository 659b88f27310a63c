"""reBEN, BigEarthNet v2: 480,038 Sentinel-2 patches of ten European countries, with CORINE maps; two held out.

Clasen et al. 2025, arXiv 2407.03653; https://zenodo.org/records/10891137. Patches of 1.2 km, level 2A of 2017 and 2018;
the offset of processing baseline 04.00 is not in them (published mean of the blue band: 438).

    root/metadata.parquet    patch_id, labels, split (train, validation, test), country, …
    root/BigEarthNet-S2/S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP/<tile>_26_57/<patch>_B02.tif    uint16 x 10,000
    root/Reference_Maps/S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP/<tile>_26_57/<patch>_reference_map.tif    CLC 2018
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from adapteo.bands import SENTINEL2_L2A
from adapteo.contracts import IGNORE, Dataset, Normalisation, Sample
from adapteo.data._corine import CLASSES, COLOURS, encode
from adapteo.data._lists import PAPER, Lists
from adapteo.data._published import normalisation, positions
from adapteo.data._reben_files import (
    FILES,
    IMAGES,
    MAPS,
    STATISTICS,
    TABLE,
    Metadata,
    absent,
    fetch_patches,
    patch_file,
    read_metadata,
)
from adapteo.data.raster import Raster, read_raster
from adapteo.errors import ConfigError, DataError, closest

_NAME = "reBEN"
_SCALE = 1e-4
_METRES = 10
_DIGESTS = MappingProxyType(
    {
        "train.txt": "74a32f633a67e33688d89c2b2518f1c3c483f32b891325d905cac69246da83d7",
        "val.txt": "9aaf30c26a8df5b7705199739294f0ceedd1a073db2dbed0070715be9f974fe5",
        "test.txt": "c0460af179f8ceb77a5ccf78d49fe0dd63d80d41197d1b40cdd99a70fc2f69fc",
        "ood.txt": "c9964324e839eb4a1f89e86fecd59958d3490e2a15686b73966a423c47bc51cf",
        "Austria.txt": "5bcd69e83482f36f64f386a3bab1888b0496df970a9b73037466bb68da4dcc09",
        "Ireland.txt": "5b113648334eaa496a2f56d3e10a86ba4244386eedeb18f6e50d63261f310050",
    }
)
_PARTS = ("train", "val", "test")
_COUNTRIES = ("Austria", "Ireland")
_PATCH = re.compile(r"S2[A-D]_MSIL2A_(\d{8})T\d{6}_N\d{4}_R\d{3}_T\w{5}_\d+_\d+")


@dataclass(frozen=True)
class ReBEN(Dataset):
    """reBEN (BigEarthNet v2): Sentinel-2 L2A patches with 19 classes of land cover, per pixel or per patch.

    Bands of 20 and 60 m are brought to the grid of 10 m by nearest neighbour (each pixel becomes 2 x 2 or 6 x 6), as in
    arXiv 2504.17397. Map pixels that have none of the 19 classes are not learned. Needs the extra ``parquet``.

    Attributes:
        root: folder with ``metadata.parquet``, ``BigEarthNet-S2`` and ``Reference_Maps``.
        labels: "map", a class per pixel, or "multilabel", the classes of the patch from the metadata.
        splits: "official"; "paper" for the 7k patches of arXiv 2504.17397 (4,690 train, 946 val, 945 test, 807 ood); or
            a folder or web address with ``train.txt``, ``val.txt``, ``test.txt`` and hold-outs, one patch per line.
        holdout: hold-outs. With ``official``, countries that are taken out of train, val and test, and whose test
            patches are a split each; by default Austria and Ireland. With lists their names, by default ``ood``.
        pad: side in pixels to which patches of 120 are extended at the right and at the bottom, images by reflection,
            maps with pixels that are not learned; the paper uses 128.
        download: fetch what is missing (tens of gigabytes, even when few patches are wanted) and the lists.
    """

    root: str
    labels: Literal["map", "multilabel"] = "map"
    splits: str = "official"
    holdout: tuple[str, ...] | None = None
    pad: int | None = None
    download: bool = False

    def __post_init__(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            ConfigError: names the field.
        """
        if self.labels not in ("map", "multilabel"):
            raise ConfigError(f"'labels' cannot be '{self.labels}'", allowed=("map", "multilabel"))
        for name in self.holdout or ():
            if name in _PARTS:
                raise ConfigError(f"a hold-out cannot be called '{name}'", fix="correct 'holdout'")

    # ------------------------------------------------------------------------------------- contract

    @property
    def bands(self) -> tuple[str, ...]:
        """The twelve bands of level 2A."""
        return SENTINEL2_L2A

    @property
    def classes(self) -> tuple[str, ...]:
        """The 19 classes of BigEarthNet, in alphabetical order."""
        return CLASSES

    @property
    def task(self) -> str:
        """Segmentation, or multi-label classification."""
        return "segmentation" if self.labels == "map" else "multilabel"

    @property
    def colours(self) -> Mapping[int, tuple[int, int, int]]:
        """Those of CORINE Land Cover."""
        return dict(enumerate(COLOURS))

    @property
    def holdouts(self) -> tuple[str, ...]:
        """Countries, or lists; see `holdout`."""
        return tuple(name for name in self._parts if name not in _PARTS)

    def split(self, name: str) -> Sequence[str]:
        """Names of the patches of one part; see `Dataset.split`."""
        keys = self._parts.get(name)
        if not keys:
            having = {part: len(found) for part, found in self._parts.items() if found}
            raise DataError(
                f"the split '{name}' {'does not exist' if keys is None else 'is empty'}{closest(name, having)}",
                allowed=[f"{part} ({count:,})" for part, count in having.items()],
                fix="change `splits` or `holdout` in the dataset section",
            )
        return keys

    def group(self, key: str) -> str | None:
        """Country of a patch."""
        return self._metadata.country.get(key)

    def read(self, key: str, bands: Sequence[str] | None = None) -> Sample:
        """Read one patch; see `Dataset.read`."""
        if key not in self._metadata.country:
            raise DataError(f"there is no patch '{key}' in {self._folder / TABLE}")
        wanted = [self.bands[i] for i in positions(self.bands, bands, _NAME)]
        rasters = {band: self._read_band(key, band) for band in wanted}
        grids = {band: _to_grid(raster.array[0], FILES[band][1]) for band, raster in rasters.items()}
        if len({grid.shape for grid in grids.values()}) > 1:
            sizes = {FILES[band][0]: rasters[band].array.shape[1:] for band in wanted}
            raise DataError(f"the bands of {key} do not fit on one grid: {sizes}", fix="download the patch again")
        image = np.stack([grids[band] for band in wanted])[None] * np.float32(_SCALE)
        target = self._map(key, image.shape[2:]) if self.labels == "map" else self._marks(key)
        latlon = next(iter(rasters.values())).latlon or (np.nan, np.nan)
        return Sample(key, *self._padded(image, target), self.group(key), _date(key), np.array(latlon, np.float32))

    def radiometry(self, overview: np.ndarray) -> tuple[float, float]:
        """Reflectance times 10,000, as Sentinel-2 products are stored."""
        return _SCALE, 0.0

    def published_statistics(self, bands: Sequence[str]) -> Normalisation | None:
        """Statistics that ConfigILM publishes for reBEN and the paper normalises with."""
        return normalisation({band: (mean * _SCALE, std * _SCALE) for band, (mean, std) in STATISTICS.items()}, bands)

    def fingerprint(self) -> str:
        """Hash of the settings, the metadata, and name, size and time of a band and of the map of every patch.

        One band stands for the others, which come and go with it: the archive is unpacked patch by patch.
        """
        digest = hashlib.blake2b(repr((self.labels, self.pad, _SCALE, CLASSES)).encode(), digest_size=16)
        for path in [self._folder / TABLE, *self._witnesses()]:
            stat = path.stat() if path.exists() else None
            digest.update(f"{path.name}\0{stat and (stat.st_size, stat.st_mtime_ns)}\n".encode())
        return digest.hexdigest()

    # ---------------------------------------------------------------------------------- what is there

    @cached_property
    def _folder(self) -> Path:
        return Path(self.root).expanduser()

    @cached_property
    def _metadata(self) -> Metadata:
        return read_metadata(self._folder, CLASSES if self.labels == "multilabel" else (), self.download)

    @cached_property
    def _parts(self) -> dict[str, tuple[str, ...]]:
        parts = self._official() if self.splits == "official" else self._listed()
        _refuse_overlap(parts)
        keys = dict.fromkeys(key for part in parts.values() for key in part)
        folders = (IMAGES, MAPS) if self.labels == "map" else (IMAGES,)
        if self.download:
            fetch_patches(self._folder, keys, folders)
        for name in folders:
            if not (self._folder / name).is_dir():
                raise absent(self._folder, name)
        return parts

    def _official(self) -> dict[str, tuple[str, ...]]:
        known = sorted(set(self._metadata.country.values()))
        countries = _COUNTRIES if self.holdout is None else self.holdout
        for country in countries:
            if country not in known:
                raise DataError(f"reBEN has no country '{country}'{closest(country, known)}", allowed=known)
        parts: dict[str, list[str]] = {name: [] for name in (*_PARTS, *countries)}
        for key, country in self._metadata.country.items():
            part = self._metadata.split[key]
            if country not in countries:
                parts[part].append(key)
            elif part == "test":
                parts[country].append(key)
        return {name: tuple(keys) for name, keys in parts.items()}

    def _listed(self) -> dict[str, tuple[str, ...]]:
        source = f"{PAPER}/reBEN/reBEN_7k" if self.splits == "paper" else self.splits
        lists = Lists(source, self.download, _DIGESTS if self.splits == "paper" else {})
        parts = {name: lists.part(name, self._parse) for name in _PARTS}
        for name in ("ood",) if self.holdout is None else self.holdout:
            found = lists.part(name, self._parse, needed=self.holdout is not None)
            if found is not None:
                parts[name] = found
        return {name: tuple(keys or ()) for name, keys in parts.items()}

    def _parse(self, entry: str) -> str | None:
        return entry if entry in self._metadata.country else None

    def _witnesses(self) -> list[Path]:
        """A band, and the map where it is read, of every patch of the splits."""
        keys = dict.fromkeys(key for part in self._parts.values() for key in part)
        paths = [patch_file(self._folder, IMAGES, key, "B02") for key in keys]
        return paths + [patch_file(self._folder, MAPS, key, "reference_map") for key in keys if self.labels == "map"]

    # ------------------------------------------------------------------------------------- patches

    def _read_band(self, key: str, band: str) -> Raster:
        path = patch_file(self._folder, IMAGES, key, FILES[band][0])
        raster = _read_tif(path, masked=True)
        if len(raster.array) != 1:
            raise DataError(f"{path} has {len(raster.array)} bands, not one", fix="download the patch again")
        return raster

    def _map(self, key: str, shape: tuple[int, ...]) -> np.ndarray:
        path = patch_file(self._folder, MAPS, key, "reference_map")
        codes = _read_tif(path, masked=False).array
        if codes.shape != (1, *shape):
            raise DataError(f"{path} has {codes.shape[1:]} pixels, its image {shape}", fix="download the maps again")
        return encode(codes[0], path)

    def _marks(self, key: str) -> np.ndarray:
        marks = self._metadata.marks[key]
        return np.array([marks >> i & 1 for i in range(len(CLASSES))], np.float32)

    def _padded(self, image: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.pad is None:
            return image, target
        more = [self.pad - side for side in image.shape[2:]]
        if min(more) < 0:
            raise DataError(f"`pad: {self.pad}` is less than a patch, {image.shape[2]} pixels", fix="leave it out")
        edges = ((0, more[0]), (0, more[1]))
        image = np.pad(image, ((0, 0), (0, 0), *edges), mode="reflect")
        return image, np.pad(target, edges, constant_values=IGNORE) if target.ndim == 2 else target


def _read_tif(path: Path, masked: bool) -> Raster:
    try:
        return read_raster(path, masked=masked)
    except DataError as error:
        fix = "unpack this patch again, or set `download: true`" if not path.exists() else "download the patch again"
        raise DataError(error.problem, fix=fix) from error


def _to_grid(band: np.ndarray, metres: int) -> np.ndarray:
    """Bring ``(h, w)`` of 20 or 60 m to 10 m: nearest neighbour, whose grids share their corners."""
    factor = metres // _METRES
    return band if factor == 1 else band.repeat(factor, axis=0).repeat(factor, axis=1)


def _date(key: str) -> np.ndarray:
    """Year and day of year ``(1, 2)`` of the acquisition that the name of a patch begins with."""
    found = _PATCH.fullmatch(key)
    if found is None:
        return np.full((1, 2), np.nan, np.float32)
    day = datetime.strptime(found[1], "%Y%m%d")
    return np.array([(day.year, day.timetuple().tm_yday)], np.float32)


def _refuse_overlap(parts: Mapping[str, Sequence[str]]) -> None:
    """A patch is in one part only; hold-outs may share patches among themselves, as the paper's do.

    Raises:
        DataError: names the patch and the two parts.
    """
    home: dict[str, str] = {}
    for name, keys in parts.items():
        for key in keys:
            other = home.setdefault(key, name)
            if other != name and (other in _PARTS or name in _PARTS):
                raise DataError(
                    f"'{key}' is in both '{other}' and '{name}'",
                    fix="list it in one of them: a test on training images says nothing about new places",
                )


DATASET = ReBEN

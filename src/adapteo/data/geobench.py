"""GEO-Bench 1.0: twelve small benchmark sets, among them m-cashew-plant and m-SA-crop-type (Lacoste et al. 2023)."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

import numpy as np

from adapteo.bands import BY_NAME
from adapteo.contracts import Dataset, Normalisation, Sample
from adapteo.data._archives import unzip
from adapteo.data._download import from_hub, one_at_a_time
from adapteo.data._geobench_files import read_stored
from adapteo.data._geobench_sets import SETS, BenchSet
from adapteo.data._labels import ClassTable
from adapteo.data._published import normalisation, positions
from adapteo.errors import ConfigError, DataError, closest, shorten

_REPOSITORY, _REVISION = "recursix/geo-bench-1.0", "1e5754337032f097396db62cc15a5ff88f4618e8"
_PARTS = {"train": "train", "val": "valid", "test": "test"}
_AGAIN = "download the set again"


@dataclass(frozen=True)
class GeoBench(Dataset):
    """One set of GEO-Bench 1.0 (arXiv 2306.03831): satellite and aerial images, to classify or to segment.

    On disk: ``<root>/m-cashew-plant/`` (or ``<root>/segmentation_v1.0/m-cashew-plant/``) with an HDF5 file per sample,
    ``default_partition.json`` and ``band_stats.json``, as the benchmark's own zip files have them. Labels that lie in
    a pickle are read without unpickling it. Needs the extra ``geobench``.

    Images are reflectance; Sentinel-1 (m-so2sat) is decibel; sets of 8-bit pictures are brightness, 0 to 1. m-eurosat
    and m-brick-kiln name some bands wrongly; here they have the names of what they hold.

    Attributes:
        root: folder of the benchmark or of its sets.
        subset: m-cashew-plant, m-SA-crop-type, m-pv4ger-seg, m-chesapeake, m-nz-cattle, m-NeonTree (segmentation);
            m-eurosat, m-so2sat, m-brick-kiln, m-forestnet, m-pv4ger (classification); m-bigearthnet (43 labels).
        partition: "default", or a share of the training samples: "0.01x_train", "0.02x_train", "0.05x_train",
            "0.10x_train", "0.20x_train", "0.50x_train", "1.00x_train".
        ignore: stored mask values that are not to be learned. The benchmark learns 0, "no data", as a class.
        download: fetch the set from the Hugging Face hub into ``root`` when it is not there.
    """

    root: str
    subset: str = "m-cashew-plant"
    partition: str = "default"
    ignore: tuple[int, ...] = ()
    download: bool = False

    def __post_init__(self) -> None:
        """Refuse an unknown set.

        Raises:
            ConfigError: names the sets.
        """
        if self.subset not in SETS:
            raise ConfigError(f"GEO-Bench has no set '{self.subset}'{closest(self.subset, SETS)}", allowed=SETS)
        if self.ignore and self._set.task != "segmentation":
            raise ConfigError(f"'ignore' means nothing for {self.subset}, whose labels are no masks")

    # ------------------------------------------------------------------------------------- contract

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands of the sensor, in its order."""
        return self._set.bands

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the stored values."""
        return self._set.classes

    @property
    def task(self) -> str:
        """What the benchmark asks for."""
        return self._set.task

    @property
    def gsd(self) -> float:
        """10 m (Sentinel-2), 15 m (m-forestnet), 1 m (m-chesapeake) or 0.1 m (aerial)."""
        return self._set.gsd

    def split(self, name: str) -> Sequence[str]:
        """Samples of a part of the partition.

        Raises:
            DataError: no such split, it is empty, or shares samples with another one.
        """
        if name not in _PARTS:
            raise DataError(f"{self.subset} has no split '{name}'{closest(name, _PARTS)}", allowed=_PARTS)
        if not self._parts[name]:
            raise DataError(f"the split '{name}' of {self._partition_file} is empty", fix="choose another `partition`")
        return self._parts[name]

    def read(self, key: str, bands: Sequence[str] | None = None) -> Sample:
        """Read one sample; see `Dataset.read`."""
        if key not in self._known:
            raise DataError(f"{self._partition_file} lists no sample '{key}'{closest(key, self._known)}")
        wanted = [self.bands[i] for i in positions(self.bands, bands, self.subset)]
        path, names = self._file(key), [self._set.keys[band] for band in wanted]
        stored = read_stored(path, names, self.task == "segmentation", self._set.georeferenced)
        said = self._set.name(key)
        return Sample(
            key,
            _physical(stored.image, wanted, self._set.scale)[None],
            self._target(stored.label, key, path),
            said.group,
            self._dates(stored.date),
            np.array(stored.latlon or said.latlon or (np.nan, np.nan), np.float32),
        )

    def group(self, key: str) -> str | None:
        """Place (m-cashew-plant), region (m-nz-cattle) or site (m-NeonTree); other sets have none."""
        return self._set.name(key).group

    def radiometry(self, overview: np.ndarray) -> tuple[float, float]:
        """For a new Sentinel-2 scene that of its products; for pictures 1/255."""
        sentinel2 = self.gsd == 10 and all(BY_NAME[band].kind == "optical" for band in self.bands)
        return (1e-4 if sentinel2 else self._set.scale), 0.0

    def published_statistics(self, bands: Sequence[str]) -> Normalisation | None:
        """From the set's ``band_stats.json``, or what arXiv 2504.17397 used (m-cashew-plant, m-SA-crop-type).

        Not for radar: decibels have another mean than the intensities that the file describes.
        """
        table = self._statistics
        optical = all(BY_NAME[band].kind == "optical" for band in bands)
        return normalisation(table, bands) if optical else None

    def fingerprint(self) -> str:
        """Hash of the settings and of every file's name, size and time."""
        settings = (self.subset, self.partition, self.ignore, self._set.scale, tuple(self._set.keys.items()))
        digest = hashlib.blake2b(repr(settings).encode(), digest_size=16)
        for key in self._known:
            path = self._file(key)
            stat = path.stat() if path.exists() else None
            digest.update(f"{key}\0{stat and (stat.st_size, stat.st_mtime_ns)}\n".encode())
        return digest.hexdigest()

    # ---------------------------------------------------------------------------------- what is there

    @property
    def _set(self) -> BenchSet:
        return SETS[self.subset]

    @cached_property
    def _folder(self) -> Path:
        root = Path(self.root).expanduser()
        home = root / self._set.folder / self.subset
        places = (root / self.subset, home, *((root,) if root.name == self.subset else ()))
        found = next((place for place in places if place.is_dir()), None)
        if found is not None:
            return found
        file = f"{self._set.folder}/{self.subset}.zip"
        if not self.download:
            raise DataError(
                f"there is no folder {self.subset} in {root}",
                fix=f"unzip {file} of {_REPOSITORY} (a dataset on the Hugging Face hub) there, "
                "or set `download: true`; the set is some gigabytes",
            )
        with one_at_a_time(root):
            if not home.is_dir():
                unzip(from_hub(_REPOSITORY, file, _REVISION, self._set.sha256), home)
        return home

    @property
    def _partition_file(self) -> Path:
        return self._folder / f"{self.partition}_partition.json"

    @cached_property
    def _parts(self) -> dict[str, tuple[str, ...]]:
        path = self._partition_file
        if not path.is_file():
            there = sorted(p.name.removesuffix("_partition.json") for p in self._folder.glob("*_partition.json"))
            raise DataError(
                f"there is no file {path}", allowed=there, fix=f"correct `partition`, or {_AGAIN}" if there else _AGAIN
            )
        content = _load(path)
        home: dict[str, str] = {}
        parts = {}
        for name, theirs in _PARTS.items():
            listed = content.get(theirs, [])
            if not isinstance(listed, list) or not all(isinstance(key, str) for key in listed):
                raise DataError(f"{path}: '{theirs}' is no list of names", fix=_AGAIN)
            for key in listed:
                if key in home:
                    both = f"both '{home[key]}' and '{name}'" if home[key] != name else f"'{name}' twice"
                    raise DataError(f"{path}: '{key}' is in {both}", fix="list each sample once")
                home[key] = name
            parts[name] = tuple(listed)
        return parts

    @cached_property
    def _known(self) -> Mapping[str, None]:
        """All samples, in order."""
        return dict.fromkeys(key for part in self._parts.values() for key in part)

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.hdf5"

    @cached_property
    def _statistics(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation in physical units, by band."""
        path, facts = self._folder / "band_stats.json", self._set
        if not path.is_file():
            pairs = zip(facts.mean, facts.std, strict=True)
            stored = dict(zip(facts.bands if facts.mean else (), pairs, strict=True))
        else:
            content = _load(path)
            try:
                stored = {
                    band: (float(content[key]["mean"]), float(content[key]["std"]))
                    for band, key in facts.keys.items()
                    if key in content
                }
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{path} has no mean and std for each band", fix=_AGAIN) from error
        return {band: (mean * facts.scale, std * facts.scale) for band, (mean, std) in stored.items()}

    # ------------------------------------------------------------------------------------- samples

    def _target(self, label: np.ndarray | None, key: str, path: Path) -> np.ndarray:
        if self.task == "segmentation" and label is not None:
            return self._mask(label, path)
        if label is None:
            label = self._labels.get(key)
        if label is None:
            raise DataError(f"{path} has no label, nor has a label_map.json or label_stats.json", fix=_AGAIN)
        count = len(self.classes)
        if self.task == "multilabel":
            if label.shape != (count,) or not np.isin(label, (0, 1)).all():
                raise DataError(f"the labels of {path} are not {count} marks of 0 or 1", fix=_AGAIN)
            return label.astype(np.float32)
        if label.shape or not 0 <= int(label) < count:
            raise DataError(f"the label of {path} is {label}, not one of 0 to {count - 1}", fix=_AGAIN)
        return label.astype(np.int64)

    def _mask(self, label: np.ndarray, path: Path) -> np.ndarray:
        names = {i: name for i, name in enumerate(self.classes) if i not in self.ignore}
        table = ClassTable.of(names, (*self._set.ignore, *self.ignore))
        try:
            found = table.encode_mask(label, path)
        except DataError as error:
            raise DataError(
                error.problem, allowed=error.allowed, fix=f"is it {self.subset}? if so, {_AGAIN}"
            ) from error
        values = np.array(table.values)
        return np.where(found < 0, found, values[found])

    @cached_property
    def _labels(self) -> dict[str, np.ndarray]:
        """Labels of files without a note of their own: the benchmark's ``label_map.json`` or ``label_stats.json``."""
        if self.task == "multilabel":
            path = self._folder / "label_stats.json"
            content = _load(path) if path.is_file() else {}
            return {key: np.array(marks, np.int64) for key, marks in content.items()}
        path = self._folder / "label_map.json"
        content = _load(path) if path.is_file() else {}
        return {key: np.array(int(value), np.int64) for value, keys in content.items() for key in keys}

    def _dates(self, day: date | None) -> np.ndarray:
        if day is None or (self._set.placeholder and (day.month, day.day) == (1, 1)):
            return np.full((1, 2), np.nan, np.float32)
        return np.array([(day.year, day.timetuple().tm_yday)], np.float32)


def _physical(stored: np.ndarray, bands: Sequence[str], scale: float) -> np.ndarray:
    """Scale ``(c, h, w)``; radar from intensity to decibel, NaN where it is not positive."""
    image = stored * np.float32(scale)
    for i, band in enumerate(bands):
        if BY_NAME[band].kind == "radar":
            lit = stored[i] > 0
            image[i] = np.where(lit, 10 * np.log10(np.where(lit, stored[i], 1)), np.nan)
    image[~np.isfinite(image)] = np.nan
    return image


def _load(path: Path) -> dict:
    """Read a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {shorten(str(error), 120)}", fix=_AGAIN) from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a JSON object", fix=_AGAIN)
    return content


DATASET = GeoBench

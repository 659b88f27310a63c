"""torchgeo's data sets: chips with masks, classes or several labels (needs the extra `torchgeo`)."""

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from adapteo.bands import resolve_all
from adapteo.contracts import Dataset, Sample
from adapteo.data._labels import ClassTable
from adapteo.errors import ConfigError, DataError, closest

_PARTS = ("train", "val", "test")
_DIGITS = 7


@dataclass(frozen=True)
class TorchGeo(Dataset):
    """A data set of torchgeo that is cut into chips and has splits (a ``NonGeoDataset`` with an argument ``split``).

    Its samples have an ``image`` (c, h, w) or (t, c, h, w), and a ``mask`` (h, w) or a ``label``: a number, or 0 and 1
    for each class. Data sets that detect boxes or compare two images do not fit. Needs
    ``pip install 'adapteo[torchgeo]'``; nothing is downloaded.

    Attributes:
        root: folder that torchgeo downloaded the data to.
        source: name of the class in ``torchgeo.datasets``, e.g. "EuroSAT".
        arguments: further arguments of that class, e.g. ``{bands: [B02, B03, B04]}``; not root and split.
        band_names: of the channels, any alias of `adapteo.bands`; by default those of the argument ``bands``.
        sensor: "sentinel2", "hls_s30", "hls_l30", "landsat8"; needed for names such as B05.
        class_names: in the order of the values 0, 1, …, or a mapping of mask values to names; by default what the data
            set has as ``classes``.
        ignore: mask values that are not to be learned.
        scale: physical value (reflectance 0..1, dB) = value x scale + offset.
        offset: see `scale`.
        nodata: value that is missing.
        pixel_size: in metres.
        split_names: torchgeo's names of "train", "val" and "test", where they are others.
    """

    root: str
    source: str = "EuroSAT"
    arguments: Mapping[str, Any] | None = None
    band_names: tuple[str, ...] = ()
    sensor: str | None = None
    class_names: tuple[str, ...] | Mapping[int, str] = ()
    ignore: int | tuple[int, ...] = ()
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    pixel_size: float = 10.0
    split_names: Mapping[str, str] | None = None

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Canonical names of the channels."""
        names: Any = self.band_names or (self.arguments or {}).get("bands")
        if not names:
            found = inspect.signature(self._class).parameters.get("bands")
            names = None if found is None or found.default is inspect.Parameter.empty else found.default
        if not names or isinstance(names, str):
            raise DataError(
                f"torchgeo's {self.source} does not say which bands it has", fix="set `band_names`, in their order"
            )
        return resolve_all([str(name) for name in names], self.sensor)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self._table.names

    @cached_property
    def task(self) -> str:
        """What fits the labels of the first sample."""
        sample = self._sample("train", 0)
        if "mask" in sample:
            return "segmentation"
        return "classification" if np.asarray(sample["label"]).ndim == 0 else "multilabel"

    @property
    def gsd(self) -> float:
        """Metres per pixel."""
        return self.pixel_size

    @cached_property
    def frames(self) -> int:
        """Number of dates per sample."""
        image = self._sample("train", 0)["image"]
        return int(image.shape[0]) if image.ndim == 4 else 1

    def split(self, name: str) -> Sequence[str]:
        """Keys of a split: its name and the number of the sample in it."""
        if name not in _PARTS:
            raise DataError(f"the split '{name}' does not exist{closest(name, _PARTS)}", allowed=_PARTS)
        return [f"{name}-{number:0{_DIGITS}d}" for number in range(len(self._part(name)))]

    def read(self, key: str, bands: Sequence[str] | None = None) -> Sample:
        """Read one sample; see `Dataset.read`."""
        part, _, number = key.partition("-")
        sample = self._sample(part, int(number))
        image = np.asarray(sample["image"]).astype(np.float32)
        image = image[None] if image.ndim == 3 else image
        if image.ndim != 4 or image.shape[1] != len(self.bands):
            raise DataError(
                f"{self.source} {key} has an image of shape {image.shape}, {len(self.bands)} bands are named",
                fix="set `band_names`, in their order",
            )
        missing = ~np.isfinite(image) if self.nodata is None else ~np.isfinite(image) | (image == self.nodata)
        image = np.where(missing, np.float32(np.nan), image * np.float32(self.scale) + np.float32(self.offset))
        if bands is not None:
            image = np.ascontiguousarray(image[:, [self.bands.index(band) for band in bands]])
        return Sample(key, image, self._target(sample, key))

    def radiometry(self, overview: np.ndarray) -> tuple[float, float]:
        """Scale and offset, as given."""
        return self.scale, self.offset

    def fingerprint(self) -> str:
        """Hash of what was asked for and of how many samples there are."""
        counts = [len(self._part(name)) for name in _PARTS]
        return hashlib.sha256(repr((self, counts)).encode()).hexdigest()

    # ------------------------------------------------------------------------------------- details

    @property
    def _class(self) -> type:
        try:
            import torchgeo.datasets as family
        except ImportError as error:
            raise ConfigError(
                "the dataset 'torchgeo' needs torchgeo, which is not installed", fix="pip install 'adapteo[torchgeo]'"
            ) from error
        found = vars(family).get(self.source)
        if not isinstance(found, type):
            known = [name for name, value in vars(family).items() if isinstance(value, type)]
            raise ConfigError(f"torchgeo has no data set '{self.source}'{closest(self.source, known)}",
                              fix="write the name of its class, e.g. `source: EuroSAT`")  # fmt: skip
        if "split" not in inspect.signature(found).parameters:
            raise ConfigError(f"torchgeo's {self.source} has no splits",
                              fix="use its files with `name: folder`, which makes splits")  # fmt: skip
        return found

    @cached_property
    def _parts(self) -> dict[str, Any]:
        return {}

    def _part(self, name: str) -> Any:
        if name not in self._parts:
            given = {**(self.arguments or {}), "root": self.root, "split": (self.split_names or {}).get(name, name)}
            try:
                self._parts[name] = self._class(**given)
            except (OSError, RuntimeError, ValueError, TypeError, AssertionError) as error:
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                raise DataError(
                    f"torchgeo's {self.source} cannot be opened for '{name}': "
                    + (lines[0] if lines else type(error).__name__),
                    fix="check root, arguments and split_names in the dataset section; download it with torchgeo first",
                ) from error
        return self._parts[name]

    def _sample(self, part: str, number: int) -> Mapping[str, Any]:
        sample: Mapping[str, Any] = self._part(part)[number]
        if "image" not in sample or not {"mask", "label"} & set(sample):
            raise DataError(
                f"samples of torchgeo's {self.source} do not fit: they hold {', '.join(map(str, sample))}",
                fix="choose one with an image and a mask or a label",
            )
        return sample

    @cached_property
    def _table(self) -> ClassTable:
        names: Any = self.class_names or getattr(self._part("train"), "classes", ())
        if not names:
            raise DataError(f"torchgeo's {self.source} does not name its classes", fix="set `class_names`")
        return ClassTable.of(names if isinstance(names, Mapping) else [str(name) for name in names], self.ignore)

    def _target(self, sample: Mapping[str, Any], key: str) -> np.ndarray:
        source = f"{self.source} {key}"
        if "mask" in sample:
            mask = np.asarray(sample["mask"])
            return self._table.encode_mask(mask[0] if mask.ndim == 3 and len(mask) == 1 else mask, source)
        label = np.asarray(sample["label"])
        if label.ndim:
            if label.shape != (len(self.classes),):
                raise DataError(f"{source} has labels of shape {label.shape}, {len(self.classes)} classes are named")
            return label.astype(np.float32)
        return np.array(self._table.encode_label(str(int(label)), source), np.int64)


DATASET = TorchGeo

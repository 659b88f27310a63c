"""Your own chips: images with masks, class folders, or an index file (CSV, GeoParquet)."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from adapteo.bands import resolve_all
from adapteo.contracts import Dataset, Sample
from adapteo.data._chips import Chip, dates_of, from_patterns, from_rows
from adapteo.data._images import Encoding, Header, bands_of, read_frames, read_header
from adapteo.data._index import read_rows
from adapteo.data._labels import ClassTable, LabelType, encode_regression, label_type_of, mark_labels, split_labels
from adapteo.data.radiometry import baseline_offset, check_auto_offset
from adapteo.data.raster import read_raster
from adapteo.data.splits import Splits, assign, default_splits
from adapteo.errors import DataError, closest


@dataclass(frozen=True)
class Folder(Dataset):
    """Your own chips: images with masks, class folders, or an index file.

    Three ways to say what there is: `images` and `masks` patterns (paired by what their wildcards match); `images`
    alone (the parent folder is the class); `index`, a table with the column ``path`` and as there are ``mask`` or
    ``label``, ``latitude``, ``longitude``, ``date``, ``offset``, ``region``, ``split``.

    Attributes:
        root: folder that all other paths are relative to.
        images: pattern of the image files, e.g. ``S2/*_S2.tif``; a list has one per date.
        masks: pattern of the label files, e.g. ``labels/*_label.tif``.
        index: CSV or GeoParquet file.

        label_type: "segmentation", "classification", "multilabel", "regression"; found out when left out.
        class_names: in the order of the values 0, 1, …, or a mapping of mask values to names. For labels in an
            index or in folder names it may be left out. Multi-label: names separated by ``;`` in the column ``label``,
            or one column of 0 and 1 per class name.
        ignore: mask values that are not to be learned.

        band_names: of the files' bands, any alias of `adapteo.bands`; by default the files' own descriptions.
        sensor: "sentinel2", "hls_s30", "hls_l30", "landsat8"; needed for names such as B5.
        scale: physical value (reflectance 0..1, dB) = stored value x scale + offset.
        offset: see `scale`; "auto" finds the Sentinel-2 baseline 04.00 offset in each image.
        nodata: stored value that is missing, beside what the files say.

        dates_per_file: dates that one file stacks, all bands of the first date first.
        date_format: how file names spell the date, e.g. ``%Y%m%d`` or ``T%Y%j``.
        pixel_size: in metres, for files without a georeference.
        group_column: column of the index for tables by group; by default ``region`` or ``event`` where there is one.
        splits: see `adapteo.data.splits.Splits`; by default the column ``split``, folders train/val/test, or random.
    """

    root: str
    images: str | tuple[str, ...] = "**/*"
    masks: str = ""
    index: str = ""

    label_type: LabelType = ""
    class_names: tuple[str, ...] | Mapping[int, str] = ()
    ignore: int | tuple[int, ...] = ()

    band_names: tuple[str, ...] = ()
    sensor: str | None = None
    scale: float = 1.0
    offset: float | Literal["auto"] = 0.0
    nodata: float | None = None

    dates_per_file: int = 1
    date_format: str = ""
    pixel_size: float | None = None
    group_column: str = ""
    splits: Splits | None = None

    # ------------------------------------------------------------------------------------- contract

    @property
    def bands(self) -> tuple[str, ...]:
        """Canonical names of the files' bands, in order."""
        return self._encoding.bands

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; empty for regression."""
        return self._table.names if self._table else ()

    @property
    def task(self) -> str:
        """What fits the labels, see `label_type`."""
        return self.label_type or self._label_type

    @property
    def frames(self) -> int:
        """Dates per chip."""
        return len(self._any.images) * self.dates_per_file

    @property
    def gsd(self) -> float:
        """Metres per pixel: as given, of the first file, or 10."""
        return self.pixel_size or self._header.gsd or 10.0

    def split(self, name: str) -> Sequence[str]:
        """Keys of one part."""
        keys = self._parts.get(name)
        if not keys:
            having = {part: len(found) for part, found in self._parts.items() if found}
            raise DataError(
                f"the split '{name}' {'does not exist' if keys is None else 'is empty'}{closest(name, having)}",
                allowed=[f"{part} ({count})" for part, count in having.items()],
                fix="change `splits` in the dataset section",
            )
        return keys

    @property
    def holdouts(self) -> tuple[str, ...]:
        """Names of the further test splits."""
        return tuple(name for name in self._parts if name not in ("train", "val", "test"))

    def read(self, key: str, bands: Sequence[str] | None = None) -> Sample:
        """Read one chip; see `Dataset.read`."""
        chip = self._chips.get(key)
        if chip is None:
            raise DataError(f"there is no chip '{key}' in {self.root}{closest(key, self._chips)}")
        wanted = self._positions(bands)
        files = [read_frames(path, self._encoding, wanted, chip.offset) for path in chip.images]
        shapes = {file.image.shape for file in files}
        if len(shapes) > 1:
            raise DataError(f"the dates of '{key}' differ in size: {sorted(s[2:] for s in shapes)} pixels")
        image = files[0].image if len(files) == 1 else np.concatenate([file.image for file in files])
        latlon = chip.latlon or files[0].latlon or (np.nan, np.nan)
        return Sample(
            key,
            image,
            self._target(chip, image.shape[-2:]),
            self._group(chip),
            dates_of(chip, [file.date for file in files], self.date_format, self.frames),
            np.array(latlon, np.float32),
        )

    def group(self, key: str) -> str | None:
        """Group of one chip; see the field `group_column`."""
        return self._group(self._chips[key])

    def radiometry(self, overview: np.ndarray) -> tuple[float, float]:
        """Scale and offset of the chips; with ``offset: auto`` the offset is found in the scene itself."""
        if self.offset == "auto":
            return self.scale, baseline_offset(overview * self.scale)
        return self.scale, self.offset

    def fingerprint(self) -> str:
        """Hash of every file's name, size and time, and of all that decides what `read` returns."""
        digest = hashlib.blake2b(digest_size=16)
        settings = (self._encoding, self.task, self._table)
        digest.update(repr(settings).encode())
        for chip in self._chips.values():
            digest.update(f"{chip.key}\0{chip.label}\0{chip.offset}\0{chip.latlon}\0{chip.dates}".encode())
            for path in (*chip.images, *([chip.mask] if chip.mask else [])):
                stat = path.stat() if path.exists() else None
                digest.update(f"{path.name}\0{stat and (stat.st_size, stat.st_mtime_ns)}\n".encode())
        return digest.hexdigest()

    # ---------------------------------------------------------------------------------- what is there

    @cached_property
    def _chips(self) -> dict[str, Chip]:
        root = Path(self.root).expanduser()
        if self.index:
            chips = from_rows(root, self.index, read_rows(root / self.index))
        else:
            patterns = (self.images,) if isinstance(self.images, str) else self.images
            chips = from_patterns(root, patterns, self.masks)
        if len({len(chip.images) for chip in chips}) > 1:
            odd = next(chip for chip in chips if len(chip.images) != len(chips[0].images))
            raise DataError(f"chip '{odd.key}' has {len(odd.images)} dates, the first one {len(chips[0].images)}")
        return {chip.key: chip for chip in mark_labels(chips, tuple(self.class_names), self.label_type)}

    @property
    def _any(self) -> Chip:
        return next(iter(self._chips.values()))

    @cached_property
    def _header(self) -> Header:
        return read_header(self._any.images[0])

    @cached_property
    def _encoding(self) -> Encoding:
        if self.band_names:
            bands = resolve_all(self.band_names, self.sensor)
        else:
            bands = bands_of(self._header, self._any.images[0], self.dates_per_file, self.sensor)
        if self.offset == "auto":
            check_auto_offset(bands)
        return Encoding(bands, self.dates_per_file, self.scale, self.offset, self.nodata)

    def _positions(self, bands: Sequence[str] | None) -> list[int]:
        if bands is None:
            return list(range(len(self.bands)))
        for band in bands:
            if band not in self.bands:
                raise DataError(f"{self.root} has no band '{band}'{closest(band, self.bands)}", allowed=self.bands)
        return [self.bands.index(band) for band in bands]

    # ---------------------------------------------------------------------------------------- labels

    @cached_property
    def _label_type(self) -> LabelType:
        chip = self._any
        whole = read_header(chip.mask).whole if chip.mask else False
        return label_type_of(list(self._chips.values()), bool(self.class_names), whole)

    @cached_property
    def _table(self) -> ClassTable | None:
        """Classes; None for regression."""
        if self.task == "regression":
            return None
        names = self.class_names
        if not names and self.task != "segmentation":
            names = tuple(sorted({name for chip in self._chips.values() for name in split_labels(chip.label)}))
        if not names:
            raise DataError("the classes have no names", fix="set `class_names`: a list, or a mapping of mask values")
        return ClassTable.of(names, self.ignore)

    def _target(self, chip: Chip, shape: tuple[int, ...]) -> np.ndarray | None:
        """Label of a chip in the form of `Sample.target`."""
        if chip.mask is not None:
            mask = read_raster(chip.mask, masked=self.task == "regression")
            if mask.array.shape != (1, *shape):
                raise DataError(
                    f"{chip.mask} has {len(mask.array)} bands of {mask.array.shape[1:]} pixels, "
                    f"its image 1 band of {shape}",
                    fix="a mask has one band and the size of its image",
                )
            if self._table is None:
                return encode_regression(mask.array[0], self.ignore)
            return self._table.encode_mask(mask.array[0], chip.mask, mask.nodata)
        if chip.label is None or self._table is None:
            return None
        if self.task == "multilabel":
            return self._table.encode_labels(split_labels(chip.label), chip.images[0])
        return np.array(self._table.encode_label(chip.label, chip.images[0]), np.int64)

    def _group(self, chip: Chip) -> str | None:
        if self.group_column and self.group_column not in chip.columns:
            raise DataError(
                f"the index has no column '{self.group_column}'{closest(self.group_column, chip.columns)}",
                allowed=chip.columns,
                fix="correct `group_column` in the dataset section",
            )
        names = (self.group_column,) if self.group_column else ("region", "event")
        return next((chip.columns[name] for name in names if chip.columns.get(name)), None)

    # ---------------------------------------------------------------------------------------- splits

    @cached_property
    def _parts(self) -> dict[str, tuple[str, ...]]:
        root, chips = Path(self.root).expanduser(), list(self._chips.values())
        return assign(self.splits or default_splits(chips, root), chips, root, self._place)

    def _place(self, chip: Chip) -> tuple[float, float] | None:
        return chip.latlon or read_header(chip.images[0]).latlon


DATASET = Folder

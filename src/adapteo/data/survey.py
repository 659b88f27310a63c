"""Your own scenes, with labels drawn in a GIS: windows are read from the scenes, no chips are cut."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from adapteo._ignore import IGNORE
from adapteo.bands import resolve_all
from adapteo.contracts import Dataset, Sample
from adapteo.data._images import Header, bands_of
from adapteo.data._mask_labels import MaskLabels, are_masks, read_masks
from adapteo.data._survey_balance import Balance, seen_shares, window_weights
from adapteo.data._survey_cells import Drawing, Drawn
from adapteo.data._survey_chance import ByChance
from adapteo.data._survey_plan import Plan, Planner
from adapteo.data._survey_scenes import SceneFile, Wanted, find_scenes, overview
from adapteo.data._survey_splits import SurveySplits
from adapteo.data.radiometry import baseline_offset, check_auto_offset, check_range
from adapteo.data.raster import latlon_of_centre
from adapteo.data.vector import Labels, read_labels
from adapteo.errors import ConfigError, DataError, closest

_MOST_OVERLAPS = 8
"""Of windows along one side: 64 windows for each place; more takes hours and teaches nothing new."""


@dataclass(frozen=True)
class Survey(Dataset):
    """Your own scenes, and polygons, lines or points drawn on them in a GIS, or masks.

    A scene is one GeoTIFF or VRT with all bands, a Sentinel-2 product folder, an HLS or Landsat Collection 2 scene, a
    folder with one file per band, or a STAC item (see `adapteo.data.scene_files`). Bands of other pixel sizes are
    resampled to the finest. Windows with a label are the samples; what has no label is ignored, it is not a class.
    Labels may be in another coordinate system than the scenes.

    Attributes:
        root: folder that all other paths are relative to.
        scenes: patterns of files or product folders, e.g. ``scenes/*.tif`` or ``*.SAFE``, folders, or addresses.
        labels: GeoPackage, GeoJSON, Shapefile, GeoParquet, or CSV with coordinates; or rasters with a class value in
            each pixel: files, patterns such as ``masks/*.tif``, or a folder. Such masks may have another grid than the
            scenes; they belong to the scene whose name they have, else to those in whose place they lie.
        class_column: column of the label file with the class; masks have none.
        class_names: in the order of the class indices, as they are in the column, or a mapping of what is in the column
            to names; by default all that is in the column, sorted. For masks: a mapping of values to names, or names of
            0, 1, …; by default what the files (or a QGIS style beside them) call their values.
        ignore_values: of masks, that are no class; null for 255 and the files' nodata, unless they have a name.
        layer: of the label file, where it has several.
        labels_crs: coordinate system of the label file (EPSG code), where it does not say its own, or a wrong one.

        band_names: of the bands of one file, all in its order, any alias of `adapteo.bands`; by default the file's own
            descriptions. Of products and of one file per band: those wanted; by default all.
        sensor: "sentinel2", "hls_s30", "hls_l30", "landsat8"; needed for names such as B5.
        scale: physical value (reflectance 0..1, dB) = stored value x scale + offset; null for what the product or file
            says, else 1.
        offset: see `scale`; null for what the product or file says, else 0; "auto" finds the Sentinel-2 baseline 04.00
            offset in each scene, where no product's own metadata say it.
        nodata: stored value that is missing, beside what the files say.
        frames: dates per sample. Scenes of one tile, of the same pixels, or of the same name apart from the date are
            one place; the most recent dates are taken, in order of time, on the pixels of the first.

        chip: side of a window in pixels.
        stride: pixels from one training window to the next, a divisor of `chip`; null for no overlap.
        point_radius: pixels around a point that its class covers; 0 for the pixel that it lies in.
        line_width: metres on the ground that lines are wide; null for one pixel.
        balance: see training windows of rare "classes", of small "scenes", or of "both" more often, at most 10 times as
            often as the mean; null for each once per epoch. The head start sees each once.
        splits: see `adapteo.data._survey_splits.SurveySplits`; by default blocks as large as the distance within which
            labels resemble each other, which is measured.
    """

    root: str
    scenes: str | tuple[str, ...]
    labels: str | tuple[str, ...]
    class_column: str = ""
    class_names: tuple[str, ...] | Mapping[str, str] = ()
    ignore_values: tuple[int, ...] | None = None
    layer: str | None = None
    labels_crs: str | None = None

    band_names: tuple[str, ...] = ()
    sensor: str | None = None
    scale: float | None = None
    offset: float | Literal["auto"] | None = None
    nodata: float | None = None
    frames: int = 1

    chip: int = 128
    stride: int | None = None
    point_radius: float = 0.0
    line_width: float | None = None
    balance: Balance | None = None
    splits: SurveySplits | None = None

    def __post_init__(self) -> None:
        """Refuse sizes that make no windows.

        Raises:
            ConfigError: names the key.
        """
        for key, value in (("chip", self.chip), ("frames", self.frames)):
            if value < 1:
                raise ConfigError(f"{key} is {value}", allowed=["1 or more"])
        if self.stride is not None and (self.stride < 1 or self.chip % self.stride):
            raise ConfigError(f"stride is {self.stride}, which does not divide chip ({self.chip})", fix="e.g. chip / 2")
        if self.stride is not None and self.chip // self.stride > _MOST_OVERLAPS:
            times = (self.chip // self.stride) ** 2
            raise ConfigError(
                f"stride is {self.stride} and chip {self.chip}: each place would be in {times:,} windows",
                fix=f"set stride to {-(-self.chip // 2)} (half of chip), or leave it out",
            )
        for key, size in (("point_radius", self.point_radius), ("line_width", self.line_width)):
            if size is not None and (size < 0 or (key == "line_width" and size == 0)):
                raise ConfigError(f"{key} is {size:g}", allowed=["a positive number"])

    # ------------------------------------------------------------------------------------- contract

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Canonical names of the scenes' bands, in order."""
        first = next((scene for scene in self._scenes if any(scene.names)), self._scenes[0])
        if self.band_names:
            bands = resolve_all(self.band_names, self.sensor)
            if len(bands) != len(first.names):
                raise DataError(
                    f"{first.path} has {len(first.names)} bands, but `band_names` names {len(bands)}",
                    fix="name all bands of the file in its order, in the dataset section",
                )
        else:
            bands = bands_of(Header(len(first.names), first.names, None, None, False), first.path, 1, self.sensor)
        if self.offset == "auto":
            check_auto_offset(bands)
        return bands

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self._drawing.classes

    @property
    def task(self) -> str:
        """Segmentation."""
        return "segmentation"

    @property
    def gsd(self) -> float:
        """Metres per pixel of the first scene."""
        return self._scenes[0].gsd

    @property
    def colours(self) -> Mapping[int, tuple[int, int, int]] | None:
        """Those of the masks, where they have one for each class."""
        return self._labels.colours if isinstance(self._labels, MaskLabels) else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What labels were left out or repaired, and how they were divided."""
        read = self._labels
        if isinstance(read, MaskLabels):
            return *self._doubts, *read.notes, *self._plan.notes, *self._balance_notes
        repaired = (f"{read.repaired} invalid geometries were repaired",) if read.repaired else ()
        dropped = (f"left out: {'; '.join(read.dropped)}",) if read.dropped else ()
        return (
            *self._doubts,
            *(f"{read.path.name}: {note}" for note in (*repaired, *dropped, *read.doubts)),
            *self._plan.notes,
            *self._balance_notes,
        )

    @property
    def holdouts(self) -> tuple[str, ...]:
        """Names of the further test splits."""
        return tuple(self._how.holdout)

    def split(self, name: str) -> Sequence[str]:
        """Keys of one part, "scene/row_column" each."""
        parts = self._plan.parts
        keys = parts.get(name)
        if not keys:
            having = {part: len(found) for part, found in parts.items() if found}
            raise DataError(
                f"the split '{name}' {f'does not exist{closest(name, parts)}' if keys is None else 'is empty'}",
                allowed=[f"{part} ({count} windows)" for part, count in having.items()],
                fix=f"change `splits` in the dataset section, or make `chip` ({self.chip}) or the buffer smaller",
            )
        return keys

    def read(self, key: str, bands: Sequence[str] | None = None) -> Sample:
        """Read one window; see `Dataset.read`."""
        window = self._plan.windows.get(key)
        if window is None:
            raise DataError(f"there is no window '{key}' in {self.root}{closest(key, self._plan.windows)}")
        scene, chip = self._scenes[window.scene], self.chip
        wanted = self._positions(bands)
        top, left = max(window.row, 0), max(window.col, 0)
        height = min(window.row + chip, scene.shape[0]) - top
        width = min(window.col + chip, scene.shape[1]) - left
        with scene.open(wanted) as file:
            found = file.read(top, left, height, width).reshape(self.frames, len(wanted), height, width)
        image = np.full((self.frames, len(wanted), chip, chip), np.nan, np.float32)
        down, right = top - window.row, left - window.col
        image[:, :, down : down + height, right : right + width] = found + self._corrections[window.scene]
        latlon = latlon_of_centre(scene.crs, scene.place(window.row, window.col), (chip, chip))
        days = [(day.year, day.timetuple().tm_yday) if day else (np.nan, np.nan) for day in scene.dates]
        return Sample(
            key,
            image,
            self._plan.labelling.target(window),
            window.group,
            np.array(days, np.float32),
            np.array(latlon or (np.nan, np.nan), np.float32),
        )

    def group(self, key: str) -> str | None:
        """Scene or region that a window lies in."""
        return self._plan.windows[key].group

    @property
    def split_note(self) -> str | None:
        """What the test scores do not hold for: with splits by chance, and by date where places are seen again."""
        return self._plan.warning

    def by_chance(self) -> Dataset | None:
        """The same windows divided by chance; None where they are already."""
        if self._how.by == "random":
            return None
        return ByChance(replace(self, stride=None, balance=None), self._how.seed)

    def weights(self, keys: Sequence[str]) -> np.ndarray | None:
        """How often each training window is to be seen; see the field `balance`."""
        if self.balance is None:
            return None
        windows = [self._plan.windows[key] for key in keys]
        return window_weights(self._counts(keys), [window.scene for window in windows], self.balance)

    def scaling(self, number: int) -> tuple[float, float]:
        """Scale and offset from the stored numbers of a scene, of its first date, to physical values."""
        source = self._scenes[number].sources[0]
        return source.scale, source.offset + float(self._corrections[number][0, 0, 0, 0])

    def encoding(self, key: str) -> tuple[float, float]:
        """Scale and offset from the stored numbers of a window's scene to its physical values."""
        return self.scaling(self._plan.windows[key].scene)

    def radiometry(self, overview: np.ndarray) -> tuple[float, float]:
        """Those of the first scene; with ``offset: auto`` the offset is found in the new scene itself."""
        source = self._scenes[0].sources[0]
        if self.offset == "auto":
            return source.scale, baseline_offset(overview * source.scale)
        return source.scale, source.offset

    def fingerprint(self) -> str:
        """Hash of every file's name, size and time, and of all that decides what `read` returns."""
        digest = hashlib.blake2b(repr(self).encode(), digest_size=16)
        read = self._labels
        labels = read.paths if isinstance(read, MaskLabels) else (read.path,)
        for address in (address for scene in self._scenes for address in scene.addresses):
            digest.update(address.encode())
        for path in (*(file for scene in self._scenes for file in scene.local_files), *labels):
            stat = path.stat()
            digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    # ---------------------------------------------------------------------------------- what is there

    @property
    def scenes_found(self) -> tuple[SceneFile, ...]:
        """What is known of each scene before it is read."""
        return self._scenes

    @property
    def labels_read(self) -> Labels | MaskLabels:
        """The labels as they were drawn, without what cannot be used."""
        return self._labels

    @property
    def plan(self) -> Plan:
        """Which windows are samples, of which part, and what their labels are."""
        return self._plan

    @property
    def _how(self) -> SurveySplits:
        return self.splits or SurveySplits()

    @property
    def _folder(self) -> Path:
        return Path(self.root).expanduser()

    @cached_property
    def _scenes(self) -> tuple[SceneFile, ...]:
        wanted = Wanted(self.band_names, self.sensor, self.scale, self.offset, self.nodata, self.frames)
        return find_scenes(self._folder, (self.scenes,) if isinstance(self.scenes, str) else self.scenes, wanted)

    @cached_property
    def _labels(self) -> Labels | MaskLabels:
        names = self.class_names
        if are_masks(self._folder, self.labels):
            if self._how.by == "region":
                raise ConfigError(
                    "splits.by is 'region', but masks have no column with the region",
                    allowed=["block", "scene", "date", "random"],
                    fix="divide by scene, and name the scenes of each part",
                )
            return read_masks(self._folder, self.labels, self._scenes, names, self.ignore_values)
        if not isinstance(self.labels, str):
            raise ConfigError(f"labels is {list(self.labels)}", allowed=["one vector file", "several masks"])
        if not self.class_column:
            raise ConfigError(
                "class_column is missing", fix=f"name the column of {self.labels} with the class in the dataset section"
            )
        return read_labels(
            self._folder / self.labels,
            self.class_column,
            layer=self.layer,
            classes={key: names[key] for key in names} if isinstance(names, Mapping) else names or None,
            columns=(self._how.column,) if self._how.column else (),
            crs=self.labels_crs,
        )

    @cached_property
    def _drawing(self) -> Drawn:
        read = self._labels
        return read if isinstance(read, MaskLabels) else Drawing(read, self.point_radius, self.line_width)

    @cached_property
    def _plan(self) -> Plan:
        return Planner(self._scenes, self._drawing, self._how, self.chip, self.stride or self.chip).plan()

    @property
    def _doubts(self) -> tuple[str, ...]:
        """What products leave open."""
        sources = (source for scene in self._scenes for source in scene.sources)
        return tuple(f"{source.name}: {doubt}" for source in sources for doubt in source.doubts)

    def _counts(self, keys: Sequence[str]) -> np.ndarray:
        """Labelled pixels by window and class."""
        targets = (self._plan.labelling.target(self._plan.windows[key]) for key in keys)
        return np.stack([np.bincount(t[t != IGNORE], minlength=len(self.classes)) for t in targets])

    @cached_property
    def _balance_notes(self) -> tuple[str, ...]:
        """Shares of the classes before and after balancing."""
        if self.balance is None:
            return ()
        keys = self.split("train")
        counts, weights = self._counts(keys), self.weights(keys)
        assert weights is not None, "there is a balance"
        before, after = seen_shares(counts, np.ones(len(keys))), seen_shares(counts, weights)
        told = (f"{n} {b:.1%} ({a:.1%})" for n, a, b in zip(self.classes, before, after, strict=True))
        return (f"balance: {self.balance}: share of the labels seen in training (without): {', '.join(told)}",)

    @cached_property
    def _corrections(self) -> tuple[np.ndarray, ...]:
        """What is to be added to each scene, by date ``(t, 1, 1, 1)``; its scale is checked on the way."""
        out = []
        for scene in self._scenes:
            with scene.open() as file:
                dates = np.split(overview(file, range(1, file.count + 1)), self.frames)
            added = []
            for pieces, source in zip(dates, scene.sources, strict=True):
                looked_at = self.offset == "auto" and not (source.product and source.kind != "stac")
                added.append(baseline_offset(pieces) if looked_at else 0.0)
                check_range(pieces + added[-1], self.bands, source.scale, source.path)
            out.append(np.array(added, np.float32).reshape(-1, 1, 1, 1))
        return tuple(out)

    def _positions(self, bands: Sequence[str] | None) -> list[int]:
        if bands is None:
            return list(range(len(self.bands)))
        for band in bands:
            if band not in self.bands:
                raise DataError(f"{self.root} has no band '{band}'{closest(band, self.bands)}", allowed=self.bands)
        return [self.bands.index(band) for band in bands]


DATASET = Survey

"""Your own scenes, with labels drawn in a GIS: windows are read from the scenes, no chips are cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from adapteo._ignore import IGNORE
from adapteo.bands import resolve_all
from adapteo.contracts import Dataset, Sample
from adapteo.data._images import Header, bands_of
from adapteo.data._mask_labels import MaskLabels
from adapteo.data._survey_balance import Balance, balance_note, window_weights
from adapteo.data._survey_cells import Drawing, Drawn
from adapteo.data._survey_chance import ByChance
from adapteo.data._survey_labels import LabelsWanted, find_labels, label_notes
from adapteo.data._survey_plan import Plan, Planner
from adapteo.data._survey_reading import corrections, days_of, fingerprint_of, window_image
from adapteo.data._survey_scenes import SceneFile, Wanted, find_scenes
from adapteo.data._survey_sizes import check_frames, check_sizes
from adapteo.data._survey_splits import SurveySplits
from adapteo.data.radiometry import baseline_offset, check_auto_offset
from adapteo.data.raster import latlon_of_centre
from adapteo.data.vector import Labels
from adapteo.errors import DataError, closest


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
        dates_per_file: dates that one file stacks, all bands of the first date first; a sample then has all of them,
            and `band_names` names the bands of one date.
        dates: of such files, e.g. ``[2023-04-15, 2023-08-15]``, where neither their names (with one day for each date)
            nor the names of their bands say it.

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
    dates_per_file: int = 1
    dates: tuple[str, ...] = ()

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
        check_sizes(self.chip, self.stride, self.point_radius, self.line_width)
        check_frames(self.frames, self.dates_per_file, self.dates)
        if self.dates_per_file > 1:
            object.__setattr__(self, "frames", self.dates_per_file)

    # ------------------------------------------------------------------------------------- contract

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Canonical names of the scenes' bands, in order."""
        first = next((scene for scene in self.scenes_found if any(scene.names)), self.scenes_found[0])
        if self.band_names:
            bands = resolve_all(self.band_names, self.sensor)
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
        return self.scenes_found[0].gsd

    @property
    def colours(self) -> Mapping[int, tuple[int, int, int]] | None:
        """Those of the masks, where they have one for each class."""
        return self.labels_read.colours if isinstance(self.labels_read, MaskLabels) else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What labels were left out or repaired, and how they were divided."""
        sources = (source for scene in self.scenes_found for source in scene.sources)
        doubts = (f"{source.name}: {doubt}" for source in sources for doubt in source.doubts)
        return *doubts, *label_notes(self.labels_read), *self.plan.notes, *self._balance_notes

    @property
    def holdouts(self) -> tuple[str, ...]:
        """Names of the further test splits."""
        return tuple(self._how.holdout)

    def split(self, name: str) -> Sequence[str]:
        """Keys of one part, "scene/row_column" each."""
        parts = self.plan.parts
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
        window = self.plan.windows.get(key)
        if window is None:
            raise DataError(f"there is no window '{key}' in {self.root}{closest(key, self.plan.windows)}")
        scene, chip = self.scenes_found[window.scene], self.chip
        image = window_image(scene, window, chip, self._positions(bands), self._corrections[window.scene])
        latlon = latlon_of_centre(scene.crs, scene.place(window.row, window.col), (chip, chip))
        return Sample(
            key,
            image,
            self.plan.labelling.target(window),
            window.group,
            days_of(scene),
            np.array(latlon or (np.nan, np.nan), np.float32),
        )

    def group(self, key: str) -> str | None:
        """Scene or region that a window lies in."""
        return self.plan.windows[key].group

    @property
    def split_note(self) -> str | None:
        """What the test scores do not hold for: with splits by chance, and by date where places are seen again."""
        return self.plan.warning

    def by_chance(self) -> Dataset | None:
        """The same windows divided by chance; None where they are already."""
        if self._how.by == "random":
            return None
        return ByChance(replace(self, stride=None, balance=None), self._how.seed)

    def weights(self, keys: Sequence[str]) -> np.ndarray | None:
        """How often each training window is to be seen; see the field `balance`."""
        if self.balance is None:
            return None
        windows = [self.plan.windows[key] for key in keys]
        return window_weights(self._counts(keys), [window.scene for window in windows], self.balance)

    def scaling(self, number: int) -> tuple[float, float]:
        """Scale and offset from the stored numbers of a scene, of its first date, to physical values."""
        source = self.scenes_found[number].sources[0]
        return source.scale, source.offset + float(self._corrections[number][0, 0, 0, 0])

    def encoding(self, key: str) -> tuple[float, float]:
        """Scale and offset from the stored numbers of a window's scene to its physical values."""
        return self.scaling(self.plan.windows[key].scene)

    def radiometry(self, overview: np.ndarray) -> tuple[float, float]:
        """Those of the first scene; with ``offset: auto`` the offset is found in the new scene itself."""
        source = self.scenes_found[0].sources[0]
        if self.offset == "auto":
            return source.scale, baseline_offset(overview * source.scale)
        return source.scale, source.offset

    def fingerprint(self) -> str:
        """Hash of every file's name, size and time, and of all that decides what `read` returns."""
        return fingerprint_of(repr(self), self.scenes_found, self.labels_read)

    # ---------------------------------------------------------------------------------- what is there

    @cached_property
    def scenes_found(self) -> tuple[SceneFile, ...]:
        """What is known of each scene before it is read."""
        days = tuple(map(date.fromisoformat, self.dates))
        wanted = Wanted(
            self.band_names, self.sensor, self.scale, self.offset, self.nodata, self.frames, self.dates_per_file, days
        )
        return find_scenes(self._folder, (self.scenes,) if isinstance(self.scenes, str) else self.scenes, wanted)

    @cached_property
    def labels_read(self) -> Labels | MaskLabels:
        """The labels as they were drawn, without what cannot be used."""
        wanted = LabelsWanted(
            self.labels, self.class_column, self.class_names, self.ignore_values, self.layer, self.labels_crs,
            self._how.column, self._how.by == "region",
        )  # fmt: skip
        return find_labels(self._folder, wanted, self.scenes_found)

    @cached_property
    def plan(self) -> Plan:
        """Which windows are samples, of which part, and what their labels are."""
        return Planner(self.scenes_found, self._drawing, self._how, self.chip, self.stride or self.chip).plan()

    @property
    def _how(self) -> SurveySplits:
        return self.splits or SurveySplits()

    @property
    def _folder(self) -> Path:
        return Path(self.root).expanduser()

    @cached_property
    def _drawing(self) -> Drawn:
        read = self.labels_read
        return read if isinstance(read, MaskLabels) else Drawing(read, self.point_radius, self.line_width)

    def _counts(self, keys: Sequence[str]) -> np.ndarray:
        """Labelled pixels by window and class."""
        targets = (self.plan.labelling.target(self.plan.windows[key]) for key in keys)
        return np.stack([np.bincount(t[t != IGNORE], minlength=len(self.classes)) for t in targets])

    @cached_property
    def _balance_notes(self) -> tuple[str, ...]:
        """Shares of the classes before and after balancing."""
        if self.balance is None:
            return ()
        keys = self.split("train")
        weights = self.weights(keys)
        assert weights is not None, "there is a balance"
        return (balance_note(self.balance, self.classes, self._counts(keys), weights),)

    @cached_property
    def _corrections(self) -> tuple[np.ndarray, ...]:
        return corrections(self.scenes_found, self.offset, self.bands)

    def _positions(self, bands: Sequence[str] | None) -> list[int]:
        if bands is None:
            return list(range(len(self.bands)))
        for band in bands:
            if band not in self.bands:
                raise DataError(f"{self.root} has no band '{band}'{closest(band, self.bands)}", allowed=self.bands)
        return [self.bands.index(band) for band in bands]


DATASET = Survey

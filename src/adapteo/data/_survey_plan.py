"""Which windows of a survey are samples of which split, and what of their labels counts. No torch.

labelled windows ──▶ units (blocks, scenes, regions) ──▶ parts ──▶ windows, buffer around what tests
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from adapteo._ignore import IGNORE
from adapteo.data._blocks import in_box
from adapteo.data._blocks_fit import Range, autocorrelation_range
from adapteo.data._survey_buffer import Rect, bearable, near, rect_of
from adapteo.data._survey_cells import Cell, Drawing, Drawn, find_cells
from adapteo.data._survey_scenes import SceneFile, grid_name
from adapteo.data._survey_splits import PARTS, SurveySplits, dated, deal_units, listed
from adapteo.data.raster import latlon_of_centre
from adapteo.errors import DataError

LEAST_BLOCKS = 12
"""Labelled blocks that there should be, so that three parts can differ; larger blocks are made smaller."""


@dataclass(frozen=True)
class Window:
    """A sample: where it is read, its part, and what tests nearby (``rects`` on the common grid)."""

    scene: int
    row: int
    col: int
    part: str
    group: str
    rects: tuple[Rect, ...] = ()


@dataclass(frozen=True)
class Labelling:
    """What the label of a window is.

    Attributes:
        scenes: of the survey.
        chip: side of a window.
        drawing: the labels.
        by_region: the same with regions in place of classes, where they decide.
        home: part of each region.
        buffer: in pixels.
    """

    scenes: tuple[SceneFile, ...]
    chip: int
    drawing: Drawn
    by_region: Drawing | None = None
    home: Mapping[str, str] = field(default_factory=dict)
    buffer: float = 0.0

    def target(self, window: Window) -> np.ndarray:
        """Class indices ``(chip, chip)``; `IGNORE` without a label, and for what another part or the buffer claims."""
        scene = self.scenes[window.scene]
        out = self.drawing.window(scene, window.row, window.col, self.chip)
        if self.by_region is not None:
            codes = self.by_region.window(scene, window.row, window.col, self.chip)
            ours = np.array([self.home.get(name) == window.part for name in self.by_region.labels.classes])
            out[(codes != IGNORE) & ~ours[np.maximum(codes, 0)]] = IGNORE
        y = np.arange(self.chip)[:, None] + window.row + scene.origin[0] + 0.5
        x = np.arange(self.chip) + window.col + scene.origin[1] + 0.5
        for top, left, bottom, right in window.rects:
            down = np.maximum(np.maximum(top - y, y - bottom), 0)
            across = np.maximum(np.maximum(left - x, x - right), 0)
            out[np.hypot(down, across) <= self.buffer] = IGNORE
        return out


@dataclass(frozen=True)
class Plan:
    """All samples of a survey.

    Attributes:
        windows: by key.
        parts: keys of train, val, test and the hold-outs.
        labelling: of the windows.
        block: side of a block in pixels; 0 when there are none.
        range: of the labels' autocorrelation in pixels, when it was measured.
        notes: what the user should know.
        warning: the one of them that says what the test scores do not hold for, if any.
    """

    windows: dict[str, Window]
    parts: dict[str, tuple[str, ...]]
    labelling: Labelling
    block: int
    range: Range | None
    notes: tuple[str, ...]
    warning: str | None = None


class Planner:
    """Makes a `Plan`."""

    def __init__(
        self, scenes: Sequence[SceneFile], drawing: Drawn, splits: SurveySplits, chip: int, stride: int
    ) -> None:
        self.scenes, self.drawing, self.splits = tuple(scenes), drawing, splits
        self.chip, self.stride = chip, stride
        self.notes: list[str] = []
        self.warning: str | None = None
        self.by_region: Drawing | None = None
        if splits.by == "region":
            assert isinstance(drawing, Drawing), "masks have no regions, see Survey"
            column = drawing.labels.columns[splits.column]
            names, codes = np.unique(column, return_inverse=True)
            regions = replace(drawing.labels, codes=codes.astype(np.int64), classes=tuple(map(str, names)))
            self.by_region = replace(drawing, labels=regions)

    def plan(self) -> Plan:
        """Find the labelled windows and divide them.

        Raises:
            DataError: no label lies in a scene, or what the splits name is not there.
        """
        cells = find_cells(self.scenes, self.drawing, self.chip)
        families = self._families(cells)
        measured, block, buffer = self._sizes(cells)
        units = [self._unit(cell, families, block) for cell in cells]
        counts: dict[Hashable, np.ndarray] = {}
        for cell, unit in zip(cells, units, strict=True):
            counts[unit] = counts.get(unit, 0) + cell.counts
        home = self._home(families)
        given: dict[Hashable, str] = {unit: unit[1] for unit in counts if isinstance(unit, tuple) and unit[0] == "box"}
        given |= {unit: home[unit] for unit in counts if unit in home}
        part_of = deal_units(counts, self.splits, given)
        regions = {str(unit): part for unit, part in part_of.items()} if self.by_region else {}
        parts = [part_of[unit] for unit in units]
        if self.splits.by == "block" and self.splits.size is None and self.splits.buffer is None:
            buffer = self._bearable(cells, parts, self._rects(cells, units, parts, block), buffer)
        labelling = Labelling(self.scenes, self.chip, self.drawing, self.by_region, regions, buffer)
        windows = self._windows(cells, units, parts, block, labelling)
        if self.splits.by == "random":
            self.warning = (
                "splits.by is random: test windows lie beside training windows, so that the scores are too good for "
                "any other place; compare with `by: block`"
            )
        notes = (*self.notes, *([self.warning] if self.warning else []))
        return Plan(windows, self._keys(windows), labelling, block, measured, notes, self.warning)

    # ------------------------------------------------------------------------------------------ units

    def _families(self, cells: Sequence[Cell]) -> list[int]:
        """Number of the family of each scene: scenes that show the same labels belong together."""
        family = list(range(len(self.scenes)))
        having = sorted({cell.scene for cell in cells})
        pairs = self.drawing.shared([self.scenes[i] for i in having])
        if self.splits.by == "date":
            if any(self._day(self.scenes[having[m]]) != self._day(self.scenes[having[n]]) for m, n in pairs):
                self.warning = (
                    "splits.by is date: the same places are seen on several dates, so that the scores hold for other "
                    "dates of these places, not for other places"
                )
            return family
        for m, n in pairs:
            i, j = having[m], having[n]
            one, other = self.scenes[i], self.scenes[j]
            if self.splits.by in ("block", "random") and one.grid != other.grid:
                raise DataError(
                    f"{one.path.name} ({grid_name(one)}) and {other.path.name} ({grid_name(other)}) show the same "
                    "labels on different grids of pixels, so that blocks cannot keep them apart",
                    fix="set `splits: {by: scene}` or `by: region`, or bring them to one grid with gdalwarp",
                )
            family = [family[i] if f == family[j] else f for f in family]
        return family

    def _sizes(self, cells: Sequence[Cell]) -> tuple[Range | None, int, float]:
        """Measured range, side of a block, and buffer, in pixels."""
        splits, gsd = self.splits, self.scenes[0].gsd
        if splits.by != "block":
            return None, self.chip if splits.by == "random" else 0, (splits.buffer or 0.0) / gsd
        if splits.size is not None:
            pixels = splits.size / (gsd if splits.unit == "metres" else 1.0)
            return None, self._whole(pixels), (splits.buffer or 0.0) / gsd
        grids = [self.scenes[cell.scene].grid for cell in cells]
        largest = max(set(grids), key=grids.count)
        chosen = [cell for cell, grid in zip(cells, grids, strict=True) if grid == largest]
        xy, first = np.unique(np.concatenate([cell.pixels for cell in chosen]), axis=0, return_index=True)
        codes = np.concatenate([cell.codes for cell in chosen])[first]
        measured = autocorrelation_range(xy.astype(float), codes, 1.0, splits.seed)
        wanted = block = self._whole(measured.distance)
        squares = {(self.scenes[cell.scene].grid, *cell.square) for cell in cells}
        while block > self.chip and _count_blocks(squares, self.chip, block) < LEAST_BLOCKS:
            block -= self.chip
        more = "" if measured.reached else " or more"
        said = f"splits: labels resemble each other within {measured.distance * gsd:,.0f} m{more}"
        if block < wanted:
            said += f" (blocks of {wanted * gsd:,.0f} m would be too few)"
        self.notes.append(f"{said}: blocks of {block * gsd:,.0f} m")
        return measured, block, measured.distance / 3 if splits.buffer is None else splits.buffer / gsd

    def _whole(self, pixels: float) -> int:
        """A length as a whole number of windows, at least one."""
        return max(1, int(np.ceil(pixels / self.chip - 1e-9))) * self.chip

    def _unit(self, cell: Cell, families: Sequence[int], block: int) -> Hashable:
        scene, by = self.scenes[cell.scene], self.splits.by
        if by == "scene":
            return families[cell.scene]
        if by == "date":
            return self._day(scene)
        if self.by_region is not None:
            codes = self.by_region.window(scene, cell.row, cell.col, self.chip)
            found = np.bincount(codes[codes != IGNORE])
            return self.by_region.labels.classes[int(found.argmax())]
        for name, box in self.splits.holdout.items() if by == "block" else ():
            latlon = latlon_of_centre(scene.crs, scene.place(cell.row, cell.col), (self.chip, self.chip))
            if latlon is not None and in_box(*latlon, name, box):
                return "box", name
        return scene.grid, cell.square[0] * self.chip // block, cell.square[1] * self.chip // block

    @staticmethod
    def _day(scene: SceneFile) -> str:
        if scene.date is None:
            raise DataError(
                f"{scene.path} has no date, so that `by: date` cannot place it",
                fix="put the date into the file's name, e.g. 20210731, or divide by block, scene or region",
            )
        return scene.date.isoformat()

    def _home(self, families: Sequence[int]) -> dict[Hashable, str]:
        """Parts of the scenes or regions that the user named."""
        if self.by_region is not None:
            regions = listed(self.splits, self.by_region.labels.classes, "region")
            return {str(name): part for name, part in regions.items()}
        if self.splits.by == "date":
            days = dated(self.splits, sorted({self._day(scene) for scene in self.scenes}))
            return {str(day): part for day, part in days.items()}
        if self.splits.by != "scene":
            return {}
        names = [scene.name for scene in self.scenes]
        home: dict[Hashable, str] = {}
        for name, part in listed(self.splits, names, "scene").items():
            unit = families[names.index(name)]
            if home.setdefault(unit, part) != part:
                raise DataError(
                    f"the scene '{name}' shows the same labels as another one that is in '{home[unit]}', not '{part}'",
                    fix="give scenes of one place to one part",
                )
        return home

    # ---------------------------------------------------------------------------------------- windows

    def _windows(
        self, cells: Sequence[Cell], units: Sequence[Hashable], parts: Sequence[str], block: int, labelling: Labelling
    ) -> dict[str, Window]:
        rects = self._rects(cells, units, parts, block)
        home: dict[tuple[int, int, int], str] = {}
        for cell, part in zip(cells, parts, strict=True):
            home[self._ground(cell), *cell.square] = part
        out: dict[str, Window] = {}
        for cell, unit, part in zip(cells, units, parts, strict=True):
            scene = self.scenes[cell.scene]
            group = str(unit) if self.by_region else scene.name
            for row, col in self._starts(cell, part, home):
                top, left = row + scene.origin[0], col + scene.origin[1]
                nearby = near((top, left, top + self.chip, left + self.chip), rects[scene.grid], labelling.buffer)
                window = Window(cell.scene, row, col, part, group, nearby if part == "train" else ())
                key = f"{scene.name}/{row}_{col}"
                if key not in out and self._counts(window, labelling):
                    out[key] = window
        order = sorted(out, key=lambda key: (out[key].scene, out[key].row, out[key].col))
        return {key: out[key] for key in order}

    def _rects(
        self, cells: Sequence[Cell], units: Sequence[Hashable], parts: Sequence[str], block: int
    ) -> dict[int, np.ndarray]:
        """Blocks, or windows where there are none, that do not train, by grid: ``(n, 4)``."""
        rects: dict[int, set[Rect]] = {scene.grid: set() for scene in self.scenes}
        for cell, unit, part in zip(cells, units, parts, strict=True):
            if part != "train":
                whole = self.splits.by == "block" and unit != ("box", part)
                rects[self.scenes[cell.scene].grid].add(rect_of(cell.square, self.chip, block if whole else self.chip))
        return {grid: np.array(sorted(found), float).reshape(-1, 4) for grid, found in rects.items()}

    def _bearable(
        self, cells: Sequence[Cell], parts: Sequence[str], rects: Mapping[int, np.ndarray], buffer: float
    ) -> float:
        """A measured buffer, or less where it would leave too little; says which."""
        training = [cell for cell, part in zip(cells, parts, strict=True) if part == "train"]
        gsd, wanted = self.scenes[0].gsd, buffer
        buffer = bearable(training, [self.scenes[cell.scene].grid for cell in training], rects, buffer)
        too_wide = f" (of {wanted * gsd:,.0f} m would leave too few training labels)" if buffer < wanted else ""
        self.notes.append(f"splits: a buffer of {buffer * gsd:,.0f} m around what tests{too_wide}")
        return buffer

    def _ground(self, cell: Cell) -> int:
        """Number of the grid on which each window is in one part; with dates, each scene has a grid of its own."""
        return cell.scene if self.splits.by == "date" else self.scenes[cell.scene].grid

    def _starts(self, cell: Cell, part: str, home: dict[tuple[int, int, int], str]) -> list[tuple[int, int]]:
        """Upper left pixels of the windows for a labelled one; only training windows overlap each other."""
        if part != "train" or self.stride == self.chip:
            return [(cell.row, cell.col)]
        grid, steps = self._ground(cell), range(self.stride - self.chip, self.chip, self.stride)
        starts = []
        for down in steps:
            for right in steps:
                rows = {cell.square[0], cell.square[0] + int(np.sign(down))}
                cols = {cell.square[1], cell.square[1] + int(np.sign(right))}
                if all(home.get((grid, r, c), "train") == "train" for r in rows for c in cols):
                    starts.append((cell.row + down, cell.col + right))
        return starts

    def _counts(self, window: Window, labelling: Labelling) -> bool:
        """Whether a label is left in a window."""
        if not (window.rects or self.stride < self.chip or self.by_region):
            return True
        return bool((labelling.target(window) != IGNORE).any())

    def _keys(self, windows: dict[str, Window]) -> dict[str, tuple[str, ...]]:
        names = (*PARTS, *self.splits.holdout)
        return {name: tuple(key for key, window in windows.items() if window.part == name) for name in names}


def _count_blocks(squares: set[tuple[int, int, int]], chip: int, block: int) -> int:
    return len({(grid, row * chip // block, col * chip // block) for grid, row, col in squares})

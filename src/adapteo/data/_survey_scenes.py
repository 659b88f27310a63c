"""The scenes of a survey: found by patterns, described, and put on common grids of pixels. No torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np

from adapteo.data._dates import day_in_name
from adapteo.data._opening import open_file
from adapteo.data._projection import crs_name, same_crs
from adapteo.data._series import in_series
from adapteo.data._source import Grid, Source, finest, is_remote
from adapteo.data._stacked import in_dates
from adapteo.data._warp import open_bands
from adapteo.data.raster import Scene, Transform
from adapteo.data.scene_files import canonical, discover, pick, select
from adapteo.errors import DataError

__all__ = ["SceneFile", "Wanted", "day_in_name", "find_scenes", "grid_name", "overview"]
Days = tuple[date | None, ...]
"""Of acquisition, where known."""
_PIECES, _PIECE = 4, 64  # an overview is 4 x 4 windows of 64 x 64 pixels


@dataclass(frozen=True)
class Wanted:
    """What is wanted of the scenes of a survey; see the fields of `adapteo.data.survey.Survey`."""

    bands: tuple[str, ...] = ()
    sensor: str | None = None
    scale: float | None = None
    offset: float | Literal["auto"] | None = None
    nodata: float | None = None
    frames: int = 1
    dates_per_file: int = 1
    dates: tuple[date, ...] = ()


@dataclass(frozen=True)
class SceneFile:
    """What is known of a scene before it is read.

    Attributes:
        name: unique, in keys and tables.
        path: the file, or the folder of the product; of the first date.
        shape: height and width.
        names: the files' or the product's names of the bands.
        crs: WKT.
        transform: see `adapteo.data.raster.Transform`.
        gsd: metres per pixel.
        date: of acquisition: from the file name, else from its tags.
        grid: number of the grid of pixels that it lies on; scenes of one grid share it exactly.
        origin: row and column of its upper left pixel on that grid.
        sources: what it is read from, one per date, with the same bands in the same order.
    """

    name: str
    path: Path
    shape: tuple[int, int]
    names: tuple[str | None, ...]
    crs: str
    transform: Transform
    gsd: float
    date: date | None
    grid: int = 0
    origin: tuple[int, int] = (0, 0)
    sources: tuple[Source, ...] = ()

    @property
    def dates(self) -> Days:
        """Day of acquisition of each date."""
        return tuple(date.fromisoformat(source.date) if source.date else None for source in self.sources)

    @property
    def local_files(self) -> tuple[Path, ...]:
        """All files of all dates that lie on this machine."""
        return tuple(Path(file) for source in self.sources for file in source.files if not is_remote(file))

    @property
    def addresses(self) -> tuple[str, ...]:
        """All others."""
        return tuple(file for source in self.sources for file in source.files if is_remote(file))

    @contextmanager
    def open(self, positions: Sequence[int] | None = None) -> Iterator[Scene]:
        """Open it in physical units (of each band: stored x scale + offset, where somebody says).

        Args:
            positions: of the bands wanted, from 0; None for all. What is read has all bands of the first date, then
                all of the second.

        Raises:
            DataError: a file cannot be opened.
        """
        grid = Grid(self.crs, self.transform, self.shape, self.gsd)
        chosen = range(len(self.names)) if positions is None else positions
        bands = [source.bands[i] for source in self.sources for i in chosen]
        with open_bands(str(self.path), bands, grid, self.dates) as reader:
            yield reader

    @contextmanager
    def open_stored(self) -> Iterator[Scene]:
        """Open the first date with its numbers as stored; one file with just these bands is opened as it is."""
        first = self.sources[0]
        if len(first.files) == 1:
            with open_file(first.files[0]) as scene:
                if [band.index for band in first.bands] == list(range(1, scene.count + 1)):
                    yield scene
                    return
        bands = [replace(band, scale=None, offset=None) for band in first.bands]
        with open_bands(str(self.path), bands, Grid(self.crs, self.transform, self.shape, self.gsd)) as reader:
            yield reader

    def place(self, row: int, col: int) -> Transform:
        """Transform of a window whose upper left pixel is (row, col)."""
        a, b, c, d, e, f = self.transform
        return a, b, a * col + b * row + c, d, e, d * col + e * row + f


def find_scenes(root: Path, patterns: Sequence[str], wanted: Wanted | None = None) -> tuple[SceneFile, ...]:
    """Find and describe the scenes.

    Args:
        root: folder that patterns are relative to.
        patterns: see `adapteo.data.scene_files.discover`.
        wanted: bands, units and dates; None for all bands as they are, and one date each.

    Raises:
        DataError: there are none, one has no place on Earth, or they differ in bands or pixel size.
    """
    wanted = wanted or Wanted()
    found = [_with_units(source, wanted) for source in discover(patterns, root, sensor=wanted.sensor)]
    for source in found:
        if source.crs is None or source.transform is None or source.gsd is None:
            raise DataError(
                f"{source.path} does not say where it lies on Earth: it has no coordinate system",
                fix="give it one, e.g. `gdal_edit.py -a_srs EPSG:32632 file.tif`, if its corners are right",
            )
    if wanted.dates_per_file > 1:
        stacks = [in_dates(source, wanted.dates_per_file, wanted.dates) for source in found]
        alike = iter(_alike([source for dates in stacks for source in dates], wanted))
        series = [tuple(next(alike) for _ in dates) for dates in stacks]
    else:
        series = in_series(_alike(found, wanted), wanted.frames)
    scenes = [_describe(dates) for dates in series]
    for scene in scenes[1:]:
        _check_size(scenes[0], scene)
    return _on_grids(scenes)


def overview(scene: Scene, indexes: Sequence[int]) -> np.ndarray:
    """Pieces of a scene side by side, ``(c, h, w)``, stored numbers: enough to judge scale and offset."""
    height, width = min(_PIECE, scene.height), min(_PIECE, scene.width)
    rows = np.unique(np.linspace(0, scene.height - height, _PIECES, dtype=int)).tolist()
    cols = np.unique(np.linspace(0, scene.width - width, _PIECES, dtype=int)).tolist()
    pieces = [[scene.read(row, col, height, width, indexes) for col in cols] for row in rows]
    return np.concatenate([np.concatenate(line, axis=2) for line in pieces], axis=1)


def _with_units(source: Source, wanted: Wanted) -> Source:
    """The same, with what the user says in place of what files and products say of their numbers."""
    offset = wanted.offset
    if offset == "auto":
        # Products with metadata of their own know; all others are looked at.
        offset = None if source.product and source.kind != "stac" else 0.0
    scale = wanted.scale
    if source.kind in ("file", "folder") and not (scale is None and offset is None):
        scale, offset = 1.0 if scale is None else scale, offset or 0.0
    return source.scaled(scale, offset, wanted.nodata)


def _alike(sources: Sequence[Source], wanted: Wanted) -> list[Source]:
    """The same bands in the same order in all: those of the user, else those of the first scene that names them."""
    first = next((source for source in sources if any(source.names)), sources[0])
    chosen = select(first, wanted.bands, wanted.sensor) if wanted.bands else first
    names = chosen.names
    first = first if first.kind == "file" else chosen  # names in one file are its own, whatever the user calls them
    out = []
    for source in sources:
        if wanted.bands and source.kind != "file":
            out.append(select(source, wanted.bands, wanted.sensor))
        elif source.names == first.names or (source.kind == "file" and not (any(source.names) and any(first.names))):
            if len(source.names) != len(first.names):
                raise _differs(source, first)
            out.append(source)
        else:
            out.append(_matched(source, first, names, wanted.sensor))
    return out


def _matched(source: Source, first: Source, names: Sequence[str | None], sensor: str | None) -> Source:
    """Bands of a scene in the order of the first one, found by name."""
    bands = []
    for own, name in zip(first.names, names, strict=True):
        same = [band for band in source.bands if band.name == own]
        meaning = canonical(own, sensor or first.sensor) or name
        if len(same) == 1:
            bands.append(same[0])
        elif meaning is None or len(source.names) < len(first.names):
            raise _differs(source, first)
        else:
            bands.append(replace(pick(source, meaning, sensor), name=own))
    return replace(source, bands=tuple(bands))


def _differs(source: Source, first: Source) -> DataError:
    name = Path(first.path).name
    return DataError(
        f"{source.path} has {len(source.names)} bands, {name} has {len(first.names)}",
        fix="leave one out of `scenes`, or name the bands that both have (`band_names`), or write both alike",
    )


def _describe(dates: Sequence[Source]) -> SceneFile:
    first = dates[0]
    grid = finest(first.bands)
    assert grid.crs is not None
    assert grid.transform is not None
    assert grid.gsd is not None
    day = date.fromisoformat(first.date) if first.date else None
    return SceneFile(
        first.name, Path(first.path), grid.shape, first.names, grid.crs, grid.transform, grid.gsd, day,
        sources=tuple(dates),
    )  # fmt: skip


def _check_size(first: SceneFile, other: SceneFile) -> None:
    if not 0.9 < other.gsd / first.gsd < 1.1:
        raise DataError(
            f"{other.path} has pixels of {other.gsd:.4g} m, {first.path.name} of {first.gsd:.4g} m",
            fix="bring them to one pixel size, e.g. `gdalwarp -tr`, or train on one kind",
        )


def _on_grids(scenes: Sequence[SceneFile]) -> tuple[SceneFile, ...]:
    """Find out which scenes share a grid of pixels (within 1/20 of one)."""
    out: list[SceneFile] = []
    leaders: list[SceneFile] = []
    for scene in scenes:
        grid, origin = len(leaders), (0, 0)
        for number, leader in enumerate(leaders):
            found = _offset(leader, scene)
            if found is not None:
                grid, origin = number, found
                break
        if grid == len(leaders):
            leaders.append(scene)
        fields = {**vars(scene), "grid": grid, "origin": origin}
        out.append(SceneFile(**fields))
    return tuple(out)


def _offset(leader: SceneFile, scene: SceneFile) -> tuple[int, int] | None:
    """Row and column of a scene on the grid of another one, or None when it lies on another grid."""
    if not same_crs(leader.crs, scene.crs):
        return None
    one, other = (np.array(s.transform).reshape(2, 3) for s in (leader, scene))
    corners = np.array([[0, 0, 1], [scene.shape[1], 0, 1], [0, scene.shape[0], 1]], float).T
    matrix, shift = one[:, :2], one[:, 2:]
    found = np.linalg.solve(matrix, other @ corners - shift) - corners[:2]
    col, row = np.round(found[:, 0])
    if np.abs(found - [[col], [row]]).max() > 0.05:
        return None
    return int(row), int(col)


def grid_name(scene: SceneFile) -> str:
    """For people: coordinate system and pixel size."""
    return f"{crs_name(scene.crs)}, {scene.gsd:.4g} m"

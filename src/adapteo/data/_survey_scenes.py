"""The scenes of a survey: found by patterns, described, and put on common grids of pixels. No torch."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from adapteo.data._projection import crs_name, same_crs
from adapteo.data.raster import Scene, Transform, open_scene
from adapteo.errors import DataError

_SUFFIXES = (".tif", ".tiff", ".vrt")
_LATER = {
    ".safe": "a Sentinel-2 product folder (SAFE)",
    ".jp2": "one JPEG 2000 file per band",
    ".hdf": "an HDF file",
    ".nc": "a netCDF file",
    ".zip": "an archive",
}
_BAND_FILE = re.compile(r"[._](?:SR_)?B\d{1,2}A?(?:_\d+m)?$", re.IGNORECASE)
_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_]?)(\d\d)\2(\d\d)(?!\d)")
_PIECES, _PIECE = 4, 64  # an overview is 4 x 4 windows of 64 x 64 pixels


@dataclass(frozen=True)
class SceneFile:
    """What is known of a scene before it is read.

    Attributes:
        name: unique, in keys and tables.
        path: the file.
        shape: height and width.
        names: the file's names of its bands.
        crs: WKT.
        transform: see `adapteo.data.raster.Transform`.
        gsd: metres per pixel.
        date: of acquisition: from the file name, else from its tags.
        grid: number of the grid of pixels that it lies on; scenes of one grid share it exactly.
        origin: row and column of its upper left pixel on that grid.
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

    def place(self, row: int, col: int) -> Transform:
        """Transform of a window whose upper left pixel is (row, col)."""
        a, b, c, d, e, f = self.transform
        return a, b, a * col + b * row + c, d, e, d * col + e * row + f


def find_scenes(root: Path, patterns: Sequence[str]) -> tuple[SceneFile, ...]:
    """Find and describe the scenes.

    Raises:
        DataError: there are none, one has no place on Earth or another layout than one file with all bands, or they
            differ in bands or pixel size.
    """
    paths = sorted({path for pattern in patterns for path in root.glob(pattern) if not path.name.startswith(".")})
    paths = [path for path in paths if not path.name.endswith((".aux.xml", ".ovr", ".msk"))]
    if not paths:
        said = f"no file fits `scenes: {list(patterns)}`" if root.is_dir() else "there is no such folder"
        raise DataError(f"{root}: {said}", fix="correct `root` or `scenes` in the dataset section")
    stems = Counter(path.stem for path in paths)
    scenes = []
    for path in paths:
        name = path.stem if stems[path.stem] == 1 else path.relative_to(root).as_posix()
        scenes.append(_describe(path, name))
    for scene in scenes[1:]:
        _check_alike(scenes[0], scene)
    return _on_grids(scenes)


def overview(scene: Scene, indexes: Sequence[int]) -> np.ndarray:
    """Pieces of a scene side by side, ``(c, h, w)``, stored numbers: enough to judge scale and offset."""
    height, width = min(_PIECE, scene.height), min(_PIECE, scene.width)
    rows = np.unique(np.linspace(0, scene.height - height, _PIECES, dtype=int)).tolist()
    cols = np.unique(np.linspace(0, scene.width - width, _PIECES, dtype=int)).tolist()
    pieces = [[scene.read(row, col, height, width, indexes) for col in cols] for row in rows]
    return np.concatenate([np.concatenate(line, axis=2) for line in pieces], axis=1)


def day_in_name(name: str) -> date | None:
    """The first date in a name, written as 20210731, 2021-07-31 or 2021_07_31."""
    for year, _, month, day in _DAY.findall(name):
        try:
            return date(int(year), int(month), int(day))
        except ValueError:  # some other number
            continue
    return None


def _describe(path: Path, name: str) -> SceneFile:
    layout = _LATER.get(path.suffix.lower())
    if layout is None and path.is_dir():
        layout = "a folder"
    if layout is None and path.suffix.lower() not in _SUFFIXES:
        layout = f"a file of the kind '{path.suffix}'"
    if layout is not None:
        raise DataError(
            f"{path} is {layout}; a scene of a survey is one GeoTIFF or VRT with all bands",
            fix="stack its bands with `gdalbuildvrt -separate`, and name the result in `scenes`",
        )
    with open_scene(path) as scene:
        if scene.crs is None or scene.transform is None or scene.gsd is None:
            raise DataError(
                f"{path} does not say where it lies on Earth: it has no coordinate system",
                fix="give it one, e.g. `gdal_edit.py -a_srs EPSG:32632 file.tif`, if its corners are right",
            )
        if scene.count == 1 and _BAND_FILE.search(path.stem):
            raise DataError(
                f"{path} holds one band; a scene of a survey is one GeoTIFF or VRT with all bands",
                fix="stack the bands with `gdalbuildvrt -separate`, and name the result in `scenes`",
            )
        return SceneFile(
            name, path, (scene.height, scene.width), scene.descriptions, scene.crs, scene.transform, scene.gsd,
            day_in_name(path.name) or scene.date,
        )  # fmt: skip


def _check_alike(first: SceneFile, other: SceneFile) -> None:
    if len(first.names) != len(other.names):
        raise DataError(
            f"{other.path} has {len(other.names)} bands, {first.path.name} has {len(first.names)}",
            fix="leave one out of `scenes`, or write both with the same bands in the same order",
        )
    if any(first.names) and any(other.names) and first.names != other.names:
        i = next(i for i, pair in enumerate(zip(first.names, other.names, strict=True)) if pair[0] != pair[1])
        raise DataError(
            f"{other.path}: band {i + 1} is called '{other.names[i]}', in {first.path.name} '{first.names[i]}'",
            fix="write both with the same bands in the same order, e.g. `gdal_translate -b 3 -b 2 -b 1`",
        )
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

"""Maps on disk: Cloud-Optimised GeoTIFF with overviews, class names, colours and a QGIS style beside it.

Pixels first go into pieces (`adapteo.data._map_pieces`); when all are there, GDAL's COG driver puts them together,
block by block, and computes the overviews. A map appears under its name when it is complete and was read back.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from adapteo.data._layout import TILE, Box, Grid, Layout, category_names, cog_options, sidecar, virtual_map
from adapteo.data._map_pieces import Pieces, check, open_pieces
from adapteo.data.gdal import block_cache, writing
from adapteo.data.raster import Scene
from adapteo.errors import DataError
from adapteo.files import replacing, unwritable

__all__ = ["TILE", "Box", "Grid", "Layout", "Pieces", "check_map_name", "fingerprint_of", "grid_of", "open_maps"]
_FINGERPRINT = "ADAPTEO_FINGERPRINT"
_PICTURE = 512  # side of the small picture from which a style takes the range of values
_CACHE = 16 * 2**20  # bytes of decoded blocks while pieces are put together, which goes row by row
_OPEN_PIECES = 64  # files that GDAL keeps open; it would take 450, each with some memory


def grid_of(scene: Scene) -> Grid:
    """The pixels of a scene, and its ground control points."""
    points, crs = scene.file.gcps
    return Grid(
        scene.height,
        scene.width,
        scene.crs,
        scene.transform,
        tuple((p.row, p.col, p.x, p.y, p.z or 0.0) for p in points),
        crs.to_wkt() if points and crs else None,
    )


def fingerprint_of(path: Path) -> str | None:
    """With which fingerprint a map was made; None when there is no such map."""
    try:
        with rasterio.open(path) as file:
            found: str | None = file.tags().get(_FINGERPRINT)
    except RasterioError:
        return None
    return found


def check_map_name(path: Path) -> None:
    """Refuse what is not the name of a GeoTIFF.

    Raises:
        DataError: it is not.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise DataError(f"maps are GeoTIFF, '{path.name}' is not named like one", fix=f"write {path.stem}.tif")


@contextmanager
def open_maps(
    maps: Mapping[Path, Layout], grid: Grid, boxes: Sequence[Box] = (), fingerprint: str | None = None
) -> Iterator[Pieces]:
    """Write maps of the same pixels; they appear, complete, when the block ends.

    Beside each map are ``<map>.tif.aux.xml`` with the class names, for which GeoTIFF has no place, and ``<map>.qml``.
    When the block raises, existing maps stay, and finished pieces too if there is a fingerprint: see `open_pieces`.

    Args:
        maps: files and what they hold.
        grid: their pixels.
        boxes: pieces in the order of writing, in whole tiles; () for one piece.
        fingerprint: of all that decides about the pixels, or None.

    Raises:
        DataError: not the name of a GeoTIFF, a folder that cannot be written, a full disk, another process at work.
    """
    for path in maps:
        check_map_name(path)
    first = next(iter(maps))
    boxes = boxes or [(0, 0, grid.height, grid.width)]
    if fingerprint:
        maps = {path: replace(layout, tags={**layout.tags, _FINGERPRINT: fingerprint}) for path, layout in maps.items()}
    with open_pieces(first, tuple(maps.values()), boxes, fingerprint) as pieces:
        yield pieces
        made = []
        for number, (path, layout) in enumerate(maps.items()):
            with writing(path):
                made.append(_put_together(pieces, number, layout, grid))
        for (path, layout), file in zip(maps.items(), made, strict=True):
            _publish(file, path, layout)


def _put_together(pieces: Pieces, number: int, layout: Layout, grid: Grid) -> Path:
    """Make the Cloud-Optimised GeoTIFF of one map in the work folder, and read it back."""
    folder = pieces.folder
    virtual, made = folder / f"map-{number}.vrt", folder / f"cog-{number}.tif"
    sources = [(pieces.file(i, number).name, box) for i, box in enumerate(pieces.boxes)]
    virtual.write_text(virtual_map(layout, grid, sources), encoding="utf-8")
    with block_cache(_CACHE), rasterio.Env(GDAL_MAX_DATASET_POOL_SIZE=_OPEN_PIECES):
        rasterio.shutil.copy(virtual, made, driver="COG", **cog_options(layout))
    with rasterio.open(made) as file:
        for i in range(len(pieces.boxes)):
            check(file, pieces.checksums(i)[number])
        levels = len(file.overviews(1))
    for level in range(levels):
        with rasterio.open(made, overview_level=level) as file:
            _read_through(file)
    return made


def _read_through(file: DatasetReader) -> None:
    """Decode every block: what is not there raises."""
    for row in range(0, file.height, TILE):
        file.read(window=Window(0, row, file.width, min(TILE, file.height - row)))


def _publish(file: Path, path: Path, layout: Layout) -> None:
    """Give a finished map its name, and its companions theirs."""
    with ExitStack() as stack:
        # Left after the map, so that names never lie beside a map that they do not belong to.
        companions = {}
        if layout.classes:
            companions[sidecar(path)] = category_names(layout.classes)
        if layout.style:
            companions[path.with_suffix(".qml")] = layout.style(_picture(file))
        for name, text in companions.items():
            stack.enter_context(replacing(name)).write_text(text, encoding="utf-8")
        try:
            file.replace(path)
        except OSError as error:
            raise unwritable(path, error) from error
        for stale in (".aux.xml", ".ovr", ".msk"):  # belong to the map that is replaced
            path.with_name(path.name + stale).unlink(missing_ok=True)


def _picture(path: Path) -> np.ndarray:
    """A map made small, from its overviews: ``(bands, h, w)`` float32, NaN where missing."""
    with rasterio.open(path) as file:
        share = min(1.0, _PICTURE / max(file.shape))
        shape = (file.count, *(max(1, round(side * share)) for side in file.shape))
        small = file.read(out_shape=shape, masked=True)
    picture: np.ndarray = small.astype(np.float32).filled(np.nan)
    return picture

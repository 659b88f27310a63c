"""From a class map to polygons that a GIS shows with the colours of the map.

polygons("map.tif", "map.gpkg", minimum_area=0.5, simplify=1.0)
"""

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import shapely

from adapteo.data.class_map import ClassMap, check_codes
from adapteo.data.patches import find, sieve
from adapteo.data.vector import Batch, Style, check_geopackage_name, write_batches
from adapteo.errors import ConfigError, DataError

__all__ = ["check_options", "polygons", "polygons_of"]
_HECTARE = 10_000.0  # square metres
_CHUNK = 10_000  # patches that are written at a time when all were simplified together


def polygons(
    map_file: str | Path,
    out: str | Path,
    *,
    minimum_area: float = 0.0,
    simplify: float = 0.0,
    connectivity: int = 4,
    leave_out: Sequence[str] = (),
) -> Path:
    """Write the patches of a class map as a GeoPackage with the columns code, class and area_ha.

    What has no class (nodata) becomes no polygon, and polygons neither overlap nor leave gaps, simplified or not.
    The map is read in strips of two million pixels. Polygons are drawn and written some at a time, so that what is in
    memory is a few numbers for each patch, half a million sides of polygons, and the largest polygon: 0.9 GB for a map
    of 10,000 x 10,000 pixels that has 140,000 of them with 19 million corners, 7 million in one (2.5 GB when all were
    in memory). With `simplify` they are, with all corners of pixels on their borders, because which corners go depends
    on what is near them: 1.0 GB for a quarter of this map.

    Args:
        map_file: GeoTIFF with one band of class codes; the names of classes are its tags ``CLASS_0`` …, colours its
            colour table.
        out: a name that ends in ``.gpkg``.
        minimum_area: hectares. A smaller patch takes the class of the neighbour with which it shares the longest
            border, smallest patches first; an island in nodata stays. See `adapteo.data.patches.sieve`.
        simplify: pixels; 0 keeps the corners of pixels, 1 makes lines of their steps. Lines between polygons are
            simplified once for both sides (Visvalingam and Whyatt 1993, doi:10.1179/000870493786962263: what goes is
            corners whose triangle with the neighbouring ones has an area below the square of this). Areas in the table
            are those of the pixels, before.
        connectivity: 4, or 8: pixels that touch at a corner are one patch, which is then a multi-polygon.
        leave_out: names or codes of classes that get no polygon, e.g. the background; after small patches were merged.

    Returns:
        ``out``.

    Raises:
        ConfigError: an option is out of range, or needs a newer shapely.
        DataError: the map cannot be read or holds no classes, there is no such class, the disk is full.
    """
    if connectivity not in (4, 8):
        raise ConfigError(f"a pixel has no {connectivity} neighbours", allowed=(4, 8))
    check_options(out, minimum_area, simplify)
    given = ClassMap.open(map_file)
    if minimum_area and given.areas is None:
        raise DataError(
            f"{given.path} has no place on Earth, so its pixels have no area in hectares",
            fix="leave the minimum area out, or give the map its coordinate system",
        )
    found = find(given.strips, connectivity, weights=given.weights, borders=minimum_area > 0)
    if minimum_area:
        found = sieve(found, minimum_area * _HECTARE / given.weight_unit)
    codes = np.unique(found.codes[found.codes >= 0]).tolist()
    names = {code: given.legend.names.get(code, str(code)) for code in {*codes, *given.legend.names}}
    left_out = check_codes(leave_out, names, given.path)
    drawn = ~np.isin(found.codes, list(left_out))
    unit = "area_px" if given.areas is None else "area_ha"
    area = found.sizes * given.weight_unit / (1.0 if given.areas is None else _HECTARE)

    def finished(outlines: Iterator[tuple[np.ndarray, np.ndarray]]) -> Iterator[Batch]:
        for parts, owner in outlines:
            patches, index = np.unique(owner, return_inverse=True)
            code = found.codes[patches]
            attributes = {
                "code": code.astype(np.int32),
                "class": np.array([names[c] for c in code.tolist()], object),
                unit: area[patches],
            }
            parts = _placed(parts, given.legend.transform)
            whole = [shapely.multipolygons(parts, indices=index)]
            del parts  # one polygon may be most of a map: it is here once at a time
            yield whole.pop(), attributes

    colours: dict[str | int, tuple[int, int, int]] = {
        names[c]: rgb for c, rgb in given.legend.colours.items() if c in names and c not in left_out
    }
    style = Style("class", colours) if colours else None
    outlines = _simplified(given.outlines(found), simplify, drawn) if simplify else given.outlines(found, drawn)
    none = (np.empty(0, object), np.empty(0, np.int64))  # a map of nothing has a layer and its columns, too
    write_batches(out, finished(chain([none], outlines)), given.legend.crs, Path(out).stem, style)
    return Path(out)


def check_options(out: str | Path, minimum_area: float, simplify: float) -> None:
    """Refuse what `polygons` would refuse, before a map is drawn; a folder for several files has no ending.

    Raises:
        ConfigError: an option is out of range.
        DataError: not the name of a GeoPackage.
    """
    if not (0 <= minimum_area < np.inf and 0 <= simplify < np.inf):
        raise ConfigError(
            f"minimum area {minimum_area} and simplification {simplify} must be 0 or more", fix="0 leaves it out"
        )
    if Path(out).suffix:
        check_geopackage_name(Path(out))


def polygons_of(
    maps: Path, scenes: Sequence[Path], out: Path, *, minimum_area: float = 0.0, simplify: float = 0.0
) -> tuple[Path, ...]:
    """Write the polygons of what was predicted: of one map, or of each map in a folder, one GeoPackage for each.

    Args:
        maps: the map of all scenes, or the folder with ``<scene>_map.tif`` for each.
        scenes: what was mapped.
        out: a GeoPackage, or a folder when ``maps`` is one.
        minimum_area: see `polygons`.
        simplify: see `polygons`.

    Raises:
        ConfigError: as `polygons`.
        DataError: as `polygons`.
    """
    if not maps.is_dir():
        return (polygons(maps, out, minimum_area=minimum_area, simplify=simplify),)
    stems = [f"{scene.stem}_map" for scene in scenes]
    return tuple(
        polygons(maps / f"{stem}.tif", out / f"{stem}.gpkg", minimum_area=minimum_area, simplify=simplify)
        for stem in stems
    )


def _simplified(
    outlines: Iterator[tuple[np.ndarray, np.ndarray]], tolerance: float, drawn: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Simplify polygons in pixel coordinates, all together: borders stay shared, also with what is not drawn.

    Corners are left out where the border of one polygon goes straight on and two others meet on its other side, so all
    corners of pixels are put in first: then both sides have the same ones.
    """
    try:
        from shapely import coverage_simplify
    except ImportError as error:
        raise ConfigError(
            "simplified polygons need shapely 2.1 or newer", fix="pip install 'shapely>=2.1', or leave `simplify` out"
        ) from error
    dense, owners = [np.empty(0, object)], [np.empty(0, np.int64)]
    for parts, of in outlines:
        dense.append(shapely.transform(shapely.segmentize(parts, 1.0), np.rint))
        owners.append(of)
    whole, owner = np.concatenate(dense), np.concatenate(owners)
    dense.clear()
    simple = np.asarray(coverage_simplify(whole, tolerance), object)
    del whole
    kept = drawn[owner]
    simple, owner = simple[kept], owner[kept]
    cuts = np.flatnonzero(np.diff(owner // _CHUNK, prepend=-1, append=-1))  # between patches
    for first, last in pairwise(cuts.tolist()):
        yield simple[first:last], owner[first:last]


def _placed(parts: np.ndarray, transform: tuple[float, ...] | None) -> np.ndarray:
    """From pixel to map coordinates."""
    if transform is None or not len(parts):
        return parts
    a, b, c, d, e, f = transform
    return np.asarray(
        shapely.transform(
            parts, lambda xy: np.stack([a * xy[:, 0] + b * xy[:, 1] + c, d * xy[:, 0] + e * xy[:, 1] + f], 1)
        ),
        object,
    )

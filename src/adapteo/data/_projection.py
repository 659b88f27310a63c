"""Coordinate systems: their names, and shapes moved from one to another.

Coordinates are always in the order x, y (longitude, latitude). Shapes are simple parts, see `_shapes.py`.
"""

from functools import lru_cache

import numpy as np
import pyproj
import shapely

from adapteo.data._shapes import Parts, clip, finite, in_order, mapped, repair, shifted, split, unwrap
from adapteo.errors import DataError

WGS84 = "OGC:CRS84"
_STEP = 500.0  # metres; a straight edge of this length bends by 5 mm x tan(latitude) when it is projected
_EARTH = 6_371_000.0  # metres, mean radius
_MOST = 20_000  # points that are put on one feature's edges, whatever its size
_LARGE = 2_000_000.0  # metres
_MARGIN = 10.0  # degrees around the area that a coordinate system is made for, in which most still give finite numbers
_ZONE = 6  # degrees of longitude; 3 degrees from its middle, on the equator, a transverse Mercator is 0.14 % too long


def parse_crs(text: str, source: object) -> str:
    """WKT of a coordinate system that is given as ``EPSG:32633``, WKT or PROJ text.

    Raises:
        DataError: there is no such system; names `source`.
    """
    try:
        return str(pyproj.CRS.from_user_input(int(text) if text.isdigit() else text).to_wkt())
    except pyproj.exceptions.CRSError as error:
        raise DataError(
            f"{source}: '{text}' is no coordinate system", fix="give its EPSG code, e.g. EPSG:4326 or EPSG:32633"
        ) from error


def is_geographic(crs: str) -> bool:
    """Whether coordinates are longitude and latitude."""
    return bool(_system(crs).is_geographic)


def crs_name(crs: str) -> str:
    """Name for people, e.g. "WGS 84 / UTM zone 33N"."""
    return str(_system(crs).name)


def same_crs(one: str, other: str) -> bool:
    """Whether two texts mean the same coordinate system; the order of axes does not matter, it is always x, y."""
    return one == other or bool(_system(one).equals(_system(other), ignore_axis_order=True))


def unit_metres(crs: str) -> float | None:
    """Metres of one unit of the coordinates; None when they are degrees or have no place on Earth."""
    system = _system(crs)
    return None if system.is_geographic or system.geodetic_crs is None or not system.axis_info else _unit(crs)


def on_ellipsoid(xy: np.ndarray, crs: str) -> np.ndarray | None:
    """Place of points ``(n, 2)`` in space ``(n, 3)``, metres from the centre of the Earth, on the ellipsoid of ``crs``.

    Not finite where the system is not defined; None when it has no place on Earth.
    """
    system = _system(crs)
    if system.geodetic_crs is None or system.ellipsoid is None:
        return None
    way = pyproj.Transformer.from_crs(system, system.geodetic_crs, always_xy=True)
    lon, lat = np.radians(np.stack(way.transform(xy[:, 0], xy[:, 1])))
    lat = np.where(np.isfinite(lat), lat, np.nan)
    a, b = system.ellipsoid.semi_major_metre, system.ellipsoid.semi_minor_metre
    across = a**2 / np.hypot(a * np.cos(lat), b * np.sin(lat))  # radius of curvature across the meridian
    lon = np.where(np.isfinite(lon), lon, np.nan)
    flat = across * np.cos(lat)
    return np.stack([flat * np.cos(lon), flat * np.sin(lon), across * (b / a) ** 2 * np.sin(lat)], -1)


def reproject(geometry: np.ndarray, source: str, target: str) -> Parts:
    """Move simple parts to another coordinate system.

    Edges are straight in the source, so they get a point every 500 m (at most 20,000 per part) first: what is drawn
    is within 5 mm x tan(latitude) of the curve. What lies where the target is not defined is left out, and of what is
    larger than 2,000 km only that remains which lies within 10 degrees of the area that the target is made for: a
    projection tears the world apart somewhere. In degrees, parts end at the antimeridian.

    Raises:
        DataError: there is no way from one to the other (a local grid).
    """
    if same_crs(source, target):
        return geometry, np.arange(len(geometry))
    dense = _densify(geometry, source)
    moved = _move(dense, source, target)
    lost = ~finite(moved)
    if is_geographic(target):
        index = np.flatnonzero(~lost)
        parts, _ = unwrap(moved[index])
        parts, inner, _ = repair(parts)
        index = index[inner]
        parts, inner = split(parts)
        return parts, index[inner]
    torn = lost | (_size(geometry) * _unit(source) > _LARGE) & (_domain(target, 0.0) is not None)
    found, inside = [moved[~torn]], [np.flatnonzero(~torn)]
    for margin in (_MARGIN, 0.0):
        left = np.setdiff1d(np.flatnonzero(torn), np.concatenate(inside))
        if not left.size or (domain := _domain(target, margin)) is None:
            break
        degrees, first = reproject(dense[left], source, WGS84)
        pieces, second = clip(degrees, domain)
        pieces = _move(_densify(pieces, WGS84), WGS84, target)
        known = finite(pieces)
        found.append(pieces[known])
        inside.append(left[first][second][known])
    parts, index = in_order(found, inside)
    parts, inner, _ = repair(parts)
    return parts, index[inner]


def centres(geometry: np.ndarray, crs: str) -> np.ndarray:
    """Latitude and longitude ``(n, 2)`` of the centres of gravity in degrees (WGS 84), NaN where there is none."""
    points = _move(shapely.centroid(geometry), crs, WGS84)
    return np.column_stack([shapely.get_y(points), shapely.get_x(points)])


def widen(lines: np.ndarray, crs: str, metres: float) -> Parts:
    """Polygons of a width on the ground around lines, with flat ends; the width is right to 0.14 %."""
    zone = np.floor((centres(lines, crs)[:, 1] + 180) / _ZONE)
    parts, index = [np.empty(0, object)], [np.empty(0, np.int64)]
    for number in np.unique(zone[np.isfinite(zone)]):
        chosen = np.flatnonzero(zone == number)
        local = f"+proj=tmerc +lon_0={_ZONE * (number + 0.5) - 180} +datum=WGS84 +units=m"
        flat, first = reproject(lines[chosen], crs, local)
        bands, second = reproject(shapely.buffer(flat, metres / 2, cap_style="flat"), local, crs)
        parts.append(bands)
        index.append(chosen[first][second])
    return in_order(parts, index)


# ------------------------------------------------------------------------------------------- details


@lru_cache(maxsize=64)
def _system(crs: str) -> pyproj.CRS:
    return pyproj.CRS.from_user_input(crs)


def _move(geometry: np.ndarray, source: str, target: str) -> np.ndarray:
    """Move vertices only; infinite where the target is not defined."""
    try:
        way = pyproj.Transformer.from_crs(_system(source), _system(target), always_xy=True)
    except pyproj.exceptions.ProjError as error:
        raise DataError(
            f"there is no way from the coordinate system '{crs_name(source)}' to '{crs_name(target)}'",
            fix="save both with a system that has a place on Earth, e.g. a UTM zone",
        ) from error
    return mapped(geometry, lambda xy: np.column_stack(way.transform(xy[:, 0], xy[:, 1])))


def _densify(geometry: np.ndarray, crs: str) -> np.ndarray:
    longest = np.maximum(shapely.length(geometry) / _MOST, _STEP / _unit(crs))
    return np.asarray(shapely.segmentize(geometry, longest)) if len(geometry) else geometry


def _unit(crs: str) -> float:
    """Metres of one unit of the coordinates; of degrees along a meridian."""
    system = _system(crs)
    unit = float(system.axis_info[0].unit_conversion_factor) if system.axis_info else 1.0
    return unit * _EARTH if system.is_geographic else unit


def _size(geometry: np.ndarray) -> np.ndarray:
    """The longer side of each bounding box."""
    left, bottom, right, top = shapely.bounds(geometry).reshape(-1, 4).T
    return np.maximum(right - left, top - bottom)


def _domain(crs: str, margin: float) -> shapely.Geometry | None:
    """Where a coordinate system may be used, in degrees, with a margin in degrees; None when nobody says."""
    system = _system(crs)
    area = system.area_of_use
    if area is None and (authority := system.to_authority()):  # GDAL's WKT leaves it out
        area = pyproj.CRS.from_authority(*authority).area_of_use
    if area is None:
        return None
    east = area.east + 360 * (area.east < area.west)
    box = shapely.box(area.west - margin, max(area.south - margin, -90), east + margin, min(area.north + margin, 90))
    return shapely.union_all([shifted(np.array([box]), turn * 360.0)[0] for turn in (-1, 0, 1)])

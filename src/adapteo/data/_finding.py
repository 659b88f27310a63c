"""Finding scenes: what patterns stand for, which files belong together, and what a product says. No torch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adapteo.bands import resolve
from adapteo.data._band_files import is_layer, split_name
from adapteo.data._dates import day_in_name
from adapteo.data._opening import read_header
from adapteo.data._safe import find_safe, metadata_file, read_safe
from adapteo.data._source import BandFile, Source, is_remote
from adapteo.data._stac import read_stac
from adapteo.errors import ConfigError, DataError

_RASTERS = (".tif", ".tiff", ".vrt", ".jp2", ".img")
_BESIDE = (".aux.xml", ".ovr", ".msk", ".tfw", ".prj", ".xml", ".txt", ".md", ".html", ".csv", ".gpkg", ".geojson")
_PRODUCTS = {".hdf": "an HDF file", ".nc": "a netCDF file", ".zip": "an archive", ".tar": "an archive"}
_DEEP = 4  # folders in folders that are looked into


def canonical(name: str | None, sensor: str | None) -> str | None:
    """Canonical name of a band, or None when it is not known or not clear."""
    try:
        return resolve(name or "", sensor)
    except ConfigError:
        return None


def paths_of(patterns: Sequence[str], root: Path) -> list[str]:
    """What the patterns stand for, each once; SAFE folders and others as folders."""
    out: dict[str, None] = {}
    for pattern in patterns:
        if is_remote(pattern):
            out[pattern] = None
            continue
        path = Path(pattern).expanduser()
        if path.is_absolute():
            base, rest = Path(path.anchor), str(path.relative_to(path.anchor))
        else:
            base, rest = root, pattern
        literal = base / rest
        paths = [literal] if literal.exists() else sorted(base.glob(rest))
        out |= {str(p): None for p in paths if not p.name.startswith(".")}
    return list(out)


def described(location: str, singles: dict[str, str], sensor: str | None, deep: int = 0) -> list[Source]:
    """Scenes at a path; files with one band are kept in ``singles`` until all are known."""
    path = Path(location)
    if not is_remote(location) and path.is_dir():
        if path.suffix.upper() == ".SAFE" or metadata_file(path) is not None:
            return list(read_safe(path))
        inside = [p for p in sorted(path.iterdir()) if not p.name.startswith(".")] if deep < _DEEP else []
        return [
            source
            for child in inside
            if child.is_dir() or child.suffix.lower() in (*_RASTERS, ".json")
            for source in described(str(child), singles, sensor, deep + 1)
        ]
    suffix = path.suffix.lower()
    if suffix == ".json":
        item = read_stac(location)
        return [] if item is None else [item]
    if path.name.startswith("MTD_MSIL") and suffix == ".xml":
        return list(read_safe(path.parent))
    if suffix not in _RASTERS and not is_remote(location):
        if location.lower().endswith(_BESIDE):
            return []
        raise DataError(
            f"{location} is {_PRODUCTS.get(suffix, f'a file of the kind {suffix!r}')}, which holds no scene as it is",
            fix="unpack it, or convert it to GeoTIFF, e.g. with `gdal_translate`",
        )
    stem = path.stem
    if is_layer(stem):
        return []
    if split_name(stem) is not None and (is_remote(location) or find_safe(path) or read_header(location).count == 1):
        singles[location] = stem
        return []
    header = read_header(location)
    bands = tuple(
        BandFile(location, i + 1, header.names[i], header.scales[i], header.offsets[i], (), header.grid)
        for i in range(header.count)
        if header.names[i] != "alpha"
    )
    day = day_in_name(path.name) or header.date
    return [Source(stem, location, bands, "file", day.isoformat() if day else None, sensor)]


def in_product(folder: Path, files: dict[str, str], sensor: str | None) -> Source | None:
    """The SAFE product that files lie in, with these bands of it only."""
    safe = None if is_remote(folder) else find_safe(folder)
    if safe is None:
        return None
    for source in read_safe(safe):
        bands = tuple(
            band for band in source.bands if any(Path(band.path).name == Path(f).name for f in files.values())
        )
        wanted = {canonical(band, source.sensor) for band in files}
        own = {band.name: band for band in source.bands}
        if bands or wanted & own.keys():
            kept = tuple(
                replace(own[name], path=files[key]) for key in files if (name := canonical(key, source.sensor)) in own
            )
            return replace(source, bands=kept)
    return None


def opened_headers(source: Source) -> Source:
    """The same, with the grid of each band, and the scale that files say where no product does."""
    headers = {band.path: read_header(band.path) for band in source.bands if band.grid is None}
    if not headers:
        return source
    bands = []
    for band in source.bands:
        header, i = headers[band.path], band.index - 1
        if i >= header.count:
            raise DataError(f"{band.path} has {header.count} bands, not {band.index}", fix="download it again")
        said = band.scale is None and source.kind in ("folder", "stac")
        bands.append(
            replace(
                band,
                grid=header.grid,
                scale=header.scales[i] if said else band.scale,
                offset=header.offsets[i] if said else band.offset,
            )
        )
    days = [header.date for header in headers.values() if header.date]
    day = source.date or (days[0].isoformat() if days else None)
    return replace(source, bands=tuple(bands), date=day)


def named_apart(sources: Sequence[Source], root: Path) -> list[Source]:
    """Give scenes of one name their path as a name."""
    count = Counter(source.name for source in sources)
    out = []
    for source in sources:
        path = Path(source.path)
        inside = not is_remote(source.path) and path.is_relative_to(root)
        name = path.relative_to(root).as_posix() if inside else source.path
        if source.kind != "file" and path.name != source.name:
            name = f"{name}/{source.name}"
        out.append(source if count[source.name] == 1 else replace(source, name=name))
    return out

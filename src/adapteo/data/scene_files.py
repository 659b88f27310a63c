"""Finds scenes, whatever their layout, and opens them on one grid of pixels in physical units. No torch.

patterns ──▶ files and folders ──▶ products that are known, or names ──▶ `Source` ──▶ windows

Known are one file with all bands; a Sentinel-2 product folder (SAFE, level 1C and 2A); Harmonized Landsat Sentinel-2
version 2; Landsat Collection 2 level 2; one file per band with the band in its name; STAC items. Files may be on this
machine or addresses that GDAL opens (``https://…``, ``s3://…``, ``/vsicurl/…``). Products say what their numbers mean,
and their bands get canonical names.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

from adapteo.bands import resolve
from adapteo.data._band_files import describe, finest_files, is_layer, split_name
from adapteo.data._dates import day_in_name
from adapteo.data._safe import find_safe, metadata_file, read_safe
from adapteo.data._source import BandFile, Grid, Source, finest, is_remote
from adapteo.data._stac import read_stac
from adapteo.data._warp import Assembled, open_bands, open_file, read_header
from adapteo.data.raster import Scene
from adapteo.errors import ConfigError, DataError, closest

__all__ = ["BandFile", "Grid", "Source", "discover", "open_images", "open_source", "open_sources", "select"]
_RASTERS = (".tif", ".tiff", ".vrt", ".jp2", ".img")
_BESIDE = (".aux.xml", ".ovr", ".msk", ".tfw", ".prj", ".xml", ".txt", ".md", ".html", ".csv", ".gpkg", ".geojson")
_PRODUCTS = {".hdf": "an HDF file", ".nc": "a netCDF file", ".zip": "an archive", ".tar": "an archive"}
_DEEP = 4  # folders in folders that are looked into


def discover(
    patterns: Sequence[str],
    root: Path,
    *,
    bands: Sequence[str] = (),
    sensor: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
) -> tuple[Source, ...]:
    """Find scenes, and read what is said of them without reading pixels.

    Args:
        patterns: files, folders, patterns (``*``, ``**``) and addresses; relative ones are in ``root``. In a folder
            that is no product, all scenes are taken.
        root: see above.
        bands: names of the bands of files that hold several, in their order; of products and single-band files, those
            that are wanted, in the order wanted.
        sensor: one of `adapteo.bands.SENSORS`, for names that differ between sensors.
        scale: in place of what products and files say; physical value = stored value x scale + offset.
        offset: likewise.
        nodata: stored value that is missing, beside what products and files say.

    Returns:
        In the order of their paths; names are unique.

    Raises:
        DataError: there is nothing, or something that cannot be read.
    """
    found: list[Source] = []
    singles: dict[str, str] = {}  # single-band files by path: stem with the band
    for path in _paths(patterns, root):
        found += _described(path, singles, sensor)
    for (folder, name), files in finest_files(singles, singles).items():
        found.append(_in_product(Path(folder), files, sensor) or describe(name, folder, files, sensor))
    if not found:
        said = f"no file fits `scenes: {list(patterns)}`" if root.is_dir() else "there is no such folder"
        raise DataError(f"{root}: {said}", fix="correct `root` or `scenes` in the dataset section")
    found.sort(key=lambda source: (source.path, source.name))
    opened = [_opened(source) for source in found]
    wanted = [select(source, bands, sensor) if bands else source for source in opened]
    return tuple(source.scaled(scale, offset, nodata) for source in _unique(wanted, root))


def select(source: Source, bands: Sequence[str], sensor: str | None = None) -> Source:
    """The same scene with these bands, in this order, by these names.

    Args:
        source: of which kind decides: in one file with all bands, `bands` names all of them, in their order; else bands
            are found by their names.
        bands: canonical names, or those of the sensor.
        sensor: see `discover`.

    Raises:
        DataError: it has no such band, or another number of bands.
    """
    names = [resolve(band, sensor or source.sensor) for band in bands]
    if source.kind == "file":
        if len(names) != len(source.bands):
            raise DataError(
                f"{source.path} has {len(source.bands)} bands, but `band_names` names {len(names)}",
                fix="name all bands of the file in its order, in the dataset section",
            )
        chosen = tuple(replace(band, name=name) for band, name in zip(source.bands, names, strict=True))
    else:
        chosen = tuple(pick(source, name, sensor) for name in names)
    return replace(source, bands=chosen)


def pick(source: Source, name: str, sensor: str | None = None) -> BandFile:
    """The band of a canonical name; its result has this name.

    Raises:
        DataError: there is none.
    """
    for band in source.bands:
        if band.name == name or canonical(band.name, sensor or source.sensor) == name:
            return replace(band, name=name)
    present = [band.name or "unnamed" for band in source.bands]
    raise DataError(
        f"{source.path} has no band '{name}'{closest(name, present)}",
        allowed=present,
        fix="name the bands in the dataset section (`band_names`, `sensor`), or leave this scene out",
    )


def canonical(name: str | None, sensor: str | None) -> str | None:
    """Canonical name of a band, or None when it is not known or not clear."""
    try:
        return resolve(name or "", sensor)
    except ConfigError:
        return None


# -------------------------------------------------------------------------------------------- reading


@contextmanager
def open_source(source: Source, bands: Sequence[str] | None = None, grid: Grid | None = None) -> Iterator[Assembled]:
    """Open a scene; see `open_sources`."""
    with open_sources([source], bands, grid) as reader:
        yield reader


@contextmanager
def open_sources(
    sources: Sequence[Source], bands: Sequence[str] | None = None, grid: Grid | None = None
) -> Iterator[Assembled]:
    """Open the dates of a place as one image, on the grid of the first.

    Its `read` gives ``(t * c, h, w)`` float32 in physical units, NaN where missing, all bands of the first date, then
    all of the second. Bands of other pixels are resampled bilinearly; memory depends on the window only.

    Args:
        sources: one per date.
        bands: canonical names in the order wanted; None for all, as they are.
        grid: to read on; None for that of the finest of these bands at the first date.

    Raises:
        DataError: a file cannot be opened, or a band is not there.
    """
    chosen = [list(s.bands) if bands is None else [pick(s, name) for name in bands] for s in sources]
    days = [date.fromisoformat(s.date) if s.date else None for s in sources]
    with open_bands(
        sources[0].path, [band for one in chosen for band in one], grid or finest(chosen[0]), days
    ) as reader:
        yield reader


@contextmanager
def open_images(
    what: str | Path | Sequence[str | Path], bands: Sequence[str] = (), *, sensor: str | None = None
) -> Iterator[Scene]:
    """Open whatever a person names as a scene.

    One file with all bands is opened as it is: its numbers are as stored. All else is an `Assembled`: `scaled` tells
    whether its numbers are in physical units already, as they are for products that are known.

    Args:
        what: a file, product folder, folder with one file per band, STAC item or address; or one of these per date.
        bands: canonical names of the bands that are needed; the finest of them sets the grid. Empty for all.
        sensor: see `discover`.

    Raises:
        DataError: it cannot be read, lacks a band, or is more than one scene.
    """
    named = [str(what)] if isinstance(what, str | Path) else [str(one) for one in what]
    if len(named) == 1 and not is_remote(named[0]) and _plain(Path(named[0])):
        with open_file(named[0]) as scene:
            yield scene
        return
    sources = [_one(name, sensor) for name in named]
    if not all(source.product for source in sources):
        known = next((source for source in sources if source.product), None)
        if known is not None:
            other = next(source for source in sources if not source.product)
            raise DataError(
                f"{known.path} says what its numbers mean, {other.path} does not; one map cannot be made of both",
                fix="name dates of one kind",
            )
        sources = [_as_stored(source) for source in sources]
        if any(source.kind == "file" and None in source.names for source in sources):
            bands = ()  # whoever knows the bands of such files numbers them
    with open_sources(sources, tuple(bands) or None) as reader:
        yield reader


def _plain(path: Path) -> bool:
    """Whether a path is a file that is opened as it is: not a folder, a product's metadata, or one band of several."""
    if path.is_dir() or path.suffix.lower() in (".json", ".xml"):
        return False
    return split_name(path.stem) is None or not path.is_file() or read_header(str(path)).count > 1


def _as_stored(source: Source) -> Source:
    """The same without scale and offset."""
    return replace(source, bands=tuple(replace(band, scale=None, offset=None) for band in source.bands))


def _one(name: str, sensor: str | None) -> Source:
    path = Path(name)
    if not is_remote(name) and not path.exists():
        raise DataError(f"there is no file {name}", fix="check the path")
    found = discover([name], Path.cwd(), sensor=sensor)
    if len(found) > 1:
        raise DataError(
            f"{name} holds {len(found)} scenes: {', '.join(source.name for source in found[:4])}",
            fix="name one of them, or one after the other",
        )
    return found[0]


# -------------------------------------------------------------------------------------------- finding


def _paths(patterns: Sequence[str], root: Path) -> list[str]:
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


def _described(location: str, singles: dict[str, str], sensor: str | None, deep: int = 0) -> list[Source]:
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
            for source in _described(str(child), singles, sensor, deep + 1)
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


def _in_product(folder: Path, files: dict[str, str], sensor: str | None) -> Source | None:
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


def _opened(source: Source) -> Source:
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


def _unique(sources: Sequence[Source], root: Path) -> list[Source]:
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

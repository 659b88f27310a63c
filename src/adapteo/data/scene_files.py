"""Finds scenes, whatever their layout, and opens them on one grid of pixels in physical units. No torch.

patterns ──▶ files and folders ──▶ products that are known, or names ──▶ `Source` ──▶ windows

Known are one file with all bands; a Sentinel-2 product folder (SAFE, level 1C and 2A); Harmonized Landsat Sentinel-2
version 2; Landsat Collection 2 level 2; one file per band with the band in its name; STAC items. Files may be on this
machine or addresses that GDAL opens (``https://…``, ``s3://…``, ``/vsicurl/…``). Products say what their numbers mean,
and their bands get canonical names.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

from adapteo.bands import resolve
from adapteo.data._band_files import describe, finest_files, split_name
from adapteo.data._finding import canonical, described, in_product, named_apart, opened_headers, paths_of
from adapteo.data._opening import open_file, read_header
from adapteo.data._source import BandFile, Grid, Source, finest, is_remote
from adapteo.data._warp import Assembled, open_bands
from adapteo.data.raster import Scene
from adapteo.errors import DataError, closest

__all__ = [
    "BandFile", "Grid", "Source", "canonical", "discover", "open_images", "open_source", "open_sources",
    "pick", "select",
]  # fmt: skip


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
    for path in paths_of(patterns, root):
        found += described(path, singles, sensor)
    for (folder, name), files in finest_files(singles, singles).items():
        found.append(in_product(Path(folder), files, sensor) or describe(name, folder, files, sensor))
    if not found:
        said = f"no file fits `scenes: {list(patterns)}`" if root.is_dir() else "there is no such folder"
        raise DataError(f"{root}: {said}", fix="correct `root` or `scenes` in the dataset section")
    found.sort(key=lambda source: (source.path, source.name))
    opened = [opened_headers(source) for source in found]
    wanted = [select(source, bands, sensor) if bands else source for source in opened]
    return tuple(source.scaled(scale, offset, nodata) for source in named_apart(wanted, root))


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
            dates, rest = divmod(len(source.bands), len(names))
            stacked = f"; `dates_per_file: {dates}` if it stacks so many dates" if dates > 1 and not rest else ""
            raise DataError(
                f"{source.path} has {len(source.bands)} bands, but `band_names` names {len(names)}",
                fix=f"name all bands of the file in its order, in the dataset section{stacked}",
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
    try:
        found = discover([name], Path.cwd(), sensor=sensor)
    except DataError as error:
        if path.is_dir() and not any(file.is_file() for file in path.rglob("*")):
            raise DataError(f"{name} is an empty folder", fix="name a file, or a folder with images") from error
        raise
    if len(found) > 1:
        raise DataError(
            f"{name} holds {len(found)} scenes: {', '.join(source.name for source in found[:4])}",
            fix="name one of them, or one after the other",
        )
    return found[0]

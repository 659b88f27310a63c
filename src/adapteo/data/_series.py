"""Scenes of one place at several dates: which belong together, and which of them are taken. No torch."""

from collections.abc import Sequence

from adapteo.data._dates import without_day
from adapteo.data._projection import same_crs
from adapteo.data._source import Source
from adapteo.errors import DataError


def in_series(sources: Sequence[Source], frames: int) -> list[tuple[Source, ...]]:
    """Put the dates of each place together, in order of time.

    Of one place are scenes of the same tile (MGRS, or path and row), of the same pixels, or of the same name apart from
    the date. Of a place with more dates, the most recent are taken; of two scenes of one day, the one whose name comes
    last (of a product that was processed again, the later one).

    Args:
        sources: scenes of one date each.
        frames: dates per place; with 1, each scene is a place of its own.

    Raises:
        DataError: a scene has no date, or a place not enough of them.
    """
    if frames == 1:
        return [(source,) for source in sources]
    undated = next((source for source in sources if source.date is None), None)
    if undated is not None:
        raise DataError(
            f"{undated.path} has no date, so that it cannot be put into a series of {frames}",
            fix=f"put the date into its name, e.g. field_20230614.tif, or set `frames: 1`{_stacked(undated, frames)}",
        )
    out = []
    for place in _places(sources):
        days = {source.date: source for source in sorted(place, key=lambda source: source.name)}
        dates = sorted(day for day in days if day is not None)
        if len(dates) < frames:
            count = "is 1 date" if len(dates) == 1 else f"are {len(dates)} dates"
            raise DataError(
                f"there {count} of {place[0].name} ({', '.join(dates)}), and `frames` is {frames}",
                fix="add scenes of this place, leave it out of `scenes`, or make `frames` smaller"
                + _stacked(place[0], frames),
            )
        out.append(tuple(days[day] for day in dates[-frames:]))
    return out


def _stacked(source: Source, frames: int) -> str:
    """What to do where one file may hold all dates."""
    if source.kind != "file" or len(source.bands) < frames or len(source.bands) % frames:
        return ""
    return f"; where each file stacks {frames} dates: `dates_per_file: {frames}` (--dates-per-file of init)"


def _places(sources: Sequence[Source]) -> list[list[Source]]:
    places: list[list[Source]] = []
    for source in sources:
        mine = [place for place in places if any(_together(source, other) for other in place)]
        joined = [*(other for place in mine for other in place), source]
        places = [place for place in places if place not in mine] + [joined]
    return sorted(places, key=lambda place: sources.index(place[0]))


def _together(one: Source, other: Source) -> bool:
    if one.tile or other.tile:
        return one.tile == other.tile
    if without_day(one.name) == without_day(other.name):
        return True
    a, b = one.grid, other.grid
    return a.transform == b.transform and a.shape == b.shape and bool(a.crs and b.crs and same_crs(a.crs, b.crs))

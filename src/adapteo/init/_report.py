"""What ``adapteo init`` tells: what it found, what it chose and why, and what to do next."""

from collections.abc import Iterator, Sequence
from datetime import date

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from adapteo.data._projection import crs_name
from adapteo.init._imagery import Found
from adapteo.init._start import FEW_TESTS, Started
from adapteo.project import typed

_ROWS = 12
"""Scenes that are shown; the rest is counted."""
_CLASSES = 12


def show(started: Started, console: Console) -> None:
    """Print it all."""
    console.print(Group(*_parts(started)))


def _parts(started: Started) -> Iterator[RenderableType]:
    yield _scenes(started)
    yield from _below(started)
    yield _labels(started)
    yield from (f"  {escape(note)}" for note in (*started.labels.notes, *started.notes))
    yield _choices(started)
    name = escape(typed(started.path.parent))
    yield f"\nwrote {escape(str(started.path))}; next: [bold]adapteo check {name}[/], adapteo fit {name}"


def _scenes(started: Started) -> Table:
    table = _table("scene", "pixels", "size", "coordinate system", "date", "stored as", "nodata")
    for found in started.scenes[:_ROWS]:
        table.add_row(*(escape(cell) for cell in _cells(found, started.values.nodata)))
    if len(started.scenes) > _ROWS:
        table.add_row(f"… and {len(started.scenes) - _ROWS} more", *[""] * 6)
    return table


def _cells(found: Found, nodata: float | None) -> tuple[str, ...]:
    scene = found.scene
    missing = [f"{value:g}" for value in (found.nodata, nodata) if value is not None]
    return (
        scene.name,
        f"{scene.gsd:.4g} m",
        f"{scene.shape[1]} x {scene.shape[0]}",
        crs_name(scene.crs),
        _days(scene.dates),
        found.dtype,
        ", ".join(dict.fromkeys(missing)) or "none",
    )


def _days(dates: Sequence[date | None]) -> str:
    """The day, or the first and the last one."""
    ends = dict.fromkeys(day.isoformat() for day in (dates[0], dates[-1]) if day)
    return " … ".join(ends) or "not known"


def _below(started: Started) -> Iterator[str]:
    bands, values, dates = started.bands, started.values, started.dates
    if dates.per_file > 1:
        days = (day.isoformat() if day else "days not known" for day in started.scenes[0].scene.dates)
        told = f"{dates.per_file} in each file, one after the other: {', '.join(dict.fromkeys(days))}"
        yield f"  dates: {told} [dim]({escape(dates.why)})[/]"
    sensor = f" of {bands.sensor}" if bands.sensor else ""
    yield f"  bands{sensor}: {', '.join(bands.names)} [dim]({escape(bands.why)})[/]"
    why = values.why.get("scale", "no optical bands")
    scale = "as declared" if values.scale is None and values.why.get("scale") else f"{values.scale or 1:g}"
    offset = f", offset {values.offset}" if values.offset else ""
    yield f"  scale {scale}{offset} [dim]({escape(why)})[/]"
    yield from (f"  [yellow]{escape(doubt)}[/]" for doubt in values.doubts)


def _labels(started: Started) -> Table:
    labels = started.labels
    table = _table("labels", "geometries", "coordinate system", "class", "pixels" if labels.masks else "labels")
    kinds = ", ".join(f"{count:,} {kind}{'s' if count != 1 else ''}" for kind, count in (labels.kinds or {}).items())
    system = crs_name(labels.crs) if labels.crs else ""
    first = [", ".join(labels.written), kinds, system]
    ordered = list((labels.classes or {}).items())
    for name, count in ordered[:_CLASSES]:
        table.add_row(*(escape(cell) for cell in first), escape(name), f"{count:,}")
        first = [""] * 3
    if len(ordered) > _CLASSES:
        table.add_row("", "", "", f"… and {len(ordered) - _CLASSES} more", "")
    return table


def _choices(started: Started) -> Table:
    survey, model = started.survey, started.model
    parts = {name: len(keys) for name, keys in survey.plan.parts.items()}
    table = _table("chosen", "", "why")
    if started.labels.class_column:
        table.add_row("class column", escape(started.labels.class_column), escape(started.labels.why))
    windows = ", ".join(f"{count} {name}" for name, count in parts.items())
    few = min(parts["val"], parts["test"]) < FEW_TESTS
    doubt = "; [yellow]few: more labels, farther apart, make scores surer[/]" if few else ""
    table.add_row("windows", f"{survey.chip} pixels", windows + doubt)
    table.add_row("backbone", escape(model.title), escape(model.reasons(started.bands.names)))
    for other in started.others:
        table.add_row("[dim]or[/]", f"[dim]{escape(other.title)}[/]", f"[dim]{other.reasons(started.bands.names)}[/]")
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table

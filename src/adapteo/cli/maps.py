"""``areas``, ``polygons``: what comes after a map."""

import json
from pathlib import Path
from typing import Annotated

import typer

from adapteo.cli.app import app, reported
from adapteo.errors import ConfigError
from adapteo.files import replacing

_Map = Annotated[Path, typer.Argument(metavar="MAP", help="GeoTIFF of classes.", show_default=False)]


@app.command()
@reported()
def areas(
    map_file: _Map,
    reference: Annotated[
        Path | None,
        typer.Option(help="Points or polygons with their true class; or a CSV with an error matrix (map in rows)."),
    ] = None,
    class_column: Annotated[str | None, typer.Option(help="Column of the class in the reference.")] = None,
    training: Annotated[
        Path | None, typer.Option(help="Labels that the model was trained on: warns when samples are among them.")
    ] = None,
    design: Annotated[
        str, typer.Option(help="How samples were drawn: stratified (by classes of this map) or random (over it all).")
    ] = "stratified",
    out: Annotated[Path | None, typer.Option(help="Write the table as .csv or .json.")] = None,
) -> None:
    """Area of each class of a map; with reference samples also its accuracy and the error-adjusted area."""
    from adapteo.areas import areas as measure

    if out is not None and out.suffix.lower() not in (".csv", ".json"):
        raise ConfigError(f"a table is written as CSV or JSON, not as '{out.name}'", fix=f"write {out.stem}.csv")
    table = measure(map_file, reference=reference, class_column=class_column, training=training, design=design)
    table.render()
    if out is not None:
        with replacing(out) as beside:
            text = table.to_csv() if out.suffix.lower() == ".csv" else json.dumps(table.as_dict(), indent=1)
            beside.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {out}")


@app.command()
@reported()
def polygons(
    map_file: _Map,
    out: Annotated[Path, typer.Option(help="GeoPackage to write.")],
    minimum_area: Annotated[
        float, typer.Option(help="Hectares; smaller patches take the class of the neighbour with the longest border.")
    ] = 0.0,
    simplify: Annotated[
        float, typer.Option(help="Pixels; 1 makes lines of the steps of pixels, 0 keeps them. No gaps, no overlaps.")
    ] = 0.0,
    connectivity: Annotated[int, typer.Option(help="4, or 8: pixels that touch at a corner are one patch.")] = 4,
    leave_out: Annotated[
        str, typer.Option(help="Names of classes that get no polygon, with commas, e.g. background,cloud.")
    ] = "",
) -> None:
    """Turn a map of classes into polygons for a GIS, with its colours, names and areas in hectares."""
    from adapteo.polygons import polygons as write

    left_out = [name.strip() for name in leave_out.split(",") if name.strip()]
    written = write(
        map_file, out, minimum_area=minimum_area, simplify=simplify, connectivity=connectivity, leave_out=left_out
    )
    typer.echo(f"wrote {written}")

"""``polygons``: what comes after a map."""

from pathlib import Path
from typing import Annotated

import typer

from adapteo.cli.app import app, reported

_Map = Annotated[Path, typer.Argument(metavar="MAP", help="GeoTIFF of classes.", show_default=False)]


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

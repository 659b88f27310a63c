"""``check`` and ``chips``: scenes and labels of one's own, before anything is trained."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from adapteo.cli.app import app, reported
from adapteo.errors import ConfigError

if TYPE_CHECKING:
    from adapteo._yaml import Document


@app.command()
@reported()
def init(  # noqa: PLR0913  # options of a command
    name: Annotated[
        Path, typer.Argument(metavar="NAME", help="Folder of the project, to be made.", show_default=False)
    ],
    images: Annotated[
        list[str], typer.Option(help="Scenes: files, a pattern or a folder; may be repeated.", show_default=False)
    ],
    labels: Annotated[
        list[str], typer.Option(help="Vector file with a class column; or masks: files, a pattern or a folder.")
    ],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[SCENE]", help="Further scenes, from a pattern without quotes.")
    ] = None,
    class_column: Annotated[str | None, typer.Option(help="Column of the labels with the class.")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of the labels, where there are several.")] = None,
    labels_crs: Annotated[
        str | None, typer.Option(help="Coordinate system of the labels, e.g. EPSG:4326, if their file does not say it.")
    ] = None,
    split_by: Annotated[
        str | None, typer.Option(help="block (default), scene, date, random, or a column of the labels with regions.")
    ] = None,
    line_width: Annotated[float | None, typer.Option(help="Metres on the ground that lines are wide.")] = None,
    bands: Annotated[str, typer.Option(help="Names of the scenes' bands in order, if they do not tell.")] = "",
    sensor: Annotated[str | None, typer.Option(help="sentinel2, hls_s30, hls_l30 or landsat8.")] = None,
    scale: Annotated[float | None, typer.Option(help="Reflectance = stored value x scale + offset.")] = None,
    offset: Annotated[str | None, typer.Option(help="See --scale; 'auto' looks for Sentinel-2's -0.1.")] = None,
    nodata: Annotated[float | None, typer.Option(help="Stored value that is missing.")] = None,
    frames: Annotated[int, typer.Option(help="Dates per sample, of time series.")] = 1,
    dates_per_file: Annotated[
        int | None, typer.Option(help="Dates that each file stacks, all bands of the first date first.")
    ] = None,
    dates: Annotated[str, typer.Option(help="Of such files, e.g. 2023-04-15,2023-08-15, if they do not tell.")] = "",
    backbone: Annotated[str | None, typer.Option(help="E.g. prithvi or prithvi/2.0-tiny-TL.")] = None,
    method: Annotated[str, typer.Option(help="See `adapteo list methods`.")] = "lora",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over an adapteo.yaml.")] = False,
) -> None:
    """Look at scenes and labels, and write a project with a short configuration."""
    from rich.console import Console

    from adapteo.init import Request, init, show, sort_out

    scenes, drawn = sort_out(images, labels, more or ())
    request = Request(
        name,
        tuple(scenes),
        tuple(drawn),
        class_column=class_column,
        layer=layer,
        labels_crs=labels_crs,
        split_by=split_by,
        line_width=line_width,
        bands=tuple(bands.replace(",", " ").split()),
        sensor=sensor,
        scale=scale,
        offset=_offset(offset),
        nodata=nodata,
        frames=frames,
        dates_per_file=dates_per_file,
        dates=tuple(dates.replace(",", " ").split()),
        backbone=backbone,
        method=method,
        overwrite=overwrite,
    )
    show(init(request), Console())


def _offset(text: str | None) -> "float | Literal['auto'] | None":
    if text is None or text == "auto":
        return text  # type: ignore[return-value]  # as it says
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--offset {text} is no number", allowed=["a number such as -0.1", "auto"]) from None


@app.command()
@reported()
def check(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file of the run, or project folder.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text; see docs/check.md.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with maps and histograms; one file, nothing else needed.")
    ] = None,
) -> None:
    """Say what is wrong with scenes and labels, what it does to the result, and which line to change.

    The exit code is 1 when something would spoil the result, else 0.
    """
    from rich.console import Console

    from adapteo.check import View, read_source, run, show, write_page

    view = View(read_source(config))
    checked = run(view)
    if html is not None:
        write_page(view, checked, html)
    if as_json:
        typer.echo(json.dumps(checked.as_json(), indent=2, ensure_ascii=False))
    else:
        show(checked, Console())
    if html is not None:
        typer.echo(f"wrote {html}", err=as_json)
    if checked.failed:
        raise typer.Exit(1)


@app.command()
@reported()
def chips(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="Project folder or YAML file with a survey.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that is there.")] = False,
) -> None:
    """Cut the windows of a survey into image and mask files, with an index and a configuration that reads them."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    from adapteo.check import read_source
    from adapteo.chips import write_chips

    source = read_source(config)
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("chips", total=None)
        written = write_chips(
            source.dataset,
            out,
            overwrite=overwrite,
            sections=_sections(source.document) if source.document else None,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if written.index.suffix == ".csv":
        typer.echo("the index is CSV, without outlines; for GeoParquet: pip install 'adapteo[parquet]'", err=True)
    typer.echo(f"wrote {written.folder}: {written.chips} chips, {written.dtype}")


def _sections(document: "Document") -> dict[str, object]:
    """All of a configuration but its dataset and folder; a local file of weights is named from anywhere."""
    kept: dict[str, object] = {key: value for key, value in document.root.items() if key not in ("dataset", "out")}
    backbone = kept.get("backbone")
    if isinstance(backbone, dict) and isinstance(backbone.get("weights"), str):
        local = document.origin(("backbone", "weights")).folder / Path(str(backbone["weights"])).expanduser()
        if local.exists():
            kept["backbone"] = {**backbone, "weights": str(local.resolve())}
    return kept

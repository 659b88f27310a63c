"""``check`` and ``chips``: scenes and labels of one's own, before anything is trained."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapteo.cli.app import app, reported

if TYPE_CHECKING:
    from adapteo._yaml import Document


@app.command()
@reported()
def check(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file of the run, or project folder.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text; see docs/check.md.")] = False,
) -> None:
    """Say what is wrong with scenes and labels, what it does to the result, and which line to change.

    The exit code is 1 when something would spoil the result, else 0.
    """
    from rich.console import Console

    from adapteo.check import View, read_source, run, show

    checked = run(View(read_source(config)))
    if as_json:
        typer.echo(json.dumps(checked.as_json(), indent=2, ensure_ascii=False))
    else:
        show(checked, Console())
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
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
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

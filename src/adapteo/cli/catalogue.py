"""``list``, ``demo``, ``version``: what there is."""

from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

import adapteo
from adapteo import registry
from adapteo.cli.app import app, reported

Family = Enum("Family", {name: name for name in registry.FAMILIES})  # type: ignore[misc]  # generated from the code


@app.command("list")
@reported()
def list_(
    family: Annotated[
        Family, typer.Argument(metavar="FAMILY", help=f"One of {', '.join(registry.FAMILIES)}.", show_default=False)
    ],
) -> None:
    """List what there is, one line each."""
    summaries = registry.summaries(family.value)
    width = max(map(len, summaries), default=0)
    for name, summary in summaries.items():
        typer.echo(f"{name:<{width}}  {summary}".rstrip())


@app.command()
@reported()
def demo(out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/demo")) -> None:
    """Compare ways of adapting a small model on generated scenes; offline, a few minutes."""
    import_module("adapteo.demo").run(out)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(adapteo.__version__)

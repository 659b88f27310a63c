"""``bench``: published results, run again."""

from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from adapteo.cli.app import app, reported

Preset = Enum("Preset", {name: name for name in ("full", "smoke")})  # type: ignore[misc]  # as members of words
_TABLES = "main, ood, decoders, metadata, time; few, peft_decoders, ranks, precision, stride, memory; or all"

bench = typer.Typer(help="Compare with published results.", no_args_is_help=True)
app.add_typer(bench, name="bench")


@bench.command()
@reported()
def paper(
    table: Annotated[str, typer.Option(help=f"One of {_TABLES}.", show_default=False)],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="See docs/paper.md; e.g. seeds=3 jobs=2 protocol=ours."),
    ] = None,
    preset: Annotated[Preset, typer.Option(help="smoke: one step of each cell, on generated images.")] = Preset["full"],
    data: Annotated[Path, typer.Option(help="Folder with sen1floods11, burn_scars, reben, geobench.")] = Path("data"),
    out: Annotated[Path, typer.Option(help="Folder for runs and tables.")] = Path("runs/paper"),
    rates: Annotated[str, typer.Option(help="Learning rates: search (on validation), paper, or default.")] = "search",
    only: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only such cells, e.g. model=clay-v1,decur.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what is needed.")] = False,
) -> None:
    """Run a table of arXiv 2504.17397, or one that it left open; ours beside the paper's."""
    command, setting = import_module("adapteo.bench.paper"), import_module("adapteo.bench.setting")
    given = setting.options([f"rates={rates}", *(options or ())])
    chosen = setting.smoke(out, given) if preset.value == "smoke" else setting.Setting(data, out, options=given)
    if command.run(command.Wanted(table, tuple(only or ()), dry_run), chosen):
        raise typer.Exit(1)

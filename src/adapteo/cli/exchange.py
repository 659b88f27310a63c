"""``import`` and ``export``: configurations and models of TerraTorch."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from adapteo.cli.app import app, reported
from adapteo.errors import ConfigError
from adapteo.files import replacing


class Target(Enum):
    """What a run can be written for."""

    terratorch = "terratorch"


@app.command("import")
@reported()
def import_(
    config: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="TerraTorch's YAML file, as for `terratorch fit`.", show_default=False),
    ],
    out: Annotated[Path | None, typer.Option(help="YAML file to write; without it, the result is printed.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the dataset, where the file has a placeholder such as <path>.")
    ] = None,
    splits: Annotated[Path | None, typer.Option(help="Folder with the lists of chips that the file names.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="TerraTorch's checkpoint; writes a run that can be tested and map scenes.")
    ] = None,
) -> None:
    """Turn a configuration of TerraTorch into ours, and say what became of each line."""
    from adapteo import config as ours
    from adapteo.terratorch.importing import import_config

    if out is not None and out.exists():
        raise ConfigError(f"{out} is there already", fix="choose another name with --out, or delete that file")
    if checkpoint is not None and out is None:
        raise ConfigError("a checkpoint needs a run's YAML file", fix="name it with --out")
    found = import_config(config, out=out, root=root, splits=splits)
    typer.echo(found.report(), err=out is None)
    if out is None:
        typer.echo(found.text, nl=False)
        return
    with replacing(out) as beside:
        beside.write_text(found.text, encoding="utf-8")
    typer.echo(f"wrote {out}")
    if checkpoint is not None:
        from adapteo.terratorch.fitting import import_checkpoint

        typer.echo(f"wrote {import_checkpoint(ours.load(out), checkpoint).folder}")


@app.command()
@reported()
def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a finished run, e.g. runs/flood.", show_default=False)
    ],
    to: Annotated[Target, typer.Option(help="What to write it for.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
) -> None:
    """Write a run as a configuration and a checkpoint of TerraTorch, with equal outputs."""
    from adapteo.terratorch.exporting import export_run

    assert to is Target.terratorch, "there is one target"
    for note in export_run(run, out).notes:
        typer.echo(note)
    typer.echo(f"wrote {out}")

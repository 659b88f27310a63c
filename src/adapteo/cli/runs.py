"""``plan``, ``fit``, ``test``, ``predict``, ``merge``: the main job."""

import json
from pathlib import Path
from typing import Annotated

import typer

import adapteo
from adapteo.cli.app import app, reported
from adapteo.errors import ConfigError


@app.command()
@reported()
def fit(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file of the run, or project folder.", show_default=False)
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Change keys, e.g. train.rate=3e-4 method=lora."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a stopped run left off.")] = False,
    no_check: Annotated[bool, typer.Option("--no-check", help="Train even if `adapteo check` finds a FAIL.")] = False,
    leave_one_out: Annotated[
        str | None,
        typer.Option(metavar="BY", help="Of a survey: train once without each scene, date or region; test there."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run (default: run/ in the project, or runs/ and the YAML's name)."),
    ] = None,
) -> None:
    """Train what a YAML file describes."""
    if leave_one_out is not None:
        from adapteo import config as configuration
        from adapteo import leave_out

        run = configuration.load(config, [*(overrides or ()), *([f"out={out}"] if out else ())])
        found = leave_out.leave_one_out(
            run, leave_one_out, train=lambda one: adapteo.fit(one, resume=resume, check=not no_check)
        )
        found.render()
        return
    adapteo.fit(config, *(overrides or ()), *([f"out={out}"] if out else ()), resume=resume, check=not no_check)


@app.command()
@reported()
def plan(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file of the run, or project folder.", show_default=False)
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Change keys, e.g. train.batch=4 method=lora.")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(help="Plan for this GPU, e.g. 8GB, T4, A100, H200, instead of for this machine.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print numbers as JSON.")] = False,
) -> None:
    """Tell what a training will take before it starts: memory, arithmetic, time; beside cheaper ways."""
    from adapteo import config as configuration
    from adapteo.plan import make, render

    made = make(configuration.load(config, overrides or ()), gpu)
    if as_json:
        typer.echo(json.dumps(made.as_dict(), indent=1))
    else:
        render(made)


@app.command()
@reported()
def tune(  # noqa: PLR0913  # one for each option
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file of the run, or project folder.", show_default=False)
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Change keys, e.g. train.epochs=20; several values are searched: method.rank=4,8,16, "
            "decoder=linear,unet, train.rate=1e-5..1e-2 (which is always searched unless it is given).",
        ),
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUES", help="KEY=VALUE with several values may be written so as well."),
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="E.g. lora,ssf,lora+ssf,full,frozen,scratch (default: the configuration's).")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Trainings of each method's search, judged on validation (default: 16).")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Trainings of each method's best setting, tested once (default: 3).")
    ] = None,
    prune: Annotated[
        bool | None, typer.Option("--prune/--no-prune", help="End trials early that are worse than the median.")
    ] = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="Train even if `adapteo check` finds a FAIL.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder (default: tune/ in the project, or runs/ and the YAML's name-tune).")
    ] = None,
) -> None:
    """Compare methods fairly: search each on validation with equal budgets, then test the best of each.

    What is not given here is taken from the section `tune` of the file. A tuning that was stopped goes on with the
    same command.
    """
    texts = [*(overrides or ()), *(search or ()), *([f"out={out}"] if out else ())]
    names = None if methods is None else [name for name in methods.split(",") if name.strip()]
    tuned = adapteo.tune(config, *texts, methods=names, trials=trials, seeds=seeds, prune=prune, check=not no_check)
    tuned.render()


_SCENES = "GeoTIFFs of any size, product folders (.SAFE), folders with one file per band, or addresses."
_Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="Folder of a finished run, or of its project.", show_default=False)
]


@app.command()
@reported()
def test(
    run: _Run,
    chance: Annotated[
        bool,
        typer.Option("--random/--no-random", help="Of a survey: show what the linear probe scores on a random split."),
    ] = True,  # noqa: PT028  # a command, no test of pytest
) -> None:
    """Print the test table: per class, per region, with intervals."""
    adapteo.load(run).test(show=True, chance=chance)


@app.command()
@reported()
def predict(  # noqa: PLR0913  # one for each option
    run: _Run,
    scenes: Annotated[list[str], typer.Argument(metavar="SCENE", help=_SCENES, show_default=False)],
    out: Annotated[Path, typer.Option(help="The map to write; a folder when there are several scenes.")],
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Write probabilities beside the map.")] = False,
    bands: Annotated[
        str, typer.Option(help="Names of the file's bands in order, e.g. blue,green,red,nir08; if it does not tell.")
    ] = "",
    sensor: Annotated[
        str | None, typer.Option(help="sentinel2, hls_s30, hls_l30 or landsat8, where names such as B5 need it.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Reflectance = stored value x scale + offset, if not as in training.")
    ] = None,
    offset: Annotated[float, typer.Option(help="See --scale.")] = 0.0,
    mosaic: Annotated[bool, typer.Option("--mosaic", help="Put all scenes into one map.")] = False,
    crs: Annotated[
        str | None, typer.Option(help="Of a mosaic, e.g. EPSG:32633 (default: that of the first scene).")
    ] = None,
    resolution: Annotated[
        float | None, typer.Option(help="Of a mosaic, in units of its coordinate system (default: the first scene's).")
    ] = None,
    overlap: Annotated[
        str, typer.Option(help="Of a mosaic, where scenes overlap: mean (of probabilities), first or last (date).")
    ] = "mean",
    polygons: Annotated[
        Path | None, typer.Option(help="GeoPackage of the map's polygons; a folder when there are several scenes.")
    ] = None,
    minimum_area: Annotated[float, typer.Option(help="Of polygons, in hectares; see `adapteo polygons`.")] = 0.0,
    simplify: Annotated[float, typer.Option(help="Of polygons, in pixels; see `adapteo polygons`.")] = 0.0,
    readers: Annotated[
        str, typer.Option(help="Processes that read the scenes: a number, or auto. The map is the same.")
    ] = "auto",
) -> None:
    """Map whole scenes. A prediction that was stopped goes on with the same command."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    from adapteo.mapping import Mosaic, Watch

    if (crs or resolution or overlap != "mean") and not mosaic:
        raise ConfigError("--crs, --resolution and --overlap are of a mosaic", fix="add --mosaic")
    fitted = adapteo.load(run)
    if polygons is not None and not fitted.imagery.classes:
        raise ConfigError("this run maps values, which have no polygons", fix="leave --polygons out")
    if polygons is not None:
        from adapteo.polygons import check_options, polygons_of

        check_options(polygons, minimum_area, simplify)
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("predict", total=None)
        written = fitted.predict(
            scenes,
            out,
            bands=bands.replace(",", " ").split(),
            sensor=sensor,
            scaling=None if scale is None else (scale, offset),
            probabilities=probabilities,
            mosaic=Mosaic(crs, resolution, overlap) if mosaic else None,
            readers=_number(readers),
            progress=Watch(lambda done, total: bar.update(task, completed=done, total=total), bar.console.print),
        )
    typer.echo(f"wrote {written}")
    if polygons is not None:
        polygons_of(written, [Path(scene) for scene in scenes], polygons, minimum_area=minimum_area, simplify=simplify)
        typer.echo(f"wrote {polygons}")


def _number(readers: str) -> int | None:
    if readers != "auto" and not readers.isdecimal():
        raise ConfigError(f"'{readers}' is no number of readers", allowed=("auto", "1", "2", "..."))
    return None if readers == "auto" else int(readers)


@app.command()
@reported()
def merge(
    run: _Run,
    out: Annotated[Path, typer.Option(help="Checkpoint file to write.")],
) -> None:
    """Write the adapted backbone as an ordinary checkpoint, with the upstream keys."""
    typer.echo(f"wrote {adapteo.load(run).merge(out)}")

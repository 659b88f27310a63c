"""The ``adapteo`` command: it reads arguments and shows errors; everything else is `adapteo.experiment`.

Nothing heavy is imported before a command runs, so that ``--help`` and completion answer at once.
"""

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.core import TyperGroup

import adapteo
from adapteo import registry
from adapteo.errors import AdaptEOError, Interrupted

_LINES = 5
"""Most lines of an error on the screen."""
_debug: ContextVar[bool] = ContextVar("debug", default=False)

Family = Enum("Family", {name: name for name in registry.FAMILIES})  # type: ignore[misc]  # generated from the code


class _Commands(TyperGroup):
    """Takes ``--debug`` after the command as well as before it."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        own = args[: args.index("--")] if "--" in args else args
        if "--debug" in own:
            args = ["--debug", *(arg for arg in own if arg != "--debug"), *args[len(own) :]]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Commands,
    help="From your own labels to a map you can trust: adapt geospatial foundation models with few parameters.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; goes anywhere.")] = False,
) -> None:
    _debug.set(debug)


@contextmanager
def _reported() -> Iterator[None]:
    """Show errors as a few lines, each kind with its exit code: 2 the user can act, 130 stopped, 1 a bug."""
    try:
        yield
    except Interrupted as stopped:
        _fail(str(stopped), 130)
    except AdaptEOError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except (typer.Exit, BrokenPipeError):  # typer's own affairs; the latter is `adapteo list … | head`
        raise
    except OSError as error:
        _fail(_os_problem(error), 2)
    except Exception as error:  # noqa: BLE001  # the only broad one: whatever is left is a bug, and is called one
        if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):  # torch's, without torch
            _fail(
                "out of memory\ntry a smaller train.batch with train.accumulate, train.crop, or train.precision=bf16", 2
            )
        text = str(error).partition("\n")[0]
        _fail(f"this is a bug in adapteo: {type(error).__name__}: {text}\nrun it again with --debug and report it", 1)


def _fail(message: str, code: int) -> NoReturn:
    """Write an error and exit; called while its exception is handled."""
    if _debug.get():
        traceback.print_exc()
    prefix = typer.style("error: ", fg="red", bold=True) if code != 130 else ""
    typer.echo(prefix + "\n".join(message.splitlines()[:_LINES]), err=True)
    raise typer.Exit(code) from None


def _os_problem(error: OSError) -> str:
    """Say what the system refused, where, and what helps."""
    place = f": {error.filename}" if error.filename else ""
    remedies = {
        errno.ENOSPC: "free some space, or write elsewhere with --out",
        errno.EDQUOT: "free some space, or write elsewhere with --out",
        errno.EACCES: "check who owns the file and its folder, or write elsewhere with --out",
        errno.EPERM: "check who owns the file and its folder, or write elsewhere with --out",
        errno.EROFS: "write elsewhere with --out",
        errno.ENOENT: "check the path",
        errno.EMFILE: "lower train.workers, or raise the limit with `ulimit -n`",
    }
    remedy = remedies.get(error.errno or 0, "")
    return f"{error.strerror or error}{place}" + (f"\n{remedy}" if remedy else "")


@app.command()
@_reported()
def fit(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Change keys, e.g. train.rate=3e-4 method=lora."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a stopped run left off.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run (default: runs/ and the name of the YAML file).")
    ] = None,
) -> None:
    """Train what a YAML file describes."""
    adapteo.fit(config, *(overrides or ()), *([f"out={out}"] if out else ()), resume=resume)


_Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="Folder of a finished run, e.g. runs/flood.", show_default=False)
]


@app.command()
@_reported()
def test(run: _Run) -> None:
    """Print the test table: per class, per region, with intervals."""
    adapteo.load(run).test(show=True)


@app.command()
@_reported()
def predict(
    run: _Run,
    scenes: Annotated[list[Path], typer.Argument(metavar="SCENE", help="GeoTIFFs of any size.", show_default=False)],
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
) -> None:
    """Map whole scenes."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    fitted = adapteo.load(run)
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("predict", total=None)
        written = fitted.predict(
            scenes,
            out,
            bands=bands.replace(",", " ").split(),
            sensor=sensor,
            scaling=None if scale is None else (scale, offset),
            probabilities=probabilities,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    typer.echo(f"wrote {written}")


@app.command()
@_reported()
def merge(
    run: _Run,
    out: Annotated[Path, typer.Option(help="Checkpoint file to write.")],
) -> None:
    """Write the adapted backbone as an ordinary checkpoint, with the upstream keys."""
    typer.echo(f"wrote {adapteo.load(run).merge(out)}")


@app.command("list")
@_reported()
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
@_reported()
def demo(out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/demo")) -> None:
    """Compare ways of adapting a small model on generated scenes; offline, a few minutes."""
    import_module("adapteo.demo").run(out)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(adapteo.__version__)


def main() -> None:
    """Run the command line; the console script."""
    app()

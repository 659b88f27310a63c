"""The command's frame: what its subcommands hang on, and how errors are shown."""

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, NoReturn

import typer
from typer.core import TyperGroup

from adapteo.errors import AdaptEOError, Interrupted

_LINES = 5
"""Most lines of an error on the screen."""
_debug: ContextVar[bool] = ContextVar("debug", default=False)


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
def reported() -> Iterator[None]:
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

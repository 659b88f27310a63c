"""The ``adapteo`` command: it reads arguments and shows errors; everything else is below it.

Nothing heavy is imported before a command runs, so that ``--help`` and completion answer at once. One file per group of
subcommands; importing it adds them to the frame in `app`.
"""

from adapteo.cli import surveys, runs, maps, exchange, bench, catalogue  # isort: skip  # the order of the help page
from adapteo.cli.app import app

__all__ = ["app", "bench", "catalogue", "exchange", "main", "maps", "runs", "surveys"]


def main() -> None:
    """Run the command line; the console script."""
    app()

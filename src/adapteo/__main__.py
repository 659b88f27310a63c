"""``python -m adapteo``: the command line without its script."""

from adapteo.cli import main

main()

"""How long the command line and the import take, as whole processes, in turns.

    python -m benchmarks start_up

Goals: ``import adapteo`` adds less than 0.3 s to ``import torch``; ``adapteo --help`` under 0.5 s, without torch. The
figures are medians of the rounds.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks._counting import in_turns
from benchmarks._rows import Goal, Row, Spread, arguments, tell

TORCH, BOTH, USED = "import torch", "import torch, adapteo", "import torch, adapteo; adapteo.fit, adapteo.load"
HELP = "import sys; sys.argv = ['adapteo', '--help']; from adapteo.cli import main; main()"
PROBE = "import sys, adapteo.cli; print('torch' in sys.modules)"


def measured(options: argparse.Namespace) -> Iterator[Row]:
    """Times of fresh interpreters."""
    codes = {TORCH: TORCH, BOTH: BOTH, USED: USED, "adapteo --help": HELP}
    times = in_turns({name: lambda code=code: _python(code) for name, code in codes.items()}, options.rounds)
    for name, each in times.items():
        goal = Goal(0.5) if codes[name] is HELP else None
        yield Row(name, "time", statistics.median(each), "s", goal, Spread.of(each))
    for name, goal in ((BOTH, Goal(0.3)), (USED, None)):
        added = [a - b for a, b in zip(times[name], times[TORCH], strict=True)]
        yield Row(name, "time beyond torch", statistics.median(added), "s", goal, Spread.of(added))
    yield Row("adapteo.cli", "imports torch", int(_python(PROBE) == "True"), "", Goal(0))


def _python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def main(given: list[str] | None = None) -> None:
    """Measure, print and write."""
    options = arguments(__doc__).parse_args(given)
    options.rounds = 1 if options.quick else options.rounds
    tell(Path(__file__).stem, options, measured(options))


if __name__ == "__main__":
    main()

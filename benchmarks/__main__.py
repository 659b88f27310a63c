"""Run every benchmark, or those named: ``python -m benchmarks [name …]``; one alone takes options of its own.

Each prints its table and writes ``benchmarks/out/NAME.json``; ``--quick`` and ``--rounds N`` go to all of them.
"""

import importlib
import sys
from pathlib import Path

COMMON = ("--quick", "--rounds")


def main() -> None:
    """Run the benchmarks one after the other."""
    known = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))
    first = next((i for i, given in enumerate(sys.argv) if i and given.startswith("-")), len(sys.argv))
    names, options = sys.argv[1:first], sys.argv[first:]
    own = [each for each in options if each.startswith("-") and each.partition("=")[0] not in COMMON]
    if own and len(names) != 1:
        sys.exit(f"{own[0]} belongs to one benchmark: name it before the options")
    for name in names or known:
        if name not in known:
            sys.exit(f"there is no benchmark '{name}'; there are {', '.join(known)}")
        print(f"\n== {name}", flush=True)
        sys.argv = [name, *options]
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()

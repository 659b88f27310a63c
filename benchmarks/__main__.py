"""Run every benchmark, or those named: ``python -m benchmarks [name …]``; one alone takes options of its own."""

import importlib
import sys
from pathlib import Path


def main() -> None:
    """Run the benchmarks one after the other; each prints its own table."""
    known = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))
    first = next((i for i, given in enumerate(sys.argv) if i and given.startswith("-")), len(sys.argv))
    names, options = sys.argv[1:first], sys.argv[first:]
    if options and len(names) != 1:
        sys.exit("options belong to one benchmark: name it before them")
    for name in names or known:
        if name not in known:
            sys.exit(f"there is no benchmark '{name}'; there are {', '.join(known)}")
        print(f"\n== {name}", flush=True)
        sys.argv = [name, *options]
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()

"""Run every benchmark, or those named: ``python -m benchmarks [name …]``."""

import importlib
import sys
from pathlib import Path


def main() -> None:
    """Run the benchmarks one after the other; each prints its own table."""
    known = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))
    for name in sys.argv[1:] or known:
        if name not in known:
            sys.exit(f"there is no benchmark '{name}'; there are {', '.join(known)}")
        print(f"\n== {name}", flush=True)
        sys.argv = [name]
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()

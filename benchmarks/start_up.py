"""How long the command line and the import take, as whole processes: medians of five.

Goals: ``import adapteo`` adds less than 0.3 s to ``import torch``; ``adapteo --help`` under 0.5 s, without torch.
"""

import statistics
import subprocess
import sys
import time

RUNS = 5


def main() -> None:
    """Print the medians and whether torch was imported."""
    torch = _seconds("import torch")
    both = _seconds("import torch, adapteo")
    used = _seconds("import torch, adapteo; adapteo.fit, adapteo.load")
    print(f"import torch                         {torch:.2f} s")
    print(f"import torch, adapteo                {both:.2f} s   (adds {both - torch:+.2f} s, goal < 0.30)")
    print(f"  … and what fit and load need       {used:.2f} s   (adds {used - torch:+.2f} s)")
    command = "import sys; sys.argv = ['adapteo', '--help']; from adapteo.cli import main; main()"
    print(f"adapteo --help                       {_seconds(command):.2f} s   (goal < 0.50)")
    probe = "import sys, adapteo.cli; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.strip()
    print(f"adapteo.cli imports torch            {found}   (goal False)")


def _seconds(code: str) -> float:
    """Median wall time of a fresh interpreter."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    main()

"""Is what `adapteo plan` says what a real step takes, and how long does it think?

    python -m benchmarks plan
    python benchmarks/plan.py --json plan.json --cases 3

For each of twelve real-size cases (224 x 224 pixels of six bands, batch 2, random weights) the plan's figure is printed
beside the measured one: weights, gradients, optimiser state and the tensors that autograd keeps, counted on real
tensors in a real step. Last comes the time of a whole plan, with all its alternatives, for Prithvi 2.0-600M-TL, in
seconds of the processor (other programs lengthen those of the clock).

Goals: memory within 10 %, and under 10 s for the plan.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from adapteo import config, plan
from adapteo.assembly import adapt_model, assemble, loader
from adapteo.config import Run
from adapteo.machine import Limit
from adapteo.meter import Memory
from adapteo.plan import Planner
from adapteo.tracing import Step
from benchmarks.data_wait import write_chips

GOAL, SECONDS = 0.10, 10.0
PRITHVI = {"name": "prithvi", "variant": "1.0-100M", "weights": "random"}
LARGE = {"name": "prithvi", "variant": "2.0-300M", "weights": "random"}
GALILEO = {"name": "galileo", "variant": "tiny", "weights": "random"}
NETWORK = {"name": "unet", "weights": "random"}
CASES: tuple[tuple[str, dict[str, str], str, dict[str, object]], ...] = (
    ("full", PRITHVI, "unet", {"memory": "fast"}),
    ("full", PRITHVI, "upernet", {"memory": "lean"}),
    ("lora", PRITHVI, "unet", {"memory": "lean"}),
    ("lora", PRITHVI, "linear", {"memory": "leanest"}),
    ("vpt", PRITHVI, "linear", {}),
    ("bitfit", PRITHVI, "fcn", {}),
    ("adaptformer", PRITHVI, "unet", {"precision": "bf16"}),
    ("ssf", GALILEO, "linear", {}),
    ("last_k", LARGE, "unet", {"cache_features": "off"}),
    ("frozen", LARGE, "linear", {"cache_features": "off"}),
    ("lora", LARGE, "unet", {"memory": "leanest"}),
    ("full", NETWORK, "fcn", {}),
)


def main() -> None:
    """Measure, print, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_chips(root, 4)
        print(f"{'':46}{'planned MiB':>12}{'measured':>10}{'ratio':>8}{'peak MiB':>10}{'plan s':>8}")
        for method, backbone, decoder, train in CASES[: options.cases]:
            run = _run(root, method, backbone, decoder, train)
            began = time.process_time()
            need = Planner(run, Limit(None, "none", gpu=False, here=False)).need(method)
            seconds = time.process_time() - began
            measured = _measured(run).total
            model = backbone.get("variant") or backbone["name"]
            what = ", ".join([method, str(model), decoder, *(str(value) for value in train.values())])
            row = {"case": what, "planned": need.total, "measured": measured, "ratio": need.total / measured}
            rows.append(row | {"peak": need.peak, "seconds": seconds})
            mib = [number / 2**20 for number in (need.total, measured, need.peak)]
            print(
                f"{what:46}{mib[0]:12.1f}{mib[1]:10.1f}{need.total / measured:8.4f}{mib[2]:10.1f}{seconds:8.2f}",
                flush=True,
            )
        run = _run(root, "lora", {**LARGE, "variant": "2.0-600M-TL"}, "unet", {"batch": 8})
        began, clock = time.process_time(), time.perf_counter()
        made = plan.make(run, "24GB")
        busy, waited = time.process_time() - began, time.perf_counter() - clock
    worst = max(abs(float(str(row["ratio"])) - 1) for row in rows)
    print(f"worst difference {worst:.4f} (goal <= {GOAL:g})")
    print(f"plan of 2.0-600M-TL, {len(made.needs)} ways: {busy:.1f} s ({waited:.1f} s passed; goal < {SECONDS:g})")
    if options.json:
        facts = {"torch": torch.__version__, "worst": worst, "seconds_600m": busy, "passed_600m": waited}
        options.json.write_text(json.dumps({**facts, "cases": rows}, indent=2))


def _measured(run: Run) -> Memory:
    """Bytes of a step on real tensors."""
    assembled = assemble(run)
    adapt_model(assembled.model, run, run.dataset.classes)
    memory = Memory()
    Step(run, assembled.model, next(loader(run, "train", assembled.bands).epoch(0))).run(memory)
    return memory


def _run(root: Path, method: str, backbone: dict[str, str], decoder: str, train: dict[str, object]) -> Run:
    return config.load(
        {
            "dataset": {
                "name": "folder", "root": str(root), "images": "*_image.tif", "masks": "*_mask.tif",
                "scale": 1e-4, "class_names": ["land", "water"],
                "splits": {"by": "random", "fractions": [0.5, 0.25, 0.25]},
            },
            "backbone": backbone, "method": method, "decoder": decoder,
            "train": {"batch": 2, "normalise": "pretraining", **train}, "out": str(root / "run"),
        }
    )  # fmt: skip


if __name__ == "__main__":
    main()

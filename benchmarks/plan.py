"""Is what `adapteo plan` says what a real step takes, and how long does it think?

    python -m benchmarks plan
    python -m benchmarks plan --json plan.json --cases 3

For each of twelve real-size cases (224 x 224 pixels of six bands, batch 2, random weights) the plan's figure is printed
beside the measured one: weights, gradients, optimiser state and the tensors that autograd keeps, counted on real
tensors in a real step. Last comes the time of a whole plan, with all its alternatives, for Prithvi 2.0-600M-TL, where
the run fits and where it does not, in seconds of the processor (other programs lengthen those of the clock).

Goals: memory within 10 %, and under 10 s for the plan.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from adapteo import config, plan
from adapteo.assembly import adapt_model, assemble, loader
from adapteo.config import Run
from adapteo.machine import Limit
from adapteo.meter import Memory
from adapteo.plan import Planner
from adapteo.tracing import Step
from benchmarks._rows import Goal, Row, Spread, arguments, tell
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


def measured(options: argparse.Namespace) -> Iterator[Row]:
    """Plans beside real steps, then the time of a whole plan."""
    worst = 0.0
    cases = [case for case in CASES if case[1] is GALILEO] if options.quick else CASES[: options.cases]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_chips(root, 4)
        for method, backbone, decoder, train in cases:
            run = _run(root, method, backbone, decoder, train)
            began = time.process_time()
            need = Planner(run, Limit(None, "none", gpu=False, here=False)).need(method)
            thought = time.process_time() - began
            real = _measured(run).total
            model = backbone.get("variant") or backbone["name"]
            what = ", ".join([method, str(model), decoder, *(str(value) for value in train.values())])
            worst = max(worst, abs(need.total / real - 1))
            yield Row(what, "planned", need.total, "B")
            yield Row(what, "measured", real, "B")
            yield Row(what, "planned / measured", need.total / real, "ratio")
            yield Row(what, "peak", need.peak, "B")
            yield Row(what, "plan", thought, "s", spread=Spread.of([thought]))
        yield Row("all cases", "worst difference", worst, "ratio", Goal(GOAL))
        if options.quick:
            return
        run = _run(root, "lora", {**LARGE, "variant": "2.0-600M-TL"}, "unet", {"batch": 8})
        for gpu in ("24GB", "4GB"):
            began, clock = time.process_time(), time.perf_counter()
            made = plan.make(run, gpu)
            busy, passed = time.process_time() - began, time.perf_counter() - clock
            what = f"whole plan of 2.0-600M-TL, {gpu}, {len(made.needs)} ways"
            if made.advice is not None:
                what += " and the search for one that fits"
            yield Row(what, "time of the processor", busy, "s", Goal(SECONDS), Spread.of([busy]))
            yield Row(what, "time that passed", passed, "s", spread=Spread.of([passed]))


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


def main(given: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many")
    options = parser.parse_args(given)
    tell(Path(__file__).stem, options, measured(options))


if __name__ == "__main__":
    main()

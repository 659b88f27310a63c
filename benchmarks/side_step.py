"""What a step of the networks beside a frozen trunk costs in operations, saved activations and time.

    python -m benchmarks side_step
    python -m benchmarks side_step --rounds 9 --size 512 --json side_step.json

Prithvi 1.0-100M (a ViT-B) with random weights, forward and backward of a random projection of all maps that decoders
read; all models share weights, data and process, and rounds are interleaved. `stored` is the same step from what the
trunk gave (`SideRoute.reach`), as when features are kept: what each epoch but the first costs, without decoder and
reading. Saved bytes are what autograd keeps between forward and backward, each storage once, without parameters.

Goals: at most 0.36 of the operations of full fine-tuning and 0.25 of its saved bytes; a step from stored features at
least 20 times faster than one from images. The counter takes the gradient of a depthwise convolution's weight for that
of a dense one, so that `side` is a little cheaper than it says.
"""

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from adapteo.backbones.prithvi import Prithvi
from adapteo.bands import HLS6
from adapteo.contracts import Backbone, Batch, Method, SideRoute, adapt, trainable_count
from adapteo.peft.frozen import Frozen
from adapteo.peft.full import Full
from adapteo.peft.lora import LoRA
from adapteo.peft.lst import LST
from adapteo.peft.side import Side
from benchmarks._counting import interleaved, operations, saved_bytes

METHODS: dict[str, Method] = {
    "full": Full(),
    "frozen": Frozen(),
    "lora": LoRA(),
    "lst": LST(),
    "lst, D / 8": LST(reduction=8),
    "side": Side(),
    "side, D / 6": Side(reduction=6),
}
GOALS = {"flops": 0.36, "saved_bytes": 0.25}
Maps = Callable[[], list[Tensor]]


class Step:
    """Forward, and backward where something is trained, of a random projection of maps."""

    def __init__(self, model: nn.Module, maps: Maps) -> None:
        self.model, self.maps = model, maps
        self.trained = trainable_count(model) > 0
        self.projections: list[Tensor] = []

    def forward(self) -> Tensor:
        """The first half."""
        with torch.set_grad_enabled(self.trained):
            maps = self.maps()
            self.projections = self.projections or [torch.randn_like(each) for each in maps]
            return torch.stack([(m * p).sum() for m, p in zip(maps, self.projections, strict=True)]).sum()

    def __call__(self) -> None:
        """Do both."""
        loss = self.forward()
        if self.trained:
            loss.backward()
        self.model.zero_grad(set_to_none=True)


def steps(batch: Batch) -> dict[str, Step]:
    """One step per method, and for those beside the trunk one from stored outputs of it."""
    torch.manual_seed(0)
    plain = Prithvi(variant="1.0-100M", weights="random").build(HLS6)
    found: dict[str, Step] = {}
    for name, method in METHODS.items():
        model = adapt(copy.deepcopy(plain), method).train()
        found[name] = Step(model, lambda model=model: model(batch))
        if isinstance(model.route, SideRoute):
            found[f"{name}, stored"] = Step(model, from_stored(model, model.route, batch))
    return found


def from_stored(model: Backbone, route: SideRoute, batch: Batch) -> Maps:
    """Maps from what the trunk gave once."""
    with torch.no_grad():
        stored, grid = route.reach(model, batch)
    return lambda: route.go_on(model, stored, grid)


def table(rounds: int, size: int, count: int) -> list[dict[str, object]]:
    """Cost of a step under each method."""
    named = steps(Batch(torch.randn(count, 1, len(HLS6), size, size)))
    times = interleaved(named, rounds)
    rows: list[dict[str, object]] = []
    for name, step in named.items():
        row: dict[str, object] = {"model": name, "trained": trainable_count(step.model), "flops": operations(step)}
        row |= {
            "saved_bytes": saved_bytes(step.forward, step.model, step.projections),
            "min_s": times[name][0],
            "median_s": times[name][1],
        }
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print the table and the ratios, and write them as JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=224, help="pixels per side")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = table(options.rounds, options.size, options.batch)
    full = rows[0]
    heads = "".join(f"{head:>10}" for head in ("trained", "GFLOP", "/full", "saved MiB", "/full", "min s", "/full"))
    print(f"{'':22}{heads}")
    for row in rows:
        shares = [row[key] / full[key] for key in ("flops", "saved_bytes", "min_s")]
        print(
            f"{row['model']:22}{row['trained']:10}{row['flops'] / 1e9:10.1f}{shares[0]:10.4f}"
            f"{row['saved_bytes'] / 2**20:10.1f}{shares[1]:10.4f}{row['min_s']:10.3f}{shares[2]:10.3f}"
        )
    by_name = {row["model"]: row for row in rows}
    for name in ("lst", "side"):
        for key, goal in GOALS.items():
            print(f"{name}: {key} / full {by_name[name][key] / full[key]:.4f} (goal: at most {goal})")
        faster = by_name[name]["min_s"] / by_name[f"{name}, stored"]["min_s"]
        print(f"{name}: from stored features {faster:.1f} times faster (goal: at least 20)")
    if options.json:
        facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "rounds": options.rounds}
        options.json.write_text(json.dumps({**facts, "methods": rows}, indent=2))


if __name__ == "__main__":
    main()

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
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from adapteo.backbones.prithvi import Prithvi
from adapteo.bands import HLS6
from adapteo.contracts import Backbone, Batch, Method, SideRoute, adapt
from adapteo.peft.frozen import Frozen
from adapteo.peft.full import Full
from adapteo.peft.lora import LoRA
from adapteo.peft.lst import LST
from adapteo.peft.side import Side
from benchmarks._counting import DEVICE, Step, costs, in_turns, operations, saved_bytes, step_options
from benchmarks._rows import Goal, Row, Spread, tell

METHODS: dict[str, Method] = {
    "full": Full(),
    "frozen": Frozen(),
    "lora": LoRA(),
    "lst": LST(),
    "lst, D / 8": LST(reduction=8),
    "side": Side(),
    "side, D / 6": Side(reduction=6),
}
OPERATIONS, SAVED, FASTER = Goal(0.36), Goal(0.25), Goal(20.0, least=True)
Maps = Callable[[], list[Tensor]]


def steps(batch: Batch, variant: str) -> dict[str, Step]:
    """One step per method, and for those beside the trunk one from stored outputs of it."""
    torch.manual_seed(0)
    plain = Prithvi(variant=variant, weights="random").build(HLS6).to(DEVICE)
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


def measured(options: argparse.Namespace) -> Iterator[Row]:
    """Cost of a step under each method, and what the goals are about."""
    batch = Batch(torch.randn(options.batch, 1, len(HLS6), options.size, options.size, device=DEVICE))
    named = steps(batch, "2.0-tiny-TL" if options.quick else "1.0-100M")
    times = in_turns(named, options.rounds)
    yield from costs(named, times, "full")
    counted = {n: (operations(s), saved_bytes(s.forward, s.model, s.projections)) for n, s in named.items()}
    for name in ("lst", "side"):
        flops, saved = (a / b for a, b in zip(counted[name], counted["full"], strict=True))
        yield Row(f"{name} / full", "arithmetic", flops, "ratio", OPERATIONS)
        yield Row(f"{name} / full", "saved", saved, "ratio", SAVED)
        stored = times[f"{name}, stored"]
        spread = Spread.of([a / b for a, b in zip(times[name], stored, strict=True)])
        yield Row(f"{name} / {name}, stored", "time", min(times[name]) / min(stored), "ratio", FASTER, spread)


def main(given: list[str] | None = None) -> None:
    """Measure, print and write."""
    options = step_options(__doc__, given)
    tell(Path(__file__).stem, options, measured(options))


if __name__ == "__main__":
    main()

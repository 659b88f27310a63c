"""What the benchmarks of training steps are asked for, count and time."""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from adapteo.contracts import trainable_count
from adapteo.meter import Memory, count_activations
from benchmarks._rows import DEVICE, Row, arguments, ratio, seconds


def step_options(doc: str | None, given: list[str] | None) -> argparse.Namespace:
    """Options of a benchmark of steps: those that all have, and the size and number of images."""
    parser = arguments(doc)
    parser.add_argument("--size", type=int, default=224, help="pixels per side")
    parser.add_argument("--batch", type=int, default=2)
    options = parser.parse_args(given)
    if options.quick:
        options.rounds, options.size, options.batch = 1, 32, 1
    return options


def operations(step: Callable[[], object]) -> int:
    """Floating-point operations of matrix products, convolutions and attention."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _added_in_place}) as counter:
        step()
    return counter.get_total_flops()


def _added_in_place(_: object, one: torch.Size, other: torch.Size, **__: object) -> int:
    """Operations of ``addmm_`` from the shapes of its arguments; the counter knows ``addmm`` only."""
    return 2 * one[0] * one[1] * other[1]


def saved_bytes(forward: Callable[[], object], model: nn.Module, others: Iterable[Tensor] = ()) -> int:
    """Bytes that autograd keeps after a forward pass, each storage once.

    Args:
        forward: the pass.
        model: whose parameters and buffers do not count.
        others: tensors that do not count either.
    """
    memory = Memory()
    with count_activations(model, memory, others):
        forward()
    return memory.activations


def device_peak(step: Callable[[], object]) -> int | None:
    """Most bytes that the CUDA allocator has given away during a step beyond those before it; None on a CPU."""
    if DEVICE.type != "cuda":
        return None
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() - before


def in_turns(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each step in each of the rounds (A B C, A B C, …), after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            if number:
                times[name].append(time.perf_counter() - start)
    return times


class Step:
    """Forward, and backward where something is trained, of a random projection of maps.

    Args:
        model: whose parameters train.
        maps: the forward pass.
    """

    def __init__(self, model: nn.Module, maps: Callable[[], list[Tensor]]) -> None:
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


def costs(steps: Mapping[str, Step], times: Mapping[str, list[float]], base: str) -> Iterator[Row]:
    """What each step trains, computes, keeps and takes, as figures and as shares of one of them."""
    counted = {}
    for name, step in steps.items():
        flops = operations(step)
        counted[name] = flops, saved_bytes(step.forward, step.model, step.projections)
    for name, step in steps.items():
        flops, saved = counted[name]
        yield Row(name, "trained", trainable_count(step.model), "")
        yield Row(name, "arithmetic", flops, "FLOP")
        yield Row(name, f"/ {base}", flops / counted[base][0], "ratio")
        yield Row(name, "saved", saved, "B")
        if (peak := device_peak(step)) is not None:
            yield Row(name, "device peak", peak, "B")
        yield seconds(name, times[name])
        yield ratio(name, f"time / {base}", times[name], times[base])

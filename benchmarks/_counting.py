"""What the benchmarks of training steps count and time."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


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
    known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers(), *others)}
    storages: dict[int, torch.UntypedStorage] = {}  # held until the end, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for storage in storages.values())


def interleaved(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Minimum and median seconds of each step over the rounds (A B C, A B C, …), after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: (min(t), statistics.median(t)) for name, t in times.items()}

"""What a run costs: parameters, memory, time. Counted where counting is exact, measured where it is not.

On a GPU the allocator tells the peak. On a CPU nothing does (the resident set remembers earlier runs of the process and
the allocator's reserves), so the bytes are counted: weights, gradients, optimiser state, and each distinct storage that
autograd keeps for the backward pass.
"""

import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from adapteo.contracts import trainable_count
from adapteo.quantise import parameter_count


@dataclass
class Memory:
    """Bytes of a training step by what they are for."""

    weights: int = 0
    gradients: int = 0
    optimiser: int = 0
    activations: int = 0
    device_peak: int | None = None
    """Peak of the CUDA allocator; None on a CPU."""

    @property
    def total(self) -> int:
        """The device's own figure where there is one, else the sum of the counted parts."""
        return self.device_peak or self.weights + self.gradients + self.optimiser + self.activations


@dataclass
class Meter:
    """Adds up over a run; `facts` goes to ``run.json``."""

    memory: Memory = field(default_factory=Memory)
    steps: int = 0
    images: int = 0
    step_seconds: float = 0.0
    waited_seconds: float = 0.0

    @contextmanager
    def step(self, images: int) -> Iterator[None]:
        """Time one optimiser step."""
        start = time.perf_counter()
        yield
        self.step_seconds += time.perf_counter() - start
        self.steps += 1
        self.images += images

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs."""
        return {**vars(self), "memory": dict(vars(self.memory))}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from where an earlier process stopped."""
        vars(self).update({**state, "memory": Memory(**state["memory"])})

    def facts(self) -> dict[str, object]:
        """Return plain numbers: seconds, images per second, bytes."""
        busy = self.step_seconds + self.waited_seconds
        return {
            "steps": self.steps,
            "seconds_per_step": self.step_seconds / self.steps if self.steps else None,
            "images_per_second": self.images / busy if busy else None,
            "share_waiting_for_data": self.waited_seconds / busy if busy else None,
            "memory_bytes": {**vars(self.memory), "total": self.memory.total},
        }


@contextmanager
def count_activations(model: nn.Module, memory: Memory, others: Iterable[Tensor] = ()) -> Iterator[Callable[[], int]]:
    """Count the bytes that autograd keeps for the backward pass of what runs inside, each storage once.

    Args:
        model: whose parameters and buffers do not count, as they are weights.
        memory: gets the figure, if it is more than before.
        others: tensors that do not count either.

    Yields:
        A function that tells how many they are so far.
    """
    known = {StorageWeakRef(t.untyped_storage()) for t in (*model.parameters(), *model.buffers(), *others)}
    if torch.cuda.is_available() and next(model.parameters()).is_cuda:
        torch.cuda.reset_peak_memory_stats()  # of this step, not of the head start or of another run of the process
    seen: dict[StorageWeakRef, int] = {}  # not by address: the tensors of a FakeTensorMode have none

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if StorageWeakRef(storage) not in known:
            seen[StorageWeakRef(storage)] = storage.nbytes()
        return tensor.detach()  # the tensor itself would hold its own graph, and neither would ever be freed

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield lambda: sum(seen.values())
    memory.activations = max(memory.activations, sum(seen.values()))


def count_state(model: nn.Module, optimiser: torch.optim.Optimizer, memory: Memory) -> None:
    """Count weights, gradients and optimiser state after a step."""
    memory.weights = sum(_bytes(t) for t in [*model.parameters(), *model.buffers()])
    memory.gradients = sum(_bytes(p) for p in model.parameters() if p.requires_grad)
    tensors = (v for state in optimiser.state.values() for v in state.values() if isinstance(v, Tensor))
    memory.optimiser = sum(_bytes(t) for t in tensors)
    if torch.cuda.is_available() and next(model.parameters()).is_cuda:
        memory.device_peak = torch.cuda.max_memory_allocated()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def parameters(backbone: nn.Module, decoder: nn.Module) -> dict[str, int]:
    """Numbers of parameters, by part and by whether they train."""
    return {
        "backbone": parameter_count(backbone),
        "backbone_trained": trainable_count(backbone),
        "decoder_trained": trainable_count(decoder),
    }


def environment(device: torch.device) -> dict[str, object]:
    """What another person needs to understand the times of a run."""
    on_gpu = device.type == "cuda"
    return {
        "adapteo": version("adapteo"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.processor() or device.type,
        "threads": torch.get_num_threads(),
        "command": " ".join(["adapteo", *sys.argv[1:]]) if sys.argv[0].endswith("adapteo") else "python",
    }

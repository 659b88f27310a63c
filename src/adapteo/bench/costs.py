"""What one training step of a cell costs, without its data and weights: memory, operations, and time where measured.

Memory and operations are counted on tensors that have shapes but no values (PyTorch's ``FakeTensorMode``), by the same
counters that a real run uses (`adapteo.meter`), so the paper's batches of eight images of 512 pixels fit on any
machine. Attention counts as PyTorch's fused kernel for CPUs, which stores no matrix of weights, as those for GPUs.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from adapteo import meter
from adapteo.assembly import Imagery, adapt_model, assemble, chosen_bands
from adapteo.bench.setting import SMOKE_SIDE, Setting, run_of
from adapteo.bench.subjects import BENCHMARKS
from adapteo.bench.tables import Cell
from adapteo.config import Run
from adapteo.contracts import Batch, Normalisation, trainable
from adapteo.meter import Memory
from adapteo.model import Model, frozen_in_eval


def _attention(query: Any, key: Any, value: Any, *rest: Any, **options: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(out: Any, query: Any, key: Any, value: Any, *rest: Any, **options: Any) -> int:
    return int(sdpa_backward_flop_count(out, query, key, value))


_ATTENTION = {  # PyTorch's counter knows the kernels of GPUs, and leaves out those of CPUs
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


@dataclass(frozen=True)
class Cost:
    """Of one training step.

    Attributes:
        images: in it.
        memory: bytes.
        operations: floating point operations of matrix products, convolutions and attention, forward and backward, for
            all images.
        parameters: see `adapteo.meter.parameters`.
    """

    images: int
    memory: Memory
    operations: int
    parameters: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {**asdict(self), "memory": {**asdict(self.memory), "total": self.memory.total}}


def count(cell: Cell, setting: Setting) -> Cost:
    """Count a step of the cell's batch on its images.

    Raises:
        ConfigError: a part of the cell does not exist (yet), or lacks a package.
    """
    run, memory = _untrained(cell, setting), Memory()
    with torch.device("meta"):
        model = _model(run)
    with _no_tables(), FakeTensorMode():
        _give_shapes(model)
        step = Step(run, model, side_of(cell, setting), run.train.batch)
        with FlopCounterMode(display=False, custom_mapping=_ATTENTION) as operations:
            step.run(memory)
        counted = operations.get_total_flops()
    return Cost(run.train.batch, memory, counted, meter.parameters(model.backbone, model.decoder))


def measure(cell: Cell, setting: Setting, device: torch.device, rounds: int = 3) -> float:
    """Measure the seconds of a step per image, the fastest of some rounds after one to warm up.

    On a GPU with the cell's batch. On a CPU forward and backward with two images, whose share of the update is that of
    the cell's batch, and in seconds of the processor, which other programs do not lengthen much.

    Raises:
        ConfigError: as `count`.
    """
    run, on_cpu = _untrained(cell, setting), device.type == "cpu"
    images = min(run.train.batch, _ON_CPU) if on_cpu else run.train.batch
    step = Step(run, _model(run).to(device), side_of(cell, setting), images)

    def timed(part: Callable[[], None]) -> float:
        clock = time.process_time if on_cpu else time.perf_counter
        began = clock()
        part()
        if not on_cpu:
            torch.cuda.synchronize(device)
        return clock() - began

    taken = [(timed(step.gradients), timed(step.update)) for _ in range(rounds + 1)][1:]
    gradients, update = (min(part) for part in zip(*taken, strict=True))
    return gradients / images + update / run.train.batch


_ON_CPU = 2  # batch norm needs two


def side_of(cell: Cell, setting: Setting) -> int:
    """Pixels per side of the cell's images."""
    return SMOKE_SIDE if setting.preset == "smoke" else BENCHMARKS[cell.dataset].side


def _untrained(cell: Cell, setting: Setting) -> Run:
    """The cell's run with random weights, which cost the same."""
    run = run_of(cell, setting, None)
    backbone = replace(run.backbone, weights="random")  # type: ignore[type-var]  # a dataclass, as `config` checks
    return replace(run, backbone=backbone)


def _model(run: Run) -> Model:
    """The adapted model; the dataset is asked for bands and classes only."""
    imagery = Imagery.of(run.dataset)
    count = len(chosen_bands(run, imagery.bands))
    model = assemble(run, imagery, Normalisation((0.0,) * count, (1.0,) * count, "given")).model
    adapt_model(model, run, imagery.classes)
    return model


def _give_shapes(model: Model) -> None:
    """Turn parameters and buffers of no device into such of the CPU without values, inside a ``FakeTensorMode``."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            fake = torch.empty(parameter.shape, dtype=parameter.dtype)
            module.register_parameter(name, nn.Parameter(fake, parameter.requires_grad))
        for name, buffer in module.named_buffers(recurse=False):
            module.register_buffer(name, torch.zeros(buffer.shape, dtype=buffer.dtype))


@contextlib.contextmanager
def _no_tables() -> Iterator[None]:
    """Keep the tables that functions remember (position codes) from going in, or out, as tensors without values."""
    families = ("adapteo.backbones.", "adapteo.peft.", "adapteo.decoders.")

    def forget() -> None:
        modules = [module for name, module in sys.modules.items() if name.startswith(families)]
        for value in [value for module in modules for value in vars(module).values()]:
            if isinstance(value, _REMEMBERS):
                value.cache_clear()

    forget()
    try:
        yield
    finally:
        forget()


_REMEMBERS = type(lru_cache(lambda: None))


class Step:
    """A model, a batch of noise, and an optimiser.

    Args:
        run: what is trained.
        model: adapted, on its device.
        side: pixels of an image.
        images: in the batch.
    """

    def __init__(self, run: Run, model: Model, side: int, images: int) -> None:
        imagery, bands = Imagery.of(run.dataset), len(model.backbone.bands)
        self.task, self.precision, self.model = run.task, run.train.precision, model
        self.device = next(model.parameters()).device
        self.optimiser = torch.optim.AdamW(list(trainable(model).values()), run.method.default_rate)
        self.batch = Batch(
            torch.rand(images, imagery.frames, bands, side, side, device=self.device),
            torch.randint(len(imagery.classes), (images, side, side), device=self.device),
            torch.tensor([2020.0, 180.0], device=self.device).expand(images, imagery.frames, 2),
            torch.tensor([45.0, 10.0], device=self.device).expand(images, 2),
            imagery.gsd,
        )

    def run(self, memory: Memory) -> None:
        """One step, counted."""
        self.gradients(memory)
        self.update(memory)

    def gradients(self, memory: Memory | None = None) -> None:
        """Forward and backward."""
        frozen_in_eval(self.model)
        with contextlib.nullcontext() if memory is None else meter.count_activations(self.model, memory):
            loss = self._loss()
        loss.backward()

    def update(self, memory: Memory | None = None) -> None:
        """Let the optimiser step."""
        self.optimiser.step()
        if memory is not None:
            meter.count_state(self.model, self.optimiser, memory)
        self.optimiser.zero_grad(set_to_none=True)

    def _loss(self) -> Tensor:
        target = self.batch.target
        assert target is not None, "set above"
        with self._precision():
            logits = self.model(self.batch)
        return self.task.loss(logits, target, self.task.weight(target))

    @contextlib.contextmanager
    def _precision(self) -> Iterator[None]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            yield

"""What one training step of a cell costs, without its data and weights: memory, operations, and time where measured.

Memory and operations are counted on tensors that have shapes but no values (`adapteo.tracing`), so the paper's batches
of eight images of 512 pixels fit on any machine.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from adapteo import meter
from adapteo.assembly import Imagery, adapt_model, assemble, chosen_bands
from adapteo.bench.setting import SMOKE_SIDE, Setting, run_of
from adapteo.bench.subjects import BENCHMARKS
from adapteo.bench.tables import Cell
from adapteo.config import Run
from adapteo.contracts import Batch, Normalisation
from adapteo.meter import Memory
from adapteo.model import Model
from adapteo.tracing import Counter, Step, give_shapes, without_values


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
    with without_values():
        give_shapes(model)
        step = Step(run, model, noise(run, model, side_of(cell, setting), run.train.batch))
        with Counter() as counter:
            step.run(memory)
    counted = counter.products + counter.convolutions
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
    model = _model(run).to(device)
    step = Step(run, model, noise(run, model, side_of(cell, setting), images))

    def timed(part: Callable[[], object]) -> float:
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


def noise(run: Run, model: Model, side: int, images: int) -> Batch:
    """Make a batch of random images and labels on the model's device."""
    imagery, bands, device = Imagery.of(run.dataset), len(model.backbone.bands), next(model.parameters()).device
    return Batch(
        torch.rand(images, imagery.frames, bands, side, side, device=device),
        torch.randint(len(imagery.classes), (images, side, side), device=device),
        torch.tensor([2020.0, 180.0], device=device).expand(images, imagery.frames, 2),
        torch.tensor([45.0, 10.0], device=device).expand(images, 2),
        imagery.gsd,
    )

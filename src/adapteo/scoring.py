"""Score a model on a split: one row of statistics per image, and the loss as one exact mean over the whole split."""

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from adapteo.contracts import Batch, Task
from adapteo.data.loader import BLANK, Batches
from adapteo.model import predict_logits

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Result = TypeVar("Result")


@dataclass(frozen=True)
class Scored:
    """A model's scores on a split: keys, statistics ``(n, k)`` of `Task.statistics`, and the mean loss, or NaN."""

    keys: tuple[str, ...]
    statistics: Tensor
    loss: float


def score(
    module: nn.Module, task: Task, loader: Batches, fabric: "Fabric | None" = None, weight: Tensor | None = None
) -> Scored:
    """Score a model on a split; with several processes each takes its share, and all get the whole.

    Args:
        module: `Model`, or what Fabric made of it.
        task: gives statistics and loss.
        loader: of the split, not shuffled.
        fabric: None for the device that the model is on.
        weight: of `total_weight`; None when the loss is of no interest.
    """
    return exhaust(scoring(module, task, loader, fabric, weight))


def scoring(
    module: nn.Module, task: Task, loader: Batches, fabric: "Fabric | None" = None, weight: Tensor | None = None
) -> Generator[int, None, Scored]:
    """Do what `score` does, giving way to others before each batch; yields its number."""
    device = next(module.parameters()).device
    keys: list[str] = []
    rows: list[Tensor] = []
    loss = torch.tensor(math.nan if weight is None else 0.0, dtype=torch.float64)
    batches = loader.epoch(0)
    for index in range(len(loader)):
        yield index
        batch = next(batches).to(device)
        logits = predict_logits(module, batch)
        if batch.keys == (BLANK,):
            continue
        if weight is not None:
            loss += task.loss(logits, target_of(batch), weight.to(device)).double().cpu()
        rows.append(task.statistics(logits, target_of(batch)).cpu())
        keys += batch.keys
    # NumPy, because older PyTorch warns about the way in which it reads its own tensors from another process.
    part = (keys, torch.cat(rows).numpy() if rows else np.zeros((0, 0)), float(loss))
    parts = [part]
    if fabric is not None and fabric.world_size > 1:
        parts = [part] * fabric.world_size
        dist.all_gather_object(parts, part)
    order = sorted((key, process, row) for process, (ks, _, _) in enumerate(parts) for row, key in enumerate(ks))
    statistics = np.stack([parts[process][1][row] for _, process, row in order])
    return Scored(tuple(key for key, _, _ in order), torch.from_numpy(statistics), sum(p[2] for p in parts))


def exhaust(work: "Generator[object, None, Result]") -> Result:
    """Go through with work that gives way, and return its result."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: Result = end.value
            return result


def total_weight(task: Task, loader: Batches, fabric: "Fabric | None") -> Tensor:
    """Normaliser of the loss over a whole split, from the targets alone."""
    weight = torch.stack([task.weight(target_of(batch)) for batch in loader.epoch(0)]).sum(0)
    if fabric is not None and fabric.world_size > 1:
        weight = weight.to(fabric.device)
        dist.all_reduce(weight)
    return weight


def target_of(batch: Batch) -> Tensor:
    """Target of a batch, which in training and tests has one."""
    assert batch.target is not None, "training and test batches have targets"
    return batch.target

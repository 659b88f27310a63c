"""The head start: fit the decoder on frozen features to convergence, before any method trains.

Short training of a head from scratch loses to a converged probe, and then a method is credited (or blamed) for what the
head did. So the converged probe is both the baseline of every table and the start of every method.

A linear decoder on frozen features is a convex problem, regularised logistic regression for classes:

    min_w  mean loss(w) + λ/2 ‖D w‖²    L-BFGS to convergence for each λ, strong to weak, λ picked on validation

with D the root mean square of each channel, which is λ/2 ‖w‖² on features that are divided by it.

Any other decoder is trained on the same stored features by AdamW until the validation loss has stalled, and so is a
linear one that is too large for L-BFGS: channels times weights above 10⁹, e.g. blocks of 32 × 32 pixels from 2,048
channels.
"""

import copy
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from adapteo._convex import Moments, minimise
from adapteo.config import Train
from adapteo.contracts import Decoder, Task
from adapteo.data.loader import Loader
from adapteo.errors import DataError
from adapteo.model import Model

STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""λ, tried from strong to weak, each started from the one before."""
_MAX_ITERATIONS = 200
LARGEST_CONVEX = 1e9
"""Channels times weights of the largest linear decoder that L-BFGS fits: an evaluation takes four times as many
operations in float64, and there are up to a thousand; its history of steps is a hundred times the weights."""
_WORSE = 2  # λ are tried until so many in a row have scored worse
_MAX_EPOCHS, _PATIENCE, _RATE = 300, 15, 1e-3
_IN_MEMORY = 2 * 2**30


@dataclass(frozen=True)
class HeadStart:
    """What the fit found.

    Attributes:
        metrics: on the validation split.
        strength: λ of the linear fit; None for other decoders.
        iterations: L-BFGS iterations of the chosen fit, or epochs.
        seconds: all in all, the features included.
        tried: validation score by λ.
    """

    metrics: dict[str, float]
    strength: float | None
    iterations: int
    seconds: float
    tried: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stored:
    """Frozen features of a split: one array ``(n, c, h, w)`` per map, and the targets.

    Maps that the decoder does not read have no channels.
    """

    maps: list[np.ndarray]
    target: Tensor
    size: tuple[int, int]

    def chunks(self, size: int, order: Tensor | None = None) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Yield maps and targets of ``size`` images at a time."""
        order = torch.arange(len(self.target)) if order is None else order
        for rows in order.split(size):
            yield [torch.from_numpy(m[rows.numpy()]) for m in self.maps], self.target[rows]


def fit_head(
    model: Model,
    task: Task,
    loaders: tuple[Loader, Loader],
    *,
    classes: Sequence[str],
    train: Train,
    linear: bool,
) -> HeadStart:
    """Fit ``model.decoder`` in place on features of ``model.backbone`` as it is.

    Args:
        model: with an untouched backbone, on its device.
        task: loss and metrics.
        loaders: of the training and the validation split, neither shuffled nor augmented.
        classes: class names.
        train: batch size and seed.
        linear: True when the decoder is linear in the features.
    """
    started = time.perf_counter()
    stored = [store_features(model, loader, dense=task.dense) for loader in loaders]
    fit = _Fit(model.decoder, task, stored[0], stored[1], classes, train, next(model.parameters()).device)
    strength, iterations, tried = fit.linear() if linear and _work(model.decoder) <= LARGEST_CONVEX else fit.adamw()
    metrics, _ = fit.validate()
    model.decoder.zero_grad(set_to_none=True)  # the last fit's gradient is not to be part of the first training step
    return HeadStart(metrics, strength, iterations, time.perf_counter() - started, tried)


def _work(decoder: nn.Module) -> int:
    """Channels times weights of the last map's linear layer."""
    head = cast(nn.Linear | nn.ConvTranspose2d, decoder.head)
    channels = head.in_features if isinstance(head, nn.Linear) else head.in_channels
    return channels * head.weight.numel()


@torch.no_grad()
def store_features(model: Model, loader: Loader, *, dense: bool) -> Stored:
    """Run the backbone once over a split, and keep the maps that the decoder reads.

    Features of image-level tasks are stored as their mean over the image, which is what image-level decoders read.
    More than 2 GiB goes to a temporary file.

    Raises:
        DataError: images of several sizes, which one array cannot hold.
    """
    model.eval()
    device = next(model.parameters()).device
    arrays: list[np.ndarray] = []
    targets: list[Tensor] = []
    size, row = torch.Size((1, 1)), 0
    for batch in loader.epoch(0):
        maps = model.features(batch.to(device))
        read = {index % len(maps) for index in model.decoder.reads}
        maps = [m if index in read else m[:, :0] for index, m in enumerate(maps)]
        maps = maps if dense else [m.mean((2, 3), keepdim=True) for m in maps]
        if not arrays:
            total = sum(m[0].numel() for m in maps) * 4 * len(loader.keys)
            arrays = [_allocate((len(loader.keys), *m.shape[1:]), total) for m in maps]
            size = batch.images.shape[-2:]
        if dense and batch.images.shape[-2:] != size:
            here, there = (" x ".join(map(str, pixels)) for pixels in (batch.images.shape[-2:], size))
            raise DataError(
                f"'{batch.keys[0]}' has {here} pixels, the images before it {there}; the head start needs one size",
                fix="cut the images to one size, or go without: train.head_start=false (with train.crop=… for batches)",
            )
        for array, m in zip(arrays, maps, strict=True):
            array[row : row + len(m)] = m.float().cpu().numpy()
        row += len(batch)
        assert batch.target is not None, "training batches have targets"
        targets.append(batch.target.cpu())
    return Stored(arrays, torch.cat(targets), model.padded((size[0], size[1])))


def _allocate(shape: tuple[int, ...], total: int) -> np.ndarray:
    if total <= _IN_MEMORY or 0 in shape:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as file:  # the map keeps a handle of its own
        return np.memmap(file, np.float32, "w+", shape=shape)


@dataclass
class _Fit:
    decoder: Decoder
    task: Task
    train: Stored
    val: Stored
    classes: Sequence[str]
    config: Train
    device: torch.device

    def __post_init__(self) -> None:
        self.weight = self._weight(self.train)
        self.val_weight = self._weight(self.val)
        largest = max(m[0].size for m in self.train.maps) + self.train.size[0] * self.train.size[1]
        self.chunk = max(1, 2**23 // largest)

    def _weight(self, stored: Stored) -> Tensor:
        return torch.stack([self.task.weight(t) for t in stored.target.split(64)]).sum(0).to(self.device)

    def _logits(self, maps: list[Tensor], target: Tensor, size: tuple[int, int]) -> Tensor:
        like = next(self.decoder.parameters())
        logits: Tensor = self.decoder([m.to(like) for m in maps], size)
        return logits[..., : target.shape[-2], : target.shape[-1]] if logits.ndim == 4 else logits

    # ---- linear decoders

    def linear(self) -> tuple[float, int, dict[str, float]]:
        """L-BFGS along a path of λ; leaves the decoder at the best on validation.

        In float64, where the device has it: float32 no longer sees a lower loss long before the minimum.
        """
        given = self.decoder
        self.decoder = copy.deepcopy(given).to(torch.float32 if self.device.type == "mps" else torch.float64)
        best, chosen, iterations, worse = (-math.inf, -math.inf), STRENGTHS[0], 0, 0
        tried: dict[str, float] = {}
        kept = self._copy()
        moments = self._moments()
        head = cast(nn.Linear | nn.ConvTranspose2d, self.decoder.head)  # see DecoderSpec.linear
        for parameter in self.decoder.parameters():
            nn.init.zeros_(parameter)
        for strength in STRENGTHS:
            count = minimise(head, self._loss, moments, strength, _MAX_ITERATIONS)
            metrics, loss = self.validate()
            score = metrics[self.task.monitor] * (1 if self.task.higher_is_better else -1)
            tried[f"{strength:g}"] = metrics[self.task.monitor]
            worse += 1
            if (score, -loss) > best:
                best, chosen, iterations, worse, kept = (score, -loss), strength, count, 0, self._copy()
            if worse == _WORSE:
                break
        given.load_state_dict(kept)
        self.decoder = given
        return chosen, iterations, tried

    def _moments(self) -> Moments:
        """Moments of the features that the decoder reads."""
        (read,) = self.decoder.reads
        first, second, count = torch.zeros(1), torch.zeros(1), 0
        like = next(self.decoder.parameters())
        for maps, _ in self.train.chunks(self.chunk):
            rows = maps[read].to(like).movedim(1, -1).flatten(0, -2)
            first, second = first + rows.sum(0).cpu().double(), second + (rows.T @ rows).cpu().double()
            count += len(rows)
        return Moments(first / count, second / count)

    def _loss(self) -> Tensor:
        """Mean loss of the training features, back-propagated."""
        total = torch.zeros((), dtype=next(self.decoder.parameters()).dtype, device=self.device)
        for maps, target in self.train.chunks(self.chunk):
            logits = self._logits(maps, target, self.train.size)
            loss = self.task.loss(logits, target.to(self.device), self.weight)
            loss.backward()
            total += loss.detach()
        return total

    # ---- other decoders

    def adamw(self) -> tuple[None, int, dict[str, float]]:
        """AdamW on stored features until the validation loss stalls; leaves the decoder at its best."""
        torch.manual_seed(self.config.seed)
        fused = self.device.type in ("cpu", "cuda")
        decay = self.config.weight_decay
        optimiser = torch.optim.AdamW(self.decoder.parameters(), _RATE, weight_decay=decay, fused=fused)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, patience=_PATIENCE // 3)
        best, stale, epochs, kept = math.inf, 0, 0, self._copy()
        for epoch in range(_MAX_EPOCHS):
            self.decoder.train()
            for maps, target in self.train.chunks(self.config.batch, torch.randperm(len(self.train.target))):
                target = target.to(self.device)
                loss = self.task.loss(self._logits(maps, target, self.train.size), target, self.task.weight(target))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            _, val_loss = self.validate()
            plateau.step(val_loss)
            stale += 1
            if val_loss < best:
                best, stale, epochs, kept = val_loss, 0, epoch + 1, self._copy()
            if stale > _PATIENCE:
                break
        self.decoder.load_state_dict(kept)
        return None, epochs, {}

    # ---- both

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], float]:
        """Metrics and mean loss on the validation features."""
        self.decoder.eval()
        rows, loss = [], 0.0
        for maps, target in self.val.chunks(max(1, min(self.chunk, 64))):
            logits, target = self._logits(maps, target, self.val.size).float(), target.to(self.device)
            loss += float(self.task.loss(logits, target, self.val_weight))
            rows.append(self.task.statistics(logits, target).cpu())
        metrics = self.task.metrics(torch.cat(rows).sum(0), self.classes)
        return {key: float(value) for key, value in metrics.items()}, loss

    def _copy(self) -> dict[str, Tensor]:
        return {key: value.detach().clone() for key, value in self.decoder.state_dict().items()}

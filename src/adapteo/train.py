"""The training loop: read it from top to bottom.

    for each epoch:
        for each group of micro-batches:     weights of the losses first, so that their sum is one exact mean
            backward · clip · step
        validate · schedule · keep the best · save the state · log

Everything random is a function of (seed, epoch, step), and the order of samples of (seed, epoch): a run that was killed
and resumed computes what an uninterrupted one does, and a data-parallel one what a single process does. Nothing is left
over from one step to the next but what the trainer holds, so that several can take turns (`Trainer.course`).
"""

import contextlib
import math
import shlex
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from adapteo._log import check_board, write_board, write_log
from adapteo._processes import stop_signals
from adapteo._schedule import Best, Schedule
from adapteo.checkpoint import load_state, save_state
from adapteo.config import Train
from adapteo.contracts import Batch, Task, trainable
from adapteo.data.loader import Batches
from adapteo.errors import AdaptEOError, Interrupted, WeightsError
from adapteo.meter import Meter, count_activations, count_state
from adapteo.model import Model, frozen_in_eval
from adapteo.scoring import Scored, exhaust, scoring, target_of, total_weight

if TYPE_CHECKING:
    from lightning_fabric import Fabric

STATE_FILE, LOG_FILE, BOARD_FOLDER = "state.pt", "log.csv", "tensorboard"
VALIDATION, TRAINING = 0, 1
Position = tuple[int, int, int]
"""Finished epochs, `VALIDATION` or `TRAINING`, number of the batch or group that comes next; rises with time."""


class OutOfMemory(AdaptEOError):
    """The memory does not suffice for a step."""


class Observer:
    """What a run tells while it goes on; this one is silent."""

    def note(self, message: str) -> None:
        """Something worth a line."""

    def steps(self, total: int, done: int) -> None:
        """Training begins: ``done`` of ``total`` optimiser steps are behind."""

    def step(self, loss: float | None) -> None:
        """One optimiser step is done."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """One epoch is done; the row of the log."""

    def finished(self) -> None:
        """Training has ended, for whatever reason."""


@dataclass
class Trainer:
    """Trains a model in place and leaves the best state in ``keep_best``'s hands.

    Attributes:
        fabric: of `launch`.
        model: on no particular device yet.
        task: loss and metrics.
        train: the configuration.
        rate: learning rate of the backbone's trained parameters.
        loaders: of the training and of the validation split.
        classes: names, for the log.
        folder: of the run.
        keep_best: called on the first process when the model is the best so far, with the validation metrics.
        rate_factors: of the method: factors of `rate` by name of a parameter of the backbone; 1 for the others.
        val_weight: `total_weight` of the validation split; None to find it.
        clock: seconds that the training has had.
        stopping: set when it is to end after the step that runs.
    """

    fabric: "Fabric"
    model: Model
    task: Task
    train: Train
    rate: float
    loaders: tuple[Batches, Batches]
    classes: tuple[str, ...]
    folder: Path
    keep_best: Callable[[Mapping[str, float]], None]
    rate_factors: Mapping[str, float] = field(default_factory=dict)
    val_weight: Tensor | None = None
    clock: Callable[[], float] = time.perf_counter
    stopping: threading.Event = field(default_factory=threading.Event)

    def fit(self, observer: Observer, *, resume: bool) -> tuple[Meter, Best]:
        """Train to the end.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; the state is saved.
            AdaptEOError: the loss is no longer a number, or the memory does not suffice.
        """
        with stop_signals() as self.stopping:
            exhaust(self.course(observer, resume=resume))
        return self.meter, self.best

    def course(self, observer: Observer, *, resume: bool) -> Generator[Position, None, None]:
        """Train to the end, giving way to others before each optimiser step and each batch of validation.

        Yields:
            What comes next.

        Raises:
            Interrupted: `stopping` was set; the state is saved.
            AdaptEOError: as of `fit`.
        """
        if self.train.tensorboard:
            check_board()
        self._set_up()
        with _memory_advice(self.train):
            if self.val_weight is None:
                self.val_weight = total_weight(self.task, self.loaders[1], self.fabric)
            if resume and (self.folder / STATE_FILE).is_file():
                self._restore()
            else:
                self._validate_and_keep((yield from self._scored(0)), 0)
                self._save()
            observer.steps(self.train.epochs * self.groups, self.epoch * self.groups + self.group)
            try:
                while self.epoch < self.train.epochs and not self._stale():
                    yield from self._run_epoch(observer)
            finally:
                observer.finished()

    def _set_up(self) -> None:
        train = self.train
        backbone, decoder = trainable(self.model.backbone), trainable(self.model.decoder)
        optimiser = torch.optim.AdamW(
            [
                *_decay_groups(backbone, self.rate, train.weight_decay, self.rate_factors),
                *_decay_groups(decoder, train.head_rate or self.rate, train.weight_decay),
            ],
            fused=self.fabric.device.type in ("cpu", "cuda"),
        )
        self.module, self.optimiser = self.fabric.setup(self.model, optimiser)
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.groups = -(-len(self.loaders[0]) // train.accumulate)
        steps = train.epochs * self.groups
        gentle = min(self.groups, steps // 4) if train.head_start else 0
        self.schedule = Schedule(train, steps, gentle if train.warmup is None else train.warmup)
        self.best = Best(self.task.higher_is_better and train.select == "score")
        self.meter = Meter()
        self.history: list[dict[str, float]] = []
        self.epoch, self.group, self.loss_sum = 0, 0, 0.0

    def _stale(self) -> bool:
        return self.train.patience is not None and self.best.stale >= self.train.patience

    # ---- one epoch

    def _run_epoch(self, observer: Observer) -> Generator[Position, None, None]:
        loader = self.loaders[0]
        waited, started = loader.waited, self.clock()
        losses = torch.tensor(self.loss_sum, dtype=torch.float64)
        batches = loader.epoch(self.epoch, start=self.group * self.train.accumulate)
        for number in range(self.group, self.groups):
            yield self.epoch, TRAINING, number
            loss = self._step(list(islice(batches, self.train.accumulate)))
            losses += loss.detach().double().cpu()
            self._check_loss(float(loss))
            self.group += 1
            observer.step(float(loss) if self.group % 10 == 0 else None)
            if self._must_stop():
                self.loss_sum = float(losses)
                self.meter.waited_seconds += loader.waited - waited
                self._save()
                raise Interrupted(
                    f"stopped in epoch {self.epoch + 1}, step {self.group}; the state is saved in {self.folder}",
                    fix=f"go on with: adapteo fit {shlex.quote(str(self.folder / 'config.yaml'))} --resume",
                )
        self.meter.waited_seconds += loader.waited - waited
        mean_loss = float(losses) / max(1, self.group)
        self.epoch, self.group, self.loss_sum = self.epoch + 1, 0, 0.0
        seconds = self.clock() - started
        self._validate_and_keep((yield from self._scored(self.epoch)), self.epoch, mean_loss, seconds)
        self._save()
        observer.epoch(self.history[-1])

    def _step(self, group: list[Batch]) -> Tensor:
        """One optimiser step over a group of micro-batches; returns the loss averaged over all processes."""
        torch.manual_seed(_mix(self.train.seed, self.epoch, self.group, self.fabric.global_rank))
        frozen_in_eval(self.model)
        world = self.fabric.world_size
        factor = self.schedule.factor(self.epoch * self.groups + self.group)
        for parameters, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            parameters["lr"] = rate * factor
        first = self.meter.steps == 0
        with self.meter.step(world * sum(len(batch) for batch in group)):
            group = [batch.to(self.fabric.device) for batch in group]
            weight = torch.stack([self.task.weight(target_of(batch)) for batch in group]).sum(0)
            weight = self._sum(weight)
            total = torch.zeros((), device=self.fabric.device)
            for index, batch in enumerate(group):
                hooks: AbstractContextManager[Any] = contextlib.nullcontext()
                if first and index == 0:
                    hooks = count_activations(self.model, self.meter.memory)
                with self.fabric.no_backward_sync(self.module, enabled=index < len(group) - 1):
                    with hooks:
                        loss = self.task.loss(self.module(batch), target_of(batch), weight)
                    self.fabric.backward(loss * world)  # data-parallel training averages; the loss is a sum
                total += loss.detach()
            if self.train.clip:
                self.fabric.clip_gradients(
                    self.module, self.optimiser, max_norm=self.train.clip, error_if_nonfinite=False
                )
            self.optimiser.step()
            if first:
                count_state(self.model, self.optimiser.optimizer, self.meter.memory)
            self.optimiser.zero_grad(set_to_none=True)
        return self._sum(total)

    def _check_loss(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise AdaptEOError(
                f"the training loss became {loss} in epoch {self.epoch + 1}, step {self.group + 1}; the best state so "
                f"far, of epoch {self.best.epoch}, is kept in {self.folder}",
                fix=f"lower train.rate (now {self.rate:g}), set train.clip=1, or check the data for huge values",
            )

    def _must_stop(self) -> bool:
        flag = torch.tensor(float(self.stopping.is_set()), device=self.fabric.device)
        return bool(self._sum(flag) > 0) if self.fabric.world_size > 1 else self.stopping.is_set()

    def _sum(self, value: Tensor) -> Tensor:
        """Sum over processes."""
        if self.fabric.world_size == 1:
            return value
        value = value.clone()
        dist.all_reduce(value)
        return value

    # ---- what happens between epochs

    def _scored(self, epoch: int) -> Generator[Position, None, Scored]:
        """Validate."""
        work = scoring(self.module, self.task, self.loaders[1], self.fabric, self.val_weight)
        while True:
            try:
                index = next(work)
            except StopIteration as end:
                scored: Scored = end.value
                return scored
            yield epoch, VALIDATION, index

    def _validate_and_keep(
        self, scored: Scored, epoch: int, train_loss: float = math.nan, seconds: float = 0.0
    ) -> None:
        """Note how an epoch was validated, tell the schedule, and keep the state when it is the best so far."""
        metrics = {k: float(v) for k, v in self.task.metrics(scored.statistics.sum(0), self.classes).items()}
        self.history.append(
            {
                "epoch": epoch,
                "train_loss": train_loss,
                "val_loss": scored.loss,
                **{f"val_{k}": v for k, v in metrics.items() if "/" not in k},
                "rate": self.rate * self.schedule.factor(epoch * self.groups),
                "seconds": seconds,
            }
        )
        if epoch:
            self.schedule.epoch_done(scored.loss)
        by_score = self.train.select == "score"
        better = self.best.offer(epoch, metrics[self.task.monitor] if by_score else scored.loss, scored.loss, metrics)
        if better and self.fabric.is_global_zero:
            self.keep_best(metrics)

    def _save(self) -> None:
        """Save all that an exact resume needs, then the log; on the first process only."""
        if not self.fabric.is_global_zero:
            return
        state = {
            "model": {name: value.cpu() for name, value in _moving_parts(self.model).items()},
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state(),
            "best": self.best.state(),
            "history": self.history,
            "position": {"epoch": self.epoch, "group": self.group, "loss_sum": self.loss_sum},
            "meter": self.meter.state(),
        }
        save_state(self.folder / STATE_FILE, state)
        write_log(self.folder / LOG_FILE, self.history)
        if self.train.tensorboard and self.group == 0:
            write_board(self.folder / BOARD_FOLDER, self.history[-1])

    def _restore(self) -> None:
        state = load_state(self.folder / STATE_FILE)
        moving = _moving_parts(self.model)
        shapes, saved = ({name: value.shape for name, value in part.items()} for part in (moving, state["model"]))
        if shapes != saved:
            odd = sorted(name for name in shapes.keys() | saved.keys() if shapes.get(name) != saved.get(name))
            raise WeightsError(
                f"{self.folder / STATE_FILE} is the state of another model: {len(odd)} tensors differ, e.g. {odd[0]}",
                fix="delete the folder and train anew, or choose another one with out=…",
            )
        for name, value in moving.items():
            value.copy_(state["model"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.restore(state["schedule"])
        self.best.restore(state["best"])
        self.history = state["history"]
        self.meter.restore(state["meter"])
        position = state["position"]
        self.epoch, self.group, self.loss_sum = position["epoch"], position["group"], position["loss_sum"]


def _moving_parts(model: Model) -> dict[str, Tensor]:
    """Everything of a model that training changes."""
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    return {name: value.detach() for name, value in model.state_dict().items() if name not in frozen}


def _decay_groups(
    parameters: Mapping[str, nn.Parameter],
    rate: float,
    decay: float,
    factors: Mapping[str, float] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Weight decay on matrices only: biases and norms are not what it is for. One group per factor of the rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for matrices in (True, False):
        for name, parameter in parameters.items():
            if (parameter.ndim > 1) == matrices:
                key = (rate * factors.get(name, 1.0), decay if matrices else 0.0)
                groups.setdefault(key, []).append(parameter)
    return [{"params": members, "lr": lr, "weight_decay": wd} for (lr, wd), members in groups.items()]


def _mix(*numbers: int) -> int:
    """Turn (seed, epoch, step, rank) into one seed."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 1_000_003 + number + 1) % 2**63
    return mixed


@contextlib.contextmanager
def _memory_advice(train: Train) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        half = max(1, train.batch // 2)
        raise OutOfMemory(
            f"the GPU has too little memory for a batch of {train.batch}",
            fix=f"train.batch={half} train.accumulate={train.accumulate * 2} computes the same; so may precision=bf16",
        ) from error

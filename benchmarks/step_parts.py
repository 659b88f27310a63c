"""Where does a step go: backbone, decoder, loss, optimiser, metrics?

    python -m benchmarks step_parts
    python -m benchmarks step_parts --rounds 20 --json step_parts.json

Random weights and images. A training step is forward, backward and AdamW; a validation step is forward, loss and the
statistics of each image, from which all metrics follow. The parts are timed one after the other in the same step, cut
by leaves at the maps and at the logits, so that nothing is computed twice; the least of all rounds counts.
`decoder, channels first` is the decoder alone without `adapteo.decoders._layers.laid_like`.

Goal: metrics below 2 % of a validation step, and of a training step.
"""

import argparse
import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from adapteo.backbones.nano import BACKBONE as NANO
from adapteo.backbones.prithvi import Prithvi
from adapteo.bands import HLS6
from adapteo.contracts import IGNORE, Batch, Decoder, DecoderSpec, Task, adapt, trainable
from adapteo.decoders.linear import DECODER as LINEAR
from adapteo.decoders.unet import UNet
from adapteo.model import features
from adapteo.peft.lora import LoRA
from adapteo.tasks.classification import TASK as CLASSIFICATION
from adapteo.tasks.segmentation import Segmentation
from adapteo.vit import set_memory
from benchmarks._rows import Goal, Row, Spread, arguments, seconds, tell

GOAL = Goal(0.02)
ONCE = "metrics, once an epoch"
TRAINING = ("backbone", "decoder", "loss", "loss, back", "decoder, back", "backbone, back", "optimiser")


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        title: of the row.
        prithvi: Prithvi 1.0-100M, else nano.
        decoder, task: as in a configuration.
        classes: number.
        side, images: of a batch.
    """

    title: str
    prithvi: bool
    decoder: DecoderSpec
    task: Task
    classes: int
    side: int
    images: int


CASES = (
    Case("Prithvi-100M + UNet, 224 px, batch 2", True, UNet(), Segmentation(), 2, 224, 2),
    Case("Prithvi-100M + UNet, 224 px, batch 2, 20 classes", True, UNet(), Segmentation(), 20, 224, 2),
    Case("nano + linear, 32 px, batch 8", False, LINEAR(), Segmentation(), 10, 32, 8),
    Case("nano + linear, 32 px, batch 8, labels per image", False, LINEAR(), CLASSIFICATION(), 10, 32, 8),
)


class Parts:
    """A model whose steps are timed in parts."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        spec = Prithvi(variant="1.0-100M", weights="random") if case.prithvi else NANO(weights="random")
        self.backbone = adapt(spec.build(HLS6), LoRA(preset="paper"))
        set_memory(self.backbone, "lean")
        self.classes = tuple(f"class {i}" for i in range(case.classes))
        self.task = case.task
        dense = case.task.dense
        self.decoder = case.decoder.build(features(self.backbone), case.task.outputs(self.classes), dense)
        self.size = (case.side, case.side)
        shape = (case.images, *self.size) if dense else (case.images,)
        self.target = torch.randint(case.classes, shape)
        if dense:
            self.target[:, :4] = IGNORE
        self.batch = Batch(
            torch.randn(case.images, 1, len(HLS6), *self.size),
            dates=torch.tensor([2020.0, 180.0]).expand(case.images, 1, 2),
            latlon=torch.tensor([45.0, 10.0]).expand(case.images, 2),
        )
        self.trained = [*trainable(self.backbone).values(), *self.decoder.parameters()]
        self.optimiser = torch.optim.AdamW(self.trained, 1e-4, fused=True)
        self.other = channels_first(self.decoder)

    def training(self) -> dict[str, float]:
        """Seconds of the parts of a training step."""
        clock = Clock()
        weight = self.task.weight(self.target)
        clock.start()
        maps = self.backbone(self.batch)
        clock.stop("backbone")
        leaves = [each.detach().requires_grad_() for each in maps]
        logits = self.decoder(leaves, self.size)
        clock.stop("decoder")
        leaf = logits.detach().requires_grad_()
        loss = self.task.loss(leaf, self.target, weight)
        clock.stop("loss")
        loss.backward()
        clock.stop("loss, back")
        logits.backward(leaf.grad)
        clock.stop("decoder, back")
        read = [(ours, each.grad) for ours, each in zip(maps, leaves, strict=True) if each.grad is not None]
        torch.autograd.backward([ours for ours, _ in read], [grad for _, grad in read])
        clock.stop("backbone, back")
        self.optimiser.step()
        clock.stop("optimiser")
        self.optimiser.zero_grad(set_to_none=True)
        return clock.seconds

    @torch.no_grad()
    def validation(self) -> dict[str, float]:
        """Seconds of the parts of a validation step."""
        clock = Clock()
        weight = self.task.weight(self.target)
        clock.start()
        logits = self.decoder(self.backbone(self.batch), self.size)
        clock.stop("forward")
        self.task.loss(logits, self.target, weight)
        clock.stop("loss")
        statistics = self.task.statistics(logits, self.target)
        clock.stop("statistics")
        self.task.metrics(statistics.sum(0), self.classes)
        clock.stop(ONCE)
        return clock.seconds

    def layouts(self) -> dict[str, float]:
        """Seconds of forward and backward of the decoder alone, with its weights in either layout."""
        with torch.no_grad():
            maps = self.backbone(self.batch)
        clock = Clock()
        for name, decoder in (("decoder, as it is", self.decoder), ("decoder, channels first", self.other)):
            leaves = [each.detach().requires_grad_() for each in maps]
            clock.start()
            decoder(leaves, self.size).square().mean().backward()
            clock.stop(name)
            decoder.zero_grad(set_to_none=True)
        return clock.seconds


class Clock:
    """Adds up seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.start()

    def start(self) -> None:
        """Forget what came before."""
        self._from = time.perf_counter()

    def stop(self, name: str) -> None:
        """All since the last call is of this part."""
        self.seconds[name] = time.perf_counter() - self._from
        self.start()


def channels_first(decoder: Decoder) -> nn.Module:
    """A copy whose weights lie as PyTorch makes them."""
    return copy.deepcopy(decoder).to(memory_format=torch.contiguous_format)


def rounds_of(step: Callable[[], dict[str, float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each part in each round, after one that does not count."""
    found = [step() for _ in range(rounds + 1)][1:]
    return {name: [each[name] for each in found] for name in found[0]}


def measured(options: argparse.Namespace) -> Iterator[Row]:
    """All figures of all cases."""
    for case in CASES[2:] if options.quick else CASES:
        parts = Parts(case)
        training, validation = (rounds_of(step, options.rounds) for step in (parts.training, parts.validation))
        for kind, found in (("training", training), ("validation", validation)):
            in_step = {name: each for name, each in found.items() if name != ONCE}
            whole = [sum(each) for each in zip(*in_step.values(), strict=True)]
            for name, each in found.items():
                yield seconds(f"{case.title}, {kind}: {name}", each)
                if name in in_step:
                    share = min(each) / sum(map(min, in_step.values()))
                    spread = Spread.of([a / b for a, b in zip(each, whole, strict=True)])
                    yield Row(f"{case.title}, {kind}: {name}", "share of the time", share, "ratio", spread=spread)
            ratios = [a / b for a, b in zip(validation["statistics"], whole, strict=True)]
            value = min(validation["statistics"]) / sum(map(min, in_step.values()))
            yield Row(f"{case.title}, metrics / {kind} step", "time", value, "ratio", GOAL, Spread.of(ratios))
        for name, each in rounds_of(parts.layouts, options.rounds).items():
            yield seconds(f"{case.title}, {name}", each)


def main(given: list[str] | None = None) -> None:
    """Measure, print and write."""
    options = arguments(__doc__).parse_args(given)
    options.rounds = 1 if options.quick else options.rounds
    tell(Path(__file__).stem, options, measured(options))


if __name__ == "__main__":
    main()

"""What is counted without values is what a real step takes; at the paper's shapes it is what was reconstructed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adapteo.bench import costs
from adapteo.bench.costs import count, measure, noise
from adapteo.bench.setting import Setting, run_of
from adapteo.bench.tables import Cell
from adapteo.meter import Memory
from adapteo.tracing import Step

PAPER = Setting(Path("nowhere"), Path("nowhere"))
GIB = 2**30


def of(model, method, dataset="sen1floods11", decoder="linear", **fields):
    return Cell(model, method, decoder, dataset, **fields)


@pytest.mark.parametrize(
    ("cell", "gib"),
    [
        (of("prithvi-2.0-300m", "full"), 16.7), (of("prithvi-2.0-300m", "lora"), 13.4),
        (of("prithvi-2.0-300m", "vpt"), 9.6), (of("prithvi-2.0-300m", "frozen"), 1.2),
        (of("prithvi-1.0-100m", "lora", "m-cashew-plant"), 1.5), (of("clay-v1-6", "lora"), 18.6),
        (of("clay-v1-6", "vpt", "m-SA-crop-type"), 3.5),
    ],
    ids=str,
)  # fmt: skip
def test_memory_at_the_papers_shapes(cell, gib):
    """Reconstructed from the layers of the models by another count, which knew no heads of many classes."""
    assert count(cell, PAPER).memory.total / GIB == pytest.approx(gib, abs=0.1)


@pytest.mark.parametrize("method", ["full", "lora", "vpt", "vit_adapter", "frozen"])
def test_as_a_real_step(setting, method):
    cell = of("prithvi-1.0-100m", method)
    counted, memory = count(cell, setting), Memory()
    run = replace_weights(run_of(cell, setting, None))
    model = costs._model(run)
    step = Step(run, model, noise(run, model, 32, 2))
    step.run(memory)
    assert counted.memory == memory
    assert counted.images == 2


def replace_weights(run):
    return replace(run, backbone=replace(run.backbone, weights="random"))


def test_operations_by_hand(setting):
    """A frozen transformer: two per weight and token, and four per pair of tokens and channel in attention."""
    depth, dim, patch, bands, images = 2, 768, 16, 6, 2
    patches = (32 // patch) ** 2
    tokens = patches + 1
    linear = 2 * tokens * depth * 12 * dim**2 + 2 * patches * bands * patch**2 * dim
    attention = depth * 4 * tokens**2 * dim
    head = 2 * patches * dim * 2 * patch**2
    cell = of("prithvi-1.0-100m", "frozen")
    assert count(cell, setting).operations == images * (linear + attention + 2 * head)  # its weights' gradient once


def test_nothing_without_values_stays_behind(setting):
    """Clay remembers its tables of positions."""
    cell = of("clay-v1-6", "lora")
    run = replace_weights(run_of(cell, setting, None))
    model = costs._model(run)
    Step(run, model, noise(run, model, 32, 2)).run(Memory())
    count(cell, setting)
    model = costs._model(run)
    step = Step(run, model, noise(run, model, 32, 2))
    step.run(Memory())
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_bf16_keeps_less():
    """On images of some size: beside activations it keeps copies of the weights."""
    whole = count(of("prithvi-1.0-100m", "full"), PAPER).memory
    half = count(of("prithvi-1.0-100m", "full", change="precision=bf16"), PAPER).memory
    assert half.activations < whole.activations
    assert (half.weights, half.optimiser) == (whole.weights, whole.optimiser)


def test_measured_seconds(setting):
    seconds = measure(of("prithvi-1.0-100m", "frozen"), setting, torch.device("cpu"), rounds=1)
    assert 0 < seconds < 60

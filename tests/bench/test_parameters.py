"""Numbers of parameters at full size, without memory or weights: those that the paper and facts of it give."""

from pathlib import Path

import pytest
import torch

from adapteo import registry
from adapteo.assembly import chosen_bands
from adapteo.bands import HLS6
from adapteo.bench.setting import Setting, method_entry, run_of
from adapteo.bench.tables import Cell
from adapteo.contracts import adapt, trainable_count
from adapteo.model import features

PRITHVI_1, PRITHVI_300, PRITHVI_600, CLAY = (
    {"name": "prithvi", "variant": "1.0-100M"},
    {"name": "prithvi", "variant": "2.0-300M"},
    {"name": "prithvi", "variant": "2.0-600M"},
    {"name": "clay", "variant": "v1"},
)
TOTALS = [(PRITHVI_1, 86_237_184), (PRITHVI_300, 303_886_336), (PRITHVI_600, 631_188_480), (CLAY, 92_102_144)]
TRAINED = [
    (PRITHVI_1, "lora", 2_064_384), (PRITHVI_300, "lora", 5_505_024), (PRITHVI_600, "lora", 9_175_040),
    (CLAY, "lora", 2_064_384), (PRITHVI_1, "vpt", 921_600), (PRITHVI_300, "vpt", 2_457_600),
    (PRITHVI_600, "vpt", 4_096_000), (CLAY, "vpt", 921_600), (PRITHVI_1, "vit_adapter", 11_886_368),
    (PRITHVI_300, "vit_adapter", 20_057_472), (PRITHVI_1, "frozen", 0), (PRITHVI_300, "full", 303_886_336),
]  # fmt: skip


def build(entry):
    spec = registry.load("backbones", entry["name"])(variant=entry["variant"], weights="random")
    with torch.device("meta"):
        return spec.build(HLS6)


def method(name):
    fields = dict(method_entry(Cell("prithvi-1.0-100m", name, "linear", "reben")))
    return registry.load("methods", fields.pop("name"))(**fields)


@pytest.mark.parametrize(("entry", "total"), TOTALS, ids=lambda value: str(value))
def test_backbones(entry, total):
    assert sum(p.numel() for p in build(entry).parameters()) == total


@pytest.mark.parametrize(("entry", "name", "trained"), TRAINED, ids=lambda value: str(value))
def test_methods(entry, name, trained):
    with torch.device("meta"):
        assert trainable_count(adapt(build(entry), method(name))) == trained


def test_the_papers_shares():
    """LoRA and VPT train at most 2.4 % of the backbone, ViT-Adapter at most 13.8 %."""
    totals = {str(entry): total for entry, total in TOTALS}
    shares = {(str(entry), name): 100 * count / totals[str(entry)] for entry, name, count in TRAINED}
    assert max(share for (_, name), share in shares.items() if name in ("lora", "vpt")) == pytest.approx(2.4, abs=0.05)
    assert max(share for (_, name), share in shares.items() if name == "vit_adapter") == pytest.approx(13.8, abs=0.05)


@pytest.mark.parametrize(
    ("model", "dataset", "count"),
    [
        ("prithvi-2.0-300m", "sen1floods11", 0.52e6), ("prithvi-2.0-300m", "m-SA-crop-type", 2.62e6),
        ("prithvi-2.0-300m", "reben", 4.98e6), ("clay-v1", "reben", 0.93e6), ("decur", "burn_scars", 4.2e6),
        ("decur", "m-cashew-plant", 14.7e6), ("decur", "m-SA-crop-type", 21.0e6), ("decur", "reben", 39.8e6),
    ],
)  # fmt: skip
def test_linear_heads(model, dataset, count):
    run = run_of(Cell(model, "full", "linear", dataset), Setting(Path(), Path()), None)
    with torch.device("meta"):
        backbone = run.backbone.build(chosen_bands(run, run.dataset.bands))
        decoder = run.decoder.build(features(backbone), len(run.dataset.classes), True)
    assert sum(p.numel() for p in decoder.parameters()) == pytest.approx(count, rel=0.01)

"""Weights and images that `tools/golden_terratorch.py` and the tests make alike, without storing them."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import torch
from safetensors import safe_open
from torch import Tensor

from adapteo.assembly import Imagery, assemble
from adapteo.backbones import clay
from adapteo.config import Run
from adapteo.contracts import Batch, Normalisation
from adapteo.model import Model
from adapteo.terratorch.importing import import_config

CONFIGS = Path(__file__).parent / "configs"
GOLDEN = Path(__file__).parent / "golden" / "models.safetensors"
SIDE = 64
CLAY_WIDTH = 64
"""Of the Clay in the golden outputs; the published one is 768 wide and as deep."""
NAMES = ("burns_lora_fcn", "chips_unet", "chips_vpt_upernet", "classes_identity", "clay_lora_linear", "clay_vpt_unet",
         "decur_upernet", "flood_linear", "flood_smp", "heights_fcn", "sites_terramind")  # fmt: skip


def weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """Values for one of TerraTorch's keys, from a generator of its own, that keep features near variance 1."""
    noise = torch.randn(shape, generator=_generator(key))
    if key.endswith("running_var"):
        return noise.abs() + 0.5
    if noise.ndim <= 1:
        return 0.1 * noise + (1 if key.endswith("weight") else 0)
    return noise / math.sqrt(max(1, noise[0].numel()))


def fill(keys: Mapping[str, tuple[int, ...] | None]) -> dict[str, Tensor]:
    """A state dict; None stands for a counter, which has no effect."""
    return {key: torch.tensor(0) if shape is None else weight(key, shape) for key, shape in keys.items()}


def images(name: str, channels: int, frames: int = 1) -> Tensor:
    """Two normalised images ``(2, frames, channels, SIDE, SIDE)``."""
    return torch.randn(2, frames, channels, SIDE, SIDE, generator=_generator(name))


def metadata() -> tuple[Tensor, Tensor]:
    """Year and day ``(2, 1, 2)``, latitude and longitude ``(2, 2)``."""
    return torch.tensor([[[2018.0, 190.0]], [[2021.0, 33.0]]]), torch.tensor([[37.5, -119.25], [-12.0, 28.5]])


def sketch(logits: Tensor) -> Tensor:
    """Logits of images ``(b, k)`` as they are; of pixels at 16 places and eight projections of each map."""
    if logits.ndim == 2:
        return logits
    flat = logits.flatten(-2)
    places = torch.linspace(0, flat.shape[-1] - 1, 16).long()
    projections = torch.randn(flat.shape[-1], 8, generator=_generator("places")) / math.sqrt(flat.shape[-1])
    return torch.cat([flat[..., places], flat @ projections], dim=-1)


def narrow_variants() -> dict[str, clay.Variant]:
    """Variants of Clay with v1 as narrow as in the reference."""
    return {**clay.VARIANTS, "v1": replace(clay.VARIANTS["v1"], dim=CLAY_WIDTH, heads=1)}


def build(name: str) -> tuple[Model, Run, Imagery]:
    """Model of an imported configuration with random weights, for normalised images."""
    run = import_config(CONFIGS / f"{name}.yaml").run
    run = replace(run, backbone=replace(run.backbone, weights="random"))
    bands = run.train.bands or run.backbone.accepts(run.dataset.bands)
    classes = ("a", "b", "c", "d") if name == "classes_identity" else run.dataset.classes
    imagery = Imagery(run.dataset.bands, 3 if name == "heights_fcn" else 1, 10.0, classes, None)
    plain = Normalisation((0.0,) * len(bands), (1.0,) * len(bands), "given")
    return assemble(run, imagery, plain).model, run, imagery


def batch(name: str, model: Model, frames: int) -> Batch:
    """The images of a case, with dates and places."""
    dates, places = metadata()
    return Batch(images(name, len(model.backbone.bands), frames), None, dates, places, 10.0)


def golden(name: str) -> tuple[dict[str, tuple[int, ...] | None], Tensor]:
    """Keys and shapes of TerraTorch's state dict, and the sketch of its output."""
    with safe_open(GOLDEN, "pt") as file:
        keys = json.loads(file.metadata()[name])
        return {key: None if shape is None else tuple(shape) for key, shape in keys.items()}, file.get_tensor(name)


def _generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(crc32(name.encode()))

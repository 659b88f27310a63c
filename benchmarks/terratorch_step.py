"""A training step of Prithvi 1.0-100M with a U-Net, ours beside TerraTorch's, full fine-tuning and LoRA.

    python -m benchmarks terratorch_step          # where TerraTorch is installed; elsewhere it says so
    python -m benchmarks terratorch_step --rounds 7

Two images of 224 x 224 pixels, six bands, three classes, random weights, float32: forward, loss, backward, update, and
on TerraTorch's side the training metrics that its task computes in every step. Each updates with AdamW as in a run:
ours fused, TerraTorch's as its optimiser factory makes it. Rounds are interleaved; minima are compared. Saved bytes are
what autograd keeps between forward and backward, without parameters. The last two rows are LoRA under bf16 autocast.

Goal: LoRA with ``train.memory: lean`` at most 0.75 of the time and 0.75 of the saved bytes of TerraTorch's LoRA.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from adapteo.backbones.prithvi import Prithvi
from adapteo.bands import HLS6
from adapteo.contracts import Batch, adapt
from adapteo.decoders.unet import UNet
from adapteo.model import Model, features
from adapteo.peft.full import Full
from adapteo.peft.lora import LoRA
from adapteo.tasks.segmentation import Segmentation
from adapteo.vit import set_memory
from benchmarks._counting import in_turns, saved_bytes
from benchmarks._peers import terratorch
from benchmarks._rows import Goal, Row, Skipped, arguments, ratio, seconds, tell

BANDS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
LORA = {
    "method": "LORA",
    "replace_qkv": "qkv",
    "peft_config_kwargs": {
        "target_modules": ["qkv.q_linear", "qkv.v_linear", "mlp.fc1", "mlp.fc2"],
        "r": 16,
        "lora_alpha": 16,
    },
}
CLASSES = 3
BASE, GOAL = "TerraTorch, LoRA", Goal(0.75)


class Side:
    """A model with its loss: what is timed and counted."""

    def __init__(self, model: nn.Module, loss: Callable[[], Tensor], fused: bool | None = None) -> None:
        self.model, self.loss = model, loss
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(trained, 1e-4, fused=fused)

    def step(self) -> None:
        """Forward, backward, update."""
        self.loss().backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


def ours(images: Tensor, target: Tensor, lora: bool, memory: str) -> Side:
    """AdaptEO's model as a run assembles it."""
    torch.manual_seed(0)
    backbone = Prithvi(variant="1.0-100M", weights="random").build(HLS6)
    adapt(backbone, LoRA(preset="paper") if lora else Full())
    set_memory(backbone, memory)
    decoder = UNet().build(features(backbone), CLASSES, True)
    model, task = Model(backbone, decoder, backbone.normalisation).train(), Segmentation()
    batch = Batch(images, target)
    weight = task.weight(target)
    return Side(model, lambda: task.loss(model(batch), target, weight), fused=True)


def theirs(images: Tensor, target: Tensor, lora: bool) -> Side:
    """TerraTorch's task with the factory, necks and decoder of the paper's configurations."""
    from terratorch.tasks import SemanticSegmentationTask

    torch.manual_seed(0)
    arguments = {
        "backbone": "prithvi_eo_v1_100",
        "backbone_pretrained": False,
        "backbone_bands": BANDS,
        "backbone_num_frames": 1,
        "necks": [
            {"name": "SelectIndices", "indices": [2, 5, 8, 11]},
            {"name": "ReshapeTokensToImage"},
            {"name": "LearnedInterpolateToPyramidal"},
        ],
        "decoder": "UNetDecoder",
        "decoder_channels": [512, 256, 128, 64],
        "num_classes": CLASSES,
        **({"peft_config": LORA} if lora else {}),
    }
    task = SemanticSegmentationTask(arguments, "EncoderDecoderFactory", loss="ce", ignore_index=-1)
    task.train()
    batch = {"image": images[:, 0], "mask": target}
    return Side(task, lambda: task.training_step(batch, 0))


def autocast(side: Side) -> Side:
    """The same model in mixed precision."""

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return side.loss()

    return Side(side.model, loss, side.optimiser.defaults["fused"])


def measured(options: argparse.Namespace) -> Iterator[Row | Skipped]:
    """Steps of both, and ours beside TerraTorch's LoRA."""
    if (missing := terratorch()) is not None:
        yield missing
        return
    warnings.simplefilter("ignore")
    size = 64 if options.quick else 224
    images = torch.randn(2, 1, len(HLS6), size, size)
    target = torch.randint(CLASSES, (2, size, size))
    sides = {
        "TerraTorch, full": theirs(images, target, lora=False),
        "TerraTorch, LoRA": theirs(images, target, lora=True),
        "ours, full, lean": ours(images, target, lora=False, memory="lean"),
        "ours, LoRA, fast": ours(images, target, lora=True, memory="fast"),
        "ours, LoRA, lean": ours(images, target, lora=True, memory="lean"),
        "ours, LoRA, leanest": ours(images, target, lora=True, memory="leanest"),
    }
    for name in ("TerraTorch, LoRA", "ours, LoRA, lean"):
        sides[f"{name}, bf16"] = autocast(sides[name])
    torch.set_float32_matmul_precision("highest")  # importing TerraTorch lowers it
    times = in_turns({name: side.step for name, side in sides.items()}, options.rounds)
    saved = {name: saved_bytes(side.loss, side.model) for name, side in sides.items()}
    for name, side in sides.items():
        yield Row(name, "trained", sum(p.numel() for p in side.model.parameters() if p.requires_grad), "")
        yield Row(name, "saved", saved[name], "B")
        yield Row(name, f"/ {BASE}", saved[name] / saved[BASE], "ratio")
        yield seconds(name, times[name])
        yield ratio(name, f"time / {BASE}", times[name], times[BASE])
    ours_lean, what = "ours, LoRA, lean", f"ours, LoRA, lean / {BASE}"
    yield ratio(what, "time", times[ours_lean], times[BASE], GOAL)
    yield Row(what, "saved", saved[ours_lean] / saved[BASE], "ratio", GOAL)


def main(given: list[str] | None = None) -> None:
    """Measure, print and write."""
    options = arguments(__doc__).parse_args(given)
    options.rounds = 1 if options.quick else options.rounds
    tell(Path(__file__).stem, options, measured(options))


if __name__ == "__main__":
    main()

"""Write the reference outputs of tests/terratorch/test_checkpoints.py, and check what we export in TerraTorch itself.

Run it with a Python that has TerraTorch (1.2.11 was used), which is no dependency of ours, and our dependencies:

    python tools/golden_terratorch.py            # writes tests/terratorch/golden/models.safetensors
    python tools/golden_terratorch.py --export   # exports models of ours, loads them in TerraTorch, compares outputs

Models are built from the configurations in tests/terratorch/configs; weights and images come from generators (see
terratorch_cases.py). Clay is narrow here, and the linear decoder is built as in TerraTorch 1.0 unless the file says
``decoder_num_classes``, which 1.2 needs.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import terratorch.models.backbones.clay_v1.embedder as clay_embedder
import terratorch.models.encoder_decoder_factory as factory
import torch
import yaml
from safetensors.torch import save_file
from terratorch.models.decoders.linear_decoder import LinearDecoder
from terratorch.registry import MODEL_FACTORY_REGISTRY
from terratorch.registry.timm_registry import TimmBackboneWrapper
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "terratorch")]

import terratorch_cases as cases  # noqa: E402

from adapteo import _yaml  # noqa: E402
from adapteo.backbones import clay  # noqa: E402
from adapteo.model import predict_logits  # noqa: E402
from adapteo.terratorch.checkpoints import load_state, split  # noqa: E402
from adapteo.terratorch.exporting import export_model  # noqa: E402

torch.set_float32_matmul_precision("highest")  # one of the imports lowers it, and then CPUs may multiply in bfloat16

TASKS = {"SemanticSegmentationTask": "segmentation", "ClassificationTask": "classification"}
TASKS |= {"PixelwiseRegressionTask": "regression"}
WAVES = {"BLUE": 0.493, "GREEN": 0.56, "RED": 0.665, "RED_EDGE_1": 0.704, "RED_EDGE_2": 0.74, "RED_EDGE_3": 0.783,
         "NIR_BROAD": 0.842, "NIR_NARROW": 0.865, "SWIR_1": 1.61, "SWIR_2": 2.19}  # fmt: skip


def narrow_clay() -> None:
    """Build Clay with the width of the tests."""
    encoder = clay_embedder.EmbeddingEncoder
    clay_embedder.EmbeddingEncoder = lambda **given: encoder(**{**given, "dim": cases.CLAY_WIDTH, "heads": 1})
    channels = TimmBackboneWrapper.out_channels.fget
    narrow = property(lambda self: [cases.CLAY_WIDTH] * 12 if "clay_encoder" in self._modules else channels(self))
    TimmBackboneWrapper.out_channels = narrow


def linear_of_1_0() -> None:
    """Let the factory build the linear decoder with its own head, as TerraTorch 1.0 and 1.1 do."""
    built = factory._get_decoder_and_head_kwargs

    def build(decoder: Any, channels: list[int], kwargs: dict, head: dict, **outputs: Any) -> Any:
        if decoder == "LinearDecoder" and "num_classes" not in kwargs:
            made = LinearDecoder(channels, outputs["num_classes"], **kwargs)
            return made, {}, True
        return built(decoder, channels, kwargs, head, **outputs)

    factory._get_decoder_and_head_kwargs = build


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of a configuration, in evaluation mode, with random weights."""
    init = config["model"]["init_args"]
    arguments = json.loads(json.dumps(init["model_args"]))
    for name in ("pretrained", "backbone_pretrained"):
        if name in arguments:
            arguments[name] = False
    kwargs = arguments.pop("backbone_kwargs", {})
    arguments |= {f"backbone_{name}": value for name, value in kwargs.items() if name != "pretrained"}
    task = TASKS[config["model"]["class_path"].rpartition(".")[2]]
    return MODEL_FACTORY_REGISTRY.build(init["model_factory"]).build_model(task, **arguments).eval()


def inputs(name: str, config: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Images as TerraTorch wants them, and what comes along."""
    data, model = config["data"], config["model"]["init_args"]["model_args"]
    given = data["init_args"] if isinstance(data, dict) else {}
    bands = given.get("output_bands", given.get("bands", given.get("dataset_bands", list(WAVES)[:6])))
    frames = model.get("backbone_num_frames", 1)
    images = cases.images(name, len(bands), frames).transpose(1, 2)
    along: dict[str, Any] = {}
    use = str(given.get("use_metadata", ""))
    dates, places = cases.metadata()
    if use.startswith("clay"):
        along = {"gsd": 10, "waves": torch.tensor([WAVES[band] for band in bands])}
    if use == "clay_tlgw":
        week = torch.tensor([28, 5]) * 2 * torch.pi / 52  # ISO weeks of the dates; the hour is noon
        noon = torch.tensor([torch.pi] * 2)
        along["time"] = torch.stack([week.sin(), week.cos(), noon.sin(), noon.cos()], dim=1)
        angles = places * torch.pi / 180
        along["latlon"] = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
    if use == "prithvi_tl":
        along = {"temporal_coords": dates, "location_coords": places}
    return images if frames > 1 else images.squeeze(2), along


def keys_of(model: nn.Module) -> dict[str, tuple[int, ...] | None]:
    """Keys and shapes of a state dict as a task saves them; None for counters. Fixed buffers are left out."""
    names = {name for name, _ in model.named_parameters()}
    found: dict[str, tuple[int, ...] | None] = {}
    for key, value in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            found[f"model.{key}"] = None
        elif key in names or "running_" in key:
            found[f"model.{key}"] = tuple(value.shape)
    return found


@torch.no_grad()
def reference(name: str) -> tuple[dict[str, tuple[int, ...] | None], Tensor]:
    """Keys and output of one configuration."""
    config = yaml.safe_load((cases.CONFIGS / f"{name}.yaml").read_text())
    model = build(config)
    keys = keys_of(model)
    state = {key.removeprefix("model."): value for key, value in cases.fill(keys).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    print(f"{name}: {len(state)} tensors, {len(missing)} fixed buffers", end="", flush=True)
    images, along = inputs(name, config)
    output = model(images, **along).output
    output = output.unsqueeze(1) if output.ndim == 3 else output
    print(f", output {tuple(output.shape)} up to {float(output.abs().max()):.2f}")
    return keys, cases.sketch(output).contiguous()


def write() -> None:
    """All reference outputs, in one file."""
    tensors, keys = {}, {}
    for name in cases.NAMES:
        found, tensors[name] = reference(name)
        keys[name] = json.dumps(found, separators=(",", ":"))
    cases.GOLDEN.parent.mkdir(exist_ok=True)
    beside = cases.GOLDEN.with_suffix(".tmp")
    save_file(tensors, beside, metadata=keys)
    beside.chmod(0o644)
    os.replace(beside, cases.GOLDEN)


@torch.no_grad()
def check_export(name: str) -> None:
    """Fill a model of ours, export it, load it strictly into what TerraTorch builds from our file, compare outputs."""
    config = yaml.safe_load((cases.CONFIGS / f"{name}.yaml").read_text())
    model, run, imagery = cases.build(name)
    parts = split(cases.fill(cases.golden(name)[0]))
    load_state(model, run, parts, imagery.classes)
    exported, state, _ = export_model(run, model, imagery.classes, (cases.SIDE, cases.SIDE))
    theirs = build(yaml.safe_load(_yaml.dump(exported)))
    inner = {key.removeprefix("model."): value for key, value in state.items() if not key.startswith("criterion.")}
    theirs.load_state_dict(inner, strict=True)
    images, along = inputs(name, config)
    expected = theirs(images, **along).output
    expected = expected.unsqueeze(1) if expected.ndim == 3 else expected
    found = predict_logits(model, cases.batch(name, model, imagery.frames))
    difference, largest = float((found - expected).abs().max()), float(expected.abs().max())
    print(f"{name:20s} {len(inner)} tensors, difference {difference:.1e} of {largest:.2f}", flush=True)
    if difference > 1e-5 * largest:
        raise SystemExit(f"{name}: the outputs differ")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--export", action="store_true")
    narrow_clay()
    linear_of_1_0()
    torch.manual_seed(0)
    if parser.parse_args().export:
        clay.VARIANTS = cases.narrow_variants()
        for one in cases.NAMES:
            check_export(one)
    else:
        write()

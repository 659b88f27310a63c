"""From our model to the state dict of TerraTorch's; the inverse of `checkpoints`."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from adapteo.backbones.prithvi import PrithviViT, position_code
from adapteo.contracts import Backbone, Method
from adapteo.decoders.linear import PixelLinear
from adapteo.model import Model
from adapteo.peft.lora import LoRA
from adapteo.peft.vit_adapter import ViTAdapter
from adapteo.peft.vpt import VPT
from adapteo.terratorch.checkpoints import band_places
from adapteo.terratorch.names import SMP, Layout, lora_paths, paths, plain_state, prompts_path

_MODULES = {"clay": "clay_encoder.", "decur": "resnet_model."}
_CLASSIFIER = (1000, 2048)
_PEFT = "base_model.model."
_WITHOUT = ("cls_token", "norm.")
"""What TerraTorch's Prithvi with ViT-Adapter does not have."""


def terratorch_state(
    model: Model, method: Method, backbone: str, layout: Layout, positions: tuple[int, int] | None
) -> dict[str, Tensor]:
    """Tensors of TerraTorch's model, with its keys below ``model.``, on the CPU.

    Args:
        model: adapted with `method`, or merged.
        method: LoRA, VPT and ViT-Adapter are kept apart; any other one must be part of plain weights.
        backbone: our name of the backbone.
        layout: where TerraTorch's model has its parts.
        positions: grid of patches that Prithvi's positions are for; None for that of the pre-training.
    """
    encoder = _encoder(model.backbone, method, backbone, positions)
    own = "" if layout.smp else _MODULES.get(backbone, "")
    wrapped = _PEFT if isinstance(method, LoRA) else ""
    smp = SMP if layout.smp else ""
    out = {f"{smp}encoder.{wrapped}{own}{key}": value for key, value in encoder.items()}
    out |= {f"{smp}{key}": value for key, value in _decoder(model, layout).items()}
    return {f"model.{key}": value.detach().to("cpu").contiguous().clone() for key, value in out.items()}


def _encoder(backbone: Backbone, method: Method, name: str, positions: tuple[int, int] | None) -> dict[str, Tensor]:
    """The backbone with upstream keys, and beside them what the method added, as TerraTorch names it."""
    state = backbone.state_dict()
    upstream = backbone.unmap(plain_state(backbone))
    for key, columns in band_places(backbone).items():
        upstream[key] = upstream[key][:, columns]
    if name == "decur":  # TerraTorch keeps the classifier of ResNet-50, which nothing reads
        upstream |= {"fc.weight": torch.zeros(_CLASSIFIER), "fc.bias": torch.zeros(_CLASSIFIER[:1])}
    if isinstance(backbone, PrithviViT) and positions is not None:
        table = position_code(backbone.dim, (backbone.frames, *positions)).to(upstream["pos_embed"])
        upstream["pos_embed"] = F.pad(table, (0, 0, 1, 0)).unsqueeze(0)
    if isinstance(method, LoRA):
        return _with_lora(upstream, state, name, len(backbone.blocks))
    own = _MODULES.get(name, "")
    if isinstance(method, VPT):
        prompts = prompts_path(name).removeprefix(own)
        added = {prompts.format(i=key.split(".")[1]): value.unsqueeze(0)
                 for key, value in state.items() if key.endswith(".prompts")}  # fmt: skip
        return {**upstream, **added}
    if isinstance(method, ViTAdapter):
        kept = {key: value for key, value in upstream.items() if not key.startswith(_WITHOUT)}
        return kept | {key.removeprefix("route."): value for key, value in state.items() if key.startswith("route.")}
    return upstream


def _with_lora(upstream: Mapping[str, Tensor], state: Mapping[str, Tensor], name: str, depth: int) -> dict[str, Tensor]:
    """Separate q, k and v, and the linears below LoRA, as HF peft and TerraTorch do."""
    own = _MODULES.get(name, "")
    ours = {theirs.removeprefix(own): path for theirs, path in lora_paths(name, depth).items()}
    split: dict[str, Tensor] = {}
    fused = {theirs.removesuffix(".q_linear") for theirs in ours if theirs.endswith(".q_linear")}
    for key, value in upstream.items():
        path, _, leaf = key.rpartition(".")
        if path in fused:
            split |= {f"{path}.{role}_linear.{leaf}": part for role, part in zip("qkv", value.chunk(3), strict=True)}
        else:
            split[key] = value
    adapted = {theirs for theirs, path in ours.items() if f"{path}.lora_A" in state}
    out: dict[str, Tensor] = {}
    for key, value in split.items():
        path, _, leaf = key.rpartition(".")
        out[f"{path}.base_layer.{leaf}" if path in adapted else key] = value
    for theirs in adapted:
        for half in "AB":
            out[f"{theirs}.lora_{half}.default.weight"] = state[f"{ours[theirs]}.lora_{half}"]
    return out


def _decoder(model: Model, layout: Layout) -> dict[str, Tensor]:
    decoder = model.decoder
    state = decoder.state_dict()
    if isinstance(decoder, PixelLinear):
        if decoder.upsampling == 1:
            return {
                f"{layout.head}.weight": state["head.weight"].transpose(0, 1),
                f"{layout.head}.bias": state["head.bias"],
            }
        outputs = len(state["head.bias"])
        identity = torch.eye(outputs).to(state["head.bias"])[:, :, None, None]
        return {
            "decoder.conv.weight": state["head.weight"],
            "decoder.conv.bias": state["head.bias"],
            f"{layout.head}.weight": identity,
            f"{layout.head}.bias": torch.zeros_like(state["head.bias"]),
        }
    names = dict(paths(decoder, layout))
    return {f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value for key, value in state.items()}

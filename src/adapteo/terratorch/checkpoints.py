"""A checkpoint of TerraTorch (Lightning) into our model: backbone, what a method added, decoder; outputs are equal.

    state_dict:  model.encoder.…  ──▶ backbone (through its own `remap`) and adapter (LoRA, VPT, ViT-Adapter)
                 model.neck.… model.decoder.… model.head.…  ──▶ decoder

Files are read without running code from them; of a Lightning checkpoint only the tensors are used.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from adapteo.assembly import adapt_model
from adapteo.backbones._keys import account, shapes
from adapteo.checkpoint import read_state
from adapteo.config import Run, name_of
from adapteo.contracts import Backbone, Decoder, Method
from adapteo.decoders.linear import PixelLinear
from adapteo.errors import WeightsError, shorten
from adapteo.model import Model
from adapteo.peft.lora import LoRA
from adapteo.peft.vit_adapter import ViTAdapter, from_terratorch
from adapteo.peft.vpt import VPT
from adapteo.terratorch.names import SMP, Layout, folded, lora_paths, paths, plain_state, prompts_path
from adapteo.vit import fuse_qkv

_ENCODER_WRAPPERS = ("base_model.model.", "_timm_module.", "resnet_model.")
_TRAINING = ("criterion.", "train_metrics.", "val_metrics.", "test_metrics.")
_LORA = re.compile(r"(.+)\.lora_([AB])\.default\.weight")
_ANOTHER = "give the checkpoint of the configuration that was imported"


@dataclass(frozen=True)
class Parts:
    """The tensors of a checkpoint by where they belong, without the prefixes of these places.

    Attributes:
        encoder: of the backbone and of what a method added.
        rest: of neck, decoder and head, with their prefixes.
        layout: where they are.
    """

    encoder: dict[str, Tensor]
    rest: dict[str, Tensor]
    layout: Layout


def read_checkpoint(path: Path) -> Parts:
    """Read a file that TerraTorch wrote; nothing in it is run.

    Raises:
        WeightsError: damaged, holding more than tensors and plain values, or not of TerraTorch.
    """
    parts = split(read_state(path))
    if not parts.encoder:
        raise WeightsError(f"{path} has no `model.encoder`", fix="give a checkpoint of TerraTorch, e.g. epoch=10.ckpt")
    return parts


def split(state: Mapping[str, Tensor]) -> Parts:
    """Sort the tensors of a task or model of TerraTorch.

    Raises:
        WeightsError: tensors that belong nowhere.
    """
    encoder: dict[str, Tensor] = {}
    rest: dict[str, Tensor] = {}
    strange = []
    smp = any(SMP in key for key in state)
    for key, value in state.items():
        name = key.removeprefix("model.").removeprefix(SMP)
        if name.startswith("encoder."):
            encoder[_bare(name.removeprefix("encoder."))] = value
        elif name.startswith(("neck.", "decoder.", "head.", "segmentation_head.")):
            rest[name] = value
        elif not key.startswith(_TRAINING):
            strange.append(key)
    if strange:
        raise WeightsError(
            f"{len(strange)} tensors of the checkpoint have no place here: {shorten(', '.join(strange), 120)}",
            fix=_ANOTHER,
        )
    return Parts(encoder, rest, _layout(rest, smp))


def _bare(name: str) -> str:
    while prefix := next((p for p in _ENCODER_WRAPPERS if name.startswith(p)), ""):
        name = name.removeprefix(prefix)
    return name


def _layout(rest: Mapping[str, Tensor], smp: bool) -> Layout:
    necks = [found[1] for key in rest if (found := re.match(r"(.+)\.fpn1\.", key))]
    heads = [int(found[1]) for key in rest if (found := re.fullmatch(r"head\.head\.(\d+)\.weight", key))]
    return Layout(necks[0] if necks else "", f"head.head.{max(heads)}" if heads else "", smp)


def load_state(model: Model, run: Run, parts: Parts, classes: Sequence[str]) -> None:
    """Put a checkpoint into a model, in place, and adapt it.

    Args:
        model: of `adapteo.assembly.assemble`, untouched.
        run: the configuration that the checkpoint belongs to.
        parts: of `read_checkpoint`.
        classes: of the dataset.

    Raises:
        WeightsError: tensors are missing, superfluous or of another shape.
    """
    plain, added = separate(parts, run.method, model.backbone, name_of(run.backbone))
    load_backbone(model.backbone, plain)
    adapt_model(model, run, classes)
    if added:
        run.method.load_adapter_state(model.backbone, added)
    load_decoder(model.decoder, parts)


def separate(
    parts: Parts, method: Method, backbone: Backbone, name: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tell the tensors of a backbone, with upstream keys, from those that a method added, as in its adapter file."""
    if isinstance(method, LoRA):
        return _without_lora(parts.encoder, lora_paths(name, len(backbone.blocks)))
    if isinstance(method, VPT):
        return _without_prompts(parts.encoder, prompts_path(name))
    if isinstance(method, ViTAdapter):
        return _without_adapter(parts.encoder, backbone)
    return parts.encoder, {}


def load_backbone(backbone: Backbone, state: Mapping[str, Tensor]) -> None:
    """Copy the tensors of a plain backbone, which may have the model's own bands only.

    Raises:
        WeightsError: tensors are missing, superfluous or of another shape.
    """
    remapped = backbone.remap(_with_all_bands(backbone, state))
    given = account(remapped.state, shapes(backbone), model=type(backbone).__name__, fix=_ANOTHER)
    backbone.load_state_dict(given.state)


def _with_all_bands(backbone: Backbone, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put kernels for the model's own bands, as TerraTorch keeps them, where the published weights have them all."""
    out = dict(state)
    whole = {key: value.shape for key, value in backbone.unmap(plain_state(backbone)).items()}
    for key, columns in band_places(backbone).items():
        given = out.get(key)
        if given is not None and given.shape != whole[key] and given.shape[1] == len(columns):
            out[key] = given.new_zeros(whole[key])
            out[key][:, columns] = given
    return out


def band_places(backbone: Backbone) -> dict[str, list[int]]:
    """Channel of each of the model's bands in the kernels of the published weights, by upstream key.

    The backbone tells: it is given kernels that are the number of their band.
    """
    count = len(backbone.bands)
    numbers = torch.arange(1.0, count + 1)
    numbered = {
        key: numbers.view(1, -1, *(1,) * (value.ndim - 2)).expand(value.shape)
        if value.ndim >= 4 and value.shape[1] == count
        else value.new_zeros(()).expand(value.shape)
        for key, value in plain_state(backbone).items()
    }
    found = {}
    for key, value in backbone.unmap(numbered).items():
        row = value[0].flatten(1)[:, 0] if value.ndim >= 4 else numbers.new_zeros(0)
        if (row == count).any():
            found[key] = [int((row == number).nonzero()) for number in numbers]
    return found


# --------------------------------------------------------------------------------------------- adapters


def _without_lora(
    state: Mapping[str, Tensor], linears: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Plain encoder with fused q, k, v, and the LoRA tensors under HF peft's keys for our modules."""
    plain: dict[str, Tensor] = {}
    added: dict[str, Tensor] = {}
    for key, value in state.items():
        found = _LORA.fullmatch(key)
        if found is None:
            plain[key.replace(".base_layer.", ".")] = value
        elif found[1] in linears:
            added[f"base_model.model.{linears[found[1]]}.lora_{found[2]}.weight"] = value
        else:
            raise WeightsError(f"the checkpoint has LoRA on '{found[1]}', outside the blocks' linears", fix=_ANOTHER)
    return fuse_qkv(plain, ".{}_linear.", "."), added


def _without_prompts(state: Mapping[str, Tensor], pattern: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    before = pattern.partition("{i}")[0]
    added = {
        f"blocks.{key.removeprefix(before)}.prompts": value.squeeze(0)
        for key, value in state.items()
        if key.startswith(before)
    }
    return {key: value for key, value in state.items() if not key.startswith(before)}, added


def _without_adapter(state: Mapping[str, Tensor], backbone: Backbone) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """TerraTorch's Prithvi with ViT-Adapter has neither class token nor last norm; nothing reads them here then."""
    added = from_terratorch(state)
    names = {name.removeprefix("route.") for name in added}
    plain = {key: value for key, value in state.items() if key not in names}
    own = backbone.unmap(backbone.state_dict())
    unused = {key: value for key, value in own.items() if key == "cls_token" or key.startswith("norm.")}
    return {**unused, **plain}, added


# ---------------------------------------------------------------------------------------------- decoder


def load_decoder(decoder: Decoder, parts: Parts) -> None:
    """Copy neck, decoder and head.

    Raises:
        WeightsError: tensors are missing, superfluous or of another shape.
    """
    names = {theirs: ours for ours, theirs in paths(decoder, parts.layout)}
    ours: dict[str, Tensor] = {}
    rest = dict(parts.rest)
    if isinstance(decoder, PixelLinear):
        ours, rest = _linear(rest, parts.layout)
    for key, value in rest.items():
        path, _, leaf = key.rpartition(".")
        ours[f"{names[path]}.{leaf}" if path in names else key] = value
    counters = {k: v for k, v in decoder.state_dict().items() if k.endswith("num_batches_tracked")}
    given = account({**counters, **ours}, shapes(decoder), model="the decoder", fix=_ANOTHER)
    decoder.load_state_dict(given.state)


def _linear(rest: dict[str, Tensor], layout: Layout) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Head of `PixelLinear`: a transposed convolution, a 1 x 1 convolution (IdentityDecoder), or the two as one."""
    first = [rest.pop(f"decoder.conv.{leaf}", None) for leaf in ("weight", "bias")]
    last = [rest.pop(f"{layout.head}.{leaf}", None) for leaf in ("weight", "bias")] if layout.head else [None, None]
    if first[0] is not None and first[1] is not None:
        weight, bias = first[0], first[1]
        if last[0] is not None and last[1] is not None:
            weight, bias = folded(weight, bias, last[0], last[1])
    elif last[0] is not None and last[1] is not None:
        weight, bias = last[0].transpose(0, 1), last[1]
    else:
        raise WeightsError("the checkpoint has no linear decoder", fix=_ANOTHER)
    return {"head.weight": weight, "head.bias": bias}, rest

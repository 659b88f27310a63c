"""Networks of timm made ready for methods: linears get roles, patch embeddings that are computed right.

Nothing that is computed changes. Fused linears are split into parts of one role each, so that a method can target any
of them; a checkpoint's fused tensors are cut and joined accordingly:

    attn.qkv          ->  attn.qkv.q, .k, .v             its rows in three parts
    attn.q_bias       ->  attn.qkv.q.bias                Swin V2, which has no bias for k
    mlp.fc1 (gated)   ->  mlp.fc1.fc1, .gate             SwiGLU, the part under the activation is fc1
"""

from collections.abc import Mapping, Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn

from adapteo.vit import PatchConv2d, RoleLinear, SplitLinear


def prepare(model: nn.Module) -> None:
    """Give roles to the linears of attention and MLP and exchange patch convolutions, in place."""
    from timm.layers import GlobalResponseNormMlp, GluMlp, Mlp, SwiGLU
    from timm.models.swin_transformer import WindowAttention
    from timm.models.swin_transformer_v2 import WindowAttention as CosineWindowAttention
    from timm.models.vision_transformer import Attention

    for module in list(model.modules()):
        kind = type(module)
        if kind in (Attention, WindowAttention):
            exchange(module, {"qkv": ("q", "k", "v"), "proj": ("proj",)})
        elif kind is CosineWindowAttention:
            exchange(module, {"qkv": ("q", "k", "v"), "proj": ("proj",)})
            _move_biases(module)
        elif kind in (Mlp, GlobalResponseNormMlp):
            exchange(module, {"fc1": ("fc1",), "fc2": ("fc2",)})
        elif kind is GluMlp:
            roles = ("gate", "fc1") if module.gate_last else ("fc1", "gate")
            exchange(module, {"fc1": roles, "fc2": ("fc2",)})
        elif kind is SwiGLU:
            exchange(module, {"fc1_g": ("fc1",), "fc1_x": ("gate",), "fc2": ("fc2",)})
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if _cuts_patches(child):
                setattr(parent, name, patch_convolution(child))


def fusions(module: nn.Module) -> dict[str, tuple[str, ...]]:
    """Map each fused tensor of a checkpoint to the tensors of a prepared module that it is made of."""
    found: dict[str, tuple[str, ...]] = {}
    for path, layer in module.named_modules():
        if isinstance(layer, SplitLinear):
            parts = dict(layer.named_children())
            found[f"{path}.weight"] = tuple(f"{path}.{role}.weight" for role in parts)
            biased = [role for role, part in parts.items() if part.bias is not None]
            if len(biased) == len(parts):
                found[f"{path}.bias"] = tuple(f"{path}.{role}.bias" for role in biased)
            else:
                above = path.rpartition(".")[0]
                found |= {f"{above}.{role}_bias": (f"{path}.{role}.bias",) for role in biased}
    return found


def join(state: Mapping[str, Tensor], fused: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """Put the parts of fused tensors together."""
    out = dict(state)
    return {**{name: torch.cat([out.pop(part) for part in parts]) for name, parts in fused.items()}, **out}


def cut(state: Mapping[str, Tensor], fused: Mapping[str, Sequence[str]], rows: Mapping[str, int]) -> dict[str, Tensor]:
    """Invert `join`; ``rows`` of each part."""
    out = dict(state)
    for name, parts in fused.items():
        pieces = out.pop(name).split([rows[part] for part in parts])
        out |= {part: piece.clone() for part, piece in zip(parts, pieces, strict=True)}
    return out


def patch_convolution(conv: nn.Conv2d) -> PatchConv2d:
    """Return a patch embedding with the parameters of a convolution."""
    with torch.device("meta"):  # draws nothing
        new = PatchConv2d(conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.bias is not None)
    new.weight, new.bias = conv.weight, conv.bias
    return new.train(conv.training)


def _cuts_patches(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a convolution whose kernel meets every pixel once."""
    if type(module) is not nn.Conv2d or module.groups != 1 or module.dilation != (1, 1):
        return False
    side = module.kernel_size[0]
    square = module.kernel_size == module.stride == (side, side)
    return square and side > 1 and module.padding in ((0, 0), 0, "valid") and module.padding_mode == "zeros"


def exchange(module: nn.Module, wanted: Mapping[str, Sequence[str]]) -> None:
    """Give child linears their role, or split them into one for each of several; what is no plain linear stays."""
    children = dict(module.named_children())
    for name, roles in wanted.items():
        child = children[name]
        if type(child) is not nn.Linear:
            continue
        biases = [None] * len(roles) if child.bias is None else child.bias.detach().chunk(len(roles))
        weights = child.weight.detach().chunk(len(roles))
        parts = {role: _linear(role, *pair) for role, *pair in zip(roles, weights, biases, strict=True)}
        setattr(module, name, SplitLinear(parts) if len(parts) > 1 else parts[roles[0]])


def _move_biases(attention: nn.Module) -> None:
    """Move the biases that lie beside the qkv of Swin V2's attention into its parts; the one of k is 0."""
    beside = dict(attention.named_parameters(recurse=False))
    parts = dict(attention.named_children())["qkv"]
    for role, part in parts.named_children():
        if f"{role}_bias" in beside and isinstance(part, RoleLinear):
            part.bias = beside[f"{role}_bias"]
    for name in ("q_bias", "k_bias", "v_bias"):
        setattr(attention, name, None)


def _linear(role: str, weight: Tensor, bias: Tensor | None) -> RoleLinear:
    with torch.device("meta"):  # draws nothing
        linear = RoleLinear(role, weight.shape[1], weight.shape[0], bias is not None)
    linear.weight = nn.Parameter(weight.clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.clone())
    return linear

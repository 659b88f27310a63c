"""Names of tensors, ours and TerraTorch's, for decoders and for what methods add; backbones know their own.

decoder.convs.0.2.ln.weight            <->  blocks.0.2.weight
neck.2.fpn1.3.bias                     <->  pyramid.levels.0.3.bias
…blocks.0.attn.qkv.q_linear.lora_A.default.weight   <->  base_model.model.blocks.0.attn.q.lora_A.weight
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from adapteo.contracts import Backbone, Decoder
from adapteo.decoders.fcn import FCNDecoder
from adapteo.decoders.linear import ImageLinear, PixelLinear
from adapteo.decoders.unet import UNetDecoder
from adapteo.decoders.upernet import UPerNetDecoder
from adapteo.errors import WeightsError
from adapteo.terratorch.vocabulary import BACKBONES

OURS = MappingProxyType(
    {"q": "attn.q", "k": "attn.k", "v": "attn.v", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
)
"""Linears of one of our blocks, by role."""
LINEARS: Mapping[str, Mapping[str, str]] = MappingProxyType({f.name: f.linears for f in BACKBONES.values()})
"""Pattern of TerraTorch's linears by role, by the name of our backbone."""
PROMPTS: Mapping[str, str] = MappingProxyType(
    {"prithvi": "vpt_prompt_embeddings.{i}", "clay": "clay_encoder.transformer.vpt_prompt_embeddings.{i}"}
)
SMP, SMP_HEAD = "smp_model.", "segmentation_head.0"
_ADDED = re.compile(r"\.lora_[AB]$|\.prompts$|^route\.")


@dataclass(frozen=True)
class Layout:
    """Where a model of TerraTorch has its parts.

    Attributes:
        neck: path of the learned pyramid, e.g. "neck.2" (or "decoder", in old configurations).
        head: path of the last convolution or linear; "" when the decoder has it.
        smp: whether it is a model of segmentation_models.pytorch.
    """

    neck: str = "neck.2"
    head: str = "head.head.2"
    smp: bool = False


def paths(decoder: Decoder, layout: Layout) -> Iterator[tuple[str, str]]:
    """Pairs of module paths of a decoder: ours, TerraTorch's; without `PixelLinear.head`, which is not just renamed.

    Raises:
        WeightsError: a decoder that TerraTorch does not have.
    """
    if isinstance(decoder, PixelLinear):
        return
    if isinstance(decoder, ImageLinear):
        yield "head", layout.head
        return
    if isinstance(decoder, FCNDecoder):
        for i in range(len(decoder.blocks)):
            yield from ((f"blocks.{i}.{j}", f"decoder.convs.{i}.{j}{'.ln' if j == 2 else ''}") for j in range(3))
    elif isinstance(decoder, UNetDecoder):
        yield from _pyramid(decoder.pyramid, layout)
        inner = "decoder" if layout.smp else "decoder.decoder"
        for i in range(len(decoder.blocks)):
            for conv in ("conv1", "conv2"):
                yield from ((f"blocks.{i}.{conv}.{j}", f"{inner}.blocks.{i}.{conv}.{j}") for j in range(2))
    elif isinstance(decoder, UPerNetDecoder):
        yield from _pyramid(decoder.pyramid, layout)
        yield from _upernet(decoder)
    else:
        raise WeightsError(
            f"TerraTorch has no decoder like {type(decoder).__name__}", fix="use linear, fcn, unet or upernet"
        )
    yield from ((f"hidden.{i}.0", f"{layout.head.rpartition('.')[0]}.0.{i}.0") for i in range(len(decoder.hidden)))
    yield "head", SMP_HEAD if layout.smp else layout.head


def _pyramid(pyramid: nn.Module, layout: Layout) -> Iterator[tuple[str, str]]:
    """The learned neck; a network of stages has none."""
    names = {name.rpartition(".")[0] for name, _ in pyramid.named_parameters()}
    for name in sorted(names):  # levels.0.0, levels.0.1, levels.0.3, levels.1
        _, level, *inner = name.split(".")
        yield f"pyramid.{name}", f"{layout.neck}.fpn{int(level) + 1}.{''.join(inner) or '0'}"


def _upernet(decoder: UPerNetDecoder) -> Iterator[tuple[str, str]]:
    several = {
        "pools.{i}.1": ("decoder.psp_modules.{i}.1", len(decoder.pools)),
        "laterals.{i}": ("decoder.lateral_convs.{i}", len(decoder.laterals)),
        "smooth.{i}": ("decoder.fpn_convs.{i}", len(decoder.smooth)),
        "context": ("decoder.bottleneck", 1),
        "fusion": ("decoder.fpn_bottleneck", 1),
    }
    for ours, (theirs, count) in several.items():
        for i in range(count):
            yield f"{ours.format(i=i)}.0", f"{theirs.format(i=i)}.conv"
            yield f"{ours.format(i=i)}.1", f"{theirs.format(i=i)}.norm"


def lora_paths(backbone: str, depth: int) -> dict[str, str]:
    """Our path of each linear of the blocks, by TerraTorch's.

    Raises:
        WeightsError: the names are not known for this backbone.
    """
    linears = LINEARS.get(backbone, {})
    if not linears:
        raise WeightsError(
            f"the names of LoRA's linears in TerraTorch are not known for '{backbone}'",
            allowed=sorted(name for name, known in LINEARS.items() if known),
        )
    return {pattern.format(i=i): f"blocks.{i}.{OURS[role]}" for role, pattern in linears.items() for i in range(depth)}


def prompts_path(backbone: str) -> str:
    """TerraTorch's path of the prompts of a block, with ``{i}``.

    Raises:
        WeightsError: TerraTorch has no prompts in this backbone.
    """
    if backbone not in PROMPTS:
        raise WeightsError(f"TerraTorch has no prompts in '{backbone}'", allowed=PROMPTS)
    return PROMPTS[backbone]


def plain_state(backbone: Backbone) -> dict[str, Tensor]:
    """State of an adapted backbone without what a method added; the wrapped modules' names as before."""
    kept = {key: value for key, value in backbone.state_dict().items() if not _ADDED.search(key)}
    return {key.replace(".inner.", "."): value for key, value in kept.items()}


def folded(weight: Tensor, bias: Tensor, after: Tensor, after_bias: Tensor) -> tuple[Tensor, Tensor]:
    """Join a transposed convolution ``(c, k, u, u)``, ``(k,)`` and a 1 x 1 one behind it ``(m, k, 1, 1)``, ``(m,)``."""
    matrix = after[:, :, 0, 0]
    return torch.einsum("ckuv,mk->cmuv", weight, matrix), matrix @ bias + after_bias

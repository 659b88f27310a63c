"""What Clay and DOFA share: a small transformer that writes the kernels of the patch embedding, one per band.

    z = Layer([learned tokens, λ_1 … λ_C, bias token]),  kernel_c = W (z_c + λ_c) + w,  bias = V z_last + v

λ_c is a code of a band's wavelength. DOFA (arXiv 2403.15356) introduced it and Clay took it over. How a wavelength
becomes a code, how the numbers of a kernel are ordered and how they are scaled differ between the two (Clay feeds
micrometres, DOFA nanometres, and a wrong unit makes no error), so these stay with each.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from adapteo.backbones._keys import account
from adapteo.bands import BY_NAME
from adapteo.contracts import Remapped
from adapteo.errors import ConfigError, DataError, closest
from adapteo.vit import Attention, Mlp, check_patches, fuse_qkv, split_qkv

CODE_WIDTH = 128
"""Width of the code of a wavelength, and of the transformer."""
LEARNED_TOKENS = 128
_HEADS, _HIDDEN = 4, 2048
_LAYER_NAMES = {
    "attn.qkv.weight": "self_attn.in_proj_weight",
    "attn.qkv.bias": "self_attn.in_proj_bias",
    "attn.proj": "self_attn.out_proj",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
}


class PostNormBlock(nn.Module):
    """Transformer block that normalises behind each residual, ``(b, n, d) -> (b, n, d)`` (arXiv 1706.03762)."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attn = Attention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attention, then MLP, each with its residual and norm."""
        x = self.norm1(x + self.attn(x))
        out: Tensor = self.norm2(x + self.mlp(x))
        return out


class KernelGenerator(nn.Module):
    """Writes the numbers of one kernel per wavelength, and one bias.

    It runs in every step, so gradients reach it and it cannot go stale. For ten bands that is 0.15 (Clay) or 0.33
    (DOFA) billion multiplications per batch, 3 % of what an encoder of 768 x 12 does on 64 patches of one image.

    Args:
        kernel: numbers of one kernel.
        dim: width of the bias.
    """

    def __init__(self, kernel: int, dim: int) -> None:
        super().__init__()
        self.weight_tokens = nn.Parameter(torch.empty(LEARNED_TOKENS, CODE_WIDTH))
        self.bias_token = nn.Parameter(torch.empty(1, CODE_WIDTH))
        self.layer = PostNormBlock(CODE_WIDTH, _HEADS, _HIDDEN)
        self.fc_weight = nn.Linear(CODE_WIDTH, kernel)
        self.fc_bias = nn.Linear(CODE_WIDTH, dim)

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Turn codes ``(c, CODE_WIDTH)`` into kernels ``(c, kernel)`` and a bias ``(dim,)``."""
        tokens = torch.cat([self.weight_tokens, codes, self.bias_token])
        out = self.layer(tokens.unsqueeze(0)).squeeze(0)
        return self.fc_weight(out[LEARNED_TOKENS:-1] + codes), self.fc_bias(out[-1])


def published_name(name: str, encoder: str) -> str:
    """Name of a tensor of `KernelGenerator` in the published files, where its layer is one of PyTorch's.

    Args:
        name: with fused q, k, v, e.g. ``weight_generator.layer.attn.qkv.weight``.
        encoder: what the model calls the transformer.
    """
    before, found, rest = name.partition(".layer.")
    if not found:
        return name
    for ours, theirs in _LAYER_NAMES.items():
        rest = rest.replace(ours, theirs)
    return f"{before}.{encoder}.layers.0.{rest}"


def translate(
    backbone: nn.Module,
    state: Mapping[str, Tensor],
    upstream_name: Callable[[str], str],
    *,
    model: str,
    prefixes: Sequence[str],
    superfluous: Mapping[str, str],
    widths: Mapping[str, int],
) -> Remapped:
    """Account for a checkpoint's keys and turn them into those of a backbone.

    Args:
        backbone: what the tensors are for.
        state: the checkpoint.
        upstream_name: name that the published encoder gives a tensor with fused q, k, v.
        model: for messages.
        prefixes: of wrappers of the encoder; taken away again and again.
        superfluous: reasons to skip what begins with a key.
        widths: of all variants, by name; for the advice when the checkpoint is of another one.

    Raises:
        WeightsError: lists the keys that are missing, unknown or of another shape.
    """

    def rename(key: str) -> str:
        while prefix := next((p for p in prefixes if key.startswith(p)), ""):
            key = key.removeprefix(prefix)
        return key

    def fix(given: Mapping[str, Tensor]) -> str:
        found = given["cls_token"].numel() if "cls_token" in given else 0
        likely = [name for name, width in widths.items() if width == found and name not in model.split()]
        if likely:
            return f"it has the width of {likely[0]}: change `variant` of the backbone"
        return "give the published file of this variant"

    fused = fuse_qkv({name: value.to("meta") for name, value in backbone.state_dict().items()})
    names = {upstream_name(name): name for name in fused}
    remapped = account(
        state,
        {key: tuple(fused[name].shape) for key, name in names.items()},
        model=model,
        rename=rename,
        superfluous=lambda name: next((why for part, why in superfluous.items() if name.startswith(part)), ""),
        fix=fix,
    )
    return Remapped(split_qkv({names[key]: value for key, value in remapped.state.items()}), remapped.skipped)


def initialise_tokens(backbone: nn.Module) -> None:
    """Draw the learned tokens of class and kernels from a narrow normal distribution, as published."""
    for name, parameter in backbone.named_parameters():
        if name.rpartition(".")[2] in ("cls_token", "weight_tokens", "bias_token"):
            nn.init.normal_(parameter, std=0.02)


def with_wavelength(bands: Sequence[str]) -> tuple[str, ...]:
    """Return those of the bands that have a wavelength, in the given order."""
    return tuple(band for band in bands if band in BY_NAME and BY_NAME[band].wavelength is not None)


def check_build(model: str, bands: Sequence[str], frames: int) -> None:
    """Refuse what an encoder of one date and of bands with wavelengths cannot be built for.

    Raises:
        ConfigError: no band, one without wavelength or named twice, or several dates.
    """
    known = with_wavelength(list(BY_NAME))
    strange = [band for band in bands if band not in known]
    if strange:
        raise ConfigError(
            f"{model} needs bands with a wavelength, not '{strange[0]}'{closest(strange[0], known)}",
            allowed=known,
            fix="leave it out of the bands of the backbone",
        )
    if not bands or len(set(bands)) < len(bands):
        raise ConfigError(f"{model} needs at least one band, each once, not {list(bands)}", allowed=known)
    if frames != 1:
        raise ConfigError(f"{model} takes 1 date per image, not {frames}", fix="choose one of the dataset's dates")


def only_date(images: Tensor, bands: Sequence[str], patch: int) -> Tensor:
    """Return images ``(b, 1, c, h, w)`` as ``(b, c, h, w)``.

    Raises:
        DataError: when they do not have one date and these bands, or sides that are no multiples of the patch
            (`adapteo.model` pads; here the map would be cut silently).
    """
    _, t, c, h, w = images.shape
    if (t, c) != (1, len(bands)):
        raise DataError(
            f"the images have {t} dates and {c} bands; built for 1 date and {len(bands)} bands",
            fix="build the backbone with the dataset's bands; for several dates choose another backbone",
        )
    check_patches(h, w, patch)
    return images[:, 0]

"""nano: our own small ViT for HLS bands, pre-trained on synthetic scenes; its weights are part of this package.

    tokens = Conv2d(images) + position(x, y) + step(t) - step(0)

A masked autoencoder (arXiv 2111.06377) of single dates from ``tools/pretrain_nano.py``, of which this is the encoder.
It has never seen a real image: good for demonstrations and tests, and no substitute for a real foundation model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapteo.backbones._keys import account, shapes
from adapteo.bands import HLS6
from adapteo.contracts import (
    Backbone,
    BackboneSpec,
    Batch,
    Grid,
    Normalisation,
    Remapped,
    TokenBackbone,
    Weights,
    default_taps,
)
from adapteo.errors import ConfigError, DataError, closest
from adapteo.vit import Block, init_weights, sincos_1d

DIM, DEPTH, HEADS, PATCH = 128, 6, 4, 4
MAX_FRAMES = 4
MERGES = ("concat", "mean")

# Reflectance of the scenes that the pre-training saw, in the order of `HLS6`; printed by tools/pretrain_nano.py.
_MEAN = (0.0624, 0.0958, 0.0826, 0.3041, 0.2041, 0.1255)
_STD = (0.0256, 0.031, 0.041, 0.1318, 0.0936, 0.0701)
_WEIGHTS = Weights(
    repo="",
    file="nano.safetensors",
    licence="Apache-2.0",
    sha256="639baac0eee064ad30f8d5811f860997166445b71b5e5d865b321f0ede7fd5fc",
    packaged=True,
)
_PATCH_WEIGHT = "patch_embed.weight"


class NanoViT(TokenBackbone):
    """The encoder: 6 blocks of width 128, patches of 4 x 4 pixels, 1.2 million parameters, no class token.

    Args:
        bands: canonical names out of `HLS6`, in any order.
        frames: dates per image; their tokens attend to each other.
        merge: how the maps of several dates become one, "concat" or "mean".
    """

    def __init__(self, bands: Sequence[str], frames: int = 1, merge: str = MERGES[0]) -> None:
        super().__init__()
        self.bands, self.frames, self.merges = tuple(bands), frames, merge
        self.dim, self.patch = DIM, PATCH
        self.taps = default_taps(DEPTH)
        self.weights = _WEIGHTS
        self.patch_embed = nn.Conv2d(len(bands), DIM, PATCH, PATCH)
        self.blocks = nn.ModuleList(Block(DIM, HEADS) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(DIM, eps=1e-6)
        self.apply(init_weights)
        nn.init.xavier_uniform_(self.patch_embed.weight.flatten(1))
        nn.init.zeros_(self.patch_embed.bias)  # type: ignore[arg-type]

    def embed(self, batch: Batch) -> tuple[Tensor, Grid]:
        """Turn normalised images ``(b, t, c, h, w)`` into ``t * h/4 * w/4`` tokens.

        Raises:
            DataError: when the images do not have this instance's dates and bands, or sides that are no multiples of 4
                (`adapteo.model` pads).
        """
        b, t, c, h, w = batch.images.shape
        if (t, c) != (self.frames, len(self.bands)):
            raise DataError(
                f"the images have {t} dates and {c} bands; built for {self.frames} dates and {len(self.bands)} bands",
                fix="build the backbone with the dataset's `frames` and bands",
            )
        if h % PATCH or w % PATCH:
            raise DataError(f"images of {h} x {w} pixels cannot be cut into patches of {PATCH}", fix="pad or crop them")
        grid = Grid(h // PATCH, w // PATCH, stack=t, merge=self.merges)
        x = self.patch_embed(batch.images.reshape(b * t, c, h, w).to(self.patch_embed.weight.dtype))
        x = x.flatten(2).transpose(1, 2) + position_code(grid.height, grid.width).to(x)
        x = x.view(b, t, -1, DIM)
        if t > 1:
            x = x + step_code(t).to(x).unsqueeze(1)
        return x.reshape(b, -1, DIM), grid

    @property
    def normalisation(self) -> Normalisation:
        """Statistics of the scenes it was pre-trained on."""
        order = self._channels()
        return Normalisation(tuple(_MEAN[i] for i in order), tuple(_STD[i] for i in order))

    def remap(self, state: Mapping[str, Tensor]) -> Remapped:
        """Take the channels of `bands` and widen to float32; the keys are our own.

        Raises:
            WeightsError: lists the keys that are missing, unknown or of another shape.
        """
        used = account(
            state,
            {**shapes(self), _PATCH_WEIGHT: (DIM, len(HLS6), PATCH, PATCH)},
            model="nano",
            fix="nano has one size; its weights are in the package (weights: pretrained)",
        )
        out = {key: value.float() for key, value in used.state.items()}
        out[_PATCH_WEIGHT] = out[_PATCH_WEIGHT][:, self._channels()]
        return Remapped(out)

    def unmap(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Invert `remap`; bands that this instance does not see get zeros, so the checkpoint computes the same."""
        out = dict(state)
        ours = out[_PATCH_WEIGHT]
        full = ours.new_zeros(DIM, len(HLS6), PATCH, PATCH)
        full[:, self._channels()] = ours
        return {**out, _PATCH_WEIGHT: full}

    def _channels(self) -> list[int]:
        return [HLS6.index(band) for band in self.bands]


def position_code(height: int, width: int) -> Tensor:
    """2-D sine-cosine code ``(height * width, dim)``: half of the width for the row, half for the column."""
    rows = sincos_1d(DIM // 2, torch.arange(height)).repeat_interleave(width, dim=0)
    columns = sincos_1d(DIM // 2, torch.arange(width)).repeat(height, 1)
    return torch.cat([rows, columns], dim=1).float()


def step_code(frames: int) -> Tensor:
    """Code of the order of the dates ``(frames, dim)``, zero for the first: a single date is as in pre-training."""
    code = sincos_1d(DIM, torch.arange(frames))
    return (code - code[:1]).float()


@dataclass(frozen=True)
class Nano(BackboneSpec):
    """Small ViT of 1.2 M parameters for up to six HLS bands, with packaged weights from synthetic scenes.

    Attributes:
        weights: "pretrained" (in the package), "random", or a local file.
        merge: how several dates become one feature map, "concat" or "mean".
    """

    weights: str = "pretrained"
    merge: str = MERGES[0]

    def __post_init__(self) -> None:
        """Check the choice.

        Raises:
            ConfigError: unknown merge.
        """
        if self.merge not in MERGES:
            raise ConfigError(f"'merge' cannot be '{self.merge}'{closest(self.merge, MERGES)}", allowed=MERGES)

    def accepts(self, bands: Sequence[str]) -> tuple[str, ...]:
        """Those of the bands that are in `HLS6`."""
        return tuple(band for band in bands if band in HLS6)

    def build(self, bands: Sequence[str], frames: int = 1) -> Backbone:
        """Build with random weights.

        Raises:
            ConfigError: no bands, a band outside `HLS6` or twice, or more than four dates.
        """
        unknown = [band for band in bands if band not in HLS6]
        if unknown:
            raise ConfigError(f"nano has no band '{unknown[0]}'{closest(unknown[0], HLS6)}", allowed=HLS6)
        if not bands or len(set(bands)) < len(bands):
            raise ConfigError(f"nano needs each band once, not {list(bands)}", allowed=HLS6)
        if not 1 <= frames <= MAX_FRAMES:
            raise ConfigError(f"nano takes 1 to {MAX_FRAMES} dates, not {frames}", fix="choose fewer dates")
        return NanoViT(bands, frames, self.merge)


BACKBONE = Nano

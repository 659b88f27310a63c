"""timm: ViT, Swin, ConvNeXt, ResNet and their like, pre-trained on photographs (Apache-2.0; needs the extra `timm`).

The ViT of arXiv 2504.17397's baseline "IN-21K", ``vit_base_patch16_224.augreg_in21k_ft_in1k``, is the default: trained
on ImageNet-21k, then fine-tuned on ImageNet-1k.

Photographs have three bands. Red, green and blue are matched by name and keep their kernels; each other band gets the
mean of the three, and all are scaled by 3 / bands, so that an image that is the same in all bands has the response of
pre-training. Band statistics are those of photographs (values 0..1 of red, green, blue; their mean for other bands),
which reflectance hardly resembles: `train.normalise: dataset` is the sensible choice here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from adapteo.backbones._timm_build import build
from adapteo.backbones._timm_kernel import Extended
from adapteo.backbones._timm_networks import Facts
from adapteo.bands import BY_NAME, resolve_all
from adapteo.contracts import Backbone, BackboneSpec, Normalisation, TokenBackbone, Weights
from adapteo.errors import ConfigError, closest

PAPER = "vit_base_patch16_224.augreg_in21k_ft_in1k"
PHOTOGRAPH = ("red", "green", "blue")
_SPDX = {"apache-2.0": "Apache-2.0", "mit": "MIT", "cc-by-nc-4.0": "CC-BY-NC-4.0", "bsd-3-clause": "BSD-3-Clause"}


@dataclass(frozen=True)
class Timm(BackboneSpec):
    """Any ViT, Swin, ConvNeXt or ResNet of timm, pre-trained on photographs, for any bands of one date.

    Set `train.normalise: dataset` with it. Needs ``pip install 'adapteo[timm]'``.

    Attributes:
        model: timm's name with the tag of the weights, as in ``timm.list_pretrained()``; the default is the ViT-B of
            arXiv 2504.17397's baseline.
        weights: "pretrained" (from the hub), "random", or a path.
        weights_bands: bands of the weights in their order; others than red, green and blue for a local file only, e.g.
            one that `adapteo merge` wrote from a backbone with more bands.
        last_norm: apply the network's last norm to the last map of a ViT; false gives the maps of TerraTorch.
    """

    model: str = PAPER
    weights: str = "pretrained"
    weights_bands: tuple[str, ...] = PHOTOGRAPH
    last_norm: bool = True

    def __post_init__(self) -> None:
        """Bring the bands of the weights to their names.

        Raises:
            ConfigError: unknown bands, or other bands than the published weights have.
        """
        object.__setattr__(self, "weights_bands", resolve_all(self.weights_bands))
        if self.weights == "pretrained" and self.weights_bands != PHOTOGRAPH:
            raise ConfigError(
                f"timm's weights are for {', '.join(PHOTOGRAPH)}, not for {', '.join(self.weights_bands)}",
                fix="leave `weights_bands` out, or give the path of a file with these bands as `weights`",
            )

    def accepts(self, bands: Sequence[str]) -> tuple[str, ...]:
        """All of them."""
        return tuple(bands)

    def build(self, bands: Sequence[str], frames: int = 1) -> Backbone:
        """Build with random weights.

        Raises:
            ConfigError: no bands, an unknown one or one twice; more than one date; timm is missing, or has no such
                model, or one that is neither a plain ViT nor made of stages.
        """
        unknown = [band for band in bands if band not in BY_NAME]
        if unknown:
            raise ConfigError(f"there is no band '{unknown[0]}'{closest(unknown[0], BY_NAME)}", allowed=BY_NAME)
        if not bands or len(set(bands)) < len(bands):
            raise ConfigError(f"timm needs at least one band, each once, not {list(bands)}", fix="see dataset.bands")
        if frames != 1:
            raise ConfigError(f"timm's models take 1 date per image, not {frames}", fix="choose one of the dates")

        def describe(cfg: Mapping[str, Any], conv: str, heads: tuple[str, ...]) -> Facts:
            kernel = Extended(conv, self.weights_bands, tuple(bands))
            known = None if self.weights == "random" else normalisation(cfg, bands)
            unused = heads if self.last_norm else (*heads, "norm")
            return Facts(f"timm's {self.model}", kernel, unused, known, weights_of(cfg))

        backbone = build(self.model, len(bands), describe)
        if not self.last_norm:
            if not isinstance(backbone, TokenBackbone):
                raise ConfigError(
                    f"`last_norm: false` means nothing for {self.model}, whose stages have norms of their own",
                    fix="leave it out",
                )
            backbone.norm = nn.Identity()
        return backbone


def normalisation(cfg: Mapping[str, Any], bands: Sequence[str]) -> Normalisation | None:
    """Statistics of the photographs: those of red, green and blue by name, their mean for other bands."""
    if len(cfg["mean"]) != len(PHOTOGRAPH):
        return None

    def by_band(values: Sequence[float]) -> tuple[float, ...]:
        known = dict(zip(PHOTOGRAPH, values, strict=True))
        return tuple(known.get(band, sum(values) / len(values)) for band in bands)

    return Normalisation(by_band(cfg["mean"]), by_band(cfg["std"]))


def weights_of(cfg: Mapping[str, Any]) -> Weights | None:
    """Where the weights of a ``pretrained_cfg`` are, if they are on the hub."""
    if not cfg.get("hf_hub_id"):
        return None
    licence = cfg.get("license") or "unknown"
    return Weights(cfg["hf_hub_id"], cfg.get("hf_hub_filename") or "model.safetensors", _SPDX.get(licence, licence))


BACKBONE = Timm

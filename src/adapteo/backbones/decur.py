"""DeCUR: ResNet-50 for the 13 bands of Sentinel-2, pre-trained to share with radar only what both see.

Self-supervised on SSL4EO-S12 by decoupling common from unique features of two modalities (arXiv 2309.05300, ECCV
2024); this is the encoder of the optical images. arXiv 2504.17397 gives 25,566,440 parameters: that is ResNet-50 for
6 bands with the classifier of 1,000 ImageNet classes, which is never used; without it there are 23,517,440 for 6 bands,
and 23,539,392 for all 13.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from adapteo.backbones._resnet import ResNet50
from adapteo.bands import SENTINEL2_L1C
from adapteo.contracts import Backbone, BackboneSpec, Normalisation, Weights
from adapteo.errors import ConfigError, closest

# The copy that torchgeo keeps of the authors' rn50_ssl4eo-s12_ms_decur_ep100.pth; its name ends on the file's hash.
WEIGHTS = Weights(
    "torchgeo/decur",
    "rn50_ssl4eo-s12_ms_decur_ep100-fc6b09ff.pth",
    "Apache-2.0",
    revision="eba7ae5945d482a4319be046d34b552db5dd9950",
)
TAPS = (1, 2, 3, 4)


class DeCURResNet(ResNet50):
    """The optical encoder of DeCUR; feature maps of strides 4, 8, 16 and 32."""

    model = "DeCUR's ResNet-50"
    weights = WEIGHTS

    @property
    def checkpoint_bands(self) -> tuple[str, ...]:
        """B1 to B12 with B10, as in Level-1C."""
        return SENTINEL2_L1C

    @property
    def normalisation(self) -> Normalisation:
        """Reflectance as it is: the pre-training divided stored values by 10,000 and did nothing else."""
        return Normalisation((0.0,) * len(self.bands), (1.0,) * len(self.bands))


@dataclass(frozen=True)
class DeCUR(BackboneSpec):
    """DeCUR: ResNet-50 for any of the 13 bands of Sentinel-2 on one date, 23.5 M parameters.

    Its last map has stride 32, so that `decoder: linear` has 2 M weights per class there, 8 times as many as with
    `decoder.stride: 16`; on a CPU a head start on them takes minutes (`train.head_start: false` goes without).

    Attributes:
        weights: "pretrained", "random", or a path.
    """

    weights: str = "pretrained"

    def accepts(self, bands: Sequence[str]) -> tuple[str, ...]:
        """Those of the bands that Sentinel-2 has."""
        return tuple(band for band in bands if band in SENTINEL2_L1C)

    def build(self, bands: Sequence[str], frames: int = 1) -> Backbone:
        """Build with random weights.

        Raises:
            ConfigError: no bands, a band that Sentinel-2 does not have or twice, or more than one date.
        """
        unknown = [band for band in bands if band not in SENTINEL2_L1C]
        if unknown:
            raise ConfigError(
                f"DeCUR has no band '{unknown[0]}'{closest(unknown[0], SENTINEL2_L1C)}",
                allowed=SENTINEL2_L1C,
                fix="leave it out of the bands of the backbone",
            )
        if not bands or len(set(bands)) < len(bands):
            raise ConfigError(f"DeCUR needs at least one band, each once, not {list(bands)}", allowed=SENTINEL2_L1C)
        if frames != 1:
            raise ConfigError(f"DeCUR takes 1 date per image, not {frames}", fix="choose one of the dataset's dates")
        return DeCURResNet(bands, TAPS)


BACKBONE = DeCUR

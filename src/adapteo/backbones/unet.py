"""ResNet-50 with random weights: with `decoder: unet` the U-Net that foundation models have to beat.

The baseline of arXiv 2504.17397, ``Unet("resnet50", encoder_weights=None)`` of segmentation_models.pytorch, is this
with ``decoder: {name: unet, channels: [256, 128, 64, 32, 16], norm: batch, head_kernel: 3}``. It is trained from
scratch: there are no pretrained weights, so a linear probe (`method: frozen`) on it means nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from adapteo.backbones._resnet import ResNet50
from adapteo.bands import BY_NAME
from adapteo.contracts import Backbone, BackboneSpec, Normalisation
from adapteo.errors import ConfigError, closest

TAPS = (0, 1, 2, 3, 4)


class UNetEncoder(ResNet50):
    """The encoder; feature maps of strides 2, 4, 8, 16 and 32."""

    model = "the encoder of `backbone: unet`"

    @property
    def normalisation(self) -> Normalisation | None:
        """None: there was no pre-training."""
        return None


@dataclass(frozen=True)
class UNet(BackboneSpec):
    """Baseline without pre-training: ResNet-50 with random weights, for any bands; use it with `decoder: unet`.

    Train all of it (`method: full`). Images are normalised by the statistics of the dataset.

    Attributes:
        weights: "random", or the path of a file that `adapteo merge` wrote; none are published.
    """

    weights: str = "random"

    def __post_init__(self) -> None:
        """Refuse what does not exist.

        Raises:
            ConfigError: pretrained weights are asked for.
        """
        if self.weights == "pretrained":
            raise ConfigError(
                "backbone 'unet' has no pretrained weights: it is the baseline that is trained from scratch",
                allowed=["random", "the path of a file"],
                fix="for a pretrained ResNet-50 say `backbone: decur`, or `name: timm` with `model: resnet50`",
            )

    def accepts(self, bands: Sequence[str]) -> tuple[str, ...]:
        """All of them."""
        return tuple(bands)

    def build(self, bands: Sequence[str], frames: int = 1) -> Backbone:
        """Build with random weights.

        Raises:
            ConfigError: no bands, an unknown one or one twice, or more than one date.
        """
        unknown = [band for band in bands if band not in BY_NAME]
        if unknown:
            raise ConfigError(f"there is no band '{unknown[0]}'{closest(unknown[0], BY_NAME)}", allowed=BY_NAME)
        if not bands or len(set(bands)) < len(bands):
            raise ConfigError(f"unet needs at least one band, each once, not {list(bands)}", fix="see dataset.bands")
        if frames != 1:
            raise ConfigError(f"unet takes 1 date per image, not {frames}", fix="choose one of the dataset's dates")
        return UNetEncoder(bands, TAPS)


BACKBONE = UNet

"""Normalisation, backbone and decoder as one module: physical images in, logits on the label grid out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Backbone, Batch, Decoder, Features, Normalisation


class Model(nn.Module):
    """What is trained, tested and used for maps.

    Args:
        backbone: adapted or plain.
        decoder: built for ``features(backbone)``.
        normalisation: for the backbone's bands.
    """

    def __init__(self, backbone: Backbone, decoder: Decoder, normalisation: Normalisation) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self.normalisation = normalisation

    def forward(self, batch: Batch) -> Tensor:
        """Logits ``(b, outputs, h, w)`` for dense tasks, else ``(b, outputs)``, for images in physical units.

        Images whose sides are no multiples of what the backbone asks for are continued by their edge values to the
        right and below, and the logits cut back.
        """
        height, width = batch.images.shape[-2:]
        logits: Tensor = self.decoder(self.features(batch), self.padded((height, width)))
        return logits[..., :height, :width] if logits.ndim == 4 else logits

    def features(self, batch: Batch) -> list[Tensor]:
        """Feature maps of the backbone for images in physical units."""
        images = pad_to_multiple(self.normalisation(batch.images), self.backbone.multiple)
        maps: list[Tensor] = self.backbone(batch.with_images(images))
        return maps

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width that the backbone sees of images of this size; the grid that the decoder answers on."""
        multiple = self.backbone.multiple
        return -(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple


def features(backbone: Backbone) -> Features:
    """What the decoder is told about a backbone."""
    return Features(backbone.channels, backbone.strides)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Continue ``(b, t, c, h, w)`` by its edge values to the right and below until both sides are multiples."""
    b, t, c, h, w = images.shape
    right, below = -w % multiple, -h % multiple
    if not right and not below:
        return images
    padded = F.pad(images.flatten(0, 1), (0, right, 0, below), mode="replicate")
    return padded.view(b, t, c, h + below, w + right)


def decoder_state(model: Model) -> dict[str, Tensor]:
    """Everything of the decoder, buffers included, on the CPU."""
    return {key: value.detach().to("cpu", copy=True) for key, value in model.decoder.state_dict().items()}


def frozen_in_eval(model: Model) -> None:
    """Training mode, except for what is frozen: frozen BatchNorm must not move and frozen dropout must not drop."""
    model.train()
    for module in model.backbone.modules():
        own = list(module.parameters(recurse=True))
        if own and not any(p.requires_grad for p in own):
            module.eval()


@torch.no_grad()
def predict_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Logits in float32, with the model (or what wraps it) in evaluation mode."""
    model.eval()
    logits: Tensor = model(batch)
    return logits.float()

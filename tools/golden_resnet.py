"""Write the reference outputs of tests/backbones/test_decur.py and test_unet.py, and print how far apart we are.

Run it with a Python that has torchgeo (0.8.1 was used), which takes its ResNet-50 from timm (1.0.31), and
segmentation_models_pytorch (0.6.0); none is needed for the tests:

    python tools/golden_resnet.py            # writes tests/backbones/golden/resnet.safetensors

Both sides get the same weights from a generator (see resnet_cases.py), so that no weights need to be stored.
"""

import os
import sys
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchgeo.models import resnet50

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "backbones")]

from resnet_cases import CLASSES, DECUR, SIZE, UNET, WIDTHS, fill, images, sketch  # noqa: E402

from adapteo.backbones.decur import DeCUR  # noqa: E402
from adapteo.backbones.unet import UNet as Encoder  # noqa: E402
from adapteo.bands import SENTINEL2_L1C  # noqa: E402
from adapteo.contracts import Batch  # noqa: E402
from adapteo.decoders.unet import UNet as Decoder  # noqa: E402
from adapteo.model import features  # noqa: E402


def filled(model: nn.Module) -> tuple[nn.Module, dict[str, Tensor]]:
    state = fill({name: value.shape for name, value in model.state_dict().items()})
    model.load_state_dict(state)
    return model.eval(), state


@torch.no_grad()
def decur(name: str, bands: tuple[str, ...]) -> dict[str, Tensor]:
    """The maps that torchgeo's network gives: all bands, zeros in those that ours does not have."""
    theirs, state = filled(resnet50(in_chans=len(SENTINEL2_L1C), num_classes=0, features_only=True))
    given = images(name, len(bands))
    full = torch.zeros(2, len(SENTINEL2_L1C), *SIZE)
    full[:, [SENTINEL2_L1C.index(band) for band in bands]] = given
    expected = theirs(full)[1:]
    ours = DeCUR().build(bands).eval()
    ours.load_state_dict(ours.remap(state).state)
    report(name, expected, ours(Batch(given.unsqueeze(1))))
    return {f"decur/{name}/{i}": sketch(m) for i, m in enumerate(expected)}


@torch.no_grad()
def unet(name: str, bands: tuple[str, ...]) -> dict[str, Tensor]:
    """Maps of the encoder, and logits of the whole."""
    model = smp.Unet("resnet50", encoder_weights=None, in_channels=len(bands), classes=CLASSES, decoder_channels=WIDTHS)
    theirs, state = filled(model)
    given = images(name, len(bands))
    maps, logits = theirs.encoder(given)[1:], theirs(given)
    ours = Encoder().build(bands).eval()
    ours.load_state_dict(ours.remap({k: v for k, v in state.items() if k.startswith("encoder.")}).state)
    decoder = Decoder(channels=WIDTHS, norm="batch", head_kernel=3).build(features(ours), CLASSES, True).eval()
    decoder.load_state_dict(decoder_state(state))
    found = ours(Batch(given.unsqueeze(1)))
    report(name, [*maps, logits], [*found, decoder(found, SIZE)])
    return {f"unet/{name}/{i}": sketch(m) for i, m in enumerate([*maps, logits])}


def decoder_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys of smp's decoder and head in our decoder's names."""
    renamed = {k.replace("segmentation_head.0.", "head."): v for k, v in state.items() if not k.startswith("encoder.")}
    return {k.removeprefix("decoder."): v for k, v in renamed.items()}


def report(name: str, expected: list[Tensor], found: list[Tensor]) -> None:
    worst = [float((a - b).abs().max()) for a, b in zip(expected, found, strict=True)]
    print(name, [f"{d:.1e} of {float(e.abs().max()):.1f}" for d, e in zip(worst, expected, strict=True)], flush=True)


if __name__ == "__main__":
    tensors: dict[str, Tensor] = {}
    for case, bands in DECUR.items():
        tensors |= decur(case, bands)
    for case, bands in UNET.items():
        tensors |= unet(case, bands)
    folder = ROOT / "tests" / "backbones" / "golden"
    beside = folder / "resnet.tmp"
    save_file({key: value.contiguous() for key, value in tensors.items()}, beside)
    beside.chmod(0o644)
    os.replace(beside, folder / "resnet.safetensors")

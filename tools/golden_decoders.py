"""Write the reference outputs of tests/decoders/test_golden.py, and print how far the peers and we are apart.

Run it with a Python that has TerraTorch (1.2.11 was used) and segmentation_models.pytorch (0.6.0 was used); neither is
a dependency of ours:

    python tools/golden_decoders.py        # writes tests/decoders/golden/decoders.safetensors

Both sides get the same weights and maps from generators (see decoder_cases.py), so that none need to be stored.
"""

import os
import re
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from terratorch.models.decoders.fcn_decoder import FCNDecoder
from terratorch.models.decoders.linear_decoder import LinearDecoder
from terratorch.models.decoders.unet_decoder import UNetDecoder
from terratorch.models.decoders.upernet_decoder import UperNetDecoder
from terratorch.models.heads.segmentation_head import SegmentationHead
from terratorch.models.necks import LearnedInterpolateToPyramidal
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "decoders")]

from decoder_cases import CASES, NECK, Case, digest, fill, layer_norms, sketch  # noqa: E402

from adapteo import registry  # noqa: E402
from adapteo.decoders._pyramid import Pyramid  # noqa: E402

torch.set_float32_matmul_precision("highest")  # one of the imports lowers it, and then CPUs may multiply in bfloat16

OUTPUTS = 3
KEYS = {
    "linear": [(r"decoder\.conv\.", "head.")],
    "fcn": [(r"decoder\.convs\.(\d+)\.2\.ln\.", r"blocks.\1.2."), (r"decoder\.convs\.", "blocks.")],
    "unet": [(r"decoder\.(decoder\.)?blocks\.", "blocks.")],
    "upernet": [
        (r"decoder\.psp_modules\.(\d+)\.1\.conv\.", r"pools.\1.1.0."),
        (r"decoder\.psp_modules\.(\d+)\.1\.norm\.", r"pools.\1.1.1."),
        (r"decoder\.bottleneck\.conv\.", "context.0."),
        (r"decoder\.bottleneck\.norm\.", "context.1."),
        (r"decoder\.lateral_convs\.(\d+)\.conv\.", r"laterals.\1.0."),
        (r"decoder\.lateral_convs\.(\d+)\.norm\.", r"laterals.\1.1."),
        (r"decoder\.fpn_convs\.(\d+)\.conv\.", r"smooth.\1.0."),
        (r"decoder\.fpn_convs\.(\d+)\.norm\.", r"smooth.\1.1."),
        (r"decoder\.fpn_bottleneck\.conv\.", "fusion.0."),
        (r"decoder\.fpn_bottleneck\.norm\.", "fusion.1."),
        (r"decoder\.psp\.blocks\.", "pools."),
        (r"decoder\.psp\.out_conv\.", "context."),
        (r"decoder\.fusion_block\.", "fusion."),
    ],
    "pyramid": [],
}
COMMON = [
    (r"head\.head\.2\.", "head."),
    (r"neck\.fpn1\.", "pyramid.levels.0."),
    (r"neck\.fpn2\.0\.", "pyramid.levels.1."),
]


class Peer(nn.Module):
    """Neck (for plain ViTs), decoder, head and resizing, as TerraTorch's models chain them."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        plain = len(set(case.strides)) == 1 and case.decoder in ("unet", "upernet", "pyramid")
        self.neck = LearnedInterpolateToPyramidal(list(case.channels)) if plain else None
        widths = self.neck.process_channel_list(list(case.channels)) if self.neck else list(case.channels)
        self.smp = case.peer == "smp"
        self.decoder = None if case.decoder == "pyramid" else decoder(case, widths)
        headless = case.decoder in ("linear", "pyramid")
        self.head = nn.Identity() if headless else SegmentationHead(self.decoder.out_channels, OUTPUTS)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor | list[Tensor]:
        """Logits on the label grid, or the levels of a pyramid alone."""
        maps = self.neck(maps) if self.neck else list(maps)
        if self.decoder is None:
            return maps
        if self.smp:  # its first feature is the image, of which only the size is used
            maps = [maps[0].new_empty(len(maps[0]), 3, *size), *maps]
        logits = self.head(self.decoder(maps))
        return F.interpolate(logits, size=size, mode="bilinear") if tuple(logits.shape[2:]) != size else logits


def decoder(case: Case, widths: list[int]) -> nn.Module:
    """The peer's decoder with a case's fields."""
    fields = dict(case.fields)
    if case.decoder == "linear":
        return LinearDecoder(widths, OUTPUTS, fields.get("upsampling", case.strides[-1]))
    if case.decoder == "fcn":
        return FCNDecoder(widths, fields["channels"], fields.get("blocks", 4))
    if case.decoder == "unet" and case.peer == "terratorch":
        return UNetDecoder(widths, list(fields["channels"]))
    if case.decoder == "unet":
        made = UnetDecoder([3, *widths], fields["channels"], len(widths))
        made.out_channels = fields["channels"][-1]
        return made
    if case.peer == "terratorch":
        pools = fields.get("pools", (1, 2, 3, 6))
        return UperNetDecoder(widths, pools, fields["channels"], fields["align_corners"])
    made = UPerNetDecoder([3, *widths], len(widths), fields["channels"])
    made.out_channels = fields["channels"]
    return made


def our_key(case: Case, key: str) -> str | None:
    """The name that a peer's parameter has in our decoder, None when ours has none."""
    if key.startswith("decoder.feature_norms."):
        return None  # weights of 1 and 0; decoder_cases.layer_norms stands for them
    levels = len(case.channels[-4:])
    if found := re.fullmatch(r"decoder\.fpn_(lateral|conv)_blocks\.(\d+)\.(conv_norm_relu\.)?(.+)", key):
        kind = {"lateral": "laterals", "conv": "smooth"}[found[1]]  # coarse to fine there, fine to coarse here
        return f"{kind}.{levels - 2 - int(found[2])}.{found[4]}"
    for pattern, ours in [*KEYS[case.decoder], *COMMON]:
        key, count = re.subn(f"^{pattern}", ours, key)
        if count:
            return key
    raise KeyError(key)


def ours_of(case: Case) -> nn.Module:
    if case.decoder == "pyramid":
        return nn.ModuleDict({"pyramid": Pyramid(case.features, "batch")})
    return registry.load("decoders", case.decoder)(**case.fields).build(case.features, OUTPUTS, True)


@torch.no_grad()
def compare(case: Case) -> dict[str, Tensor]:
    """Both models on the same weights and maps; what the peer gives is kept."""
    theirs, ours = Peer(case), ours_of(case)
    state = fill({name: tuple(value.shape) for name, value in ours.state_dict().items()})
    ours.load_state_dict(state)
    own = theirs.state_dict()
    renamed = {key: our_key(case, key) for key in own}
    assert state.keys() == {name for name in renamed.values() if name}, "each of our keys is one of theirs"
    theirs.load_state_dict({key: own[key] if name is None else state[name] for key, name in renamed.items()})
    theirs.train(case.training)
    ours.train(case.training)
    expected = theirs(case.maps(), case.size)
    if case.decoder == "pyramid":
        levels = zip(ours["pyramid"](case.maps()), expected, strict=True)
        found = [level[:, :, : e.shape[2], : e.shape[3]] for level, e in levels]
    else:
        normed = case.peer == "smp" and case.decoder == "upernet"
        expected, found = [expected], [ours(layer_norms(case.maps()) if normed else case.maps(), case.size)]
    difference = max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True))
    largest = max(float(e.abs().max()) for e in expected)
    print(f"{case.name:100s} difference {difference:.1e} of {largest:.1f}", flush=True)
    kept = {f"{case.name}/{index}": sketch(e) for index, e in enumerate(expected)}
    return {f"{case.name}/maps": digest(case.maps()), **kept}


if __name__ == "__main__":
    torch.manual_seed(0)
    tensors: dict[str, Tensor] = {}
    for one in [*CASES, *NECK]:
        tensors |= compare(one)
    folder = ROOT / "tests" / "decoders" / "golden"
    folder.mkdir(exist_ok=True)
    beside = folder / "decoders.tmp"
    save_file(tensors, beside)
    os.replace(beside, folder / "decoders.safetensors")

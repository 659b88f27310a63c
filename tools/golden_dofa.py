"""Write the reference outputs of tests/backbones/test_dofa.py, and print how far torchgeo and we are apart.

Run it with a Python that has torchgeo and TerraTorch (0.8.1 and 1.2.11 were used; they are no dependencies of ours):

    python tools/golden_dofa.py            # writes tests/backbones/golden/dofa.safetensors

Both models get the same weights from a generator (see wavelength_cases.py), so that no weights need to be stored.
The maps are those of TerraTorch's wrapper around torchgeo's model; torchgeo itself returns the normalised mean of the
last map, which is compared with the mean of ours.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from terratorch.models.backbones.dofa_vit import DOFAEncoderWrapper, resize_pos_embed
from torch import Tensor
from torchgeo.models import dofa_base_patch16_224, dofa_large_patch16_224
from torchgeo.models.dofa import DOFA as Theirs
from torchgeo.models.scale_mae import get_2d_sincos_pos_embed_with_resolution

torch.set_float32_matmul_precision("highest")  # the import of TerraTorch lowers it for the whole process

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "backbones")]

import wavelength_cases as cases  # noqa: E402
from wavelength_cases import Case, batch, digest, fill, sketch  # noqa: E402

from adapteo.backbones.dofa import VARIANTS, DofaViT  # noqa: E402
from adapteo.bands import wavelengths  # noqa: E402

BUILDERS = {"base": dofa_base_patch16_224, "large": dofa_large_patch16_224}
BY_TORCHGEO = ("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias")
# README of github.com/zhu-xlab/DOFA, micrometres (GHz for radar), in the order of the Sentinel-2 bands there.
PUBLISHED = dict(
    zip(
        ("red", "green", "blue", "rededge071", "rededge075", "rededge078", "nir", "swir16", "swir22", "vv", "vh"),
        (0.665, 0.56, 0.49, 0.705, 0.74, 0.783, 0.842, 1.61, 2.19, 5.405, 5.405),
        strict=True,
    )
)


def positions(case: Case, dim: int) -> Tensor:
    """``pos_embed`` of a grid: part of torchgeo's own table for a larger square, or TerraTorch's stretched one."""
    height, width = case.height // 16, case.width // 16

    def square(side: int) -> Tensor:
        one = torch.ones(1, dtype=torch.float64)
        return get_2d_sincos_pos_embed_with_resolution(dim, side, one, cls_token=True).float()

    if case.positions == "interpolated":
        return resize_pos_embed(square(14), (height, width), (14, 14), "bilinear")
    side = max(height, width)
    table = square(side)
    part = table[:, 1:].unflatten(1, (side, side))[:, :height, :width].flatten(1, 2)
    return torch.cat([table[:, :1], part], 1)


def build_theirs(case: Case) -> tuple[Theirs, dict[str, Tensor]]:
    """Model of torchgeo with filled weights, and the file that they would come from."""
    with torch.device("meta"):
        model = BUILDERS[case.variant]()
        if case.depth:
            model.blocks = model.blocks[: case.depth]
        shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    state = fill(shapes) | {"pos_embed": positions(case, VARIANTS[case.variant].dim)}
    model.pos_embed = torch.nn.Parameter(state["pos_embed"], requires_grad=False)
    model.load_state_dict(state, assign=True)
    return model.eval(), {name: value for name, value in state.items() if name not in BY_TORCHGEO}


def build_ours(case: Case, state: dict[str, Tensor]) -> DofaViT:
    """Our encoder, with the same file through `remap`."""
    with torch.device("meta"):
        model = DofaViT(VARIANTS[case.variant], case.bands, positions=case.positions, depth=case.depth)
    if case.height != case.width:
        state = {name: value for name, value in state.items() if name != "pos_embed"}  # no file has oblong positions
    model.load_state_dict(model.remap(state).state, assign=True)
    model.taps = tuple(range(len(model.blocks)))
    return model.eval()


@torch.no_grad()
def compare(case: Case) -> tuple[list[Tensor], float, float]:
    """Maps of theirs, largest difference of ours over all blocks, and largest value."""
    given = batch(case)
    images = given.images[:, 0]
    theirs, state = build_theirs(case)
    waves = [PUBLISHED[band] if band in PUBLISHED else wavelengths([band])[0] for band in case.bands]
    wrapper = DOFAEncoderWrapper(theirs, waves, out_indices=list(range(len(theirs.blocks))))
    grid = (case.height // 16, case.width // 16)
    expected = [tokens[:, 1:].unflatten(1, grid).permute(0, 3, 1, 2) for tokens in wrapper(images)]
    found = build_ours(case, state)(given)
    pooled = theirs.fc_norm(found[-1].mean((2, 3)))
    torch.testing.assert_close(pooled, theirs.forward_features(images, waves), atol=1e-5, rtol=0)
    difference = max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True))
    return expected, difference, max(float(e.abs().max()) for e in expected)


@torch.no_grad()
def difference_in_float64(case: Case) -> float:
    """Largest difference of the maps where nothing is rounded to float32 but torchgeo's codes of the wavelengths."""
    given = batch(case)
    theirs, state = build_theirs(case)
    for layer in theirs.double().modules():
        if isinstance(layer, torch.nn.Linear):  # torchgeo makes the codes in float32
            layer.register_forward_pre_hook(lambda _, inputs: tuple(each.double() for each in inputs))
    waves = [PUBLISHED[band] if band in PUBLISHED else wavelengths([band])[0] for band in case.bands]
    images = given.images.double()
    tokens = DOFAEncoderWrapper(theirs, waves, out_indices=list(range(len(theirs.blocks))))(images[:, 0])
    found = build_ours(case, state).double()(replace(given, images=images))
    grid = (case.height // 16, case.width // 16)
    pairs = zip(tokens, found, strict=True)
    return max(float((a[:, 1:].unflatten(1, grid).permute(0, 3, 1, 2) - b).abs().max()) for a, b in pairs)


def main() -> None:
    tensors: dict[str, Tensor] = {}
    for case in cases.DOFA + cases.DOFA_FULL:
        maps, difference, largest = compare(case)
        images = batch(case).images.double()
        tensors[f"{case.name}/maps"] = torch.stack([sketch(m) for m in maps])
        tensors[f"{case.name}/images"] = torch.stack([images.sum(), images.abs().sum()])
        exact = f", in float64 {difference_in_float64(case):.1e}" if case in cases.DOFA_FULL else ""
        print(f"{case.name:60s} difference {difference:.1e} of {largest:.1f}{exact}", flush=True)
    layouts = {}
    for variant in VARIANTS:
        with torch.device("meta"):
            state = BUILDERS[variant]().state_dict()
        layouts[variant] = digest({k: tuple(v.shape) for k, v in state.items() if k not in BY_TORCHGEO})
        dim = VARIANTS[variant].dim
        tensors[f"{variant}/positions"] = sketch(
            positions(Case(variant, 224, 224), dim)[:, 1:].mT.unflatten(2, (14, 14))
        )
    folder = ROOT / "tests" / "backbones" / "golden"
    beside = folder / "dofa.tmp"
    save_file(tensors, beside, metadata=layouts)
    os.replace(beside, folder / "dofa.safetensors")


if __name__ == "__main__":
    main()

"""Decoders against TerraTorch and segmentation_models.pytorch on the same weights, see tools/golden_decoders.py."""

from pathlib import Path

import pytest
import torch
from decoder_cases import CASES, NECK, Case, digest, fill, layer_norms, sketch
from safetensors.torch import load_file
from torch import nn

from adapteo import registry
from adapteo.decoders._pyramid import Pyramid

GOLDEN = load_file(Path(__file__).parent / "golden" / "decoders.safetensors")


def filled(module: nn.Module) -> nn.Module:
    module.load_state_dict(fill({name: tuple(value.shape) for name, value in module.state_dict().items()}))
    return module


def check(case: Case, index: int, found: torch.Tensor) -> None:
    torch.testing.assert_close(digest(case.maps()), GOLDEN[f"{case.name}/maps"], rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(sketch(found), GOLDEN[f"{case.name}/{index}"], rtol=1e-4, atol=5e-5)


def test_every_decoder_has_a_peer():
    assert {case.decoder for case in CASES} == set(registry.names("decoders"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@torch.no_grad()
def test_a_decoder_computes_what_its_peer_does(case):
    spec = registry.load("decoders", case.decoder)(**case.fields)
    decoder = filled(spec.build(case.features, 3, dense=True)).train(case.training)
    normed = case.peer == "smp" and case.decoder == "upernet"
    check(case, 0, decoder(layer_norms(case.maps()) if normed else case.maps(), case.size))


@pytest.mark.parametrize("case", NECK, ids=lambda case: case.name)
@torch.no_grad()
def test_the_pyramid_is_terratorchs_learned_interpolation(case):
    """Of an odd grid theirs drops the last row and column of the coarsest level, which ours keeps."""
    pyramid = filled(nn.ModuleDict({"pyramid": Pyramid(case.features, "batch")}))["pyramid"].eval()
    levels = pyramid(case.maps())
    assert len(levels) == 4
    for index, level in enumerate(levels):
        height, width = (side * 4 // 16 // 2**index for side in case.size)
        check(case, index, level[:, :, :height, :width])

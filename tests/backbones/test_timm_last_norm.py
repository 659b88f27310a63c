"""`last_norm: false` of timm's ViTs gives the maps of timm's own extraction of features, which TerraTorch takes."""

import pytest
import torch

import timm_here
from adapteo.backbones.timm import Timm
from adapteo.checkpoint import load_base, save_tensors
from adapteo.contracts import Batch
from adapteo.errors import ConfigError

BANDS = ("blue", "green", "red", "nir08")
MODEL = "vit_tiny_patch16_224"


def test_the_last_map_is_timms(tmp_path):
    timm = timm_here.imported()
    torch.manual_seed(0)
    theirs = timm.create_model(MODEL, features_only=True, in_chans=4, out_indices=[2, 5, 8, 11]).eval()
    state = {key.removeprefix("model."): value for key, value in theirs.state_dict().items()}
    save_tensors(state, tmp_path / "vit.safetensors")
    ours = Timm(MODEL, str(tmp_path / "vit.safetensors"), BANDS, last_norm=False).build(BANDS).eval()
    load_base(ours, str(tmp_path / "vit.safetensors"))
    images = torch.randn(1, 4, 224, 224)
    with torch.no_grad():
        expected, found = theirs(images), ours(Batch(images.unsqueeze(1)))
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))
    assert not any(key.startswith("norm.") for key in ours.state_dict())


def test_a_network_of_stages_has_no_such_norm():
    timm_here.imported()
    with pytest.raises(ConfigError, match="means nothing for resnet18"):
        Timm("resnet18", "random", last_norm=False).build(BANDS)

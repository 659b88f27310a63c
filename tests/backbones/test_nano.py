"""nano: shapes, positions, strict loading, and that its packaged weights are what the script says."""

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adapteo.backbones import nano as module
from adapteo.backbones.nano import BACKBONE, NanoViT, position_code, step_code
from adapteo.bands import HLS6
from adapteo.checkpoint import load_base
from adapteo.contracts import Batch
from adapteo.errors import ConfigError, DataError, WeightsError
from adapteo.files import sha256

PACKAGED = Path(module.__file__).parent / "nano.safetensors"
SCRIPT = Path(__file__).parents[2] / "tools" / "pretrain_nano.py"


@pytest.fixture(scope="module")
def pretrained():
    backbone = BACKBONE().build(HLS6)
    load_base(backbone, "pretrained")
    return backbone.eval()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 40), (4, 4)])
def test_maps_have_the_grid_of_the_image(height, width):
    backbone = NanoViT(HLS6)
    maps = backbone(Batch(torch.randn(2, 1, 6, height, width)))
    assert [tuple(m.shape) for m in maps] == [(2, 128, height // 4, width // 4)] * 4
    assert backbone.channels == (128,) * 4
    assert backbone.strides == (4,) * 4
    assert backbone.taps[-1] == len(backbone.blocks) - 1


def test_it_is_small():
    assert 1e6 < sum(p.numel() for p in NanoViT(HLS6).parameters()) < 3e6


@pytest.mark.parametrize(("merge", "channels"), [("concat", 384), ("mean", 128)])
def test_several_dates(merge, channels):
    backbone = BACKBONE(merge=merge).build(HLS6, frames=3)
    images = torch.randn(2, 3, 6, 8, 12)
    last = backbone(Batch(images))[-1]
    assert last.shape == (2, channels, 2, 3)
    assert backbone.channels[-1] == channels
    assert not torch.allclose(last, backbone(Batch(images.flip(1)))[-1]), "the order of the dates matters"


def test_position_code_separates_places():
    code = position_code(5, 7)
    assert code.shape == (35, 128)
    assert torch.cdist(code, code).fill_diagonal_(9).min() > 0.1
    assert torch.equal(position_code(8, 9).view(8, 9, -1)[:5, :7], code.view(5, 7, -1)), "any grid, same code"
    assert torch.equal(step_code(3)[0], torch.zeros(128))
    assert torch.equal(step_code(1), torch.zeros(1, 128))


def test_bands_are_matched_by_name(pretrained):
    state = load_file(PACKAGED)
    some = BACKBONE().build(("swir22", "red"))
    load_base(some, "pretrained")
    torch.testing.assert_close(some.patch_embed.weight, state["patch_embed.weight"].float()[:, [5, 2]])
    assert some.normalisation.mean == (pretrained.normalisation.mean[5], pretrained.normalisation.mean[2])
    images = torch.randn(1, 1, 2, 8, 8)
    padded = torch.zeros(1, 1, 6, 8, 8)
    padded[:, :, [5, 2]] = images
    torch.testing.assert_close(some(Batch(images))[-1], pretrained(Batch(padded))[-1])


def test_remap_and_unmap_are_inverse(pretrained):
    own = pretrained.state_dict()
    upstream = pretrained.unmap(own)
    assert upstream.keys() == own.keys()
    back = pretrained.remap(upstream)
    assert back.skipped == {}
    assert all(torch.equal(back.state[key], value) for key, value in own.items())
    some = NanoViT(("green",))
    again = NanoViT(("green",)).remap(some.unmap(some.state_dict())).state
    assert all(torch.equal(again[key], value) for key, value in some.state_dict().items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("norm.weight"), r"missing \(1\): norm\.weight"),
        (lambda s: s.update({"head.weight": torch.zeros(2)}), r"unknown \(1\): head\.weight"),
        (lambda s: s.update({"norm.weight": torch.zeros(64)}), r"norm\.weight \(64,\) instead of \(128,\)"),
    ],
)
def test_loading_is_strict(pretrained, change, said):
    state = pretrained.unmap(pretrained.state_dict())
    change(state)
    with pytest.raises(WeightsError, match=said):
        pretrained.remap(state)


def test_packaged_weights_are_the_declared_ones(pretrained):
    weights = pretrained.weights
    assert weights.packaged
    assert weights.file == PACKAGED.name
    assert weights.sha256 == sha256(PACKAGED)
    assert PACKAGED.stat().st_size < 5e6
    assert all(p.dtype == torch.float32 for p in pretrained.parameters())


def test_normalisation_fits_the_scenes(pretrained):
    from adapteo.data.scenes import Scenes

    data = Scenes(size=32, train=24)
    images = torch.stack([torch.from_numpy(data.read(key).image) for key in data.split("train")])
    normal = pretrained.normalisation(images)
    assert normal.mean().abs() < 0.5
    assert 0.5 < normal.std() < 1.5


@pytest.mark.parametrize(
    ("bands", "frames", "words"),
    [(("red", "vv"), 1, "no band 'vv'"), ((), 1, "each band once"), (("red", "red"), 1, "each band once"),
     (HLS6, 5, "1 to 4 dates"), (HLS6, 0, "1 to 4 dates")],
)  # fmt: skip
def test_impossible_builds_are_refused(bands, frames, words):
    with pytest.raises(ConfigError, match=words):
        BACKBONE().build(bands, frames)
    with pytest.raises(ConfigError, match="did you mean 'mean'"):
        BACKBONE(merge="meen")


def test_unfit_images_are_refused():
    backbone = NanoViT(HLS6)
    for shape, words in (
        ((1, 1, 6, 8, 10), "patches of 4"),
        ((1, 1, 5, 8, 8), "5 bands"),
        ((1, 2, 6, 8, 8), "2 dates"),
    ):
        with pytest.raises(DataError, match=words):
            backbone(Batch(torch.zeros(shape)))


def test_accepts_keeps_order():
    assert BACKBONE().accepts(("vv", "nir08", "blue", "ndvi")) == ("nir08", "blue")


def test_pretraining_script_repeats_itself(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("pretrain_nano", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for name in ("a", "b"):
        script.main(["--smoke", "--threads", str(torch.get_num_threads()), "--out", str(tmp_path / name)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert "sha256 = " + sha256(tmp_path / "a") in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    NanoViT(HLS6).load_state_dict(NanoViT(HLS6).remap(load_file(tmp_path / "a")).state)

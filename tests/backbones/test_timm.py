"""timm's networks against timm itself, in the same process with the same random weights; and their contract."""

import copy
import sys
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from adapteo import experiment, fitted, registry
from adapteo.assembly import assemble
from adapteo.backbones import _timm_build
from adapteo.backbones._timm_build import create
from adapteo.backbones._timm_kernel import Extended, Subset
from adapteo.backbones.timm import PAPER, PHOTOGRAPH, Timm
from adapteo.bands import HLS6
from adapteo.checkpoint import load_base
from adapteo.contracts import Batch, Normalisation, StageBackbone, TokenBackbone, adapt, merge, moving, trainable_count
from adapteo.decoders.unet import UNet
from adapteo.errors import ConfigError, DataError, WeightsError
from adapteo.model import Model, features, predict_logits
from adapteo.peft.bitfit import BitFit
from adapteo.peft.lora import LoRA
from adapteo.peft.vpt import VPT
from adapteo.vit import PatchConv2d, RoleLinear
from toy import spell

pytestmark = pytest.mark.usefixtures("timm")
ATTENTION_AND_MLP = {"q", "k", "v", "proj", "fc1", "fc2"}

NARROW = {"embed_dim": 48, "depth": 2, "num_heads": 4}
NARROW_SWIN = {"embed_dim": 24, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4)}
VITS = {
    "class token": ("test_vit", {}),
    "averaged, norm of the head": ("test_vit2", {}),
    "registers, attention pooling": ("test_vit3", {}),
    "RMS norm, norm of queries and keys": ("test_vit4", {}),
    "distilled": ("deit_tiny_distilled_patch16_224", NARROW),
    "positions without class token": ("deit3_small_patch16_224", NARROW),
    "registers, layer scale, patch 14": ("vit_small_patch14_reg4_dinov2", {**NARROW, "img_size": 70}),
    "SwiGLU": ("vit_giant_patch14_dinov2", {**NARROW, "img_size": 70}),
    "norm before the blocks": ("vit_base_patch16_clip_224.openai", NARROW),
    "no class token": ("vit_base_patch16_siglip_224.webli", NARROW),
    "norm in the MLP": ("vit_small_patch16_224", {**NARROW, "scale_mlp_norm": True, "scale_attn_norm": True}),
    "attention beside the MLP": ("vit_small_patch16_18x2_224", NARROW),
}
STAGES = {
    "Swin": ("swin_tiny_patch4_window7_224", NARROW_SWIN),
    "Swin V2": ("swinv2_tiny_window8_256", NARROW_SWIN),
    "Swin V2, window of another size": ("swinv2_base_window12to16_192to256", NARROW_SWIN),
    "ConvNeXt": ("test_convnext", {}),
    "ConvNeXt V2": ("test_convnext3", {}),
    "ResNet": ("test_resnet", {}),
    "ResNet with a deep stem": ("resnet14t", {}),
    "ResNet V2, norm at the end": ("resnetv2_18", {}),
    "NHWC, no norm": ("test_mambaout", {}),
    "head among the stages": ("ghostnet_050", {}),
}
WITH_CASES = pytest.mark.parametrize("case", [*VITS, *STAGES])


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Let a test build narrower networks than timm's names say."""
    options = {}
    monkeypatch.setattr(_timm_build, "create", lambda timm, name, **given: create(timm, name, **{**given, **options}))
    return options


def built(narrow, case, bands=PHOTOGRAPH, **fields):
    name, options = {**VITS, **STAGES}[case]
    narrow.clear()
    narrow.update(options)
    torch.manual_seed(0)
    return Timm(**{"model": name, "weights": "random", **fields}).build(bands).eval()


def theirs_with_noise(timm, case, **more):
    """timm's own network for images of any size; norms and biases away from where they start."""
    name, options = {**VITS, **STAGES}[case]
    any_size = {"dynamic_img_size": True} if case in VITS else {"strict_img_size": False} if "Swin" in case else {}
    model = timm.create_model(name, **{**options, **any_size, **more}).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.is_floating_point() and not key.endswith("running_var"):
                value.add_(torch.randn(value.shape, generator=generator) * 0.02)
    return model


def maps_of_theirs(model, images, taps):
    maps = model.forward_intermediates(images, indices=list(taps), norm=False, intermediates_only=True)
    last = model.forward_intermediates(images, indices=[taps[-1]], norm=True, intermediates_only=True)
    return [*maps[:-1], last[-1]]


# ------------------------------------------------------------------------------------------- parity


@WITH_CASES
@pytest.mark.parametrize("patches", [(14, 14), (3, 9)], ids=str)
def test_every_map_equals_timms(timm, narrow, case, patches):
    if case in STAGES:
        patches = (patches[0] % 5 + 1, patches[1] % 5 + 1)  # (5, 5) and (4, 5) times 32 pixels
    theirs, ours = theirs_with_noise(timm, case), built(narrow, case)
    ours.load_state_dict(ours.remap(theirs.state_dict()).state)
    images = torch.randn(2, 3, *(n * ours.multiple for n in patches), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = maps_of_theirs(theirs, images, ours.taps)
        found = ours(Batch(images.unsqueeze(1)))
    assert [m.shape for m in found] == [m.shape for m in expected]
    assert ours.channels == tuple(m.shape[1] for m in found)
    assert ours.strides == tuple(images.shape[2] // m.shape[2] for m in found)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() < 1e-5 * max(1, b.abs().max())


@WITH_CASES
def test_a_checkpoint_goes_through_and_back(timm, narrow, case):
    """What is written, with what was skipped, is what timm loads strictly; every skipped key has its reason."""
    theirs, ours = theirs_with_noise(timm, case), built(narrow, case)
    state = theirs.state_dict()
    taken = ours.remap({f"module.model.{key}": value for key, value in state.items()})
    assert set(taken.skipped.values()) <= {"belongs to the classifier"}
    ours.load_state_dict(taken.state)
    written = ours.unmap(ours.state_dict())
    skipped = {key.removeprefix("module.model.") for key in taken.skipped}
    assert written.keys() | skipped == state.keys()
    assert not written.keys() & skipped
    assert all(torch.equal(value, state[key]) for key, value in written.items())
    again = ours.remap(written)
    assert all(torch.equal(again.state[key], value) for key, value in ours.state_dict().items())


def test_full_size_vit_of_the_paper_equals_timms(timm, narrow):
    """All of ViT-B, with six bands as in the baseline."""
    torch.manual_seed(0)
    theirs = timm.create_model(PAPER, in_chans=6, num_classes=0, dynamic_img_size=True).eval()
    ours = Timm(weights="random", weights_bands=HLS6).build(HLS6).eval()
    ours.load_state_dict(ours.remap(theirs.state_dict()).state)
    images = torch.randn(1, 6, 64, 96)
    with torch.no_grad():
        expected, found = maps_of_theirs(theirs, images, (2, 5, 8, 11)), ours(Batch(images.unsqueeze(1)))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    assert sum(p.numel() for p in ours.parameters()) == 85_798_656 + 3 * 16 * 16 * 768


# --------------------------------------------------------------------------------------------- bands


def test_bands_are_matched_by_name_and_others_get_the_mean(timm, narrow):
    theirs = theirs_with_noise(timm, "class token")
    kernels = theirs.patch_embed.proj.weight.detach()
    red, green, blue = kernels.unbind(1)
    for bands, expected in (
        (("blue", "green", "red"), [blue, green, red]),
        (("green",), [3 * green]),
        (HLS6, [k / 2 for k in (blue, green, red, kernels.mean(1), kernels.mean(1), kernels.mean(1))]),
        (("vv", "vh"), [1.5 * kernels.mean(1)] * 2),
    ):
        ours = built(narrow, "class token", bands)
        taken = ours.remap(theirs.state_dict()).state["patch_embed.proj.weight"]
        torch.testing.assert_close(taken, torch.stack(expected, 1))


@pytest.mark.parametrize("bands", [HLS6, ("vv", "vh")])
@pytest.mark.parametrize("case", ["class token", "Swin", "ConvNeXt", "ResNet"])
def test_a_grey_image_has_the_response_of_pretraining(timm, narrow, case, bands):
    """That is what the scale 3 / bands is for."""
    theirs = theirs_with_noise(timm, case)
    photograph, ours = built(narrow, case), built(narrow, case, bands)
    for backbone in (photograph, ours):
        backbone.load_state_dict(backbone.remap(theirs.state_dict()).state)
    grey = torch.randn(1, 1, 1, 64, 64)
    with torch.no_grad():
        expected = photograph(Batch(grey.expand(-1, -1, 3, -1, -1)))
        found = ours(Batch(grey.expand(-1, -1, len(bands), -1, -1)))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_a_file_with_more_bands_says_so(timm, narrow):
    six = built(narrow, "ResNet", HLS6)
    written = six.unmap(six.state_dict())
    assert written["conv1.0.weight"].shape[1] == 6
    with pytest.raises(WeightsError, match=r"for the bands red, green, blue"):
        six.remap(written)
    other = built(narrow, "ResNet", HLS6[::-1], weights_bands=HLS6)
    other.load_state_dict(other.remap(written).state)
    images = torch.randn(1, 1, 6, 64, 64)
    with torch.no_grad():
        for a, b in zip(six(Batch(images)), other(Batch(images.flip(2))), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_kernels_of_satellite_bands_are_a_subset():
    kernel = Subset("conv1", ("blue", "", "red", "nir"), ("nir", "blue"))
    full = torch.randn(5, 4, 3, 3)
    taken = kernel.take(full)
    assert torch.equal(taken, full[:, [3, 0]])
    given = kernel.give(taken)
    assert torch.equal(given[:, [0, 3]], full[:, [0, 3]])
    assert not given[:, [1, 2]].any()


def test_extended_kernels_come_back_in_the_order_of_the_checkpoint():
    kernel = Extended("conv1", PHOTOGRAPH, ("blue", "green", "red"))
    full = torch.randn(5, 3, 3, 3)
    torch.testing.assert_close(kernel.give(kernel.take(full)), full)


# -------------------------------------------------------------------------------------- normalisation


def test_statistics_are_those_of_photographs(narrow):
    found = Timm("test_vit.r160_in1k").build(("blue", "red", "nir")).normalisation
    assert found.source == "pretraining"
    assert found.mean == pytest.approx((0.5, 0.5, 0.5))
    found = Timm("resnet18").build(("blue", "red", "nir")).normalisation
    assert found.mean == pytest.approx((0.406, 0.485, (0.485 + 0.456 + 0.406) / 3))
    assert found.std == pytest.approx((0.225, 0.229, (0.229 + 0.224 + 0.225) / 3))


def test_random_weights_are_used_with_the_statistics_of_the_dataset(tmp_path, narrow):
    run = spell(tmp_path, "backbone=timm", "backbone.model=test_vit", "backbone.weights=random")
    assert assemble(run).model.normalisation.source == "dataset"


# ---------------------------------------------------------------------------------- roles and methods


@pytest.mark.parametrize("case", [case for case in VITS if case != "SwiGLU"] + ["Swin", "Swin V2"])
def test_every_linear_of_attention_and_mlp_has_its_role(narrow, case):
    ours = built(narrow, case)
    linears = [(name, m) for name, m in ours.blocks.named_modules() if isinstance(m, nn.Linear)]
    bare = [name for name, m in linears if not isinstance(m, RoleLinear)]
    assert {m.role for _, m in linears if isinstance(m, RoleLinear)} == ATTENTION_AND_MLP
    assert all("cpb_mlp" in name or "reduction" in name for name in bare)  # Swin's position bias and way down


def test_the_gate_of_swiglu_has_a_role(narrow):
    """fc1 is the part under the activation, as in `adapteo.vit.GatedMlp`: its zero silences the MLP, bias aside."""
    ours = built(narrow, "SwiGLU")
    mlp = ours.blocks[0].mlp
    x = torch.randn(1, 2, 48)
    fc1, gate = mlp.fc1.fc1(x), mlp.fc1.gate(x)
    torch.testing.assert_close(mlp(x), mlp.fc2(F.silu(fc1) * gate))
    roles = {m.role for m in ours.blocks.modules() if isinstance(m, RoleLinear)}
    assert roles == ATTENTION_AND_MLP | {"gate"}


def test_lora_of_the_paper_counts_14_r_d_per_block(narrow):
    narrow.update(NARROW)
    ours = Timm("vit_base_patch16_224", weights="random").build(HLS6)
    assert trainable_count(adapt(ours, LoRA(preset="paper"))) == 2 * 14 * 16 * 48


@pytest.mark.parametrize("case", ["class token", "SwiGLU", "Swin", "Swin V2", "ConvNeXt"])
def test_lora_merges_into_timms_keys(timm, narrow, case):
    plain = built(narrow, case)
    keys = plain.unmap(plain.state_dict()).keys()
    adapted = adapt(copy.deepcopy(plain), LoRA(rank=2))
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.1)
    batch = Batch(torch.randn(1, 1, 3, 4 * plain.multiple, 4 * plain.multiple))
    with torch.no_grad():
        before = adapted(batch)
        merged = merge(adapted)
        after = merged(batch)
    assert merged.unmap(merged.state_dict()).keys() == keys
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("case", "method", "said"),
    [
        ("ResNet", LoRA(), "lora acts on the linears of attention and MLP, and Stages has none"),
        ("ConvNeXt", LoRA(preset="paper"), "targets 'q', but the blocks of this backbone have no linear for it"),
        ("Swin", VPT(), "vpt acts on the tokens of a plain transformer"),
    ],
)
def test_methods_that_cannot_act_are_refused_with_the_reason(narrow, case, method, said):
    with pytest.raises(ConfigError, match=said):
        adapt(built(narrow, case), method)


def test_bitfit_on_a_convolutional_network_trains_norms(narrow):
    """Convolutions have no biases of their own there; the norms' biases are trained and their statistics saved."""
    ours = adapt(built(narrow, "ResNet"), BitFit())
    names = [name for name, p in ours.named_parameters() if p.requires_grad]
    assert names
    assert all(name.endswith("bias") for name in names)
    assert any(name.endswith("running_mean") for name in moving(ours))


@pytest.mark.parametrize("case", ["Swin", "class token"])
def test_training_is_not_random(narrow, case):
    """timm drops whole blocks of Swin in training unless told otherwise."""
    ours = built(narrow, case).train()
    images = torch.randn(2, 1, 3, 64, 64)
    torch.testing.assert_close(ours(Batch(images)), ours(Batch(images)), atol=0, rtol=0)


@pytest.mark.parametrize("case", ["class token", "Swin", "ConvNeXt"])
def test_patches_are_cut_by_the_convolution_that_bf16_computes_right(narrow, case):
    ours = built(narrow, case)
    cutting = [
        m
        for m in ours.modules()
        if isinstance(m, nn.Conv2d) and m.kernel_size == m.stride != (1, 1) and m.groups == 1 and m.padding == (0, 0)
    ]
    assert cutting
    assert all(isinstance(m, PatchConv2d) for m in cutting)


def test_a_hierarchical_network_feeds_the_unet_decoder(narrow):
    ours = built(narrow, "Swin", ("red", "nir"))
    decoder = UNet(channels=(32, 16, 16, 16)).build(features(ours), 3, True).eval()
    model = Model(ours, decoder, Normalisation((0.1, 0.2), (0.1, 0.1)))
    assert predict_logits(model, Batch(torch.rand(1, 1, 2, 50, 70))).shape == (1, 3, 50, 70)


# ---------------------------------------------------------------------------------- facts and errors


def test_facts(narrow):
    assert registry.load("backbones", "timm") is Timm
    assert Timm().model == PAPER
    narrow.update(NARROW)
    weights = Timm().build(HLS6).weights
    assert weights.repo == "timm/vit_base_patch16_224.augreg_in21k_ft_in1k"
    assert (weights.file, weights.licence) == ("model.safetensors", "Apache-2.0")
    assert Timm("vit_base_patch16_224.mae").build(HLS6).weights.licence == "CC-BY-NC-4.0"
    assert Timm().accepts(("vv", "ndvi", "red")) == ("vv", "ndvi", "red")


def test_kinds(narrow):
    vit, swin = built(narrow, "class token"), built(narrow, "Swin")
    assert isinstance(vit, TokenBackbone)
    assert (vit.patch, vit.dim, vit.taps) == (16, 64, (0, 2, 3, 5))
    assert isinstance(swin, StageBackbone)
    assert (swin.channels, swin.strides, swin.multiple) == ((24, 48, 96, 192), (4, 8, 16, 32), 32)
    resnet = built(narrow, "ResNet")
    assert (len(resnet.blocks), resnet.taps, resnet.reductions) == (5, (1, 2, 3, 4), (2, 4, 8, 16, 32))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Timm("vit_bas_patch16_224").build(HLS6), "did you mean 'vit_base_patch16_224'?"),
        (lambda: Timm("hf-hub:timm/resnet18").build(HLS6), "no model 'hf-hub:timm/resnet18'"),
        (lambda: Timm("resnet18.a1_in21k").build(HLS6), "did you mean 'a1_in1k'?"),
        (lambda: Timm("eva02_tiny_patch14_224").build(HLS6), "turn queries and keys by the place of their patch"),
        (lambda: Timm("beit_base_patch16_224").build(HLS6), "distances in images of one size"),
        (lambda: Timm("vit_relpos_small_patch16_224").build(HLS6), "distances in images of one size"),
        (lambda: Timm("vit_tiny_r_s16_p8_224").build(HLS6), "come out of a convolutional network"),
        (lambda: Timm("test_efficientnet").build(HLS6), "cannot be cut into stages"),
        (lambda: Timm("hiera_tiny_224").build(HLS6), "takes images of one size only"),
        (lambda: Timm("selecsls42").build(HLS6), "cannot be cut into stages"),
        (lambda: Timm("inception_v4").build(HLS6), "does not take images of 64 x 96 pixels"),
        (lambda: Timm("maxvit_nano_rw_256").build(HLS6), "takes images of one size only"),
        (lambda: Timm("tresnet_m").build(HLS6), "not one convolution of the bands"),
        (lambda: Timm("resnet18").build(("red", "infra")), "there is no band 'infra'"),
        (lambda: Timm("resnet18").build(()), "at least one band"),
        (lambda: Timm("resnet18").build(("red", "red")), "each once"),
        (lambda: Timm("resnet18").build(("red",), 2), "1 date per image, not 2"),
        (lambda: Timm(weights_bands=("nir", "red", "green")), "timm's weights are for red, green, blue"),
        (lambda: Timm(weights="a.pth", weights_bands=("nirr",)), "there is no band 'nirr'"),
    ],
)
def test_wrong_configuration_is_refused(narrow, make, said):
    with pytest.raises(ConfigError) as caught:
        make()
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


def test_bands_of_the_weights_may_be_written_as_anywhere():
    assert Timm(weights="a.pth", weights_bands=("B04", "NIR_NARROW")).weights_bands == ("red", "nir08")


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 2, 3, 64, 64), "2 dates and 3 bands; built for 1 date and 3 bands"),
        ((1, 1, 4, 64, 64), "1 dates and 4 bands"),
        ((1, 1, 3, 60, 64), "crop them to 48 x 64, or pad them to 64 x 64"),
    ],
)
def test_images_that_do_not_fit_are_refused(narrow, shape, said):
    with pytest.raises(DataError, match=said):
        built(narrow, "class token")(Batch(torch.zeros(shape)))


def test_without_timm_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"pip install 'adapteo\[timm\]'"):
        Timm().build(HLS6)


def test_a_torchvision_for_another_pytorch_is_named(monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "timm":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "timm")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ConfigError, match="does not fit PyTorch"):
        Timm().build(HLS6)


# -------------------------------------------------------------------------------- weights, whole runs


@cache
def hub_file(folder):
    """A file as timm has them on the hub, with the classifier and what old files kept."""
    import timm

    torch.manual_seed(4)
    state = timm.create_model("test_vit", num_classes=10).state_dict()
    path = folder / "model.safetensors"
    save_file({**state, "mask_token": torch.zeros(1, 1, 64)}, path)
    return path, state


def test_pretrained_weights_come_from_the_hub_and_each_key_is_accounted_for(tmp_path, monkeypatch):
    path, state = hub_file(tmp_path)
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repo, file, revision: asked.append(repo) or path)
    backbone = Timm("test_vit.r160_in1k").build(("blue", "green", "red"))
    base = load_base(backbone, "pretrained")
    assert asked == ["timm/test_vit.r160_in1k"]
    assert torch.equal(backbone.patch_embed.proj.weight, state["patch_embed.proj.weight"].flip(1))
    assert torch.equal(backbone.blocks[1].attn.qkv.k.bias, state["blocks.1.attn.qkv.bias"][64:128])
    assert dict(base.skipped) == {
        "head.weight": "belongs to the classifier",
        "head.bias": "belongs to the classifier",
        "mask_token": "stood for hidden patches in pre-training",
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("blocks.0.attn.qkv.weight"), "missing (1): blocks.0.attn.qkv.weight"),
        (lambda s: s.update({"blocks.9.x": torch.zeros(1)}), "unknown (1): blocks.9.x"),
        (lambda s: s.update({"pos_embed": torch.zeros(1, 5, 64)}), "pos_embed (1, 5, 64) instead of (1, 101, 64)"),
    ],
)
def test_every_key_is_accounted_for(timm, narrow, change, said):
    state = dict(theirs_with_noise(timm, "class token").state_dict())
    change(state)
    with pytest.raises(WeightsError) as caught:
        built(narrow, "class token").remap(state)
    assert said in str(caught.value)
    assert "timm's test_vit" in str(caught.value)


def test_files_without_counters_of_batches_are_taken(timm, narrow):
    theirs, ours = theirs_with_noise(timm, "ResNet"), built(narrow, "ResNet")
    state = {key: value for key, value in theirs.state_dict().items() if "num_batches" not in key}
    assert ours.remap(state).state.keys() == ours.state_dict().keys()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_trains_loads_and_merges_into_timms_file(tmp_path, timm, method):
    path, state = hub_file(tmp_path)
    keys = [f"method={method}", "backbone=timm", "backbone.model=test_vit", f"backbone.weights={path}"]
    trained = experiment.fit(spell(tmp_path / "run", *keys, "train.epochs=1", "train.head_start=false", side=32))
    loaded = fitted.load(tmp_path / "run")
    given = Batch(torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    logits = predict_logits(loaded.model, given)
    assert torch.equal(logits, predict_logits(trained.model, given))
    merged = load_file(loaded.merge(tmp_path / "merged.safetensors"))
    assert merged.keys() == {*state, "mask_token"}
    theirs = timm.create_model("test_vit", num_classes=10)
    theirs.load_state_dict({key: value for key, value in merged.items() if key != "mask_token"})
    plain = Timm("test_vit", weights=str(tmp_path / "merged.safetensors")).build(("blue", "green", "red"))
    load_base(plain, str(tmp_path / "merged.safetensors"))
    again = predict_logits(Model(plain, loaded.model.decoder, loaded.model.normalisation), given)
    torch.testing.assert_close(again, logits, atol=1e-4, rtol=1e-4)

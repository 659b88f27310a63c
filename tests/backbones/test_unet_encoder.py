"""`backbone: unet` against stored outputs of segmentation_models.pytorch 0.6.0 (written by tools/golden_resnet.py)."""

from pathlib import Path

import pytest
import torch
from resnet_cases import CLASSES, SIZE, UNET, WIDTHS, fill, images, sketch
from safetensors.torch import load_file
from torch import nn

from adapteo import experiment, fitted, registry
from adapteo.assembly import assemble
from adapteo.backbones.unet import TAPS, UNet, UNetEncoder
from adapteo.bands import HLS6
from adapteo.contracts import Batch
from adapteo.decoders.unet import UNet as Decoder
from adapteo.errors import ConfigError, WeightsError
from adapteo.model import Model, features, predict_logits
from toy import spell

GOLDEN = Path(__file__).parent / "golden" / "resnet.safetensors"


def small(bands=HLS6):
    torch.manual_seed(0)
    return UNetEncoder(bands, TAPS, depths=(1, 1, 1, 1))


def smp_weights(encoder, decoder):
    """Weights for both by the keys of smp's Unet, where the head's are called ``segmentation_head.0``."""
    encoders = {f"encoder.{k}": tuple(v.shape) for k, v in encoder.unmap(encoder.state_dict()).items()}
    decoders = {smp_name(k): tuple(v.shape) for k, v in decoder.state_dict().items()}
    return fill(encoders), fill(decoders)


def smp_name(key):
    return key.replace("head.", "segmentation_head.0.") if key.startswith("head.") else f"decoder.{key}"


@pytest.mark.parametrize("name", UNET)
def test_encoder_and_whole_unet_equal_smp(name):
    bands = UNET[name]
    encoder = UNet().build(bands).eval()
    decoder = Decoder(channels=WIDTHS, norm="batch", head_kernel=3).build(features(encoder), CLASSES, True).eval()
    for_encoder, for_decoder = smp_weights(encoder, decoder)
    encoder.load_state_dict(encoder.remap(for_encoder).state)
    decoder.load_state_dict({key: for_decoder[smp_name(key)] for key in decoder.state_dict()})
    with torch.no_grad():
        maps = encoder(Batch(images(name, len(bands)).unsqueeze(1)))
        logits = decoder(maps, SIZE)
    assert [tuple(m.shape[2:]) for m in maps] == [(64 // s, 96 // s) for s in (2, 4, 8, 16, 32)]
    stored = load_file(GOLDEN)
    for i, found in enumerate([*maps, logits]):
        assert (sketch(found) - stored[f"unet/{name}/{i}"]).abs().max() < 1e-5


def test_facts():
    assert registry.load("backbones", "unet") is UNet
    with torch.device("meta"):
        encoder = UNetEncoder(HLS6, TAPS)
    assert (encoder.channels, encoder.strides) == ((64, 256, 512, 1024, 2048), (2, 4, 8, 16, 32))
    assert sum(p.numel() for p in encoder.parameters()) == 23_517_440
    assert encoder.weights is None
    assert encoder.normalisation is None


def test_weights_are_drawn_as_he_et_al_do():
    """Each convolution keeps the variance of gradients; norms start as identities."""
    torch.manual_seed(3)
    encoder = UNet().build(HLS6)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.05)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()


def test_every_run_draws_its_own_weights(tmp_path):
    """The seed of the run decides, so a baseline has a spread over seeds."""
    first, again, other = (
        assemble(spell(tmp_path, "backbone=unet", f"train.seed={seed}")).model.backbone.blocks[0].conv1.weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_images_are_normalised_by_the_statistics_of_the_dataset(tmp_path):
    """There was no pre-training whose statistics could be used."""
    run = spell(tmp_path, "backbone=unet")
    assert run.train.normalise == "pretraining"
    found = assemble(run).model.normalisation
    asked = assemble(spell(tmp_path, "backbone=unet", "train.normalise=dataset")).model.normalisation
    assert found == asked
    assert found.source == "dataset"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: UNet(weights="pretrained"), "no pretrained weights"),
        (lambda: UNet().build(("red", "infra")), "there is no band 'infra'"),
        (lambda: UNet().build(()), "at least one band"),
        (lambda: UNet().build(("red", "red")), "each once"),
        (lambda: UNet().build(("red",), 3), "1 date per image, not 3"),
    ],
)
def test_wrong_configuration_is_refused(make, said):
    with pytest.raises(ConfigError) as caught:
        make()
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


def test_it_accepts_any_bands():
    assert UNet().accepts(("vv", "ndvi", "red")) == ("vv", "ndvi", "red")


def test_a_checkpoint_has_the_bands_of_its_backbone():
    backbone = small(("vv", "vh"))
    state = backbone.state_dict()
    again = backbone.remap(backbone.unmap(state)).state
    assert all(torch.equal(again[key], state[key]) for key in state)
    with pytest.raises(WeightsError, match=r"conv1.weight \(64, 2, 7, 7\) instead of \(64, 6, 7, 7\)"):
        small().remap(backbone.unmap(state))


def test_the_baseline_trains_and_merges(tmp_path, monkeypatch):
    monkeypatch.setattr(UNetEncoder.__init__, "__defaults__", ((1, 1, 1, 1),))
    keys = ("method=full", "backbone=unet", "decoder=unet", "decoder.channels=[16,16,16,16,16]")
    run = spell(tmp_path / "run", *keys, "train.epochs=1", "train.head_start=false", side=64, counts=(4, 2, 2, 1))
    trained = experiment.fit(run)
    given = Batch(torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    logits = predict_logits(trained.model, given)
    assert logits.shape == (2, 3, 64, 64)
    loaded = fitted.load(tmp_path / "run")
    assert torch.equal(predict_logits(loaded.model, given), logits)
    merged = loaded.merge(tmp_path / "merged.safetensors")
    plain = UNet(weights=str(merged)).build(("blue", "green", "red"))
    plain.load_state_dict(plain.remap(load_file(merged)).state)
    assert torch.equal(predict_logits(Model(plain, loaded.model.decoder, loaded.model.normalisation), given), logits)

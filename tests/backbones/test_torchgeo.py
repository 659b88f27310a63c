"""torchgeo's networks and what is read out of its records; parity where torchgeo is installed.

torchgeo is too heavy for the development environment. There, its networks that are timm's are tested with records
that are written as torchgeo 0.8.1 writes them.
"""

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from adapteo import registry
from adapteo.backbones import torchgeo
from adapteo.backbones.torchgeo import TorchGeo, bands_of, normalisation, weights_of
from adapteo.bands import HLS6, SENTINEL2_L1C
from adapteo.checkpoint import load_base
from adapteo.contracts import Batch, StageBackbone, TokenBackbone, adapt, trainable_count
from adapteo.errors import ConfigError, WeightsError
from adapteo.peft.lora import LoRA
from adapteo.vit import RoleLinear

pytestmark = pytest.mark.usefixtures("timm")
INSTALLED = importlib.util.find_spec("torchgeo") is not None
with_torchgeo = pytest.mark.skipif(not INSTALLED, reason="torchgeo is not installed")

S2 = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8a", "B9", "B10", "B11", "B12"]
MEAN = [1612.9, 1397.6, 1322.3, 1373.1, 1561.0, 2108.4, 2390.7, 2318.7, 2581.0, 837.7, 22.0, 2195.2, 1537.4]
SATLAS = ("B04", "B03", "B02", "B05", "B06", "B07", "B08", "B11", "B12")
OLI = [f"B{i}" for i in range(1, 12)]


class Normalize(nn.Module):
    """Stands for torchvision's transform of this name."""

    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = mean, std


def record(bands, *transforms, **meta):
    address = "https://example.org/owner/name/resolve/0123abc/file-59bfdff9.pth"
    meta = {"bands": bands, "in_chans": len(bands), **meta} if bands else meta
    return SimpleNamespace(url=address, transforms=nn.Sequential(*transforms), meta=meta)


RECORDS = {
    "SENTINEL2_ALL_MOCO": record(S2, nn.Identity(), Normalize([0], [10000])),
    "SENTINEL2_ALL_SOFTCON": record(S2, Normalize(MEAN, [m / 2 for m in MEAN]), img_size=224),
    "SENTINEL2_RGB_MOCO": record(["B4", "B3", "B2"], Normalize([0], [10000])),
    "SENTINEL2_RGB_SECO": record(["B4", "B3", "B2"], Normalize([3, 2, 0], [85, 101, 129]), Normalize([0], [0.004])),
    "SENTINEL2_ALL_NDVI_SECO_ECO": record(["B2", "B3", "NDVI"], Normalize([0.0], [10000.0])),
    "SENTINEL2_SI_MS_SATLAS": record(SATLAS, Normalize([0] * 9, [255] * 3 + [8160] * 6)),
    "SENTINEL1_GRD_MAE": record(["VV", "VH"], Normalize([-12.59, -20.26], [5.26, 5.91])),
    "SENTINEL1_GRD_CLOSP": record(["VV", "VH"]),
    "SENTINEL1_SI_SATLAS": record(("VH", "VV"), Normalize([0], [255])),
    "LANDSAT_ETM_TOA_MOCO": record(
        ["B1", "B2", "B3", "B4", "B5", "B6_VCID_1", "B6_VCID_2", "B7", "B8"], Normalize([0], [255])
    ),
    "LANDSAT_ETM_SR_MOCO": record(["SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B7"], Normalize([0], [255])),
    "LANDSAT_OLI_SR_MOCO": record([f"SR_B{i}" for i in range(1, 8)], Normalize([0], [255])),
    "LANDSAT_OLI_TIRS_TOA_MOCO": record(OLI, Normalize([0], [255])),
    "LANDSAT_SI_SATLAS": record(tuple(f"B{i:02}" for i in range(1, 12)), Normalize([4000], [16320])),
    "NAIP_RGB_SI_SATLAS": record(("R", "G", "B"), Normalize([0], [255])),
    "FMOW_RGB_GASSL": record(None, Normalize([0], [255]), in_chans=3),
    "HIDDEN": record(None, in_chans=4),
}


@pytest.fixture
def records(monkeypatch):
    """torchgeo's records without torchgeo."""
    enum = SimpleNamespace(__members__=RECORDS)
    older = [model for model in torchgeo._TIMM + torchgeo._TORCHVISION if model != "swin_s"]
    fake = SimpleNamespace(list_models=lambda: older, get_model_weights=lambda model: enum)
    monkeypatch.setattr(torchgeo, "_imported", lambda: fake)


# --------------------------------------------------------------------------------- what records say


@pytest.mark.parametrize(
    ("name", "bands"),
    [
        ("SENTINEL2_ALL_MOCO", SENTINEL2_L1C),
        ("SENTINEL2_RGB_MOCO", ("red", "green", "blue")),
        ("SENTINEL2_ALL_NDVI_SECO_ECO", ("blue", "green", "ndvi")),
        (
            "SENTINEL2_SI_MS_SATLAS",
            ("red", "green", "blue", "rededge071", "rededge075", "rededge078", "nir", "swir16", "swir22"),
        ),
        ("SENTINEL1_SI_SATLAS", ("vh", "vv")),
        ("LANDSAT_ETM_TOA_MOCO", ("blue", "green", "red", "nir08", "swir16", "", "", "swir22", "pan")),
        ("LANDSAT_ETM_SR_MOCO", ("blue", "green", "red", "nir08", "swir16", "swir22")),
        ("LANDSAT_OLI_SR_MOCO", ("coastal", "blue", "green", "red", "nir08", "swir16", "swir22")),
        (
            "LANDSAT_OLI_TIRS_TOA_MOCO",
            (*("coastal", "blue", "green", "red", "nir08", "swir16", "swir22"), "pan", "cirrus", "lwir11", "lwir12"),
        ),
        ("NAIP_RGB_SI_SATLAS", ("red", "green", "blue")),
        ("FMOW_RGB_GASSL", ("red", "green", "blue")),
    ],
)
def test_bands_are_read_with_their_sensor(name, bands):
    assert bands_of(name, RECORDS[name]) == bands


def test_the_bands_of_both_landsat_records_are_the_same():
    satlas, ssl4eo = (bands_of(n, RECORDS[n]) for n in ("LANDSAT_SI_SATLAS", "LANDSAT_OLI_TIRS_TOA_MOCO"))
    assert satlas == ssl4eo


@pytest.mark.parametrize(
    ("name", "bands", "mean", "std"),
    [
        ("SENTINEL2_ALL_MOCO", ("red", "swir22"), (0, 0), (1, 1)),
        ("SENTINEL2_ALL_SOFTCON", ("swir22", "coastal"), (0.15374, 0.16129), (0.07687, 0.080645)),
        ("SENTINEL1_GRD_MAE", ("vh", "vv"), (-20.26, -12.59), (5.91, 5.26)),
    ],
)
def test_statistics_are_brought_to_physical_units(name, bands, mean, std):
    found = normalisation(name, RECORDS[name].transforms, bands_of(name, RECORDS[name]), bands)
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(std)


@pytest.mark.parametrize(
    "name",
    [n for n in RECORDS if any(part in n for part in ("SECO", "SATLAS", "CLOSP", "LANDSAT", "FMOW", "NAIP"))],
)
def test_statistics_of_stretched_images_are_not_taken(name):
    """They would be applied to reflectance, which they are not for."""
    bands = bands_of(name, RECORDS[name])
    assert normalisation(name, RECORDS[name].transforms, bands, [band for band in bands if band]) is None


def test_addresses_become_places_on_the_hub():
    found = weights_of("https://example.org/torchgeo/decur/resolve/9328eeb/rn50.pth")
    assert (found.repo, found.revision, found.file) == ("torchgeo/decur", "9328eeb", "rn50.pth")
    assert weights_of("https://example.org/rn50.pth") is None


# ------------------------------------------------------------------------------------------ networks


@pytest.mark.parametrize("bands", [SENTINEL2_L1C, ("swir22", "red")])
def test_resnets_see_the_bands_they_were_trained_with(timm, records, bands):
    torch.manual_seed(0)
    theirs = timm.create_model("resnet18", in_chans=13).eval()
    spec = TorchGeo("resnet18", "SENTINEL2_ALL_MOCO")
    ours = spec.build(bands).eval()
    taken = ours.remap(theirs.state_dict())
    ours.load_state_dict(taken.state)
    assert set(taken.skipped) == {"fc.weight", "fc.bias"}
    images = torch.randn(1, len(bands), 64, 96)
    full = torch.zeros(1, 13, 64, 96)
    full[:, [SENTINEL2_L1C.index(band) for band in bands]] = images
    with torch.no_grad():
        expected = theirs.forward_intermediates(full, intermediates_only=True)[1:]
        found = ours(Batch(images.unsqueeze(1)))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert ours.unmap(ours.state_dict())["conv1.weight"].shape[1] == 13
    assert isinstance(ours, StageBackbone)
    assert ours.normalisation.std == (1.0,) * len(bands)
    assert ours.weights.repo == "owner/name"


def test_vits_are_built_for_the_size_of_their_weights(timm, records):
    ours = TorchGeo("vit_small_patch14_dinov2", "SENTINEL2_ALL_SOFTCON").build(HLS6)
    assert isinstance(ours, TokenBackbone)
    assert ours.pos_embed.shape[1] == 1 + 16 * 16
    theirs = timm.create_model("vit_small_patch14_dinov2", in_chans=13, img_size=224)
    ours.load_state_dict(ours.remap(theirs.state_dict()).state)
    assert trainable_count(adapt(ours, LoRA(preset="paper"))) == 12 * 14 * 16 * 384


def test_encoders_may_lack_the_last_norm(timm, records):
    """As torchgeo allows; it stays the identity that it is at the start."""
    state = timm.create_model("vit_small_patch16_224", in_chans=2, num_classes=0).state_dict()
    ours = TorchGeo("vit_small_patch16_224", "SENTINEL1_GRD_MAE").build(("vv", "vh"))
    taken = ours.remap({key: value for key, value in state.items() if not key.startswith("norm.")})
    assert taken.state["norm.weight"].eq(1).all()
    assert taken.state["norm.bias"].eq(0).all()
    with pytest.raises(WeightsError, match=r"missing \(1\): blocks.3.norm1.bias"):
        ours.remap({key: value for key, value in state.items() if key != "blocks.3.norm1.bias"})


def test_pretrained_weights_come_from_the_hub_at_their_revision(tmp_path, monkeypatch, timm, records):
    state = timm.create_model("resnet18", in_chans=3, num_classes=0).state_dict()
    path = tmp_path / "file.safetensors"
    save_file(state, path)
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *args, **more: asked.append((*args, more)) or path)
    backbone = TorchGeo("resnet18", "SENTINEL2_RGB_MOCO").build(("blue", "red"))
    load_base(backbone, "pretrained")
    assert asked == [("owner/name", "file-59bfdff9.pth", {"revision": "0123abc"})]
    assert torch.equal(backbone.blocks[0].conv1.weight, state["conv1.weight"][:, [2, 0]])


def test_it_accepts_the_bands_of_its_weights(records):
    assert registry.load("backbones", "torchgeo") is TorchGeo
    assert TorchGeo().accepts(("vv", "red", "pan", "cirrus")) == ("red", "cirrus")
    assert TorchGeo("resnet18", "LANDSAT_ETM_TOA_MOCO").accepts(("lwir11", "pan", "nir08")) == ("pan", "nir08")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TorchGeo("resnet5"), "no model 'resnet5'; did you mean 'resnet50'?"),
        (lambda: TorchGeo("dofa_base_patch16_224"), "write `name: dofa`"),
        (lambda: TorchGeo("croma_base"), "two inputs of one size"),
        (lambda: TorchGeo("panopticon_vitb14"), "wavelengths"),
        (lambda: TorchGeo("scalemae_large_patch16"), "ground sample distance"),
        (lambda: TorchGeo("copernicusfm_base"), "wavelengths"),
        (
            lambda: TorchGeo("swin_s", "CITYSCAPES_SEMSEG").build(HLS6),
            "the installed torchgeo has no model 'swin_s' yet",
        ),
        (lambda: TorchGeo("swin_b"), "only while it downloads them"),
        (lambda: TorchGeo(weights_entry="SENTINEL2_ALL_MOC").build(HLS6), "did you mean 'SENTINEL2_ALL_MOCO'?"),
        (lambda: TorchGeo(weights_entry="HIDDEN").build(HLS6), "does not say which 4 bands"),
        (lambda: TorchGeo().build(("vv",)), "SENTINEL2_ALL_MOCO has no band 'vv'"),
        (lambda: TorchGeo("resnet18", "LANDSAT_ETM_TOA_MOCO").build(("",)), "no band ''"),
        (lambda: TorchGeo().build(()), "at least one band"),
        (lambda: TorchGeo().build(("red", "red")), "each once"),
        (lambda: TorchGeo().build(("red",), 2), "1 date per image, not 2"),
    ],
)
def test_wrong_configuration_is_refused(records, make, said):
    with pytest.raises(ConfigError) as caught:
        make()
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


def test_without_torchgeo_the_message_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchgeo"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchgeo", None)
    with pytest.raises(ConfigError, match=r"pip install 'adapteo\[torchgeo\]'"):
        TorchGeo().build(HLS6)


# ----------------------------------------------------------------------------- with torchgeo itself


@pytest.fixture(scope="module")
def theirs():
    pytest.importorskip("torchgeo", reason="torchgeo is not installed")
    return importlib.import_module("torchgeo.models")


@with_torchgeo
def test_every_weight_of_a_supported_model_has_bands(theirs):
    """All records of the installed torchgeo: known bands, a place on the hub, sane statistics or none."""
    count = 0
    for model in set(torchgeo._TIMM + torchgeo._TORCHVISION) & set(theirs.list_models()):
        for name, entry in theirs.get_model_weights(model).__members__.items():
            bands = bands_of(name, entry)
            named = [band for band in bands if band]
            assert len(bands) == entry.meta["in_chans"]
            assert len(set(named)) == len(named)
            assert weights_of(entry.url) is not None
            found = normalisation(name, entry.transforms, bands, named)
            if found is not None and name.startswith("SENTINEL2"):
                assert all(0 <= mean < 0.5 and 0 < std <= 1 for mean, std in zip(found.mean, found.std, strict=True))
            count += 1
    assert count > 30


@with_torchgeo
@pytest.mark.parametrize(
    ("model", "entry", "bands"),
    [
        ("resnet50", "SENTINEL2_ALL_DECUR", SENTINEL2_L1C),
        ("resnet18", "LANDSAT_OLI_SR_MOCO", ("swir22", "red")),
        ("vit_small_patch16_224", "SENTINEL1_GRD_MAE", ("vv", "vh")),
        ("vit_small_patch14_dinov2", "SENTINEL2_ALL_SOFTCON", HLS6),
        ("swin_v2_t", "SENTINEL2_SI_MS_SATLAS", ("red", "nir", "swir22")),
        ("swin_t", "CITYSCAPES_SEMSEG", ("red", "green", "blue")),
    ],
)
def test_every_map_equals_torchgeos(theirs, model, entry, bands):
    known = bands_of(entry, theirs.get_model_weights(model)[entry])
    ours = TorchGeo(model, entry).build(bands).eval()
    network = built_by_torchgeo(theirs, model, entry, len(known))
    ours.load_state_dict(ours.remap(network.state_dict()).state)
    images = torch.randn(1, len(bands), 4 * ours.multiple, 3 * ours.multiple)
    full = torch.zeros(1, len(known), *images.shape[2:])
    full[:, [known.index(band) for band in bands]] = images
    with torch.no_grad():
        expected, found = maps_of_theirs(network, full, ours), ours(Batch(images.unsqueeze(1)))
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() < 1e-5 * max(1, b.abs().max())


def built_by_torchgeo(theirs, model, entry, channels):
    """torchgeo's own network, norms and biases away from where they start."""
    torch.manual_seed(0)
    meta = theirs.get_model_weights(model)[entry].meta
    if model.startswith("swin"):
        network = theirs.get_model(model)
        network.features[0][0] = nn.Conv2d(channels, network.features[0][0].out_channels, 4, 4)
    elif model.startswith("vit"):
        size = {"img_size": meta["img_size"]} if "img_size" in meta else {}
        network = theirs.get_model(model, in_chans=channels, dynamic_img_size=True, **size)
    else:
        network = theirs.get_model(model, in_chans=channels)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return network.eval()


def maps_of_theirs(network, images, ours):
    if isinstance(ours, TokenBackbone):
        maps = network.forward_intermediates(images, indices=list(ours.taps), intermediates_only=True)
        last = network.forward_intermediates(images, indices=[ours.taps[-1]], norm=True, intermediates_only=True)
        return [*maps[:-1], *last]
    if "features" not in dict(network.named_children()):
        return network.forward_intermediates(images, intermediates_only=True)[-4:]
    maps, x = [], images
    for index, layer in enumerate(network.features):
        x = layer(x)
        maps += [x.permute(0, 3, 1, 2)] if index % 2 else []
    return [*maps[:-1], network.norm(x).permute(0, 3, 1, 2)]


@with_torchgeo
def test_lora_acts_on_the_mlps_of_torchvisions_swin(theirs):
    ours = TorchGeo("swin_v2_t", "SENTINEL2_SI_MS_SATLAS").build(("red", "nir"))
    assert {m.role for m in ours.blocks.modules() if isinstance(m, RoleLinear)} == {"fc1", "fc2"}
    adapt(ours, LoRA(rank=2))
    ours.train()
    images = torch.randn(1, 1, 2, 64, 64)
    torch.testing.assert_close(ours(Batch(images)), ours(Batch(images)), atol=0, rtol=0)  # no blocks are dropped
    with pytest.raises(ConfigError, match="targets 'q'"):
        adapt(TorchGeo("swin_v2_t", "SENTINEL2_SI_MS_SATLAS").build(("red", "nir")), LoRA(preset="paper"))

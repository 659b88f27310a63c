"""DOFA against stored outputs of torchgeo 0.8.1 (written by tools/golden_dofa.py), and its contract."""

import math
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from wavelength_cases import DOFA, DOFA_FULL, TEN, Case, batch, digest, sketch, weight

from adapteo.backbones.dofa import POSITIONS, VARIANTS, Dofa, DofaViT, Variant, position_code, wavelength_code
from adapteo.bands import HLS6, SENTINEL2_L2A
from adapteo.checkpoint import load_base
from adapteo.contracts import Batch, Weights, adapt, default_taps, trainable
from adapteo.errors import ConfigError, WeightsError
from adapteo.peft.bitfit import BitFit
from adapteo.peft.lora import LoRA
from adapteo.registry import load, names

GOLDEN = Path(__file__).parent / "golden" / "dofa.safetensors"
SMALL = Variant("small", 64, 2, 4, Weights("nobody/nothing", "none.pth", "MIT"))
CPU = torch.device("cpu")


def build(bands=TEN, **options):
    """A narrow one with large biases, so that every part matters."""
    torch.manual_seed(0)
    backbone = DofaViT(SMALL, bands, **options)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return backbone


def on_meta(variant="base", bands=TEN):
    with torch.device("meta"):
        return Dofa(variant).build(bands)


def upstream(backbone, prefix=""):
    return {prefix + key: value for key, value in backbone.unmap(backbone.state_dict()).items()}


kept_weight = cache(weight)
"""The same key and shape has the same weights in every case; made once for the small ones."""


def filled(case: Case) -> DofaViT:
    """The case's backbone with the weights that torchgeo had, through `remap`, and every block tapped."""
    with torch.device("meta"):
        backbone = DofaViT(VARIANTS[case.variant], case.bands, positions=case.positions, depth=case.depth)
    make = kept_weight if case in DOFA else weight
    shapes = {key: tuple(value.shape) for key, value in upstream(backbone).items() if key != "pos_embed"}
    state = {key: make(key, shape) for key, shape in shapes.items()}
    backbone.load_state_dict(backbone.remap(state).state, assign=True)
    backbone.taps = tuple(range(len(backbone.blocks)))
    return backbone.eval()


@cache
def golden():
    with safe_open(GOLDEN, "pt") as opened:
        return {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata()  # noqa: SIM118


def assert_equals_torchgeo(case: Case, tolerance: float) -> None:
    stored, _ = golden()
    given = batch(case)
    images = given.images.double()
    torch.testing.assert_close(torch.stack([images.sum(), images.abs().sum()]), stored[f"{case.name}/images"])
    with torch.no_grad():
        maps = filled(case)(given)
    found = torch.stack([sketch(m) for m in maps])
    assert (found - stored[f"{case.name}/maps"]).abs().max() < tolerance


# ------------------------------------------------------------------------------------------ parity


@pytest.mark.parametrize("case", DOFA, ids=lambda case: case.name)
def test_every_tap_equals_torchgeo(case):
    assert_equals_torchgeo(case, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", DOFA_FULL, ids=lambda case: case.name)
def test_full_depth_equals_torchgeo(case):
    """24 blocks round up to 1e-5 apart, of values of 11; in float64 nothing is between them (see the tool)."""
    assert_equals_torchgeo(case, 2e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_unmap_gives_torchgeos_keys_and_shapes(variant):
    shapes = {key: tuple(value.shape) for key, value in upstream(on_meta(variant)).items()}
    assert digest(shapes) == golden()[1][variant]


@pytest.mark.parametrize("variant", VARIANTS)
def test_unmap_writes_the_table_of_masked_autoencoders(variant):
    dim = VARIANTS[variant].dim
    with torch.device("meta"):
        backbone = DofaViT(VARIANTS[variant], ("red",), depth=1)
    table = backbone.unmap({"cls_token": torch.zeros(1, 1, dim)})["pos_embed"]
    assert table.shape == (1, 197, dim)
    assert table[:, 0].eq(0).all()
    found = sketch(table[:, 1:].mT.unflatten(2, (14, 14)))
    torch.testing.assert_close(found, golden()[0][f"{variant}/positions"], atol=1e-5, rtol=0)


def test_cases_cover_every_variant_size_and_option():
    for variant in VARIANTS:
        sizes = {(case.height, case.width) for case in DOFA if case.variant == variant}
        assert sizes >= {(224, 224), (96, 96), (64, 128)}
        assert len({case.bands for case in DOFA if case.variant == variant}) >= 3
    assert {case.positions for case in DOFA} == set(POSITIONS)
    assert {case.variant for case in DOFA_FULL} == set(VARIANTS)
    assert GOLDEN.stat().st_size < 200_000


# ------------------------------------------------------------------------------------- counts, facts


def test_registry_finds_it():
    assert "dofa" in names("backbones")
    assert load("backbones", "dofa") is Dofa


@pytest.mark.parametrize(("variant", "parameters"), [("base", 111_159_296), ("large", 336_901_632)])
def test_parameter_counts(variant, parameters):
    """The published 445 MB and 1.35 GB hold these and the table of positions."""
    backbone = on_meta(variant)
    assert sum(p.numel() for p in backbone.parameters()) == parameters
    assert backbone.taps == default_taps(len(backbone.blocks))
    assert (backbone.channels, backbone.strides) == ((backbone.dim,) * 4, (16,) * 4)


@pytest.mark.parametrize(
    ("method", "count"),
    [(LoRA(preset="paper"), 12 * 14 * 16 * 768), (BitFit(), 12 * 11 * 768), (LoRA(rank=4), 663_552)],
)
def test_methods_act_on_the_blocks_only(method, count):
    found = trainable(adapt(on_meta(), method))
    assert sum(p.numel() for p in found.values()) == count
    assert all(name.startswith("blocks.") for name in found)


@pytest.mark.parametrize(("variant", "digest_"), [("base", "a0275954"), ("large", "0ff904d3")])
def test_weights_are_where_torchgeo_published_them(variant, digest_):
    weights = VARIANTS[variant].weights
    assert weights.repo == "torchgeo/dofa"
    assert weights.file == f"dofa_{variant}_patch16_224-{digest_}.pth"
    assert (weights.revision, weights.licence) == ("b8db318b64a90b9e085ec04ba8851233c5893666", "CC-BY-4.0")


def test_normalisation_is_reflectance():
    """ESA's true-colour image saturates at a reflectance of 0.3558; the other bands were stored numbers // 32."""
    found = build(("swir16", "red")).normalisation
    assert found.mean == pytest.approx((72.32804172 * 32 / 10_000, 114.1099739 / 255 * 0.3558))
    assert found.std == pytest.approx((47.88519516 * 32 / 10_000, 77.84352553 / 255 * 0.3558))
    assert found.source == "pretraining"


@pytest.mark.parametrize("band", ["vv", "nir08", "coastal"])
def test_a_band_without_statistics_is_named(band):
    with pytest.raises(ConfigError, match=f"no pre-training statistics of '{band}'") as caught:
        _ = build(("red", band)).normalisation
    assert "train.normalise: dataset" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


def test_wavelengths_are_the_published_ones():
    assert build(("vv", "blue", "rededge071", "nir", "vh")).wavelengths == (5.405, 0.49, 0.705, 0.842, 5.405)
    assert build(("nir08", "lwir11")).wavelengths == (0.865, 10.9)


def test_spec_builds_what_it_says():
    with torch.device("meta"):
        backbone = Dofa(positions="interpolated").build(("red", "green"))
    assert (backbone.bands, backbone.frames, backbone.dim, backbone.patch) == (("red", "green"), 1, 768, 16)
    assert backbone.positions == "interpolated"
    assert Dofa().accepts(("vv", "ndvi", *SENTINEL2_L2A)) == ("vv", *SENTINEL2_L2A)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Dofa("bas"), "did you mean 'base'?"),
        (lambda: Dofa(positions="interpolate"), "did you mean 'interpolated'?"),
        (lambda: Dofa().build(("red", "slope")), "not 'slope'"),
        (lambda: Dofa().build(HLS6, 2), "DOFA takes 1 date per image, not 2"),
    ],
)
def test_wrong_configuration_is_refused(make, said):
    with pytest.raises(ConfigError) as caught:
        make()
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


# ----------------------------------------------------------------------------------------- encodings


def test_wavelengths_are_coded_in_nanometres():
    code = wavelength_code((0.665, 5.405), CPU)
    assert code.shape == (2, 128)
    for i in (0, 1, 40, 63):
        angle = 5405 * 10000 ** (-i / 64)
        assert code[1, i].item() == pytest.approx(math.sin(angle), abs=1e-3)
        assert code[1, 64 + i].item() == pytest.approx(math.cos(angle), abs=1e-3)


def test_positions_have_x_first_and_a_crop_keeps_them():
    code = position_code(64, 3, 5, "recomputed", CPU).view(3, 5, 64)
    for row, column, i in ((2, 4, 0), (1, 3, 15), (2, 0, 7)):
        frequency = 10000 ** (-i / 16)
        found = code[row, column, [i, 16 + i, 32 + i, 48 + i]].tolist()
        x, y = column * frequency, row * frequency
        assert found == pytest.approx([math.sin(x), math.cos(x), math.sin(y), math.cos(y)], abs=1e-6)
    assert torch.equal(position_code(64, 14, 14, "recomputed", CPU).view(14, 14, 64)[:3, :5], code)


def test_both_kinds_of_positions_agree_at_the_size_of_pretraining():
    one, other = (position_code(64, 14, 14, kind, CPU) for kind in POSITIONS)
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    assert (position_code(64, 6, 6, POSITIONS[0], CPU) - position_code(64, 6, 6, POSITIONS[1], CPU)).abs().max() > 0.1


# ----------------------------------------------------------------------------------------- behaviour


def test_bands_are_a_matter_of_names_not_of_order():
    order = ("nir08", "blue", "swir22", "green", "red", "swir16")
    images = torch.randn(1, 1, 6, 32, 32)
    shuffled = images[:, :, [HLS6.index(band) for band in order]]
    torch.testing.assert_close(build(HLS6)(Batch(images)), build(order)(Batch(shuffled)), atol=1e-5, rtol=0)


def test_patches_lie_one_pixel_up_and_left_as_published():
    backbone = build(("red",))

    def changed(row, column):
        images = torch.zeros(1, 1, 1, 48, 64)
        before, grid = backbone.embed(Batch(images))
        images[..., row, column] = 9.0
        return (
            (backbone.embed(Batch(images))[0] - before)[0, 1:].any(1).view(grid.height, grid.width).nonzero().tolist()
        )

    assert changed(0, 0) == [[0, 0]]
    assert changed(14, 14) == [[0, 0]]
    assert changed(15, 14) == [[1, 0]]
    assert changed(14, 31) == [[0, 2]]
    assert changed(47, 20) == []


def test_the_patch_embedding_is_the_padded_convolution():
    backbone = build(("red", "nir"))
    images = torch.randn(2, 2, 32, 48)
    with torch.no_grad():
        embed = backbone.patch_embed
        codes = wavelength_code(backbone.wavelengths, CPU)
        kernels, bias = embed.weight_generator(embed.fclayer(codes))
        kernels = kernels.view(2, 16, 16, 64).permute(3, 0, 1, 2) * 0.01
        expected = F.conv2d(images.double(), kernels.double(), bias.double() * 0.01, stride=16, padding=1)
        found = embed(images, codes)
    torch.testing.assert_close(found, expected.flatten(2).mT.float(), atol=1e-5, rtol=0)


def test_every_parameter_gets_a_gradient():
    backbone = build()
    maps = backbone(batch(Case("base", 32, 48)))
    sum((m * torch.randn_like(m)).sum() for m in maps).backward()
    for name, parameter in backbone.named_parameters():
        if not name.endswith("attn.k.bias"):  # softmax does not see it
            assert parameter.grad.abs().max() > 0, name


# --------------------------------------------------------------------------------------- checkpoints


def test_round_trip_is_exact():
    backbone = build(("swir22", "red"))
    state = backbone.state_dict()
    again = backbone.remap(upstream(backbone))
    assert again.skipped == {"pos_embed": "recomputed for the size of the image"}
    assert set(again.state) == set(state)
    assert all(torch.equal(again.state[key], state[key]) for key in state)


@pytest.mark.parametrize("prefix", ["", "dofa_model.", "model.encoder.dofa_model.", "module."])
def test_remap_takes_off_wrappers(prefix):
    backbone = build()
    assert set(backbone.remap(upstream(backbone, prefix)).state) == set(backbone.state_dict())


def test_what_is_left_out_is_named_with_the_reason():
    backbone = build()
    given = ("mask_token", "projector.weight", "norm.weight", "fc_norm.bias", "head.weight", "model.decoder.0.bias")
    skipped = backbone.remap(upstream(backbone) | dict.fromkeys(given, torch.zeros(1))).skipped
    assert set(skipped) == {"pos_embed", *given}
    assert skipped["mask_token"] == "stands for hidden patches in the pre-training"
    assert "without" in skipped["norm.weight"]
    assert "classifier" in skipped["fc_norm.bias"]


def test_positions_of_a_fine_tuned_size_are_recognised():
    backbone = build()
    for kind in POSITIONS:
        table = F.pad(position_code(64, 9, 9, kind, CPU), (0, 0, 1, 0))[None]
        assert "pos_embed" in backbone.remap(upstream(backbone) | {"pos_embed": table.half()}).skipped


@pytest.mark.parametrize(
    "table",
    [torch.zeros(1, 197, 64), torch.zeros(1, 1, 64), torch.zeros(1, 190, 64), torch.randn(1, 197, 64)],
    ids=["forgotten", "none", "oblong", "trained"],
)
def test_other_positions_are_refused(table):
    backbone = build()
    with pytest.raises(WeightsError, match="not the fixed sine-cosine table of DOFA"):
        backbone.remap(upstream(backbone) | {"pos_embed": table})


def test_a_file_of_torchgeo_loads(tmp_path):
    source, target = build(), DofaViT(SMALL, TEN)
    torch.save(upstream(source), tmp_path / "dofa.pth")
    base = load_base(target, str(tmp_path / "dofa.pth"))
    assert base.skipped == (("pos_embed", "recomputed for the size of the image"),)
    given = batch(Case("base", 32, 32))
    torch.testing.assert_close(target(given), source(given), atol=0, rtol=0)


def spoilt(change):
    state = upstream(build())
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("blocks.1.mlp.fc1.bias"), "missing (1): blocks.1.mlp.fc1.bias"),
        (lambda s: s.update(surplus=torch.zeros(1)), "unknown (1): surplus"),
        (
            lambda s: s.update({"patch_embed.fclayer.w1.weight": torch.zeros(64, 64)}),
            "patch_embed.fclayer.w1.weight (64, 64) instead of (128, 128)",
        ),
    ],
)
def test_every_key_is_accounted_for(change, said):
    with pytest.raises(WeightsError) as caught:
        build().remap(spoilt(change))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


def test_the_checkpoint_of_another_variant_is_recognised():
    with pytest.raises(WeightsError, match=r"width of large: change `variant`") as caught:
        on_meta("base").remap(upstream(on_meta("large")))
    assert len(str(caught.value).splitlines()) <= 5

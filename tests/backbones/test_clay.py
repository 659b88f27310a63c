"""Clay against stored outputs of TerraTorch 1.2.11 (written by tools/golden_clay.py), and its contract."""

import math
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from wavelength_cases import CLAY, CLAY_FULL, TEN, Case, batch, digest, sketch, weight

from adapteo.backbones._clay_codes import iso_week, place_code, position_code, time_code, wavelength_code
from adapteo.backbones.clay import VARIANTS, Clay, ClayViT, Variant
from adapteo.bands import HLS6, SENTINEL2_L2A, wavelengths
from adapteo.checkpoint import load_base
from adapteo.contracts import Batch, Weights, adapt, default_taps, trainable
from adapteo.errors import ConfigError, WeightsError
from adapteo.peft.bitfit import BitFit
from adapteo.peft.lora import LoRA
from adapteo.peft.vpt import VPT
from adapteo.registry import load, names

GOLDEN = Path(__file__).parent / "golden" / "clay.safetensors"
SMALL = Variant("small", 64, 2, 4, Weights("nobody/nothing", "none.ckpt", "MIT"), decibels=True)
CPU = torch.device("cpu")


def build(bands=TEN, **options):
    """A narrow one with large biases, so that every part matters."""
    torch.manual_seed(0)
    backbone = ClayViT(SMALL, bands, **options)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return backbone


def on_meta(variant="v1", bands=TEN):
    with torch.device("meta"):
        return Clay(variant).build(bands)


def upstream(backbone, prefix=""):
    return {prefix + key: value for key, value in backbone.unmap(backbone.state_dict()).items()}


kept_weight = cache(weight)
"""The same key and shape has the same weights in every case; made once for the small ones."""


def filled(case: Case) -> ClayViT:
    """The case's backbone with the weights that TerraTorch had, through `remap`, and every block tapped."""
    with torch.device("meta"):
        backbone = ClayViT(
            VARIANTS[case.variant], case.bands, sensor=case.sensor, metadata=case.metadata, depth=case.depth
        )
    make = kept_weight if case in CLAY else weight
    state = {key: make(key, tuple(value.shape)) for key, value in upstream(backbone).items()}
    backbone.load_state_dict(backbone.remap(state).state, assign=True)
    backbone.taps = tuple(range(len(backbone.blocks)))
    return backbone.eval()


@cache
def golden():
    with safe_open(GOLDEN, "pt") as opened:
        return {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata()  # noqa: SIM118


def assert_equals_terratorch(case: Case, tolerance: float) -> None:
    stored, _ = golden()
    given = batch(case)
    images = given.images.double()
    torch.testing.assert_close(torch.stack([images.sum(), images.abs().sum()]), stored[f"{case.name}/images"])
    with torch.no_grad():
        maps = filled(case)(given)
    found = torch.stack([sketch(m) for m in maps])
    assert (found - stored[f"{case.name}/maps"]).abs().max() < tolerance


# ------------------------------------------------------------------------------------------ parity


@pytest.mark.parametrize("case", CLAY, ids=lambda case: case.name)
def test_every_tap_equals_terratorch(case):
    assert_equals_terratorch(case, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", CLAY_FULL, ids=lambda case: case.name)
def test_full_depth_equals_terratorch(case):
    """24 blocks round up to 1e-5 apart, of values of 14."""
    assert_equals_terratorch(case, 2e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_unmap_gives_the_published_keys_and_shapes(variant):
    shapes = {key: tuple(value.shape) for key, value in upstream(on_meta(variant)).items()}
    assert digest(shapes) == golden()[1][variant]


def test_cases_cover_every_variant_and_option():
    for variant in VARIANTS:
        cases = [case for case in CLAY if case.variant == variant]
        seen = {(case.height, case.gsd, case.metadata) for case in cases if case.height == case.width}
        assert seen >= {(side, gsd, on) for side in (64, 96) for gsd in (10.0, 30.0) for on in (False, True)}
        assert {case.height == case.width for case in cases} == {True, False}
        assert len({case.bands for case in cases}) == 4
        assert {case.sensor for case in cases} == {"sentinel2", "landsat8"}
    assert {case.variant for case in CLAY_FULL} == set(VARIANTS)
    assert GOLDEN.stat().st_size < 200_000


# ------------------------------------------------------------------------------------- counts, facts


def test_registry_finds_it():
    assert "clay" in names("backbones")
    assert load("backbones", "clay") is Clay


@pytest.mark.parametrize(("variant", "parameters"), [("v1", 92_102_144), ("v1.5", 311_442_944)])
def test_parameter_counts_are_the_published_ones(variant, parameters):
    backbone = on_meta(variant)
    assert sum(p.numel() for p in backbone.parameters()) == parameters
    assert backbone.taps == default_taps(len(backbone.blocks))
    assert (backbone.channels, backbone.strides) == ((backbone.dim,) * 4, (8,) * 4)


@pytest.mark.parametrize(("method", "count"), [(LoRA(preset="paper"), 2_064_384), (VPT(prompts=100), 921_600)])
def test_methods_train_what_the_paper_counted_and_nothing_that_writes_kernels(method, count):
    """arXiv 2504.17397, table of trainable parameters, Clay v1."""
    backbone = adapt(on_meta(), method)
    found = trainable(backbone)
    assert sum(p.numel() for p in found.values()) == count
    assert all(name.startswith("blocks.") for name in found)


def test_bitfit_is_refused_because_half_of_the_layers_have_no_bias():
    with pytest.raises(ConfigError, match="bitfit trains biases, and 48 of the 96 linears and norms"):
        adapt(on_meta(), BitFit())


@pytest.mark.parametrize(
    ("variant", "repo", "file"),
    [
        ("v1", "made-with-clay/Clay-legacy", "v1/clay-v1-base.ckpt"),
        ("v1.5", "made-with-clay/Clay", "v1.5/clay-v1.5.ckpt"),
    ],
)
def test_weights_are_where_clay_published_them(variant, repo, file):
    weights = VARIANTS[variant].weights
    assert (weights.repo, weights.file, weights.licence) == (repo, file, "Apache-2.0")


def test_normalisation_is_in_physical_units_and_follows_bands_and_sensor():
    sentinel = build(("swir16", "blue", "vh")).normalisation
    assert sentinel.mean == pytest.approx((0.2388, 0.1105, -18.673))
    assert sentinel.std == pytest.approx((0.1470, 0.1809, 8.017))
    assert sentinel.source == "pretraining"
    landsat = build(("red",), sensor="landsat8").normalisation
    assert landsat.mean == pytest.approx((13705 * 0.0000275 - 0.2,))
    assert landsat.std == pytest.approx((9578 * 0.0000275,))
    assert build(("red",), sensor="naip").normalisation.mean == pytest.approx((0.432,))


def test_a_band_without_statistics_is_named():
    with pytest.raises(ConfigError, match="no pre-training statistics of 'cirrus' on sentinel2") as caught:
        _ = build(("red", "cirrus")).normalisation
    assert "train.normalise: dataset" in str(caught.value)


def test_v1_has_no_statistics_of_decibels():
    with torch.device("meta"):
        backbone = ClayViT(VARIANTS["v1"], ("vv",))
    with pytest.raises(ConfigError, match="Clay v1 was pre-trained on radar power"):
        _ = backbone.normalisation


def test_wavelengths_are_micrometres_of_the_sensor():
    assert build().wavelengths == wavelengths(TEN)
    assert build(("vv", "red", "vh")).wavelengths == (3.5, 0.665, 4.0)
    assert build(("red", "coastal"), sensor="landsat8").wavelengths == (0.65, 0.443)


def test_spec_builds_what_it_says():
    with torch.device("meta"):
        backbone = Clay("v1", sensor="landsat8", metadata=True).build(("red", "green"))
    assert (backbone.bands, backbone.frames, backbone.dim, backbone.patch) == (("red", "green"), 1, 768, 8)
    assert (backbone.sensor, backbone.metadata) == ("landsat8", True)
    assert Clay().accepts(("vv", "ndvi", *SENTINEL2_L2A)) == ("vv", *SENTINEL2_L2A)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Clay("v2"), "there is no Clay variant 'v2'"),
        (lambda: Clay("V1.5"), "did you mean 'v1.5'?"),
        (lambda: Clay(sensor="sentinel-2"), "did you mean 'sentinel2'?"),
        (lambda: Clay("v1").build(("red", "dem")), "not 'dem'"),
        (lambda: Clay("v1").build(HLS6, 3), "Clay takes 1 date per image, not 3"),
    ],
)
def test_wrong_configuration_is_refused(make, said):
    with pytest.raises(ConfigError) as caught:
        make()
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


# ----------------------------------------------------------------------------------------- encodings


def test_wavelengths_are_coded_in_micrometres():
    code = wavelength_code((0.665, 2.19), CPU)
    assert code.shape == (2, 128)
    for i in (0, 1, 40, 63):
        angle = 2.19 * 10000 ** (-i / 63)
        assert code[1, i].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert code[1, 64 + i].item() == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("gsd", [10.0, 0.6])
def test_positions_are_metres_of_the_actual_grid(gsd):
    dim, height, width = 56, 5, 7
    code = position_code(dim, height, width, gsd, CPU).view(height, width, 4, 14)
    for row, column, i in ((0, 0, 3), (4, 6, 0), (3, 1, 13), (2, 5, 7)):
        frequency = gsd * 10000 ** (-2 * (i / 13) / dim)
        x, y = column * frequency, row * frequency
        expected = [math.sin(x), math.cos(x), math.sin(y), math.cos(y)]
        assert code[row, column, :, i].tolist() == pytest.approx(expected, abs=1e-4)
    larger = position_code(dim, 9, 9, gsd, CPU).view(9, 9, dim)
    assert torch.equal(larger[:height, :width].flatten(0, 1), code.view(-1, dim))


def test_weeks_are_those_of_iso_8601():
    first = date(1999, 1, 1)
    days = [first + timedelta(days=i) for i in range(32 * 365)]
    given = torch.tensor([[day.year, day.timetuple().tm_yday] for day in days], dtype=torch.float32)
    assert iso_week(given).tolist() == [day.isocalendar().week for day in days]


def test_time_is_week_and_noon():
    code = time_code(torch.tensor([[2024.0, 183.0], [math.nan, 183.0], [2024.0, math.nan]]))
    week = date(2024, 7, 1).isocalendar().week
    assert week == 27
    angle = 2 * math.pi * week / 52
    assert code[0].tolist() == pytest.approx([math.sin(angle), math.cos(angle), 0.0, -1.0], abs=1e-6)
    assert code[1].isfinite().all()
    assert code[1].abs().sum() > 1  # a day without a year is enough for a week
    assert code[2].tolist() == [0.0] * 4


def test_places_are_latitude_then_longitude():
    code = place_code(torch.tensor([[30.0, -90.0], [math.nan, 10.0]]))
    assert code[0].tolist() == pytest.approx([0.5, math.sqrt(0.75), -1.0, 0.0], abs=1e-6)
    assert code[1].tolist() == [0.0] * 4


def test_metadata_goes_into_the_last_values_of_the_patches():
    given = batch(Case("v1", 32, 48))
    (without, _), (with_it, grid) = build().embed(given), build(metadata=True).embed(given)
    added = with_it - without
    assert (grid.height, grid.width, grid.prefix) == (4, 6, 1)
    assert added[:, 0].eq(0).all()
    assert added[..., :-8].eq(0).all()
    expected = torch.cat([time_code(given.dates[:, 0]), place_code(given.latlon)], 1)
    torch.testing.assert_close(added[:, 1:, -8:], expected[:, None].expand(-1, 24, -1), atol=1e-6, rtol=0)


def test_unknown_dates_and_places_add_nothing():
    given = batch(Case("v1", 32, 32))
    plain = build()(Batch(given.images))
    nan = Batch(given.images, dates=torch.full((2, 1, 2), math.nan), latlon=torch.full((2, 2), math.nan))
    for unknown in (Batch(given.images), nan):
        torch.testing.assert_close(build(metadata=True)(unknown), plain, atol=0, rtol=0)
    torch.testing.assert_close(build()(given), plain, atol=0, rtol=0)


def test_ground_sample_distance_counts():
    images = batch(Case("v1", 32, 32)).images
    ten, thirty = (build()(Batch(images, gsd=gsd))[-1] for gsd in (10.0, 30.0))
    assert (ten - thirty).abs().max() > 1e-2


# ----------------------------------------------------------------------------------------- behaviour


def test_bands_are_a_matter_of_names_not_of_order():
    order = ("nir08", "blue", "swir22", "green", "red", "swir16")
    images = torch.randn(1, 1, 6, 32, 32)
    shuffled = images[:, :, [HLS6.index(band) for band in order]]
    torch.testing.assert_close(build(HLS6)(Batch(images)), build(order)(Batch(shuffled)), atol=1e-5, rtol=0)


def test_a_patch_is_where_its_map_has_it():
    backbone = build(("red", "nir"))
    images = torch.randn(1, 1, 2, 24, 40)
    before, grid = backbone.embed(Batch(images))
    images[..., 8:16, 24:32] += 1
    changed = (grid.to_map(backbone.embed(Batch(images))[0]) - grid.to_map(before)).abs().sum(1)[0]
    assert changed.nonzero().tolist() == [[1, 3]]


def test_every_parameter_gets_a_gradient():
    backbone = build(metadata=True)
    maps = backbone(batch(Case("v1", 32, 48)))
    sum((m * torch.randn_like(m)).sum() for m in maps).backward()
    for name, parameter in backbone.named_parameters():
        if not name.endswith("attn.k.bias"):  # softmax does not see it
            assert parameter.grad.abs().max() > 0, name


# --------------------------------------------------------------------------------------- checkpoints


def test_round_trip_is_exact():
    backbone = build(("swir22", "red"))
    state = backbone.state_dict()
    again = backbone.remap(upstream(backbone, "model.encoder."))
    assert again.skipped == {}
    assert set(again.state) == set(state)
    assert all(torch.equal(again.state[key], state[key]) for key in state)


@pytest.mark.parametrize(
    "prefix", ["", "encoder.", "clay_encoder.", "model.encoder.clay_encoder.", "model.model.encoder."]
)
def test_remap_takes_off_wrappers(prefix):
    backbone = build()
    assert set(backbone.remap(upstream(backbone, prefix)).state) == set(backbone.state_dict())


def test_what_is_left_out_is_named_with_the_reason():
    backbone = build()
    extra = {
        "model.decoder.mask_patch": "belongs to a decoder",
        "model.decoder.transformer.layers.0.0.to_qkv.weight": "belongs to a decoder",
        "model.teacher.blocks.0.attn.qkv.weight": "the teacher of the pre-training",
        "model.proj.weight": "projects onto the teacher of the pre-training",
        "model.mrl.layers.mrl_16.weight": "Matryoshka heads of the pre-training",
        "model.head.head.1.weight": "belongs to the task that TerraTorch fine-tuned for",
    }
    state = upstream(backbone, "model.encoder.") | dict.fromkeys(extra, torch.zeros(1))
    assert backbone.remap(state).skipped == extra


def test_a_lightning_checkpoint_loads_from_its_file(tmp_path):
    source, target = build(), ClayViT(SMALL, TEN)
    state = upstream(source, "model.encoder.") | {"model.proj.bias": torch.zeros(3)}
    torch.save({"state_dict": state, "epoch": 3, "hyper_parameters": {"lr": 1e-5}}, tmp_path / "clay.ckpt")
    base = load_base(target, str(tmp_path / "clay.ckpt"))
    assert base.skipped == (("model.proj.bias", "projects onto the teacher of the pre-training"),)
    given = batch(Case("v1", 32, 32))
    torch.testing.assert_close(target(given), source(given), atol=0, rtol=0)


def spoilt(change):
    state = upstream(build())
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("transformer.layers.1.0.norm.bias"), "missing (1): transformer.layers.1.0.norm.bias"),
        (lambda s: s.update(surplus=torch.zeros(1)), "unknown (1): surplus"),
        (
            lambda s: s.update({"transformer.vpt_prompt_embeddings.0": torch.zeros(1)}),
            "unknown (1): transformer.vpt_prompt_embeddings.0",
        ),
        (lambda s: s.update({"encoder.cls_token": torch.zeros(1, 1, 64)}), "unknown (1): encoder.cls_token"),
        (
            lambda s: s.update({"transformer.layers.0.0.to_qkv.weight": torch.zeros(64, 64)}),
            "transformer.layers.0.0.to_qkv.weight (64, 64) instead of (192, 64)",
        ),
    ],
)
def test_every_key_is_accounted_for(change, said):
    with pytest.raises(WeightsError) as caught:
        build().remap(spoilt(change))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


def test_the_checkpoint_of_another_variant_is_recognised():
    with pytest.raises(WeightsError, match=r"width of v1.5: change `variant`") as caught:
        on_meta("v1").remap(upstream(on_meta("v1.5"), "model.encoder."))
    assert len(str(caught.value).splitlines()) <= 5


def test_remap_leaves_the_checkpoint_alone():
    backbone = build()
    state = upstream(backbone)
    before = state["transformer.layers.0.0.to_qkv.weight"].clone()
    for name, value in backbone.remap(state).state.items():
        if ".attn." in name:
            value.zero_()
    assert torch.equal(state["transformer.layers.0.0.to_qkv.weight"], before)

"""Prithvi against stored outputs of TerraTorch 1.2.11 (written by tools/golden_prithvi.py), and its contract."""

import copy
import math
import pickle
from functools import cache
from pathlib import Path

import pytest
import torch
from prithvi_cases import FAST, FULL, Case, batch, digest, sketch, weight
from safetensors import safe_open

from adapteo.backbones.prithvi import POSITIONS, VARIANTS, Prithvi, PrithviViT, coordinate_code, position_code
from adapteo.bands import HLS6, SENTINEL2_L2A
from adapteo.contracts import Batch, default_taps
from adapteo.errors import ConfigError, DataError, WeightsError
from adapteo.registry import load, names
from adapteo.vit import sincos_1d

GOLDEN = Path(__file__).parent / "golden"
TINY = "2.0-tiny-TL"


def build(variant=TINY, bands=HLS6, frames=1, depth=2, **options):
    torch.manual_seed(0)
    return PrithviViT(VARIANTS[variant], bands, frames, depth=depth, **options)


def upstream_shapes(backbone):
    return {k: tuple(v.shape) for k, v in unmapped_on_meta(backbone).items()}


def unmapped_on_meta(backbone):
    return backbone.unmap({k: v.to("meta") for k, v in backbone.state_dict().items()})


kept_weight = cache(weight)
"""The same key and shape has the same weights in every case; made once for the small ones."""


def filled(case: Case) -> PrithviViT:
    """The case's backbone with the weights that TerraTorch had, through `remap`, and every block tapped."""
    with torch.device("meta"):
        backbone = PrithviViT(
            VARIANTS[case.variant],
            case.bands,
            case.frames,
            metadata=case.metadata,
            positions=case.positions,
            depth=case.depth,
        )
    make = kept_weight if case in FAST else weight
    state = {k: make(k, shape) for k, shape in upstream_shapes(backbone).items() if k != "pos_embed"}
    backbone.load_state_dict(backbone.remap(state).state, assign=True)
    backbone.taps = tuple(range(len(backbone.blocks)))
    return backbone.eval()


@cache
def golden(file: str):
    with safe_open(GOLDEN / f"{file}.safetensors", "pt") as opened:
        return {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata()  # noqa: SIM118


def assert_equals_terratorch(case: Case, file: str, tolerance: float = 1e-5) -> None:
    stored, _ = golden(file)
    given = batch(case)
    images = given.images.double()
    torch.testing.assert_close(torch.stack([images.sum(), images.abs().sum()]), stored[f"{case.name}/images"])
    with torch.no_grad():
        maps = filled(case)(given)
    found = torch.stack([sketch(m) for m in maps])
    assert (found - stored[f"{case.name}/maps"]).abs().max() < tolerance


# ------------------------------------------------------------------------------------------ parity


@pytest.mark.parametrize("case", FAST, ids=lambda case: case.name)
def test_every_tap_equals_terratorch(case):
    assert_equals_terratorch(case, "prithvi_fast")


@pytest.mark.slow
@pytest.mark.parametrize("case", FULL, ids=lambda case: case.name)
def test_full_depth_equals_terratorch(case):
    """In one process the difference is 0; another PyTorch rounds 32 blocks up to 1e-5 apart, of values of 7."""
    assert_equals_terratorch(case, "prithvi_full", tolerance=2e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_unmap_gives_terratorchs_keys_and_shapes(variant):
    with torch.device("meta"):
        backbone = PrithviViT(VARIANTS[variant], HLS6, metadata=VARIANTS[variant].metadata)
    assert digest(upstream_shapes(backbone)) == golden("prithvi_fast")[1][variant]


def test_cases_cover_every_variant_shape_and_option():
    for cases in (FAST, FULL):
        assert {case.variant for case in cases} == set(VARIANTS)
    assert {case.frames for case in FAST} == {1, 2, 3, 4}
    assert {(case.height, case.width) for case in FAST} >= {(224, 224), (96, 96), (64, 128), (98, 98), (70, 126)}
    assert {(case.metadata, case.frames) for case in FAST} >= {(m, t) for m in (True, False) for t in (1, 2, 3, 4)}
    assert {case.positions for case in FAST} == set(POSITIONS)
    assert {case.bands for case in FAST} >= {HLS6, HLS6[::-1]}
    assert sum(file.stat().st_size for file in GOLDEN.glob("prithvi_*")) < 500_000


# ------------------------------------------------------------------------------- facts and registry


def test_registry_finds_it():
    assert "prithvi" in names("backbones")
    assert load("backbones", "prithvi") is Prithvi


@pytest.mark.parametrize(
    ("variant", "repo", "file"),
    [
        ("1.0-100M", "Prithvi-EO-1.0-100M", "Prithvi_EO_V1_100M.pt"),
        ("2.0-tiny-TL", "Prithvi-EO-2.0-tiny-TL", "Prithvi_EO_V2_tiny_TL.pt"),
        ("2.0-100M-TL", "Prithvi-EO-2.0-100M-TL", "Prithvi_EO_V2_100M_TL.pt"),
        ("2.0-300M", "Prithvi-EO-2.0-300M", "Prithvi_EO_V2_300M.pt"),
        ("2.0-300M-TL", "Prithvi-EO-2.0-300M-TL", "Prithvi_EO_V2_300M_TL.pt"),
        ("2.0-600M", "Prithvi-EO-2.0-600M", "Prithvi_EO_V2_600M.pt"),
        ("2.0-600M-TL", "Prithvi-EO-2.0-600M-TL", "Prithvi_EO_V2_600M_TL.pt"),
    ],
)
def test_weights_are_where_terratorch_finds_them(variant, repo, file):
    weights = VARIANTS[variant].weights
    assert (weights.repo, weights.file, weights.licence) == (f"ibm-nasa-geospatial/{repo}", file, "Apache-2.0")


@pytest.mark.parametrize(
    ("variant", "parameters"), [("1.0-100M", 86_237_184), ("2.0-300M", 303_886_336), ("2.0-600M", 631_188_480)]
)
def test_parameter_counts_are_the_published_ones(variant, parameters):
    with torch.device("meta"):
        backbone = PrithviViT(VARIANTS[variant], HLS6)
    assert sum(p.numel() for p in backbone.parameters()) == parameters
    assert backbone.taps == default_taps(len(backbone.blocks))


def test_normalisation_follows_the_bands_and_the_generation():
    two = build(bands=("swir16", "blue")).normalisation
    assert (two.mean, two.std, two.source) == ((0.1958, 0.1087), (0.1242, 0.2248), "pretraining")
    one = build("1.0-100M", bands=("nir08",), depth=1).normalisation
    assert (one.mean, one.std) == ((0.2497,), (0.1368,))


def test_spec_builds_what_it_says():
    backbone = Prithvi(TINY, metadata=True, positions="interpolated").build(("red", "green"), frames=3)
    assert (backbone.bands, backbone.frames, backbone.dim, backbone.patch) == (("red", "green"), 3, 192, 16)
    assert backbone.metadata
    assert backbone.positions == "interpolated"
    assert backbone.channels == (576,) * 4
    assert backbone.strides == (16,) * 4
    assert backbone.weights == VARIANTS[TINY].weights


def test_it_accepts_the_six_bands_of_hls():
    assert Prithvi().accepts(SENTINEL2_L2A) == HLS6
    assert Prithvi().accepts(("vv", "swir22", "blue")) == ("swir22", "blue")


# -------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Prithvi("2.0-300m-tl"), "did you mean '2.0-300M-TL'?"),
        (lambda: Prithvi("1.0-300"), "there is no Prithvi variant '1.0-300'"),
        (lambda: Prithvi(positions="interpolate"), "did you mean 'interpolated'?"),
        (lambda: Prithvi("2.0-300M", metadata=True), "take a variant with TL"),
        (lambda: Prithvi(TINY).build(("blue", "nir")), "no band 'nir'; did you mean 'nir08'?"),
        (lambda: Prithvi(TINY).build(()), "at least one band"),
        (lambda: Prithvi(TINY).build(("red", "red")), "each once"),
        (lambda: Prithvi(TINY).build(HLS6, 5), "1 to 4 dates per image, not 5"),
        (lambda: Prithvi(TINY).build(HLS6, 0), "not 0"),
    ],
)
def test_wrong_configuration_is_refused(make, said):
    with pytest.raises(ConfigError) as caught:
        make()
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 1, 6, 100, 64), "crop them to 96 x 64, or pad them to 112 x 64"),
        ((1, 2, 6, 64, 64), "2 dates and 6 bands; built for 1 dates and 6 bands"),
        ((1, 1, 5, 64, 64), "1 dates and 5 bands"),
    ],
)
def test_images_that_do_not_fit_are_refused(shape, said):
    with pytest.raises(DataError, match=said):
        build(depth=1)(Batch(torch.zeros(shape)))


# ------------------------------------------------------------------------------------------ behaviour


def test_time_is_concatenated_in_order():
    """Without blocks, each date's slice of the channels depends on that date alone."""
    backbone = build(frames=3)
    images = torch.randn(1, 3, 6, 32, 48)
    tokens, grid = backbone.embed(Batch(images))
    before = grid.to_map(tokens)
    assert before.shape == (1, 3 * 192, 2, 3)
    images[:, 1, :, 16:, 32:] += 1
    after = grid.to_map(backbone.embed(Batch(images))[0])
    changed = (before != after).nonzero()
    assert changed[:, 1].min() == 192
    assert changed[:, 1].max() == 2 * 192 - 1
    assert changed[:, 2].unique().tolist() == [1]
    assert changed[:, 3].unique().tolist() == [2]


def test_position_code_is_that_of_each_axis():
    code = position_code(64, (2, 3, 5)).view(2, 3, 5, 64)
    x, y, t = sincos_1d(24, torch.arange(5)), sincos_1d(24, torch.arange(3)), sincos_1d(16, torch.arange(2))
    assert code.dtype == torch.float64
    assert torch.equal(code[1, 2, 4], torch.cat([x[4], y[2], t[1]]))
    assert torch.equal(code[0, 1, 3], torch.cat([x[3], y[1], t[0]]))


def test_a_crop_of_the_grid_keeps_its_positions():
    small, large = position_code(192, (1, 4, 6)), position_code(192, (1, 14, 14))
    assert torch.equal(small.view(4, 6, -1), large.view(14, 14, -1)[:4, :6])


def test_both_kinds_of_positions_agree_at_the_size_of_pretraining():
    given = batch(Case(TINY, 2, 224, 224))
    exact, stretched = (build(frames=2, depth=1, positions=kind)(given) for kind in POSITIONS)
    torch.testing.assert_close(exact, stretched, atol=1e-5, rtol=0)


def test_position_tables_are_kept_but_not_without_bound():
    backbone = build(depth=1)
    with torch.inference_mode():
        for side in range(1, 12):
            backbone(Batch(torch.zeros(1, 1, 6, 16 * side, 16)))
    assert len(backbone._tables) <= 8
    assert set(backbone.state_dict()) == set(build(depth=1).state_dict())
    backbone(Batch(torch.zeros(1, 1, 6, 16 * 11, 16)))[0].sum().backward()


@pytest.mark.parametrize("frames", [1, 4])
def test_metadata_changes_the_result_only_when_it_is_on(frames):
    given = batch(Case(TINY, frames, 32, 32))
    nothing = Batch(given.images)
    without, with_it = build(frames=frames), build(frames=frames, metadata=True)
    torch.testing.assert_close(without(given), without(nothing), atol=0, rtol=0)
    torch.testing.assert_close(with_it(nothing), without(nothing), atol=0, rtol=0)
    assert (with_it(given)[-1] - with_it(nothing)[-1]).abs().max() > 1e-2


def test_unknown_dates_and_places_add_nothing():
    backbone = build(frames=2, metadata=True)
    given = batch(Case(TINY, 2, 32, 32))
    given.dates[0, 1, 0] = math.nan
    given.latlon[1, 1] = math.nan
    plain, grid = backbone.embed(Batch(given.images))
    added = backbone.embed(given)[0] - plain
    assert added.isfinite().all()
    time, place = coordinate_code(given.dates, 192), coordinate_code(given.latlon, 192)
    n = grid.height * grid.width
    assert time[0, 1].eq(0).all()
    assert place[1].eq(0).all()
    expected = 0.1 * (time.repeat_interleave(n, dim=1) + place[:, None])
    torch.testing.assert_close(added[:, 1:], expected, atol=1e-6, rtol=0)
    assert added[:, 0].eq(0).all()
    backbone(given)[-1].square().sum().backward()
    assert all(p.grad.isfinite().all() for p in backbone.parameters())


def test_unknown_everything_is_no_metadata():
    backbone = build(metadata=True)
    given = batch(Case(TINY, 1, 32, 32))
    unknown = Batch(given.images, dates=torch.full((2, 1, 2), math.nan), latlon=torch.full((2, 2), math.nan))
    torch.testing.assert_close(backbone(unknown), backbone(Batch(given.images)), atol=0, rtol=0)


def test_bands_are_a_matter_of_names_not_of_order():
    six = build()
    order = ("nir08", "blue", "swir22", "green", "red", "swir16")
    other = build(bands=order)
    other.load_state_dict(other.remap(six.unmap(six.state_dict())).state)
    images = torch.randn(1, 1, 6, 32, 32)
    shuffled = images[:, :, [HLS6.index(band) for band in order]]
    torch.testing.assert_close(six(Batch(images)), other(Batch(shuffled)), atol=1e-5, rtol=0)


def test_every_parameter_gets_a_gradient():
    backbone = build(frames=2, metadata=True)
    maps = backbone(batch(Case(TINY, 2, 32, 48)))
    sum((m * torch.randn_like(m)).sum() for m in maps).backward()
    for name, parameter in backbone.named_parameters():
        if not name.endswith("attn.k.bias"):  # softmax does not see it
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_independent(duplicate):
    """TerraTorch's copies go on using the weights of the original."""
    backbone = build(metadata=True)
    given = batch(Case(TINY, 1, 32, 32))
    before = backbone(given)
    twin = duplicate(backbone)
    torch.testing.assert_close(twin(given), before, atol=0, rtol=0)
    twin(given)[-1].sum().backward()
    assert all(p.grad is None for p in backbone.parameters())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert twin(given)[-1].eq(0).all()
    torch.testing.assert_close(backbone(given), before, atol=0, rtol=0)


def test_bfloat16_stays_close():
    given = batch(Case(TINY, 2, 64, 64))
    backbone = build(frames=2, metadata=True).eval()
    exact = backbone(given)[-1].detach()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = backbone(given)[-1].detach()
    pure = backbone.bfloat16()(given)[-1].detach()
    assert pure.dtype == torch.bfloat16
    for found in (mixed, pure):
        assert (found.float() - exact).abs().mean() < 0.05 * exact.abs().mean()


# ---------------------------------------------------------------------------------------- checkpoints


def checkpoint(backbone, prefix=""):
    return {prefix + key: value for key, value in backbone.unmap(backbone.state_dict()).items()}


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("bands", [HLS6, HLS6[::-1], ("swir22", "red")])
def test_round_trip_is_exact(metadata, bands):
    backbone = build(bands=bands, metadata=metadata)
    state = backbone.state_dict()
    again = backbone.remap(checkpoint(backbone))
    assert again.skipped == {"pos_embed": "recomputed for the size of the image"}
    assert list(again.state) != []
    assert set(again.state) == set(state)
    assert all(torch.equal(again.state[key], state[key]) for key in state)


def test_unmap_writes_six_bands_whatever_the_instance_sees():
    weight = checkpoint(build(bands=("swir22", "red")))["patch_embed.proj.weight"]
    assert weight.shape == (192, 6, 1, 16, 16)
    assert [bool(weight[:, i].any()) for i in range(6)] == [False, False, True, False, False, True]


def test_unmap_writes_the_positions_of_pretraining():
    positions = checkpoint(build(frames=3))["pos_embed"]
    assert positions.shape == (1, 1 + 3 * 14 * 14, 192)
    assert positions[0, 0].eq(0).all()
    torch.testing.assert_close(positions[0, 1:], position_code(192, (3, 14, 14)).float())


@pytest.mark.parametrize("prefix", ["", "encoder.", "model.encoder.", "backbone.", "module.", "_timm_module."])
def test_remap_takes_off_wrappers(prefix):
    backbone = build()
    found = backbone.remap(checkpoint(backbone, prefix))
    assert set(found.state) == set(backbone.state_dict())


def test_what_is_left_out_is_named_with_the_reason():
    backbone = build()
    extra = torch.zeros(1)
    decoder = [
        "mask_token", "decoder_pos_embed", "decoder_blocks.0.norm1.weight", "decoder_pred.bias",  # 1.0
        "decoder.mask_token", "decoder.decoder_embed.weight", "decoder.temporal_embed_dec.scale",  # 2.0
        "model.decoder.conv.weight",  # fine-tuned
    ]  # fmt: skip
    state = {
        **checkpoint(backbone, "encoder."),
        **dict.fromkeys(decoder, extra),
        "encoder.temporal_embed_enc.scale": extra,
        "encoder.location_embed_enc.scale": extra,
        "model.head.weight": extra,
    }
    skipped = backbone.remap(state).skipped
    assert set(skipped) == {
        *decoder,
        "encoder.pos_embed",
        "encoder.temporal_embed_enc.scale",
        "encoder.location_embed_enc.scale",
        "model.head.weight",
    }
    assert {skipped[key] for key in decoder} == {"belongs to a decoder"}
    assert skipped["encoder.temporal_embed_enc.scale"] == "metadata is off"


def test_remap_leaves_the_checkpoint_alone():
    backbone = build(bands=("red", "blue"))
    state = checkpoint(backbone)
    before = {key: value.clone() for key, value in state.items()}
    for value in backbone.remap(state).state.values():
        value.zero_()
    assert state["blocks.0.attn.qkv.weight"].equal(before["blocks.0.attn.qkv.weight"])
    assert state["patch_embed.proj.weight"].equal(before["patch_embed.proj.weight"])


def spoilt(change):
    state = checkpoint(build(metadata=True))
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("blocks.1.mlp.fc1.bias"), "missing (1): blocks.1.mlp.fc1.bias"),
        (lambda s: s.pop("temporal_embed_enc.scale"), "missing (1): temporal_embed_enc.scale"),
        (lambda s: s.update(surplus=torch.zeros(1)), "unknown (1): surplus"),
        (lambda s: s.update({"encoder.cls_token": torch.zeros(1, 1, 192)}), "unknown (1): encoder.cls_token"),
        (lambda s: s.update({"vpt_prompt_embeddings.0": torch.zeros(1)}), "unknown (1): vpt_prompt_embeddings.0"),
        (
            lambda s: s.update({"patch_embed.proj.weight": torch.zeros(192, 3, 1, 16, 16)}),
            "patch_embed.proj.weight (192, 3, 1, 16, 16) instead of (192, 6, 1, 16, 16)",
        ),
    ],
)
def test_every_key_is_accounted_for(change, said):
    with pytest.raises(WeightsError) as caught:
        build(metadata=True).remap(spoilt(change))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


def test_the_checkpoint_of_another_variant_is_recognised():
    with torch.device("meta"):
        base = PrithviViT(VARIANTS["1.0-100M"], HLS6)
        tiny = PrithviViT(VARIANTS[TINY], HLS6)
    with pytest.raises(WeightsError, match=r"shape of 1.0-100M and 2.0-100M-TL: change `variant`") as caught:
        tiny.remap(unmapped_on_meta(base))
    assert len(str(caught.value).splitlines()) <= 5
    with torch.device("meta"):
        deeper = PrithviViT(VARIANTS["2.0-600M-TL"], HLS6)
    with pytest.raises(WeightsError, match=r"shape of 2.0-600M and 2.0-600M-TL: change `variant`"):
        tiny.remap(unmapped_on_meta(deeper))


def test_time_and_location_weights_are_unknown_to_other_variants():
    with torch.device("meta"):
        backbone = PrithviViT(VARIANTS["2.0-300M"], HLS6)
    state = {**unmapped_on_meta(backbone), "temporal_embed_enc.scale": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"unknown \(1\): temporal_embed_enc.scale"):
        backbone.remap(state)

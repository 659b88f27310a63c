"""Galileo against the published implementation (golden tensors of tools/golden_galileo.py) and its own promises."""

import copy
import datetime
import json
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from galileo_cases import CASES, RANDOM, RGB, S1, S2, SIZES, TERRAIN, Case, inputs, published_shapes, random_state
from safetensors.torch import load_file

from adapteo.backbones._galileo_tokens import FlexiPatchEmbed, month, ndvi
from adapteo.backbones.galileo import BACKBONE, Galileo, GalileoEncoder
from adapteo.contracts import Batch, trainable
from adapteo.errors import ConfigError, DataError, WeightsError

GOLDEN = Path(__file__).parent / "golden"


def spec(case: Case) -> Galileo:
    return Galileo(variant=case.variant, patch=case.patch, ndvi=case.ndvi)


def build(bands=RGB, frames=1, **fields) -> GalileoEncoder:
    torch.manual_seed(0)
    return Galileo(**fields).build(bands, frames)


def load(backbone: GalileoEncoder, state) -> GalileoEncoder:
    backbone.load_state_dict(backbone.remap(state).state, strict=True)
    return backbone.eval()


def random_weights(variant="nano"):
    return random_state(published_shapes(variant))


def batch_of(backbone: GalileoEncoder, height=16, width=16, size=2, dates=None, gsd=10.0, frames=None) -> Batch:
    generator = torch.Generator().manual_seed(1)
    shape = (size, frames or backbone.frames, len(backbone.bands), height, width)
    return Batch(torch.randn(shape, generator=generator), dates=dates, gsd=gsd)


@torch.no_grad()
def compare(case: Case, state, golden) -> None:
    backbone = load(spec(case).build(case.bands, case.frames), state)
    images, dates = inputs(case)
    batch = Batch(backbone.normalisation(images), dates=dates, gsd=case.gsd)
    backbone.taps = (*(step - 1 for step in case.steps), len(backbone.blocks) - 1)
    for step, ours in zip((*case.steps, "last"), backbone(batch), strict=True):
        # Before the norm the tokens are ten times as large, and so is their rounding.
        torch.testing.assert_close(ours, golden[f"{case.name}/{step}"], atol=1e-5, rtol=0 if step == "last" else 1e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_real_weights_give_the_published_outputs(case, shared_data):
    state = load_file(shared_data / "galileo_nano" / "encoder.safetensors")
    compare(case, state, load_file(GOLDEN / "galileo_nano.safetensors"))


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[pytest.mark.slow] if c.variant == "base" else []) for c in RANDOM],
    ids=lambda case: case.name,
)
def test_random_weights_give_the_published_outputs(case):
    compare(case, random_weights(case.variant), load_file(GOLDEN / "galileo_random.safetensors"))


def test_golden_covers_exactly_the_cases():
    for name, cases in (("nano", CASES), ("random", RANDOM)):
        keys = {f"{case.name}/{step}" for case in cases for step in (*case.steps, "last")}
        assert set(load_file(GOLDEN / f"galileo_{name}.safetensors")) == keys


def test_codes_at_random_start_are_those_of_the_published_checkpoint(shared_data):
    state = load_file(shared_data / "galileo_nano" / "encoder.safetensors")
    backbone = build()
    torch.testing.assert_close(backbone.pos_embed, state["pos_embed"], atol=1e-6, rtol=0)
    torch.testing.assert_close(backbone.month_embed, state["month_embed.weight"], atol=1e-6, rtol=0)


def test_normalisation_is_the_published_one_in_our_units(shared_data):
    statistics = json.loads((shared_data / "galileo_nano" / "normalization.json").read_text())
    bands = (*S1, *S2, *TERRAIN)
    ours = build(bands).normalisation
    scale = torch.tensor([1.0] * 2 + [1e4] * 10 + [1.0] * 2, dtype=torch.float64)
    for found, name in ((ours.mean, "mean"), (ours.std, "std")):
        published = torch.tensor(statistics["13"][name][:12] + statistics["16"][name][:2], dtype=torch.float64)
        torch.testing.assert_close(torch.tensor(found, dtype=torch.float64) * scale, published)


# ------------------------------------------------------------------------------------------- properties


def test_the_registry_constant():
    assert BACKBONE is Galileo


@pytest.mark.parametrize("variant", SIZES)
def test_size_of_the_variants(variant):
    dim, depth, _ = SIZES[variant]
    with torch.device("meta"):
        backbone = GalileoEncoder(Galileo(variant), RGB, Galileo()._groups(RGB), 1)
    assert (backbone.dim, len(backbone.blocks), backbone.channels) == (dim, depth, (dim,) * 4)


def test_maps_have_the_promised_shape():
    backbone = build((*S1, *S2), frames=3, patch=4)
    maps = backbone(batch_of(backbone, 8, 24))
    assert backbone.strides == (4,) * 4
    assert [m.shape for m in maps] == [(2, c, 2, 6) for c in backbone.channels]


def test_only_given_groups_become_tokens():
    for bands, frames, groups in (
        (RGB, 1, 1),
        (S2, 1, 6),
        ((*S1, *S2), 2, 14),
        ((*S1, *TERRAIN), 3, 4),
        (TERRAIN, 2, 1),
    ):
        backbone = build(bands, frames)
        tokens, grid = backbone.embed(batch_of(backbone))
        assert tokens.shape == (2, groups * 4, 128)
        assert (grid.stack, grid.patches) == (groups, groups * 4)


@pytest.mark.parametrize("bands", [(*S1, *S2, *TERRAIN), RGB])
def test_the_order_of_bands_is_free(bands):
    state, order = random_weights(), list(reversed(range(len(bands))))
    backbone, other = (load(build(names, 2, patch=4), state) for names in (bands, tuple(bands[i] for i in order)))
    batch = batch_of(backbone)
    turned = batch.with_images(batch.images[:, :, order])
    for ours, theirs in zip(backbone(batch), other(turned), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert [backbone.normalisation.mean[i] for i in order] == list(other.normalisation.mean)


def test_accepts_bands_of_complete_groups_in_the_given_order():
    galileo = Galileo()
    assert galileo.accepts(("red", "coastal", "green", "blue", "nir09", "cirrus")) == ("red", "green", "blue")
    assert galileo.accepts(("vh", "swir16", "nir08", "vv")) == ("vh", "nir08", "vv")
    assert galileo.accepts(("red", "nir")) == ("red", "nir")
    assert Galileo(ndvi=False).accepts(("red", "nir")) == ("nir",)
    assert galileo.accepts(("elevation", "coastal")) == ()


def test_missing_values_count_as_the_mean_of_their_band():
    backbone = load(build(S2), random_weights())
    images = torch.rand(1, 1, 10, 16, 16) * 0.4
    images[..., :8, :8] = torch.nan
    filled = images.clone()
    filled[..., :8, :8] = torch.tensor(backbone.normalisation.mean).view(10, 1, 1)
    gap, mean = (backbone(Batch(backbone.normalisation(x)))[-1] for x in (images, filled))
    torch.testing.assert_close(gap, mean, atol=1e-5, rtol=0)


def test_frames_and_gsd_and_month_matter_and_an_unknown_date_is_june():
    backbone = load(build(S2, frames=2, patch=8), random_weights())
    june = torch.tensor([[[2021.0, 170.0], [2021.0, 160.0]]] * 2)
    none, known, december = (
        backbone(batch_of(backbone, dates=d))[-1] for d in (None, june, june + torch.tensor([0, 180]))
    )
    torch.testing.assert_close(none, known)
    assert (known - december).abs().max() > 1e-3
    assert (none - backbone(batch_of(backbone, gsd=20.0))[-1]).abs().max() > 1e-3
    swapped = batch_of(backbone)
    swapped = swapped.with_images(swapped.images.flip(1))
    assert (none - backbone(swapped)[-1]).abs().max() > 1e-3


def test_month_of_every_day():
    for year in (1900, 2000, 2023, 2024):
        first = datetime.date(year, 1, 1)
        days = [first + datetime.timedelta(n) for n in range(366 if year in (2000, 2024) else 365)]
        dates = torch.tensor([[year, n + 1] for n in range(len(days))], dtype=torch.float32)
        assert month(dates).tolist() == [day.month - 1 for day in days]
    nan = torch.nan
    assert month(torch.tensor([[nan, nan], [2020, nan], [nan, 60]])).tolist() == [5, 5, 2]


def test_ndvi_is_bounded_and_zero_without_signal():
    red = torch.tensor([0.1, 0.0, 0.3, -0.02, 1e-9, 0.0])
    nir = torch.tensor([0.3, 0.0, 0.1, 0.05, 0.0, 0.2])
    torch.testing.assert_close(ndvi(red, nir), torch.tensor([0.5, 0.0, -0.5, 1.0, 0.0, 1.0]))


@pytest.mark.parametrize("patch", range(1, 8))
def test_resized_kernel_is_the_least_squares_one(patch):
    """FlexiViT, eq. 4: the small kernel, spread to 8 x 8 pixels by the transpose of resizing, is next to the stored."""
    torch.manual_seed(0)
    layer = FlexiPatchEmbed(1, 3, patch)
    pixels = torch.eye(patch * patch).view(1, -1, 1, patch, patch)
    resized = layer(pixels)[0, :, 0] - layer.proj.bias
    to_small = F.interpolate(torch.eye(64).view(64, 1, 8, 8), (patch, patch), mode="bicubic", antialias=True).flatten(1)
    expected = torch.linalg.lstsq(to_small, layer.proj.weight.flatten(1).T).solution
    torch.testing.assert_close(resized, expected, atol=1e-5, rtol=1e-4)


def test_gradients_reach_every_parameter_and_nothing_else():
    backbone = build((*S1, *S2, *TERRAIN), 2, patch=4)
    names = set(trainable(backbone))
    assert names == set(dict(backbone.named_parameters()))
    assert not names & {"pos_embed", "month_embed"}
    sum((m * torch.randn_like(m)).sum() for m in backbone(batch_of(backbone))).backward()
    still = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # The softmax does not see a constant added to every key.
    assert [name for name in still if not name.endswith("attn.k.bias")] == []


def test_a_changed_kernel_changes_the_next_output():
    backbone = build(patch=4).requires_grad_(False)
    batch = batch_of(backbone)
    before = backbone(batch)[-1]
    backbone.space_time_embed["S2_RGB"].proj.weight.data.mul_(2)
    assert (backbone(batch)[-1] - before).abs().max() > 1e-3


def test_deepcopy_and_pickle():
    backbone = load(build(S2, patch=4), random_weights())
    batch = batch_of(backbone)
    for twin in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        torch.testing.assert_close(twin(batch), backbone(batch), atol=0, rtol=0)


def test_training_after_inference_mode():
    backbone = build(S2, patch=4)
    batch = batch_of(backbone, 12, 12)
    with torch.inference_mode():
        backbone(batch)
    backbone(batch)[-1].sum().backward()


def test_bfloat16():
    backbone = build((*S1, *S2), patch=4)
    batch = batch_of(backbone)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = backbone(batch)[-1]
    assert (half.float() - backbone(batch)[-1]).abs().mean() < 0.05


# ---------------------------------------------------------------------------------------------- weights


def test_every_published_key_is_used_or_skipped_with_a_reason():
    state = random_weights()
    assert len(state) == 106
    remapped = build((*S1, *S2, *TERRAIN)).remap(state)
    assert len(remapped.state) + len(remapped.skipped) == 106
    assert all(remapped.skipped.values())
    assert not any(key.startswith(("blocks", "norm", "space_time", "pos", "month")) for key in remapped.skipped)
    rgb = build(RGB).remap(state)
    assert {"space_time_embed.S1.proj.weight", "space_embed.SRTM.proj.bias", "sp_channel_embed"} <= set(rgb.skipped)


def test_unmap_gives_the_published_keys_back():
    state = random_weights()
    backbone = build(S2)
    remapped = backbone.remap(state)
    back = backbone.unmap(remapped.state)
    assert set(back) | set(remapped.skipped) == set(state)
    assert all(torch.equal(value, state[key]) for key, value in back.items())
    assert backbone.remap(back).skipped == {}


def test_keys_with_backbone_in_them_are_cleaned():
    state = {key.replace("blocks.", "blocks.backbone."): value for key, value in random_weights().items()}
    assert len(build().remap(state).state) == len(build().state_dict())


def test_checkpoints_that_do_not_fit_are_refused():
    state = random_weights()
    with pytest.raises(WeightsError, match=r"do not fit galileo nano\nunknown \(1\): blocks.9.attn.q.weight"):
        build().remap(state | {"blocks.9.attn.q.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"missing \(1\): norm.bias"):
        build().remap({key: value for key, value in state.items() if key != "norm.bias"})
    with pytest.raises(WeightsError, match=r"shape \(1\): norm.bias \(3,\) instead of \(128,\)"):
        build().remap(state | {"norm.bias": torch.zeros(3)})
    with pytest.raises(WeightsError, match="they are those of `variant: tiny`") as caught:
        build().remap(random_weights("tiny"))
    assert len(str(caught.value).splitlines()) <= 5


# ----------------------------------------------------------------------------------------------- errors


def test_errors_of_the_configuration():
    with pytest.raises(ConfigError, match="there is no galileo 'nan'; did you mean 'nano'"):
        Galileo(variant="nan")
    with pytest.raises(ConfigError, match="no patches of 9 pixels\nallowed: 1, 2"):
        Galileo(patch=9)
    with pytest.raises(
        ConfigError, match=r"cannot take swir16: .*whole groups\nallowed: vv \+ vh, blue \+ green \+ red"
    ):
        Galileo().build((*RGB, "swir16"))
    with pytest.raises(ConfigError, match="cannot take no bands"):
        Galileo().build(())
    with pytest.raises(ConfigError, match="named twice"):
        Galileo().build((*RGB, "red"))
    with pytest.raises(ConfigError, match="1 to 24 dates, not 25"):
        Galileo().build(RGB, 25)


def test_errors_of_the_data():
    backbone = build(patch=8)
    with pytest.raises(
        DataError, match=r"images of 16 x 12 pixels .* patches of 8\nallowed: patch: 1, patch: 2, patch: 4\n"
    ):
        backbone(batch_of(backbone, 16, 12))
    with pytest.raises(DataError, match="at most 24 dates, not 25"):
        backbone(batch_of(backbone, frames=25))
    with pytest.raises(DataError, match="2 dates for 1 images"):
        backbone(batch_of(backbone, dates=torch.zeros(2, 2, 2)))

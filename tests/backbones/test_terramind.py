"""TerraMind: outputs of the published implementation, strict loading of its checkpoints, bands and modalities."""

from pathlib import Path

import pytest
import torch
from prithvi_cases import digest, sketch
from safetensors import safe_open
from safetensors.torch import load_file
from terramind_cases import CASES, RADAR, Case, batch, build_ours, fill

from adapteo.backbones.terramind import VARIANTS, TerraMind, TerraMindViT, position_code
from adapteo.bands import HLS6, SENTINEL2_L1C, SENTINEL2_L2A
from adapteo.checkpoint import load_base
from adapteo.contracts import adapt, trainable_count
from adapteo.errors import ConfigError, DataError, WeightsError
from adapteo.peft.bitfit import BitFit
from adapteo.peft.lora import LoRA

GOLDEN = Path(__file__).parent / "golden" / "terramind.safetensors"


def upstream(case: Case) -> dict[str, torch.Tensor]:
    """A checkpoint with all bands of the case's modalities, in upstream's keys."""
    state = build_ours(case).state_dict()
    shapes = {name: tuple(value.shape) for name, value in build_ours(case).unmap(state).items()}
    return fill({name: shape for name, shape in shapes.items() if not name.endswith("pos_emb")})


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.variant}-{len(case.bands)}-{case.merge}-{case.height}")
def test_outputs_are_those_of_terratorch(case):
    expected = load_file(GOLDEN)[case.name]
    with torch.no_grad():
        found = build_ours(case, upstream(case))(batch(case))
    torch.testing.assert_close(torch.stack([sketch(m) for m in found]), expected, rtol=0, atol=1e-5)


def test_unmapped_keys_and_shapes_are_those_of_terratorch():
    checked = 0
    with safe_open(GOLDEN, "pt") as file:
        for case in CASES:
            if case.name in file.metadata() and set(case.bands) >= set(SENTINEL2_L2A):
                model = build_ours(case)
                shapes = {name: tuple(value.shape) for name, value in model.unmap(model.state_dict()).items()}
                if (case.height, case.width) == (224, 224):
                    assert digest(shapes) == file.metadata()[case.name]
                    checked += 1
    assert checked


def test_a_subset_of_bands_is_the_whole_with_zeros():
    few = Case("tiny", ("red", "vh", "blue"))
    model = build_ours(few, upstream(few))
    back = model.unmap(model.state_dict())
    whole = Case("tiny", (*SENTINEL2_L2A, *RADAR))
    full = build_ours(whole, back)
    images = torch.zeros(1, 1, len(whole.bands), 32, 48)
    given = batch(few).images[:1, ..., :32, :48]
    images[:, :, [whole.bands.index(band) for band in few.bands]] = given
    with torch.no_grad():
        for a, b in zip(model(batch(few).with_images(given)), full(batch(few).with_images(images)), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_every_key_is_used_or_skipped_with_a_reason():
    case = Case("tiny", ("red", "green"))
    state = upstream(Case("tiny", (*SENTINEL2_L2A, *RADAR)))
    extra = {"decoder.0.norm1.weight": torch.ones(3), "mask_token": torch.ones(3)}
    extra["encoder_embeddings.untok_sen2l2a@224.pos_emb"] = torch.ones(1, 196, 192)
    remapped = build_ours(case).remap({f"model.{key}": value for key, value in {**state, **extra}.items()})
    assert remapped.state.keys() == build_ours(case).state_dict().keys()
    reasons = {key.removeprefix("model."): reason for key, reason in remapped.skipped.items()}
    assert reasons["decoder.0.norm1.weight"] == reasons["mask_token"] == "belongs to a decoder, tokenizer or task"
    assert "modality that is not used" in reasons["encoder_embeddings.untok_sen1grd@224.mod_emb"]
    assert reasons["encoder.0.norm1.bias"] == "always zero"
    assert len(remapped.skipped) + len(remapped.state) > len(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("encoder.1.attn.qkv.weight"), r"missing \(1\): encoder.1.attn.qkv.weight"),
        (lambda state: state.update({"encoder.7.norm1.weight": torch.ones(192)}), r"unknown \(1\)"),
        (lambda state: state.update({"encoder.0.norm1.bias": torch.ones(192)}), r"unknown \(1\): encoder.0.norm1.bias"),
        (lambda state: state.update({"encoder_norm.weight": torch.ones(5)}), "of another shape"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(change, message):
    case = Case("tiny")
    state = upstream(case)
    change(state)
    with pytest.raises(WeightsError, match=message) as caught:
        build_ours(case).remap(state)
    assert len(str(caught.value).splitlines()) <= 5


def test_loading_a_file(tmp_path):
    case = Case("tiny")
    torch.save(upstream(case), tmp_path / "TerraMind_v1_tiny.pt")
    model = TerraMindViT(VARIANTS["tiny"], case.bands, TerraMind("tiny").modalities, depth=case.depth)
    base = load_base(model, str(tmp_path))
    assert base.repo == "ibm-esa-geospatial/TerraMind-1.0-tiny"
    assert torch.equal(model.norm.weight, upstream(case)["encoder_norm.weight"])


def test_bands_choose_the_modalities():
    spec = TerraMind("tiny", weights="random")
    assert spec.accepts(("vv", "red", "ndvi", "cirrus", "elevation")) == ("vv", "red", "elevation")
    assert "cirrus" in TerraMind("tiny", optical="l1c").accepts(SENTINEL2_L1C)
    model = spec.build(("vv", "red", "elevation"))
    assert list(model.embeddings) == ["untok_sen2l2a@224", "untok_sen1grd@224", "untok_dem@224"]
    assert model.normalisation.mean == pytest.approx((-12.599, 0.1853910, 670.665))
    assert model.normalisation.std == pytest.approx((5.195, 0.2134138, 951.272))
    assert model.channels == (192,) * 4
    assert TerraMind("tiny", merge="concat").build(("vv", "red")).channels == (384,) * 4


def test_what_it_cannot_take_is_refused():
    with pytest.raises(ConfigError, match="takes one date, the dataset has 3"):
        TerraMind("tiny").build(HLS6, 3)
    with pytest.raises(ConfigError, match="no band"):
        TerraMind("tiny").build(("red", "lwir11"))
    with pytest.raises(ConfigError, match="variant is 'bas'; did you mean 'base'"):
        TerraMind("bas")
    model = TerraMind("tiny", weights="random").build(("red",))
    with pytest.raises(DataError, match="cannot be cut into patches of 16"):
        model.embed(batch(Case("tiny", ("red",), 40, 40)))
    with pytest.raises(DataError, match="3 bands; built for 1 date and 1 bands"):
        model.embed(batch(Case("tiny", ("red", "green", "blue"))))


@pytest.mark.parametrize(("name", "millions"), [("tiny", 5.9), ("small", 22.5), ("base", 87.3), ("large", 305.2)])
def test_sizes(name, millions):
    with torch.device("meta"):
        model = TerraMind(name).build(SENTINEL2_L2A)
    variant = VARIANTS[name]
    count = sum(p.numel() for p in model.parameters())
    d, hidden = variant.dim, variant.dim * 8 // 3
    per_block = (4 * d * d + 3 * d * hidden + 2 * d) if variant.gated else (12 * d * d + 11 * d)
    assert count == variant.depth * per_block + 12 * 256 * d + d + d
    assert count / 1e6 == pytest.approx(millions, abs=0.1)


def test_gated_blocks_have_a_linear_more_to_adapt():
    with torch.device("meta"):
        model = TerraMind("base").build(("red",))
    lora = LoRA(rank=4)
    d, hidden = 768, 2048
    assert lora.parameters_formula(model) == 12 * 4 * (4 * 2 * d + 3 * (d + hidden))
    assert trainable_count(adapt(model, LoRA(rank=4, targets=("gate",)))) == 12 * 4 * (d + hidden)


def test_bitfit_is_refused_where_there_are_no_biases():
    with torch.device("meta"):
        model = TerraMind("base").build(("red",))
    with pytest.raises(ConfigError, match="have none"):
        BitFit().apply(model)


def test_positions_of_row_and_column():
    code = position_code(16, 3, 5).view(3, 5, 16)
    assert torch.equal(code[1, 0, :8], code[1, 4, :8])  # the first half knows the row only
    assert torch.equal(code[0, 2, 8:], code[2, 2, 8:])
    assert not torch.equal(code[0, 0], code[0, 1])

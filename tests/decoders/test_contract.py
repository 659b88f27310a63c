"""Every decoder keeps the same promises on every kind of backbone; the list is read from the registry.

A decoder joins by existing; `CASES` holds the fields worth trying beyond its defaults. The backbones have few channels,
which widths follow, so that the largest grids take milliseconds.
"""

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor

from adapteo import registry
from adapteo.contracts import Decoder, DecoderSpec, Features
from adapteo.errors import ConfigError

CASES: dict[str, list[dict[str, object]]] = {
    "linear": [{}, {"stride": 8}, {"stride": 32}, {"stride": 16, "upsampling": 4}],
    "fcn": [{}, {"blocks": 1}, {"norm": "group"}, {"norm": "batch"}],
    "unet": [{}, {"norm": "layer"}, {"norm": "batch"}, {"upsample_last": True}],
    "upernet": [{}, {"norm": "layer"}, {"norm": "batch"}, {"pools": ()}, {"align_corners": True}],
}
DECODERS = {
    name if index == 0 else f"{name}-{'-'.join(map(str, fields))}-{index}": (name, fields)
    for name in registry.names("decoders")
    for index, fields in enumerate(CASES.get(name, [{}]))
}
BACKBONES = {
    "vit-16": Features((24,) * 4, (16,) * 4),
    "vit-14": Features((24,) * 4, (14,) * 4),
    "vit-8-one-tap": Features((24,), (8,)),
    "vit-4-six-taps": Features((24,) * 6, (4,) * 6),
    "pixels": Features((24,) * 2, (1,) * 2),
    "cnn": Features((8, 16, 24, 32), (4, 8, 16, 32)),
    "cnn-with-stem": Features((8, 8, 16, 24, 32), (2, 4, 8, 16, 32)),
    "two-stages": Features((8, 16), (4, 8)),
}
SOME = ("vit-16", "cnn")


def spec_of(name: str, **more: object) -> DecoderSpec:
    key, fields = DECODERS[name]
    return registry.load("decoders", key)(**{**fields, **more})


def build(name: str, features: Features, *, dense: bool = True, **more: object) -> Decoder:
    torch.manual_seed(0)
    return spec_of(name, **more).build(features, 3, dense)


def maps_for(features: Features, size: tuple[int, int], batch: int = 2) -> list[Tensor]:
    torch.manual_seed(1)
    return [
        torch.randn(batch, channels, *(-(-side // stride) for side in size))
        for channels, stride in zip(features.channels, features.strides, strict=True)
    ]


def sizes(features: Features) -> tuple[tuple[int, int], ...]:
    """Label grids: not square, one place on the coarsest map, and no multiple of any stride."""
    coarsest = features.strides[-1]
    return (2 * coarsest, 3 * coarsest), (coarsest, coarsest), (2 * coarsest - 1, coarsest + 1)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_any_backbone_and_any_label_grid(name, backbone):
    features = BACKBONES[backbone]
    decoder = build(name, features).eval()
    for size in sizes(features):
        logits = decoder(maps_for(features, size), size)
        assert logits.shape == (2, 3, *size)
        assert logits.isfinite().all()


@pytest.mark.parametrize("backbone", SOME)
@pytest.mark.parametrize("name", DECODERS)
def test_every_parameter_and_every_map_that_is_read_gets_a_gradient(name, backbone):
    features = BACKBONES[backbone]
    decoder = build(name, features).train()
    maps = [m.requires_grad_() for m in maps_for(features, (64, 96))]
    logits = decoder(maps, (64, 96))
    (logits * torch.randn_like(logits)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder.parameters())
    read = {index for index, m in enumerate(maps) if m.grad is not None and m.grad.abs().sum() > 0}
    assert read == {index % len(maps) for index in decoder.reads}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_maps_that_are_not_read_may_come_without_channels(name, backbone):
    features = BACKBONES[backbone]
    decoder = build(name, features).eval()
    assert all(-len(features.channels) <= index < 0 for index in decoder.reads), "counted from the last"
    maps = maps_for(features, (64, 32))
    read = {index % len(maps) for index in decoder.reads}
    some = [m if index in read else m[:, :0] for index, m in enumerate(maps)]
    assert torch.equal(decoder(some, (64, 32)), decoder(maps, (64, 32)))


@pytest.mark.parametrize("backbone", SOME)
@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_an_image_does_not_depend_on_its_batch(name, backbone):
    """In training as well, except for batch norm; so a batch of one image trains."""
    features = BACKBONES[backbone]
    decoder = build(name, features).train("batch" not in DECODERS[name][1].values())
    maps = maps_for(features, (64, 96), batch=3)
    together = decoder(maps, (64, 96))
    alone = torch.cat([decoder([m[i : i + 1] for m in maps], (64, 96)) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backbone", SOME)
@pytest.mark.parametrize("name", [name for name, (_, fields) in DECODERS.items() if "batch" not in fields.values()])
def test_one_place_and_one_image_train_without_batch_norm(name, backbone):
    """Batch norm needs two values per channel."""
    features = BACKBONES[backbone]
    size = (features.strides[-1],) * 2
    decoder = build(name, features).train()
    logits = decoder(maps_for(features, size, batch=1), size)
    (logits * torch.randn_like(logits)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())


@pytest.mark.parametrize("backbone", SOME)
@pytest.mark.parametrize("name", DECODERS)
def test_bfloat16_is_near_float32(name, backbone):
    """CPUs with matrix units take other kernels for bfloat16, which have been wrong before, by a relative error of 1.

    Rounding to bfloat16 around each convolution, computed in float32, changes logits by 0.01 and gradients through many
    ReLUs by 0.17.
    """
    features = BACKBONES[backbone]
    decoder = build(name, features).eval()
    maps = maps_for(features, (64, 96))
    towards = torch.randn(2, 3, 64, 96)
    found: list[tuple[Tensor, Tensor]] = []
    for enabled in (False, True):
        decoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = decoder(maps, (64, 96))
        (logits.float() * towards).sum().backward()
        found.append((logits.detach().float(), torch.cat([p.grad.flatten() for p in decoder.parameters()])))
    assert logits.dtype == torch.bfloat16
    for exact, rounded, tolerance in zip(*found, (0.03, 0.3), strict=True):
        assert float((rounded - exact).norm() / exact.norm()) < tolerance


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_maps_stay_as_they_are(name):
    features = BACKBONES["cnn"]
    maps = maps_for(features, (64, 96))
    before = [m.clone() for m in maps]
    build(name, features).train()(maps, (64, 96))
    assert all(torch.equal(a, b) for a, b in zip(maps, before, strict=True))


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_copies_compute_the_same(name):
    features = BACKBONES["vit-16"]
    maps = maps_for(features, (64, 96))
    decoder = build(name, features).eval()
    expected = decoder(maps, (64, 96))
    saved = io.BytesIO()
    torch.save(decoder.state_dict(), saved)
    saved.seek(0)
    torch.manual_seed(7)
    loaded = spec_of(name).build(features, 3, True).eval()
    loaded.load_state_dict(torch.load(saved, weights_only=True))
    for other in (loaded, copy.deepcopy(decoder), pickle.loads(pickle.dumps(decoder))):
        assert torch.equal(other(maps, (64, 96)), expected)


@pytest.mark.parametrize("name", registry.names("decoders"))
def test_labels_per_image_work_or_say_what_does(name):
    features = BACKBONES["cnn"]
    spec = registry.load("decoders", name)()
    if name == "linear":
        assert spec.build(features, 3, dense=False)(maps_for(features, (64, 96)), (64, 96)).shape == (2, 3)
        return
    with pytest.raises(ConfigError, match=f"the {name} decoder makes a map") as caught:
        spec.build(features, 3, dense=False)
    assert caught.value.fix == "decoder: linear"


@pytest.mark.parametrize("name", [name for name in registry.names("decoders") if name != "linear"])
def test_fields_that_make_no_sense(name):
    kind = registry.load("decoders", name)
    with pytest.raises(ConfigError, match="did you mean 'batch'"):
        kind(norm="bach")
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(ConfigError, match=r"decoder\.dropout is"):
            kind(dropout=rate)


@pytest.mark.parametrize("name", [name for name in registry.names("decoders") if name != "linear"])
@torch.no_grad()
def test_dropout_acts_before_the_head_and_in_training_only(name):
    features = BACKBONES["vit-16"]
    maps = maps_for(features, (64, 96))
    plain, dropping = (build(name, features, dropout=rate) for rate in (0.0, 0.5))
    dropping.load_state_dict(plain.state_dict())
    assert torch.equal(plain.eval()(maps, (64, 96)), dropping.eval()(maps, (64, 96)))
    seen: list[Tensor] = []
    dropping.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    dropping.eval()(maps, (64, 96))
    dropping.train()(maps, (64, 96))
    exact, dropped = seen
    kept = dropped != 0
    assert float(kept.sum() / (exact != 0).sum()) == pytest.approx(0.5, abs=0.02)
    torch.testing.assert_close(dropped[kept], 2 * exact[kept])

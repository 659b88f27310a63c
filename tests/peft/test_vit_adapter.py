"""ViT-Adapter against TerraTorch 1.2.11 (tools/golden_vit_adapter.py), the paper's counts, and its own promises."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from vit_adapter_cases import CASES, Case, batch, digest, fill, loss, noise, sketch

from adapteo import config, experiment
from adapteo.backbones.prithvi import VARIANTS, PrithviViT
from adapteo.bands import HLS6
from adapteo.contracts import Backbone, Batch, Features, Grid, adapt, merge, moving, trainable, trainable_count
from adapteo.decoders.unet import UNet
from adapteo.errors import ConfigError, DataError
from adapteo.model import Model, features
from adapteo.peft.vit_adapter import STRIDES, ViTAdapter, from_terratorch
from adapteo.scoring import score
from adapteo.vit import PatchConv2d
from tiny import TinyBackbone
from toy import other, spell, start

GOLDEN = Path(__file__).parent / "golden" / "vit_adapter.safetensors"


# ------------------------------------------------------------------------------------ counts and TerraTorch


@pytest.mark.parametrize(("variant", "count"), [("1.0-100M", 11_886_368), ("2.0-300M", 20_057_472)])
def test_counts_of_the_paper(variant, count):
    with torch.device("meta"):
        backbone = PrithviViT(VARIANTS[variant], HLS6)
        assert trainable_count(adapt(backbone, ViTAdapter())) == count
    assert {name.split(".")[1] for name in trainable(backbone)} == {
        "level_embed", "spm", "interactions", "up", "norm1", "norm2", "norm3", "norm4"
    }  # fmt: skip


def golden(name: str) -> Tensor:
    with safe_open(GOLDEN, "pt") as file:
        return file.get_tensor(name)


def filled(case: Case) -> Backbone:
    """The case's model with the weights that TerraTorch had."""
    plain = case.backbone()
    shapes = {name: tuple(value.shape) for name, value in plain.unmap(plain.state_dict()).items()}
    plain.load_state_dict(plain.remap(fill(shapes)).state)
    backbone = adapt(plain, case.method)
    ours = {name.removeprefix("route."): tuple(value.shape) for name, value in moving(backbone).items()}
    case.method.load_adapter_state(backbone, from_terratorch(fill(ours)))
    return backbone.train(case.training)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_maps_and_gradients_equal_those_of_terratorch(case):
    backbone = filled(case)
    maps = backbone(batch(case))
    for index, found in enumerate(maps):
        expected = golden(f"{case.name}/map {index}")
        torch.testing.assert_close(sketch(f"map {index}", found), expected, rtol=1e-5, atol=1e-5)
    loss(maps).backward()
    gradients = {name: p.grad for name, p in trainable(backbone).items()}
    found = torch.stack([sketch(name, gradients[name]) for name in sorted(gradients)])
    torch.testing.assert_close(found, golden(f"{case.name}/gradients"), rtol=1e-4, atol=2e-6)
    if case.training:
        for name in ("running_mean", "running_var"):
            statistics = getattr(backbone.route.norm1, name)
            torch.testing.assert_close(statistics, golden(f"{case.name}/norm1.{name}"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_keys_and_shapes_are_those_of_terratorch(case):
    backbone = adapt(case.backbone(), case.method)
    with safe_open(GOLDEN, "pt") as file:
        assert digest({name: tuple(v.shape) for name, v in moving(backbone).items()}) == file.metadata()[case.name]


def test_an_adapter_is_found_in_a_checkpoint_of_terratorch():
    backbone = adapt(Case().backbone(), Case().method)
    state = ViTAdapter().adapter_state(backbone)
    theirs = {f"model.encoder.{name.removeprefix('route.')}": value for name, value in state.items()}
    rest = {
        "model.encoder.blocks.0.norm1.weight": torch.zeros(64),
        "model.encoder.patch_embed.proj.weight": torch.zeros(1),
        "model.decoder.up.weight": torch.zeros(1),
        "model.head.norm1.weight": torch.zeros(1),
    }
    found = from_terratorch({**rest, **theirs})
    assert found.keys() == state.keys()
    ViTAdapter().load_adapter_state(backbone, found)


@pytest.mark.parametrize("fields", [{"cffn": True, "cffn_ratio": 0.5}, {"conv_width": 5, "heads": 4, "points": 1}])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 7])
def test_the_formula_counts_any_depth_and_fields(depth, fields):
    backbone, method = TinyBackbone(HLS6[:2], depth=depth), ViTAdapter(**fields)
    expected = method.parameters_formula(backbone)
    assert trainable_count(adapt(backbone, method)) == expected
    assert len(backbone.route.interactions) == min(depth, 4)
    assert [len(i.extra_extractors) for i in backbone.route.interactions][-2:] in ([2], [0, 2])


@pytest.mark.parametrize(("dim", "heads"), [(768, 12), (1024, 16), (1280, 20), (192, 3), (32, 1), (168, 2), (96, 1)])
def test_one_head_per_64_channels_as_far_as_they_divide(dim, heads):
    assert ViTAdapter().heads_for(dim) == heads


# -------------------------------------------------------------------------------------- tokens and patches


class Recorder(nn.Module):
    """A block that keeps what it gave; ``inner`` None passes the tokens on."""

    def __init__(self, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.inner, self.seen = inner or nn.Identity(), []

    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x)
        self.seen.append(out.detach())
        return out


class Patched(TinyBackbone):
    """Tiny backbone with any patch, order of tokens and way to merge the dates."""

    def __init__(self, patch: int = 4, frames: int = 1, *, spatial_first: bool = False, merge: str = "concat") -> None:
        super().__init__(HLS6, frames)
        self.patch, self.merges, self.spatial_first = patch, merge, spatial_first
        self.patch_embed = PatchConv2d(len(HLS6), self.dim, patch)

    def embed(self, batch: Batch) -> tuple[Tensor, Grid]:
        tokens, grid = super().embed(batch)
        if self.spatial_first:
            patches = tokens[:, 1:].unflatten(1, (grid.stack, -1)).transpose(1, 2).flatten(1, 2)
            tokens = torch.cat([tokens[:, :1], patches], 1)
        return tokens, replace(grid, merge=self.merges, spatial_first=self.spatial_first)


def shaken(backbone: Backbone, method: ViTAdapter | None = None) -> Backbone:
    """Adapted, in evaluation mode, with nothing at zero that starts there."""
    backbone = adapt(backbone, method or ViTAdapter(conv_width=4)).eval()
    with torch.no_grad():
        for name, parameter in trainable(backbone).items():
            parameter.add_(0.3 * noise(name, tuple(parameter.shape)))
    return backbone


def images(frames: int = 1, height: int = 64, width: int = 96) -> Batch:
    return Batch(noise("images", (2, frames, len(HLS6), height, width)))


@torch.no_grad()
def maps_of(backbone: Backbone, given: Batch) -> list[Tensor]:
    return backbone(given)


def test_at_the_start_the_transformer_computes_what_it_was_trained_for():
    torch.manual_seed(0)
    backbone = TinyBackbone(HLS6, depth=3).eval()
    backbone.blocks = nn.ModuleList(Recorder(block) for block in backbone.blocks)
    backbone(images())
    adapt(backbone, ViTAdapter(conv_width=4)).eval()(images())
    assert all(torch.equal(*block.seen) for block in backbone.blocks)


@pytest.mark.parametrize(("keep", "tokens"), [(True, 385), (False, 384)])
def test_the_class_token_stays_or_goes(keep, tokens):
    backbone = TinyBackbone(HLS6)
    backbone.blocks = nn.ModuleList(Recorder(block) for block in backbone.blocks)
    adapt(backbone, ViTAdapter(conv_width=4, class_token=keep)).eval()(images())
    assert [block.seen[0].shape[1] for block in backbone.blocks] == [tokens, tokens]


def local(patch: int) -> Backbone:
    """Blocks pass the tokens on, and queries read their own places: what is seen at a place comes from there."""
    torch.manual_seed(0)
    backbone = shaken(Patched(patch))
    backbone.blocks = nn.ModuleList([nn.Identity(), nn.Identity()])
    for name, parameter in trainable(backbone).items():
        if "sampling_offsets" in name:
            nn.init.zeros_(parameter)
    return backbone


def change_of_one_cell(backbone: Backbone) -> tuple[Batch, Batch, tuple[int, int]]:
    """Images before and after a change within one cell of 32 pixels, which lies off the diagonal, and the cell."""
    height, width = (224, 448) if backbone.patch == 14 else (128, 160)
    before = images(1, height, width)
    row, column = height // 32 - 1, width // 32 - 3
    changed = before.images.clone()
    changed[..., 32 * row : 32 * row + 32, 32 * column : 32 * column + 32] += 5
    return before, before.with_images(changed), (row, column)


PATCHES = pytest.mark.parametrize("patch", [2, 4, 8, 14, 16])


@PATCHES
def test_strides_are_the_same_for_any_patch_and_tokens_show_in_their_places(patch):
    backbone = local(patch)
    assert backbone.multiple == {14: 224}.get(patch, 32)
    for layer in (backbone.route.spm.fc1, backbone.route.spm.fc2, backbone.route.spm.fc3, backbone.route.spm.fc4):
        nn.init.zeros_(layer.weight)  # so that only the tokens tell
    before, after, cell = change_of_one_cell(backbone)
    height, width = before.images.shape[-2:]
    for stride, a, b in zip(STRIDES, maps_of(backbone, before), maps_of(backbone, after), strict=True):
        assert a.shape == (2, 32, height // stride, width // stride)
        change = (a - b).abs().sum((0, 1))
        y, x = divmod(int(change.argmax()), change.shape[1])
        assert (y * stride // 32, x * stride // 32) == cell, stride


@PATCHES
def test_tokens_read_the_pyramid_at_their_own_places(patch):
    backbone = local(patch)
    backbone.blocks = nn.ModuleList(Recorder() for _ in range(2))
    for parameter in backbone.patch_embed.parameters():
        nn.init.zeros_(parameter)  # so that only the pyramid tells
    before, after, cell = change_of_one_cell(backbone)
    maps_of(backbone, before)
    maps_of(backbone, after)
    first, second = backbone.blocks[0].seen
    change = (first - second)[:, 1:].abs().sum((0, 2)).view(-1, before.images.shape[-1] // patch)
    y, x = divmod(int(change.argmax()), change.shape[1])
    middle = [(index + 0.5) * patch for index in (y, x)]
    # The strided convolutions look ahead of the middle of their cells, by half a cell of the coarsest level.
    assert all(abs(place - (32 * index + 16)) <= 32 for place, index in zip(middle, cell, strict=True))


def test_concatenated_dates_meet_in_the_transformer_only():
    torch.manual_seed(0)
    two, one = shaken(Patched(frames=2)), shaken(Patched())
    for backbone in (two, one):
        backbone.blocks = nn.ModuleList([nn.Identity(), nn.Identity()])
    one.load_state_dict(two.state_dict())
    given = images(frames=2)
    assert two.channels == (64,) * 4
    each = [maps_of(one, given.with_images(given.images[:, date : date + 1])) for date in range(2)]
    for found, first, second in zip(maps_of(two, given), *each, strict=True):
        torch.testing.assert_close(found, torch.cat([first, second], dim=1), rtol=1e-4, atol=1e-4)


def test_averaged_dates_share_a_pyramid_and_have_no_order():
    torch.manual_seed(0)
    backbone = shaken(Patched(frames=3, merge="mean"))
    assert backbone.channels == (32,) * 4
    given = images(frames=3)
    found, turned = maps_of(backbone, given), maps_of(backbone, given.with_images(given.images.flip(1)))
    for a, b, stride in zip(found, turned, STRIDES, strict=True):
        assert a.shape == (2, 32, 64 // stride, 96 // stride)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    repeated = maps_of(backbone, given.with_images(given.images[:, :1].expand(-1, 3, -1, -1, -1)))
    assert (repeated[-1] - found[-1]).abs().max() > 1e-2  # all dates count


@pytest.mark.parametrize("merge_kind", ["concat", "mean"])
def test_the_order_of_the_tokens_is_the_backbones_own(merge_kind):
    torch.manual_seed(0)
    one = shaken(Patched(frames=2, merge=merge_kind))
    two = shaken(Patched(frames=2, merge=merge_kind, spatial_first=True))
    two.load_state_dict(one.state_dict())
    given = images(frames=2)
    torch.testing.assert_close(maps_of(one, given), maps_of(two, given), rtol=1e-4, atol=1e-4)


# --------------------------------------------------------------------------------------------- as a method


def test_decoders_and_model_work_on_the_new_maps_at_any_size():
    backbone = adapt(TinyBackbone(HLS6), ViTAdapter(conv_width=4))
    assert features(backbone) == Features((32,) * 4, STRIDES)
    decoder = UNet().build(features(backbone), 3, dense=True)
    model = Model(backbone, decoder, backbone.normalisation)
    assert model.padded((40, 70)) == (64, 96)
    assert model(images(1, 40, 70)).shape == (2, 3, 40, 70)


def test_only_what_moves_is_saved_statistics_included():
    backbone = adapt(TinyBackbone(HLS6), ViTAdapter(conv_width=4))
    state = {name: value.clone() for name, value in ViTAdapter().adapter_state(backbone).items()}
    assert all(name.startswith("route.") for name in state)
    norms = [name for name, m in backbone.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 10
    assert {f"{name}.running_mean" for name in norms} <= state.keys()
    backbone.train()(images())
    moved = ViTAdapter().adapter_state(backbone)
    assert all(not torch.equal(moved[f"{name}.running_mean"], state[f"{name}.running_mean"]) for name in norms)


def test_merging_says_what_to_do_instead():
    with pytest.raises(ConfigError, match="keep the adapter file"):
        merge(adapt(TinyBackbone(HLS6), ViTAdapter(conv_width=4)))


def test_a_second_way_through_the_backbone_is_refused():
    backbone = adapt(TinyBackbone(HLS6), ViTAdapter(conv_width=4))
    with pytest.raises(ConfigError, match="ViTAdapterRoute does already"):
        ViTAdapter(conv_width=4).apply(backbone)


def test_sizes_that_do_not_divide_are_refused():
    backbone = adapt(TinyBackbone(HLS6), ViTAdapter(conv_width=4))
    with pytest.raises(DataError, match="40 x 64 pixels do not divide into cells of 32"):
        backbone(images(1, 40, 64))


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"conv_width": 0}, "conv_width"), ({"heads": -1}, "heads"), ({"value_ratio": 0.0}, "value_ratio")],
)
def test_wrong_fields(fields, message):
    with pytest.raises(ConfigError, match=f"{message} is above 0"):
        ViTAdapter(**fields)


def test_heads_have_to_divide_the_width():
    with pytest.raises(ConfigError, match="5 heads do not divide a width of 32"):
        adapt(TinyBackbone(HLS6), ViTAdapter(heads=5))


# --------------------------------------------------------------------------------------------- whole runs

METHOD = "method={name: vit_adapter, conv_width: 4}"


@pytest.mark.parametrize("head_start", ["true", "false"])
def test_a_run_gets_a_decoder_for_the_new_maps_and_loads_as_it_was(tmp_path, head_start):
    run = spell(tmp_path / "run", METHOD, f"train.head_start={head_start}", "train.rate=1e-3")
    fitted = experiment.fit(run)
    assert fitted.model.backbone.strides == STRIDES
    assert fitted.model.decoder.native == 32
    assert (run.out / "probe.safetensors").is_file() == (head_start == "true")
    _, val = experiment.loader(run, "train", fitted.bands), experiment.loader(run, "val", fitted.bands)
    metrics = run.task.metrics(score(fitted.model, run.task, val).statistics.sum(0), run.dataset.classes)
    noted = json.loads((run.out / "run.json").read_text())["validation"]
    assert float(metrics[run.task.monitor]) == pytest.approx(noted[run.task.monitor], abs=1e-6)
    if head_start == "true":
        assert fitted.test(resamples=10).baselines["test"].rows


def test_two_processes_train_as_one_does(tmp_path):
    """The statistics of BatchNorm are those of both processes, so the losses are the same."""
    keys = (METHOD, "train.batch=4", "train.rate=1e-3", "train.head_start=false")
    one = spell(tmp_path / "one", *keys, counts=(8, 4, 2, 1))
    experiment.fit(one)
    two = other(one, tmp_path / "two", devices=2)
    for process in start(two, tmp_path / "said", processes=2):
        process.join(120)
        assert process.exitcode == 0
    logs = [csv.DictReader((run.out / "log.csv").read_text(encoding="utf-8").splitlines()) for run in (one, two)]
    for a, b in zip(*logs, strict=True):
        for key in ("train_loss", "val_loss"):
            assert float(a[key]) == pytest.approx(float(b[key]), rel=1e-4, nan_ok=True), key


def test_the_yaml_round_trip_keeps_every_field(tmp_path):
    run = spell(tmp_path / "run", "method={name: vit_adapter, cffn: true, heads: 2, class_token: false}")
    assert run.method == ViTAdapter(cffn=True, heads=2, class_token=False)
    path = tmp_path / "run.yaml"
    path.write_text(config.dump(run), encoding="utf-8")
    assert config.load(path).method == run.method

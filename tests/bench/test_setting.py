"""A cell becomes a run that loads, with the paper's protocol; options are checked like any configuration."""

from pathlib import Path

import pytest

from adapteo import config
from adapteo.assembly import chosen_bands
from adapteo.bands import HLS6
from adapteo.bench.setting import Setting, options, run_of, smoke
from adapteo.bench.subjects import CLAY10
from adapteo.bench.tables import Cell, cells
from adapteo.errors import ConfigError

SETTING = Setting(Path("data"), Path("out"))


def of(model, method, dataset="sen1floods11", decoder="linear", **fields):
    return Cell(model, method, decoder, dataset, **fields)


def test_every_kind_of_cell_is_a_run():
    """Each combination once, on one dataset or another; each dataset often."""
    kinds = {(c.model, c.method, c.decoder, c.metadata, c.change): c for c in cells("all") if c.model != "vit-in21k"}
    assert {cell.dataset for cell in kinds.values()} > {"burn_scars", "m-SA-crop-type"}
    for cell in kinds.values():  # ViT needs timm; see the smoke runs
        run = run_of(cell, SETTING, 1e-4)
        assert run.train.rate == 1e-4
        assert config.name_of(run.method) == cell.method
        assert config.name_of(run.decoder) == cell.decoder


def test_the_papers_protocol():
    train = run_of(of("clay-v1-6", "full", decoder="fcn", metadata="on", seed=3), SETTING, 1e-4).train
    assert (train.epochs, train.patience, train.select, train.batch, train.seed) == (100, 15, "loss", 4, 3)
    assert (train.schedule, train.plateau_patience, train.plateau_factor) == ("plateau", 4, 0.5)
    assert (train.weight_decay, train.clip, train.warmup, train.head_start) == (0.01, None, 0, False)
    assert (train.augment, train.drop_last, train.normalise, train.precision) == ("d4", True, "dataset", "fp32")


def test_our_protocol_has_a_head_start_except_from_random_weights():
    ours = Setting(Path("data"), Path("out"), options=options(["protocol=ours"]))
    train = run_of(of("clay-v1-6", "lora"), ours, None).train
    assert (train.head_start, train.clip, train.warmup) == (True, 1.0, None)
    assert not run_of(of("unet-resnet50", "full", decoder="unet"), ours, None).train.head_start
    assert ours.folder != SETTING.folder, "runs of different protocols never mix"


def test_bands_of_each_model():
    def bands(model, dataset):
        run = run_of(of(model, "full", dataset), SETTING, None)
        return chosen_bands(run, run.dataset.bands)

    assert bands("clay-v1", "sen1floods11") == CLAY10
    assert bands("clay-v1-6", "reben") == HLS6
    assert len(bands("decur", "sen1floods11")) == 13
    assert len(bands("decur", "reben")) == 12
    assert len(bands("decur", "m-cashew-plant")) == 12
    assert bands("decur-6", "m-SA-crop-type") == HLS6
    assert bands("prithvi-2.0-300m", "burn_scars") == HLS6


def test_methods_decoders_and_metadata():
    run = run_of(of("prithvi-2.0-300m", "vit_adapter"), SETTING, None)
    assert (run.method.class_token, run.decoder.upsampling) == (False, 16)
    assert run_of(of("clay-v1", "vpt"), SETTING, None).method.prompts == 100
    lora = run_of(of("clay-v1", "lora"), SETTING, None).method
    assert (lora.rank, lora.alpha, lora.targets) == (16, 16, ("q", "v", "fc1", "fc2"))
    low = run_of(of("clay-v1", "lora", change="rank=4"), SETTING, None).method
    assert (low.rank, low.scale, low.targets) == (4, 1.0, lora.targets)
    assert run_of(of("clay-v1", "vpt", change="prompts=7"), SETTING, None).method.prompts == 7
    assert run_of(of("decur", "full", change="stride=16"), SETTING, None).decoder.stride == 16
    assert run_of(of("decur", "full", change="precision=bf16"), SETTING, None).train.precision == "bf16"
    told = run_of(of("prithvi-2.0-300m-tl", "full", metadata="on"), SETTING, None).backbone
    assert (told.variant, told.positions, told.metadata) == ("2.0-300M-TL", "interpolated", True)
    upernet = run_of(of("decur-6", "full", decoder="upernet"), SETTING, None).decoder
    assert (upernet.channels, upernet.norm, upernet.align_corners) == (256, "batch", True)


def test_the_papers_lists_are_taken_from_beside_the_data(tmp_path):
    setting = Setting(tmp_path, tmp_path / "out")
    cell = of("decur-6", "full", "burn_scars", change="draw=1")
    assert run_of(cell, setting, None).dataset.splits == "paper"
    (tmp_path / "burn_scars/paper_splits").mkdir(parents=True)
    dataset = run_of(cell, setting, None).dataset
    assert dataset.splits == str(tmp_path / "burn_scars/paper_splits")
    assert dataset.train_list == "train_subsets/train_data_0.10_1.txt"
    floods = run_of(of("decur-6", "full"), setting, None).dataset
    assert floods.splits == "official", "whose chips are the paper's"


def test_weights_from_a_folder_and_random_ones(tmp_path):
    setting = Setting(tmp_path, tmp_path, options=options([f"weights={tmp_path}"]))
    assert run_of(of("decur", "full"), setting, None).backbone.weights == str(tmp_path)
    assert run_of(of("unet-resnet50", "full", decoder="unet"), setting, None).backbone.weights == "random"


def test_a_smoke_run_is_one_step_of_a_small_model(tmp_path):
    setting = smoke(tmp_path, options(["jobs=2"]))
    run = run_of(of("clay-v1", "vpt", "reben"), setting, None)
    assert (run.train.epochs, run.train.batch, run.backbone.weights, run.dataset.pad) == (1, 2, "random", 32)
    backbone = run.backbone.build(chosen_bands(run, run.dataset.bands))
    assert (len(backbone.blocks), backbone.taps, backbone.dim) == (2, (0, 1), 768)
    other = run.backbone.build(chosen_bands(run, run.dataset.bands))
    assert other.cls_token.data_ptr() != backbone.cls_token.data_ptr()
    assert (setting.options.seeds, setting.options.jobs) == (1, 2)


class TestOptions:
    def test_values_have_their_types(self):
        found = options(["seeds=3", "download=true", "weights=w", "seeds=4"])
        assert (found.seeds, found.download, found.weights) == (4, True, Path("w"))

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("sedes=3", ["sedes", "did you mean 'seeds'"]),
            ("seeds=many", ["seeds", "a whole number"]),
            ("seeds=0", ["seeds is 0", "1 or more"]),
            ("rates=guess", ["rates", "search"]),
            ("seeds", ["key=value"]),
        ],
    )
    def test_mistakes(self, text, words):
        with pytest.raises(ConfigError) as caught:
            options([text])
        assert all(word in str(caught.value) for word in words)

"""Configurations in TerraTorch's format, written for these tests, become ours line by line or are refused."""

import copy
import os
import re
from pathlib import Path

import pytest
import yaml
from terratorch_cases import CONFIGS

from adapteo import config
from adapteo._yaml import dump
from adapteo.errors import ConfigError
from adapteo.peft.lora import LoRA
from adapteo.terratorch.importing import import_config

FILES = sorted(CONFIGS.glob("*.yaml"))


def importing(tmp_path, name, *changes, **options):
    """Import a configuration after changes ``(key with dots, value)``; a value of None takes the key away."""
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    for key, value in changes:
        *above, last = key.split(".")
        target = content
        for part in above:
            target = target[int(part) if isinstance(target, list) else part]
        if value is None:
            del target[last]
        else:
            target[int(last) if isinstance(target, list) else last] = copy.deepcopy(value)
    if isinstance(content["data"], str):
        content["data"] = yaml.safe_load((CONFIGS / content["data"]).read_text())
    path = tmp_path / "their.yaml"
    path.write_text(dump(content))
    return import_config(path, **options)


def refused(tmp_path, name, *changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        importing(tmp_path, name, *changes)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 5
    assert re.match(r"their\.yaml, line \d+: ", lines[0])


ARGS = "model.init_args.model_args"


# ------------------------------------------------------------------------------------------ every file


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_written_loads_as_it_was_checked(path, tmp_path):
    found = import_config(path, out=tmp_path / "run.yaml")
    (tmp_path / "run.yaml").write_text(found.text)
    run = config.load(tmp_path / "run.yaml")
    assert run.train == found.run.train
    assert (run.method, run.decoder, run.task) == (found.run.method, found.run.decoder, found.run.task)
    assert type(run.dataset) is type(found.run.dataset)
    assert run.train.head_start is False
    assert len(found.text.splitlines()) <= 60


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_value_has_a_verdict_with_its_line(path):
    found = import_config(path)
    report = found.report()
    text = path.read_text().splitlines()
    for line in found.lines:
        assert line.verdict in ("mapped", "dropped", "differs")
        if not line.place.startswith(path.name):
            continue
        written = text[int(line.place.rpartition("line ")[2]) - 1]
        last = line.key.rpartition(".")[2]
        assert last.isdigit() or last.removeprefix("backbone_") in written, f"{line} is not in '{written}'"
    assert re.search(r"\d+ mapped, \d+ dropped, \d+ differ$", report)


def test_files_of_the_paper(tmp_path):
    """Every configuration of IBM/peft-geofm, where a checkout is at hand (tools/import_peft_geofm.py does more)."""
    folder = os.environ.get("ADAPTEO_PEFT_GEOFM")
    if not folder:
        pytest.skip("ADAPTEO_PEFT_GEOFM names no checkout of IBM/peft-geofm")
    configs = Path(folder) / "configs"
    files = [f for f in sorted(configs.rglob("*.yaml")) if "datamodules" not in f.relative_to(configs).parts]
    assert len(files) == 202
    for file in files:
        found = import_config(file, out=tmp_path / "run.yaml")
        assert found.run.train.epochs == 100
        assert found.run.train.select == "loss"


# ---------------------------------------------------------------------------------- what maps to what


def test_a_linear_probe_of_the_paper():
    found = import_config(CONFIGS / "flood_linear.yaml")
    assert found.text == (
        "# flood_linear.yaml, imported from TerraTorch\n"
        "dataset:\n  name: sen1floods11\n  root: <sen1floods11_path>\n  splits: paper\n"
        "backbone:\n  name: prithvi\n  variant: 2.0-tiny-TL\n  positions: interpolated\n"
        "method: frozen\ndecoder: linear\n"
        "train:\n  epochs: 100\n  rate: 0.0007\n  clip: null\n  select: loss\n  head_start: false\n  drop_last: true\n"
        "  normalise: dataset\n  workers: 8\n"
    )
    lines = {line.key: line for line in found.lines}
    assert str(lines["model.init_args.lr"]) == "line  38  model.init_args.lr: 0.0007  ->  train.rate"
    assert lines["data.init_args.batch_size"].place == "flood.yaml, line 3"
    assert lines["trainer.callbacks.0"].verdict == "dropped"
    assert "biases and norms" in lines["model.init_args.optimizer"].text


def test_lora_and_the_rest_of_the_trainer():
    run = import_config(CONFIGS / "burns_lora_fcn.yaml").run
    assert run.method == LoRA(rank=4, alpha=16, targets=("q", "v", "fc1", "fc2"))
    assert run.task.losses == "ce+dice"
    train = run.train
    assert (train.seed, train.epochs, train.accumulate, train.clip, train.precision) == (3, 40, 2, 0.5, "bf16")
    assert (train.select, train.patience, train.schedule, train.weight_decay) == ("score", 10, "constant", 0.05)
    assert (run.backbone.metadata, run.backbone.positions) == (True, "recomputed")
    assert run.dataset.train_list == "train_subsets/train_data_0.10_1.txt"


def test_own_chips_in_three_folders():
    run = import_config(CONFIGS / "chips_unet.yaml").run
    assert (run.dataset.images, run.dataset.masks) == ("*/*_image.tif", "*/*_mask.tif")
    assert (run.dataset.splits.train, run.dataset.splits.val, run.dataset.splits.test) == ("training", (), "testing")
    assert run.dataset.class_names == {1: "crop", 2: "forest", 3: "town"}
    assert run.dataset.ignore == (0,), "class 0 becomes -1 there, which is ignored"
    assert run.dataset.scale == 1e-4, "means of thousands are of stored numbers"
    assert run.train.statistics["nir08"] == (0.2734, 0.185)
    assert (run.decoder.head_channels, run.decoder.dropout, run.decoder.norm) == ((12,), 0.1, "batch")
    assert (run.train.crop, run.train.augment, run.train.drop_last) == (64, "d4", False)
    assert run.train.bands is None, "Prithvi takes just the six of the seven bands by itself"
    assert (run.train.plateau_patience, run.train.plateau_factor) == (10, 0.1), "PyTorch's defaults"
    assert run.task.class_weights == (0.2, 0.3, 0.5)
    assert run.out == Path("output/chips/chips_unet")


def test_own_chips_by_lists():
    run = import_config(CONFIGS / "chips_vpt_upernet.yaml").run
    assert run.dataset.root == "/data/floods"
    assert (run.dataset.images, run.dataset.masks) == ("S2Hand/*_S2Hand.tif", "LabelHand/*_LabelHand.tif")
    assert (run.dataset.splits.by, run.dataset.splits.val) == ("file", "../splits/valid.txt")
    assert (run.method.prompts, run.method.dropout, run.method.deep) == (5, 0.1, True)
    assert (run.train.batch, run.train.devices, run.train.schedule) == (8, 2, "cosine")
    assert run.backbone.weights == "random"


def test_regression_from_three_dates_with_two_rates():
    run = import_config(CONFIGS / "heights_fcn.yaml").run
    assert (run.dataset.dates_per_file, run.dataset.label_type, run.dataset.ignore) == (3, "regression", (-9999,))
    assert (run.train.rate, run.train.head_rate) == (1e-5, 1e-3)
    assert (run.decoder.channels, run.decoder.blocks) == (16, 4)


def test_classes_from_folders_with_terratorchs_defaults():
    run = import_config(CONFIGS / "classes_identity.yaml").run
    assert (run.dataset.images, run.dataset.label_type) == ("*/*/*", "classification")
    assert (run.train.weight_decay, run.train.rate, run.train.schedule) == (0.0, 1e-3, "constant")
    assert run.train.patience is None


def test_bands_that_the_backbone_would_not_choose_by_itself():
    assert import_config(CONFIGS / "clay_lora_linear.yaml").run.train.bands == (
        "blue", "green", "red", "rededge071", "nir08",
    )  # fmt: skip


def test_a_frozen_network_of_stages_differs_and_says_so():
    found = import_config(CONFIGS / "decur_upernet.yaml")
    said = next(line for line in found.lines if line.key == "model.init_args.freeze_backbone")
    assert said.verdict == "differs"
    assert "BatchNorm" in said.text
    assert found.run.dataset.ignore == (0,)


def test_the_papers_baseline():
    run = import_config(CONFIGS / "flood_smp.yaml").run
    assert (run.decoder.channels, run.decoder.head_kernel) == ((256, 128, 64, 32, 16), 3)
    assert (run.train.batch, run.train.drop_last) == (4, True), "the module's defaults"


def test_a_file_that_lora_would_be_written_to_by_lightning(tmp_path):
    """LightningCLI saves every default; they are known."""
    defaults = {
        "fast_dev_run": False, "num_nodes": 1, "max_steps": -1, "limit_val_batches": 1.0, "overfit_batches": 0.0,
        "strategy": "auto", "profiler": None, "deterministic": None, "inference_mode": True, "plugins": None,
        "sync_batchnorm": False, "min_epochs": None, "val_check_interval": 1.0, "gradient_clip_algorithm": None,
    }  # fmt: skip
    changes = [(f"trainer.{key}", value) for key, value in defaults.items() if value is not None]
    found = importing(tmp_path, "burns_lora_fcn", *changes, ("model.init_args.aux_heads", []), ("out_dtype", "int16"))
    assert found.run.method.rank == 4


# ------------------------------------------------------------------------------------ paths and lists


def test_paths_start_from_the_folder_that_terratorch_is_called_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    here = import_config(CONFIGS / "chips_unet.yaml", out=Path("run.yaml"))
    assert "root: data/chips\n" in here.text
    there = import_config(CONFIGS / "chips_unet.yaml", out=Path("elsewhere/run.yaml"))
    assert f"root: {tmp_path}/data/chips\n" in there.text


def test_a_placeholder_is_filled_by_an_option():
    found = import_config(CONFIGS / "flood_linear.yaml", root=Path("/data/sen1floods11"))
    assert found.run.dataset.root == "/data/sen1floods11"
    plain = import_config(CONFIGS / "flood_linear.yaml")
    assert "--root" in next(line.text for line in plain.lines if line.key == "data.init_args.data_root")


def test_lists_of_chips(tmp_path, monkeypatch):
    folder = tmp_path / "datasets_splits" / "sen1floods11"
    folder.mkdir(parents=True)
    by_option = import_config(CONFIGS / "flood_linear.yaml", splits=tmp_path / "datasets_splits")
    assert by_option.run.dataset.splits == str(folder)
    monkeypatch.chdir(tmp_path)
    assert import_config(CONFIGS / "flood_linear.yaml").run.dataset.splits == "datasets_splits/sen1floods11"
    refused(
        tmp_path, "flood_linear", ("data", {**module(), "init_args": {**module()["init_args"], "val_split": "v.txt"}}),
        message=r"val_split: its list is called valid_data\.txt here",
    )  # fmt: skip


def module():
    return yaml.safe_load((CONFIGS / "data" / "flood.yaml").read_text())


def test_a_data_file_that_has_moved_is_looked_for_above(tmp_path):
    (tmp_path / "configs" / "data").mkdir(parents=True)
    (tmp_path / "configs" / "data" / "flood.yaml").write_text((CONFIGS / "data" / "flood.yaml").read_text())
    text = (CONFIGS / "flood_linear.yaml").read_text().replace("data: data/flood.yaml", "data: ../../data/flood.yaml")
    path = tmp_path / "configs" / "their.yaml"
    path.write_text(text)
    found = import_config(path)
    line = next(line for line in found.lines if line.key == "data")
    assert line.verdict == "differs"
    assert str(tmp_path / "configs" / "data" / "flood.yaml") in line.text
    path.write_text(text.replace("flood.yaml", "lake.yaml"))
    with pytest.raises(ConfigError, match=r"their\.yaml, line 17: .*lake\.yaml does not exist"):
        import_config(path)


# ------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("flood_linear", [("model.class_path", "terratorch.tasks.ObjectDetectionTask")], "no task of ours"),
        ("flood_linear", [("model.init_args.model_factory", "TimmModelFactory")], "builds models that are not here"),
        ("flood_linear", [(f"{ARGS}.backbone", "prithvi_eo_tiny")], "no counterpart with the same outputs"),
        ("flood_linear", [(f"{ARGS}.decoder", "ASPPDecoder")], "no ASPPDecoder decoder here"),
        ("flood_linear", [(f"{ARGS}.necks.0.indices", [3])], "linear reads the map of the last block"),
        ("flood_linear", [(f"{ARGS}.necks.0.indices", [30])], "gives 12 maps"),
        ("flood_linear", [(f"{ARGS}.necks", [{"name": "SelectIndices", "indices": [-1]}])], "tokens are no maps"),
        ("flood_linear", [(f"{ARGS}.decoder_upsampling_size", 8)], "logits are brought to the pixels here"),
        ("flood_linear", [(f"{ARGS}.backbone_bands", ["RED", "BLUE"])], "another order or choice"),
        ("flood_linear", [("model.init_args.optimizer", "SGD")], "there is no SGD here"),
        ("flood_linear", [("model.init_args.optimizer", "Adam"), ("model.init_args.optimizer_hparams",
         {"weight_decay": 0.1})], "Adam with weight_decay 0.1 is not AdamW"),
        ("flood_linear", [("model.init_args.scheduler", "StepLR")], "there is no StepLR here"),
        ("flood_linear", [("model.init_args.scheduler_hparams.cooldown", 3)], "PyTorch's own values"),
        ("flood_linear", [("model.init_args.loss", "lovasz")], "no loss 'lovasz' for segmentation"),
        ("flood_linear", [("model.init_args.loss", {"ce": 0.2, "dice": 0.8})], "each with the weight 1"),
        ("flood_linear", [("model.init_args.aux_heads", [{"name": "a"}])], "no auxiliary heads here"),
        ("flood_linear", [("model.init_args.freeze_decoder", True)], "the decoder is always trained"),
        ("flood_linear", [("model.init_args.lr_overrides", {"blocks": 1e-5})], "two rates here"),
        ("flood_linear", [("model.init_args.lr", "fast")], "is no number"),
        ("flood_linear", [("model.init_args.freeze_backbone", "yes")], "neither true nor false"),
        ("flood_linear", [("model.init_args.unheard_of", 1)], "unheard_of: is not known here"),
        ("flood_linear", [("trainer.limit_train_batches", 0.1)], "keeps fewer samples"),
        ("flood_linear", [("trainer.precision", "64-true")], "no such precision"),
        ("flood_linear", [("trainer.devices", -1)], "not known before"),
        ("flood_linear", [("trainer.callbacks.0.class_path", "StochasticWeightAveraging")], "nothing like"),
        ("flood_linear", [("trainer.callbacks.1.init_args.monitor", "val/F1_Score")], "or the task's own score"),
        ("flood_linear", [("trainer.callbacks.1.init_args.mode", "max")], "would keep the worst epoch"),
        ("flood_linear", [("trainer.callbacks.0", {"class_path": "ModelCheckpoint", "init_args":
         {"monitor": "val/mIoU", "mode": "max"}})], "monitor the same in both"),
        ("flood_linear", [("custom_modules_path", "mine")], "is not known here"),
        ("burns_lora_fcn", [("model.init_args.freeze_backbone", True)], "TerraTorch trains no LoRA"),
        ("burns_lora_fcn", [(f"{ARGS}.peft_config.method", "LOHA")], "there is LORA here"),
        ("burns_lora_fcn", [(f"{ARGS}.peft_config.replace_qkv", None), (
         f"{ARGS}.peft_config.peft_config_kwargs.target_modules", ["qkv"])], "LoRA acts on q, k and v one by one"),
        ("burns_lora_fcn", [(f"{ARGS}.peft_config.peft_config_kwargs.target_modules", ["proj"])],
         r"patch_embed\.proj as well, outside the blocks"),
        ("burns_lora_fcn", [(f"{ARGS}.peft_config.peft_config_kwargs.target_modules", ["blocks.0.mlp.fc1"])],
         "acts on 1 of 12 blocks"),
        ("burns_lora_fcn", [(f"{ARGS}.peft_config.peft_config_kwargs.target_modules", ["head"])], "hits no linear"),
        ("burns_lora_fcn", [(f"{ARGS}.peft_config.peft_config_kwargs.use_dora", True)], "LoRA without variants"),
        ("burns_lora_fcn", [(f"{ARGS}.backbone_vpt", True)], "used together with lora"),
        ("chips_vpt_upernet", [("model.init_args.freeze_backbone", False)], "with vpt the whole backbone trains too"),
        ("chips_vpt_upernet", [(f"{ARGS}.backbone_vpt_n_tokens", None)], "needs backbone_vpt_n_tokens"),
        ("chips_vpt_upernet", [(f"{ARGS}.necks.0.indices", [0, 1, 2, 11])], r"indices: \[2, 5, 8, 11\]"),
        ("chips_vpt_upernet", [(f"{ARGS}.necks", [{"name": "SelectIndices", "indices": [2, 5, 8, 11]},
         {"name": "ReshapeTokensToImage"}])], "gets a learned pyramid"),
        ("chips_vpt_upernet", [("model.init_args.scheduler_hparams.T_max", 50)], "over all epochs here, which are 20"),
        ("chips_vpt_upernet", [("data.init_args.val_split", None)], "without a list for val"),
        ("chips_vpt_upernet", [("data.init_args.no_label_replace", 1)], "write the value of ignore_index"),
        ("chips_vpt_upernet", [("data.init_args.means", [0.1, 0.2])], "has 2 values for 6 bands"),
        ("chips_vpt_upernet", [("data.init_args.dataset_bands", [0, 1, 2])], "is no name of a band"),
        ("chips_vpt_upernet", [("data.init_args.output_bands", ["BLUE", "CIRRUS"])], "the files have no cirrus"),
        ("chips_unet", [("data.init_args.val_data_root", "data/chips/training")], "training chips would validate"),
        ("chips_unet", [("data.init_args.val_data_root", "other/place/for/chips")], "no folders that lie alike"),
        ("chips_unet", [("data.init_args.train_transform.0.init_args.width", 32)], "windows are square"),
        ("chips_unet", [("data.init_args.train_transform.0.class_path", "albumentations.Resize")], "no Resize here"),
        ("chips_unet", [(f"{ARGS}.backbone_drop_path", 0.1)], "never left out in training"),
        ("chips_unet", [(f"{ARGS}.num_classes", 4)], "3 names for 4 classes"),
        ("classes_identity", [(f"{ARGS}.head_dim_list", [64])], "one linear behind the mean"),
        ("classes_identity", [(f"{ARGS}.decoder", "FCNDecoder")], "the mean of the last map"),
        ("classes_identity", [(f"{ARGS}.necks", [{"name": "AggregateTokens"}])], "class token takes no part"),
        ("heights_fcn", [(f"{ARGS}.necks.1.effective_time_dim", 1)], "with 3 dates it would mix places"),
        ("heights_fcn", [(f"{ARGS}.head_final_act", "torch.nn.ReLU")], "no activation behind the logits"),
        ("flood_smp", [(f"{ARGS}.pretrained", True)], "ImageNet weights are not here"),
        ("flood_smp", [(f"{ARGS}.model", "FPN")], "no such model"),
        ("flood_smp", [("data.init_args.bands", None), (f"{ARGS}.bands", ["BLUE", "RED"])], "feeds all 13 bands"),
        ("sites_terramind", [(f"{ARGS}.backbone_modalities", ["S2L2A", "S1GRD"])], "one modality of images"),
        ("burns_adapter", [(f"{ARGS}.backbone_coords_encoding", ["time"])], "dates and places go together"),
    ],
)  # fmt: skip
def test_what_would_mean_something_else_is_refused(tmp_path, name, changes, message):
    refused(tmp_path, name, *changes, message=message)


def test_many_refusals_fit_in_five_lines(tmp_path):
    changes = [(f"model.init_args.unheard_of_{i}", i) for i in range(6)]
    with pytest.raises(ConfigError, match="3 more lines are refused") as caught:
        importing(tmp_path, "flood_linear", *changes)
    assert len(str(caught.value).splitlines()) == 4


def test_a_data_module_that_is_not_known_is_one_refusal(tmp_path):
    refused(tmp_path, "flood_linear", ("data", {**module(), "class_path": "mine.DataModule"}),
            message="DataModule reads data that adapteo does not")  # fmt: skip


# ---------------------------------------------------------------------------------- further vocabulary


def test_the_vit_of_the_papers_baseline(tmp_path):
    vit = "timm_vit_base_patch16_224.augreg_in21k_ft_in1k"
    found = importing(
        tmp_path, "flood_linear", (f"{ARGS}.backbone", vit), (f"{ARGS}.backbone_bands", None),
        (f"{ARGS}.backbone_in_chans", 6), (f"{ARGS}.backbone_img_size", 512),
        (f"{ARGS}.necks", [{"name": "SelectIndices", "indices": [-1]}]), ("model.init_args.freeze_backbone", False),
    )  # fmt: skip
    assert (found.run.backbone.model, found.run.backbone.last_norm) == (vit.removeprefix("timm_"), False)
    assert found.run.train.bands == ("blue", "green", "red", "nir08", "swir16", "swir22")
    differs = [line.key for line in found.lines if line.verdict == "differs"]
    assert {f"{ARGS}.backbone", f"{ARGS}.backbone_img_size"} <= set(differs)
    refused(
        tmp_path, "flood_linear", (f"{ARGS}.backbone", vit), (f"{ARGS}.backbone_bands", None),
        (f"{ARGS}.backbone_in_chans", 3), message="is not the number of bands",
    )  # fmt: skip


def test_dofa_says_whose_wavelengths_differ(tmp_path):
    found = importing(
        tmp_path, "chips_unet", (f"{ARGS}.backbone", "dofa_base_patch16_224"), (f"{ARGS}.backbone_bands", None),
        (f"{ARGS}.backbone_model_bands", ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]),
        (f"{ARGS}.backbone_out_indices", [2, 5, 8, 11]), (f"{ARGS}.necks.0.indices", [0, 1, 2, 3]),
    )  # fmt: skip
    assert (found.run.backbone.variant, found.run.backbone.positions) == ("base", "interpolated")
    said = next(line.text for line in found.lines if line.verdict == "differs" and line.key == f"{ARGS}.backbone")
    assert said == "wavelengths of nir08, swir22 are rounded there"
    refused(
        tmp_path, "flood_linear", (f"{ARGS}.backbone", "dofa_base_patch16_224"), (f"{ARGS}.backbone_bands", None),
        (f"{ARGS}.necks.0.indices", [2]), message="the backbone gives 1 maps",
    )  # fmt: skip


def test_clay_on_chips_that_tell_no_distance(tmp_path):
    found = importing(
        tmp_path, "chips_unet", (f"{ARGS}.backbone", "timm_clay_v1_base"), (f"{ARGS}.backbone_img_size", 64),
        (f"{ARGS}.decoder_channels", [64, 32, 16, 8]),
    )  # fmt: skip
    assert found.run.dataset.pixel_size == 1.0
    assert found.run.train.bands is not None
    assert any("rounded there" in line.text for line in found.lines)


def test_the_older_factory_of_prithvi(tmp_path):
    found = importing(
        tmp_path, "heights_fcn", ("model.init_args.model_factory", "PrithviModelFactory"), (f"{ARGS}.necks", None),
        (f"{ARGS}.backbone", "prithvi_vit_100"), (f"{ARGS}.backbone_pretrained", None),
        (f"{ARGS}.backbone_num_frames", None), (f"{ARGS}.num_frames", 3), (f"{ARGS}.backbone_bands", None),
        (f"{ARGS}.bands", ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]), (f"{ARGS}.in_channels", 6),
    )  # fmt: skip
    assert (found.run.backbone.variant, found.run.backbone.weights) == ("1.0-100M", "pretrained")
    assert found.run.dataset.dates_per_file == 3


def test_weights_from_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = (f"{ARGS}.backbone_ckpt_path", "weights/prithvi.pt")
    found = importing(tmp_path, "flood_linear", given)
    assert found.run.backbone.weights == "weights/prithvi.pt"
    unread = importing(tmp_path, "flood_linear", given, (f"{ARGS}.backbone_pretrained", False))
    assert unread.run.backbone.weights == "random"
    assert next(line.verdict for line in unread.lines if line.key == given[0]) == "dropped"


def test_labels_of_whole_patches(tmp_path):
    found = importing(
        tmp_path, "clay_lora_linear", ("model.class_path", "terratorch.tasks.MultiLabelClassificationTask"),
        ("data.init_args.label", "classification"), (f"{ARGS}.decoder", "IdentityDecoder"),
        (f"{ARGS}.decoder_num_classes", None), (f"{ARGS}.decoder_upsampling_size", None),
        ("model.init_args.loss", "bce"),
    )  # fmt: skip
    assert (found.run.dataset.labels, found.run.task.losses) == ("multilabel", "bce")
    assert found.run.decoder.upsampling is None
    refused(tmp_path, "clay_lora_linear", ("data.init_args.label", "boxes"), message="label: is not known")
    refused(tmp_path, "clay_lora_linear", ("data.init_args.use_metadata", "all"), message="use_metadata: is not known")


def test_data_without_statistics_are_not_normalised(tmp_path):
    found = importing(tmp_path, "chips_unet", ("data.init_args.means", None), ("data.init_args.stds", None))
    assert set(found.run.train.statistics.values()) == {(0.0, 1.0)}
    found = importing(tmp_path, "chips_unet", ("data.init_args.constant_scale", 10000))
    assert found.run.dataset.scale == 1.0, "stored reflectance, which TerraTorch multiplies for means of thousands"
    refused(tmp_path, "chips_unet", ("data.init_args.means", "means.yaml"), message="is no list of numbers")


def test_defaults_of_lightning(tmp_path):
    found = importing(
        tmp_path, "flood_linear", ("trainer.max_epochs", None), ("trainer.callbacks.1.init_args.patience", None),
        ("seed_everything", True), ("trainer.enable_checkpointing", False), ("trainer.accelerator", "gpu"),
        ("model.init_args.lr", None), ("model.init_args.optimizer", None), ("model.init_args.class_names", None),
    )  # fmt: skip
    train = found.run.train
    assert (train.epochs, train.patience, train.rate, train.weight_decay) == (1000, 3, 1e-3, 0.0)
    assert train.accelerator == "cuda"
    said = {line.key: line.verdict for line in found.lines}
    assert (said["seed_everything"], said["trainer.enable_checkpointing"]) == ("differs", "differs")
    refused(tmp_path, "flood_linear", ("trainer.accelerator", "tpu"), message="no such device here")
    refused(tmp_path, "flood_linear", ("trainer.devices", [0, 1]), message="devices are counted here")
    refused(tmp_path, "flood_linear", ("lr_scheduler", {"class_path": "StepLR"}), message="needs `optimizer` beside it")

"""Runs go to TerraTorch and come back: the same tensors under its keys, the same configuration.

That TerraTorch loads what is written, strictly and with equal outputs, is shown by tools/golden_terratorch.py --export.
"""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from terratorch_cases import CONFIGS, NAMES, SIDE, batch, build, fill, golden, narrow_variants
from typer.testing import CliRunner

import adapteo
from adapteo import cli
from adapteo.assembly import adapt_model
from adapteo.backbones import clay, prithvi
from adapteo.bands import HLS6
from adapteo.data import _samples_burn_scars
from adapteo.data.raster import Raster, write_image
from adapteo.decoders.unet import UNet
from adapteo.errors import ConfigError
from adapteo.model import predict_logits
from adapteo.peft.vit_adapter import ViTAdapter
from adapteo.peft.vpt import VPT
from adapteo.terratorch.checkpoints import load_state, read_checkpoint, split
from adapteo.terratorch.data_out import _substring, labels
from adapteo.terratorch.exporting import export_model, export_run
from adapteo.terratorch.fitting import import_checkpoint
from adapteo.terratorch.importing import import_config

FIXED = re.compile(
    r"pos_emb|num_batches_tracked|criterion\.weight|_embed_enc\.scale|resnet_model\.fc\."
    r"|model\.encoder\.encoder(\.\d+\.norm[12]|_norm)\.bias$"
)
"""Counters and tables, what nothing reads, and the biases that TerraMind's norms do not have."""


@pytest.fixture(autouse=True)
def narrow_clay(monkeypatch):
    monkeypatch.setattr(clay, "VARIANTS", narrow_variants())


def loaded(name):
    """Model of ours with TerraTorch's tensors, its run, its classes, and these tensors."""
    state = fill(golden(name)[0])
    model, run, imagery = build(name)
    load_state(model, run, split(state), imagery.classes)
    return model, run, imagery, state


@pytest.mark.parametrize("name", NAMES)
def test_tensors_come_back_as_they_were(name):
    model, run, imagery, state = loaded(name)
    _, out, _ = export_model(run, model, imagery.classes, (SIDE, SIDE))
    linear = name == "clay_lora_linear"  # two convolutions become one and the identity
    for key in state.keys() | out.keys():
        if FIXED.search(key) or (linear and key.startswith(("model.head", "model.decoder"))):
            continue
        if name == "flood_linear" and key.startswith("model.head"):  # of 1.0, whose decoder has no head behind it
            continue
        assert key in state, f"TerraTorch has no {key}"
        assert key in out, f"{key} is lost"
        assert torch.equal(out[key], state[key]), key
    again, _, _ = build(name)
    load_state(again, run, split(out), imagery.classes)
    one, other = (predict_logits(m, batch(name, m, imagery.frames)) for m in (model, again))
    assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_come_back_as_they_were(name):
    model, run, imagery, _ = loaded(name)
    config, _, _ = export_model(run, model, imagery.classes, (SIDE, SIDE))
    theirs = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["model"]
    ours = config["model"]
    assert ours["class_path"] == theirs["class_path"]
    wanted, found = theirs["init_args"]["model_args"], ours["init_args"]["model_args"]
    for key in set(wanted) & set(found) - {"necks", "backbone_pretrained", "pretrained"}:
        assert found[key] == wanted[key] or key in ("decoder_num_classes", "peft_config"), key
    assert ours["init_args"]["freeze_backbone"] == theirs["init_args"]["freeze_backbone"]
    assert ours["init_args"].get("lr") in (theirs["init_args"].get("lr"), 1e-4, 1e-3)


def test_class_weights_are_part_of_the_tasks_state():
    model, run, imagery, _ = loaded("chips_unet")
    config, state, _ = export_model(run, model, imagery.classes, (SIDE, SIDE))
    assert state["criterion.weight"].tolist() == pytest.approx([0.2, 0.3, 0.5])
    assert config["model"]["init_args"]["class_weights"] == [0.2, 0.3, 0.5]
    assert config["model"]["init_args"]["ignore_index"] == -1, "0 in the files, as classes count from 1"


def test_what_terratorch_cannot_compute_is_refused():
    model, run, imagery, _ = loaded("chips_unet")

    def export(**changes):
        export_model(replace(run, **changes), model, imagery.classes, (SIDE, SIDE))

    with pytest.raises(ConfigError, match=r"batch norm, and this one group norm\ntrain with norm: batch"):
        export(decoder=UNet((32, 16, 16, 8)))
    with pytest.raises(ConfigError, match="no shallow prompts"):
        export(method=VPT(deep=False))
    with pytest.raises(ConfigError, match="no backbone that computes what 'clay' does here"):
        export(backbone=clay.Clay("v1.5", weights="random"))
    with pytest.raises(ConfigError, match="gets segmentation_models.pytorch's Unet"):
        model, run, imagery, _ = loaded("flood_smp")
        export(decoder=UNet())
    with pytest.raises(ConfigError, match="numbers classes from 0 or 1"):
        labels(import_config(CONFIGS / "chips_unet.yaml").run.dataset.__class__("x", class_names={3: "a", 5: "b"}))


@pytest.fixture(scope="module")
def burns(tmp_path_factory):
    """An imported run with its checkpoint, on a stand-in for the data."""
    folder = tmp_path_factory.mktemp("burns")
    _samples_burn_scars.write(folder / "data", per_split=2, side=SIDE)
    run = import_config(CONFIGS / "burns_lora_fcn.yaml").run
    data = replace(run.dataset, root=str(folder / "data"), splits=str(folder / "data" / "splits"), train_list="")
    run = replace(run, dataset=data, out=folder / "run")
    state = fill(golden("burns_lora_fcn")[0])
    torch.save({"state_dict": state, "epoch": 3}, folder / "best.ckpt")
    return import_checkpoint(run, folder / "best.ckpt"), folder, state


def test_a_checkpoint_becomes_a_run(burns):
    fitted, folder, state = burns
    assert fitted.card["imported"] == {"checkpoint": "best.ckpt"}
    model, _, _ = build("burns_lora_fcn")
    load_state(model, fitted.run, split(state), fitted.imagery.classes)
    model.normalisation = fitted.model.normalisation
    given = batch("burns_lora_fcn", model, 1)
    fitted.model.to("cpu")
    assert torch.equal(predict_logits(fitted.model, given), predict_logits(model, given))
    report = fitted.test(resamples=0)
    assert 0 <= report.tables["test"].row("all").metrics["miou"][0] <= 1
    with pytest.raises(ConfigError, match="is not empty"):
        import_checkpoint(fitted.run, folder / "best.ckpt")


def test_a_run_goes_out_and_comes_back(burns, tmp_path):
    fitted, _, state = burns
    exported = export_run(fitted.folder, tmp_path / "out")
    again = import_config(tmp_path / "out" / "config.yaml").run
    assert (again.method, again.decoder, again.task) == (fitted.run.method, fitted.run.decoder, fitted.run.task)
    assert replace(again.backbone, weights="") == replace(fitted.run.backbone, weights="")
    assert again.train.rate == fitted.run.train.rate
    parts = read_checkpoint(tmp_path / "out" / "model.ckpt")
    assert torch.equal(parts.encoder["cls_token"], state["model.encoder.base_model.model.cls_token"])
    assert "dates and places" in (tmp_path / "out" / "README.txt").read_text()
    assert any("statistics" in note or "dates" in note for note in exported.notes)
    with pytest.raises(ConfigError, match="is not empty"):
        export_run(fitted.folder, tmp_path / "out")


def chips(root):
    """Six chips of six bands with masks of 1, 2 and 0, which is not learned."""
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i in range(6):
        image = random.integers(1, 3000, (6, 32, 32)).astype(np.int16)
        mask = random.integers(0, 3, (1, 32, 32)).astype(np.uint8)
        place = (10.0, 0.0, 500_000.0 + 5_000 * i, 0.0, -10.0, 5_500_000.0)
        write_image(root / f"images/site{i}_S2.tif", Raster(image, (None,) * 6, None, "EPSG:32632", place))
        write_image(root / f"masks/site{i}_L.tif", Raster(mask, (None,), None, "EPSG:32632", place))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A run of one epoch on one's own chips."""
    folder = tmp_path_factory.mktemp("own")
    chips(folder / "chips")
    dataset = {
        "name": "folder", "root": str(folder / "chips"), "images": "images/*_S2.tif", "masks": "masks/*_L.tif",
        "label_type": "segmentation", "class_names": {"1": "land", "2": "water"}, "ignore": [0], "scale": 1e-4,
        "band_names": list(HLS6), "splits": {"by": "random", "fractions": [0.5, 0.25, 0.25]},
    }  # fmt: skip
    train = {"epochs": 1, "batch": 2, "workers": 0, "accelerator": "cpu", "bands": ["red", "green", "nir08"]}
    return adapteo.fit(
        {
            "dataset": dataset,
            "backbone": {"name": "prithvi", "variant": "2.0-tiny-TL", "weights": "random"},
            "method": {"name": "lora", "rank": 2, "targets": ["q", "v"]},
            "decoder": {"name": "fcn", "channels": 8},
            "train": train,
            "out": str(folder / "run"),
        },
        show=False,
    )


def test_own_chips_go_out_with_their_lists_and_statistics(own, tmp_path):
    exported = export_run(own.folder, tmp_path / "out")
    data = exported.config["data"]["init_args"]
    assert data["output_bands"] == ["RED", "GREEN", "NIR_NARROW"]
    assert data["means"] == pytest.approx(list(own.model.normalisation.mean))
    assert (data["reduce_zero_label"], data["no_label_replace"]) == (True, 0)
    for part in ("train", "val", "test"):
        listed = (tmp_path / "out" / "splits" / f"{part}.txt").read_text().split()
        assert listed == list(own.run.dataset.split(part))
    assert exported.state["model.encoder.base_model.model.patch_embed.proj.weight"].shape[1] == 3
    again = import_config(tmp_path / "out" / "config.yaml").run
    assert (again.dataset.images, again.dataset.masks) == (own.run.dataset.images, own.run.dataset.masks)
    assert again.dataset.class_names == own.run.dataset.class_names
    assert (again.dataset.scale, again.train.bands) == (1e-4, own.bands)
    assert again.dataset.split("train") == own.run.dataset.split("train")
    assert again.method == own.run.method
    assert again.train.statistics["nir08"] == pytest.approx(
        (own.model.normalisation.mean[2], own.model.normalisation.std[2])
    )


def test_a_checkpoint_with_fewer_bands_comes_back(own, tmp_path):
    export_run(own.folder, tmp_path / "out")
    run = import_config(tmp_path / "out" / "config.yaml").run
    again = import_checkpoint(replace(run, out=tmp_path / "run"), tmp_path / "out" / "model.ckpt")
    images = torch.rand(2, 1, 3, 32, 32)
    for fitted in (own, again):
        fitted.model.to("cpu")
    torch.testing.assert_close(again.logits(images), own.logits(images), rtol=0, atol=1e-5)


def test_lists_that_terratorch_would_mix_up_are_left_out():
    assert _substring(["chip_1", "chip_2", "chip_10"]) == ("chip_1", "chip_10")
    assert _substring(["chip_01", "chip_02", "chip_10"]) is None


# ------------------------------------------------------------------------------------ the command line


def test_the_commands(tmp_path, burns, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    shown = runner.invoke(cli.app, ["import", str(CONFIGS / "flood_linear.yaml")])
    assert shown.exit_code == 0
    assert "method: frozen" in shown.stdout
    assert "line  38  model.init_args.lr: 0.0007  ->  train.rate" in shown.stderr
    written = runner.invoke(cli.app, ["import", str(CONFIGS / "flood_linear.yaml"), "--out", "run.yaml"])
    assert written.exit_code == 0, written.output
    assert written.output.endswith("wrote run.yaml\n")
    assert adapteo.config.load("run.yaml").train.rate == 0.0007
    again = runner.invoke(cli.app, ["import", str(CONFIGS / "flood_linear.yaml"), "--out", "run.yaml"])
    assert (again.exit_code, "is there already" in again.output) == (2, True)
    alone = runner.invoke(cli.app, ["import", str(CONFIGS / "flood_linear.yaml"), "--checkpoint", "a.ckpt"])
    assert (alone.exit_code, "--out" in alone.output) == (2, True)
    (tmp_path / "their.yaml").write_text((CONFIGS / "flood_linear.yaml").read_text().replace("AdamW", "SGD"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "flood.yaml").write_text((CONFIGS / "data" / "flood.yaml").read_text())
    refused = runner.invoke(cli.app, ["import", "their.yaml"])
    assert refused.exit_code == 2
    assert "their.yaml, line 37: model.init_args.optimizer: there is no SGD here" in refused.output
    assert len(refused.output.splitlines()) <= 5
    fitted, folder, _ = burns
    out = runner.invoke(cli.app, ["export", str(fitted.folder), "--to", "terratorch", "--out", "there"])
    assert out.exit_code == 0, out.output
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == ["README.txt", "config.yaml", "model.ckpt"]
    text = (CONFIGS / "burns_lora_fcn.yaml").read_text()
    lists = "datasets_splits/burn_scars"
    text = text.replace(f"{lists}/train_subsets/train_data_0.10_1.txt", f"{lists}/train_data.txt")
    (tmp_path / "burns.yaml").write_text(text)
    splits = tmp_path / "lists"
    splits.mkdir()
    for part in ("train", "val", "test"):
        (splits / f"{part}_data.txt").write_text((folder / "data" / "splits" / f"{part}.txt").read_text())
    options = ["--root", str(folder / "data"), "--splits", "lists", "--checkpoint", str(folder / "best.ckpt")]
    whole = runner.invoke(cli.app, ["import", "burns.yaml", "--out", "mine.yaml", *options])
    assert whole.exit_code == 0, whole.output
    assert whole.output.endswith("wrote mine.yaml\nwrote runs/mine\n")
    assert adapteo.load("runs/mine").run.method == fitted.run.method


# ----------------------------------------------------------------------------------------- ViT-Adapter


def test_a_vit_adapter_goes_out_and_comes_back(monkeypatch):
    """TerraTorch's own needs CUDA; `tests/peft/test_vit_adapter.py` compares the tensors' names and the outputs."""
    narrow = replace(prithvi.VARIANTS["2.0-300M"], dim=64, heads=4)
    monkeypatch.setitem(prithvi.VARIANTS, "2.0-300M", narrow)
    model, run, imagery = build("burns_adapter")
    adapt_model(model, run, imagery.classes)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    config, state, _ = export_model(run, model, imagery.classes, (SIDE, SIDE))
    arguments = config["model"]["init_args"]["model_args"]
    assert (arguments["backbone_vit_adapter"], arguments["necks"]) == (True, [])
    assert (arguments["decoder"], arguments["decoder_upsampling_size"]) == ("LinearDecoder", 16)
    assert not any(key.startswith(("model.encoder.cls_token", "model.encoder.norm.")) for key in state)
    assert "model.encoder.spm.stem.0.weight" in state
    again, _, _ = build("burns_adapter")
    load_state(again, run, split(state), imagery.classes)
    given = batch("burns_adapter", model, 1)
    torch.testing.assert_close(predict_logits(again, given), predict_logits(model, given), rtol=0, atol=1e-6)
    with pytest.raises(ConfigError, match="is `class_token: false` and the defaults"):
        export_model(replace(run, method=ViTAdapter()), model, imagery.classes, (SIDE, SIDE))

"""A run of ours out: ``config.yaml`` and ``model.ckpt`` that TerraTorch loads, with equal outputs.

flood_terratorch/  config.yaml   model, task, optimiser, data module; TerraTorch 1.2's LightningCLI reads it
                   model.ckpt    state dict, as Lightning saves it
                   splits/       lists of chips, where the dataset is a folder
                   README.txt    what a person has to know

terratorch test --config flood_terratorch/config.yaml --ckpt_path flood_terratorch/model.ckpt
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from adapteo import _yaml
from adapteo.config import Run, name_of
from adapteo.contracts import merge
from adapteo.errors import ConfigError
from adapteo.files import replacing
from adapteo.fitted import FittedRun, load
from adapteo.model import Model
from adapteo.peft.lora import LoRA
from adapteo.peft.vit_adapter import ViTAdapter
from adapteo.peft.vpt import VPT
from adapteo.quantise import restore
from adapteo.terratorch.data_out import data_module, labels
from adapteo.terratorch.model_out import plan
from adapteo.terratorch.state_out import terratorch_state
from adapteo.terratorch.vocabulary import LOSSES, TASKS

_LIGHTNING = "2.0.0"
_KEPT_APART = (LoRA, VPT, ViTAdapter)


@dataclass(frozen=True)
class Exported:
    """A model for TerraTorch.

    Attributes:
        config: content of the YAML file.
        state: tensors with the keys of the task's state dict.
        lists: names of chips by file name.
        notes: what a person has to know.
    """

    config: dict[str, object]
    state: dict[str, Tensor]
    lists: Mapping[str, list[str]]
    notes: tuple[str, ...]


def export_run(run: str | Path, out: str | Path) -> Exported:
    """Write a fitted run for TerraTorch.

    Args:
        run: folder of the run.
        out: folder to write.

    Raises:
        ConfigError: TerraTorch has nothing that computes the same.
        WeightsError: the run is not there, or its base weights are not.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty", fix="choose another folder with --out, or delete that one")
    exported = export(load(run), out)
    with replacing(out) as beside:
        beside.mkdir(parents=True)
        (beside / "config.yaml").write_text(_yaml.dump(exported.config), encoding="utf-8")
        lightning = {"epoch": 0, "global_step": 0, "pytorch-lightning_version": _LIGHTNING}
        torch.save({**lightning, "state_dict": exported.state}, beside / "model.ckpt")
        for name, keys in exported.lists.items():
            (beside / name).parent.mkdir(exist_ok=True)
            (beside / name).write_text("\n".join(keys) + "\n", encoding="utf-8")
        (beside / "README.txt").write_text("\n".join(exported.notes) + "\n", encoding="utf-8")
    return exported


def export(fitted: FittedRun, out: Path) -> Exported:
    """Translate a fitted run; nothing is written.

    Args:
        fitted: the run.
        out: folder that will hold the files.
    """
    run, model = fitted.run, fitted.model.to("cpu")
    notes = []
    restore(model.backbone)  # TerraTorch holds weights in full
    if not isinstance(run.method, _KEPT_APART):
        merge(model.backbone)
    height, width = model.padded((int(fitted.card["image_size"][0]), int(fitted.card["image_size"][1])))
    classes = fitted.imagery.classes
    config, state, found = export_model(run, model, classes, (height, width))
    notes += found
    data, lists, said = data_module(fitted, out)
    notes += said
    if data is not None:
        config["data"] = data
    return Exported(config, state, lists, tuple(notes))


def export_model(
    run: Run, model: Model, classes: tuple[str, ...], size: tuple[int, int]
) -> tuple[dict[str, object], dict[str, Tensor], list[str]]:
    """Sections ``model`` and ``trainer``, the state dict, and notes.

    Args:
        run: the configuration.
        model: adapted, or merged where the method is not one of LoRA, VPT and ViT-Adapter.
        classes: names.
        size: of the images in pixels, as the model sees them.

    Raises:
        ConfigError: TerraTorch has nothing that computes the same.
    """
    task = name_of(run.task)
    kinds = {ours: theirs for theirs, ours in TASKS.items()}
    if task not in kinds:
        raise ConfigError(f"TerraTorch has no task like '{task}'", allowed=kinds)
    planned = plan(run, model, task, run.task.outputs(classes), size)
    state = terratorch_state(model, run.method, name_of(run.backbone), planned.layout, planned.positions)
    losses, weights = vars(run.task)["losses"].split("+"), vars(run.task).get("class_weights")
    unknown = [loss for loss in losses if loss not in LOSSES[task]]
    notes = [*planned.notes, *(text for loss in losses if (text := LOSSES[task].get(loss, "")))]
    if unknown:
        raise ConfigError(f"TerraTorch has no loss '{unknown[0]}' for {task}", allowed=LOSSES[task])
    init: dict[str, object] = {"model_factory": planned.factory, "model_args": planned.arguments}
    init["loss"] = losses if len(losses) > 1 else losses[0]
    value, from_one = labels(run.dataset)
    init["ignore_index"] = value - from_one if task != "classification" else None
    if weights is not None:
        init["class_weights"] = list(weights)
        key = "criterion.weight" if len(losses) == 1 else "criterion.losses.ce.weight"
        state[key] = torch.tensor(weights)
    init["freeze_backbone"] = name_of(run.method) in ("frozen", "vpt", "vit_adapter")
    init |= _optimiser(run)
    if task != "regression":
        init["class_names"] = list(classes)
    config: dict[str, object] = {"seed_everything": run.train.seed, "trainer": _trainer(run)}
    config["model"] = {"class_path": f"terratorch.tasks.{kinds[task]}", "init_args": init}
    return config, state, notes


def _optimiser(run: Run) -> dict[str, object]:
    train = run.train
    rate = train.rate or run.method.default_rate
    out: dict[str, object] = {"optimizer": "AdamW", "lr": train.head_rate or rate}
    out["optimizer_hparams"] = {"weight_decay": train.weight_decay}
    if train.head_rate and train.head_rate != rate:
        out["lr_overrides"] = {"encoder": rate}
    if train.schedule == "plateau":
        out["scheduler"] = "ReduceLROnPlateau"
        out["scheduler_hparams"] = {"patience": train.plateau_patience, "factor": train.plateau_factor}
    elif train.schedule == "cosine":
        out["scheduler"], out["scheduler_hparams"] = "CosineAnnealingLR", {"T_max": train.epochs}
    return out


def _trainer(run: Run) -> dict[str, object]:
    train = run.train
    accelerator = {"cuda": "gpu"}.get(train.accelerator, train.accelerator)
    out: dict[str, object] = {"accelerator": accelerator, "devices": train.devices, "max_epochs": train.epochs}
    out |= {"precision": "bf16-mixed" if train.precision == "bf16" else "32-true"}
    out |= {"gradient_clip_val": train.clip, "accumulate_grad_batches": train.accumulate}
    if train.patience is not None:
        stop = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss", "patience": train.patience}}
        out["callbacks"] = [stop]
    return out

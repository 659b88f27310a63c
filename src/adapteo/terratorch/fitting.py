"""A run folder from an imported configuration and its checkpoint, as if the run had been trained here.

runs/flood/  config.yaml, base.safetensors (backbone before the method), adapter/, run.json
"""

from dataclasses import replace
from pathlib import Path

import torch

from adapteo import config
from adapteo.assembly import assemble
from adapteo.checkpoint import BASE_FILE, RANDOM, save_adapter, save_tensors, write_json
from adapteo.config import Run
from adapteo.contracts import BackboneSpec
from adapteo.errors import ConfigError
from adapteo.experiment import facts
from adapteo.files import replacing
from adapteo.fitted import ADAPTER, CONFIG_FILE, RUN_FILE, FittedRun, load
from adapteo.model import decoder_state
from adapteo.terratorch.checkpoints import load_backbone, load_state, read_checkpoint, separate


def import_checkpoint(run: Run, checkpoint: Path) -> FittedRun:
    """Write ``run.out`` from a checkpoint; it can be tested, map scenes, be merged and exported.

    Args:
        run: of `adapteo.terratorch.importing.import_config`; its dataset must be there.
        checkpoint: that TerraTorch wrote for the configuration.

    Raises:
        ConfigError: the folder of the run holds something.
        DataError: the dataset is not there.
        WeightsError: the checkpoint is damaged or of another configuration.
    """
    if run.out.exists() and any(run.out.iterdir()):
        raise ConfigError(f"{run.out} is not empty", fix="choose another folder with `out`, or delete that one")
    name, parts = config.name_of(run.backbone), read_checkpoint(checkpoint)
    bare = assemble(replace(run, backbone=_with_weights(run, RANDOM))).model.backbone
    load_backbone(bare, separate(parts, run.method, bare, name)[0])
    run.out.mkdir(parents=True, exist_ok=True)
    save_tensors(bare.unmap(bare.state_dict()), run.out / BASE_FILE)
    run = replace(run, backbone=_with_weights(run, str((run.out / BASE_FILE).resolve())))
    assembled = assemble(run)
    load_state(assembled.model, run, parts, run.dataset.classes)
    said = facts(run, assembled, torch.device("cpu")) | {"imported": {"checkpoint": checkpoint.name}}
    save_adapter(
        run.out / ADAPTER,
        assembled.model.backbone,
        run.method,
        decoder_state(assembled.model),
        {**said, "base": assembled.base},
    )
    with replacing(run.out / CONFIG_FILE) as beside:
        beside.write_text(config.dump(run), encoding="utf-8")
    write_json(said, run.out / RUN_FILE)
    return load(run.out)


def _with_weights(run: Run, weights: str) -> BackboneSpec:
    """The backbone with other weights."""
    changed: BackboneSpec = replace(run.backbone, weights=weights)  # type: ignore[type-var]
    return changed

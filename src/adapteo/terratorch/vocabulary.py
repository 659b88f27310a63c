"""TerraTorch's names as data: what they are called here, or why they are not needed.

From TerraTorch 1.2.11 (and 1.0, which arXiv 2504.17397 used), Lightning 2 and IBM/peft-geofm, all Apache-2.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from adapteo.bands import HLS6

# ------------------------------------------------------------------------------------------- backbones


@dataclass(frozen=True)
class Family:
    """What the import has to know about a family of backbones without building one.

    Attributes:
        name: key of ours.
        stride: of the last map in pixels.
        depth: number of blocks or stages that TerraTorch counts.
        taps: blocks whose maps ours gives.
        tokens: True for a plain transformer, False for a network of stages.
        fields: of ours.
        bands: that the weights were trained with, when TerraTorch assumes them; canonical names.
        linears: pattern of the names of TerraTorch's linears in a block, with ``{i}`` for the block, by role.
        others: names of further modules that a pattern of HF peft could hit.
        metadata: whether it was trained with dates and places that TerraTorch's batches can bring.
        given: how many maps, the last ones, TerraTorch gives unless it is asked for others; 0 for all.
    """

    name: str
    stride: int
    depth: int
    taps: tuple[int, ...]
    tokens: bool = True
    fields: Mapping[str, str] = field(default_factory=dict)
    bands: tuple[str, ...] = ()
    linears: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    metadata: bool = False
    given: int = 0


def _quarters(depth: int) -> tuple[int, ...]:
    return tuple(depth * (i + 1) // 4 - 1 for i in range(4))


_VIT_LINEARS = MappingProxyType(
    {
        "q": "blocks.{i}.attn.qkv.q_linear",
        "k": "blocks.{i}.attn.qkv.k_linear",
        "v": "blocks.{i}.attn.qkv.v_linear",
        "proj": "blocks.{i}.attn.proj",
        "fc1": "blocks.{i}.mlp.fc1",
        "fc2": "blocks.{i}.mlp.fc2",
    }
)
_CLAY_BLOCK = "clay_encoder.transformer.layers.{i}"
_CLAY_LINEARS = MappingProxyType(
    {
        "q": f"{_CLAY_BLOCK}.0.to_qkv.q_linear",
        "k": f"{_CLAY_BLOCK}.0.to_qkv.k_linear",
        "v": f"{_CLAY_BLOCK}.0.to_qkv.v_linear",
        "proj": f"{_CLAY_BLOCK}.0.to_out",
        "fc1": f"{_CLAY_BLOCK}.1.net.1",
        "fc2": f"{_CLAY_BLOCK}.1.net.3",
    }
)
_CLAY_EMBEDDING = "clay_encoder.patch_embedding"


def _prithvi(variant: str, depth: int, patch: int = 16) -> Family:
    return Family(
        "prithvi",
        patch,
        depth,
        _quarters(depth),
        fields={"variant": variant},
        bands=HLS6,
        linears=_VIT_LINEARS,
        others=("patch_embed.proj",),
        metadata=variant.endswith("-TL"),
    )


def _terramind(variant: str, depth: int) -> Family:
    linears = {role: name.replace("blocks.", "encoder.") for role, name in _VIT_LINEARS.items()}
    return Family("terramind", 16, depth, _quarters(depth), fields={"variant": variant}, linears=linears)


def _dofa(variant: str, depth: int) -> Family:
    linears = {role: f"dofa_model.{name}" for role, name in _VIT_LINEARS.items()}
    return Family("dofa", 16, depth, _quarters(depth), fields={"variant": variant}, linears=linears, given=1)


BACKBONES: Mapping[str, Family] = MappingProxyType(
    {
        "prithvi_eo_v1_100": _prithvi("1.0-100M", 12),
        "prithvi_eo_v2_tiny_tl": _prithvi("2.0-tiny-TL", 12),
        "prithvi_eo_v2_100_tl": _prithvi("2.0-100M-TL", 12),
        "prithvi_eo_v2_300": _prithvi("2.0-300M", 24),
        "prithvi_eo_v2_300_tl": _prithvi("2.0-300M-TL", 24),
        "prithvi_eo_v2_600": _prithvi("2.0-600M", 32, patch=14),
        "prithvi_eo_v2_600_tl": _prithvi("2.0-600M-TL", 32, patch=14),
        "prithvi_vit_100": _prithvi("1.0-100M", 12),
        "clay_v1_base": Family(
            "clay",
            8,
            12,
            _quarters(12),
            fields={"variant": "v1"},
            linears=_CLAY_LINEARS,
            others=(
                f"{_CLAY_EMBEDDING}.fclayer.l1",
                f"{_CLAY_EMBEDDING}.fclayer.l2",
                f"{_CLAY_EMBEDDING}.weight_generator.fc_weight",
                f"{_CLAY_EMBEDDING}.weight_generator.fc_bias",
            ),
            metadata=True,
        ),
        "ssl4eos12_resnet50_sentinel2_all_decur": Family(
            "decur", 32, 5, (1, 2, 3, 4), tokens=False, given=1
        ),
        **{f"dofa_{size}_patch16_224": _dofa(size, 24 if size == "large" else 12) for size in ("base", "large")},
        **{f"terramind_v1_{size}": _terramind(size, 24 if size == "large" else 12)
           for size in ("tiny", "small", "base", "large")},
    }
)  # fmt: skip
"""By name, without the prefixes ``terratorch_`` and ``timm_``; ``prithvi_vit_100`` is from before TerraTorch 1.0."""

TIMM_DEPTHS: Mapping[str, int] = MappingProxyType({"tiny": 12, "small": 12, "base": 12, "large": 24, "huge": 32})
"""Blocks of timm's ``vit_<size>_patch<n>_…``."""

# ------------------------------------------------------------------------------------------ what to drop

_LOG = "log.csv has it for each epoch"
_SCREEN = "for the screen"
_BEST = "the best epoch's adapter is kept, a few megabytes"
_PLOTS = "`adapteo test` draws the worst and best samples"
_READING = "for reading speed"

TRAINER_DROPPED: Mapping[str, str] = MappingProxyType(
    {
        "logger": _LOG, "log_every_n_steps": _LOG, "enable_progress_bar": _SCREEN, "enable_model_summary": _SCREEN,
        "num_sanity_val_steps": "the validation data are read before training in any case",
        "benchmark": "speed", "deterministic": "runs are repeatable in any case", "profiler": "for developers",
        "use_distributed_sampler": "processes share the samples in any case", "inference_mode": "speed",
        "detect_anomaly": "for developers", "enable_autolog_hparams": _LOG, "model_registry": "for another service",
        "default_root_dir": "a run's folder is `out`",
    }
)  # fmt: skip
TRAINER_NEUTRAL: Mapping[str, tuple[tuple[object, ...], str]] = MappingProxyType(
    {
        "strategy": (("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false"),
                     "several processes here are data-parallel, nothing else"),
        "num_nodes": ((1,), "one machine"),
        "fast_dev_run": ((False,), "a trial run; train with `train.epochs=1`"),
        "min_epochs": ((1,), "early stopping cannot be delayed here"),
        "max_steps": ((-1,), "training is counted in epochs here"),
        "min_steps": ((), "training is counted in epochs here"),
        "max_time": ((), "there is no limit of time here; a run can be stopped and resumed"),
        "limit_train_batches": ((1.0,), "`splits.limit` of the dataset keeps fewer samples"),
        "limit_val_batches": ((1.0,), "`splits.limit_val` of the dataset keeps fewer samples"),
        "limit_test_batches": ((1.0,), "the whole test split is scored here"),
        "limit_predict_batches": ((1.0,), "whole scenes are mapped here"),
        "overfit_batches": ((0.0, 0), "`splits.limit` of the dataset keeps fewer samples"),
        "val_check_interval": ((1.0,), "validation follows each epoch here"),
        "check_val_every_n_epoch": ((1,), "validation follows each epoch here"),
        "barebones": ((False,), "there is no such mode here"),
        "plugins": (([],), "plugins are code"),
        "sync_batchnorm": ((False,), "batch norm is not synchronised here; `norm: group` does not depend on the batch"),
        "reload_dataloaders_every_n_epochs": ((0,), "the data do not change here"),
        "gradient_clip_algorithm": (("norm",), "gradients are clipped by their norm here"),
    }
)  # fmt: skip
CALLBACKS_DROPPED: Mapping[str, str] = MappingProxyType(
    {
        "LearningRateMonitor": _LOG, "RichProgressBar": _SCREEN, "TQDMProgressBar": _SCREEN, "ModelSummary": _SCREEN,
        "RichModelSummary": _SCREEN, "DeviceStatsMonitor": "run.json has peak memory and time", "Timer": _SCREEN,
        "CustomWriter": "`adapteo predict` writes maps",
    }
)  # fmt: skip
TASK_DROPPED: Mapping[str, str] = MappingProxyType(
    {
        "plot_on_val": _PLOTS, "output_on_inference": "`adapteo predict --probabilities`",
        "output_most_probable": "`adapteo predict --probabilities`", "path_to_record_metrics": "test.json has them",
        "tiled_inference_parameters": "windows for scenes are chosen by the model's image size",
        "test_dataloaders_names": "the test split and hold-outs have names of their own",
    }
)  # fmt: skip
TOP_DROPPED: Mapping[str, str] = MappingProxyType(
    {
        "predict_output_dir": "`adapteo predict --out`", "output_file_prefix": "`adapteo predict --out`",
        "out_dtype": "maps have the type that fits", "deploy_config_file": "an adapter knows its configuration",
        "ckpt_path": "`adapteo import --checkpoint` takes a checkpoint",
    }
)  # fmt: skip
DATA_DROPPED: Mapping[str, str] = MappingProxyType(
    {
        "rgb_indices": "pictures find their bands by name", "pin_memory": _READING, "check_stackability": _READING,
        "check_files": "files are looked for in any case", "predict_data_root": "`adapteo predict` takes scenes",
        "predict_dataset_bands": "scenes tell their bands", "predict_output_bands": "scenes tell their bands",
        "predict_split": "`adapteo predict` takes scenes", "predict_transform": "`adapteo predict` takes scenes",
        "pca_step": "for plots", "return_georeference": "maps are georeferenced in any case",
        "num_classes": "the class names tell",
    }
)  # fmt: skip
SCHEDULER_NEUTRAL: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "monitor": ("val/loss", "val_loss"), "mode": ("min",), "threshold": (1e-4,), "threshold_mode": ("rel",),
        "cooldown": (0,), "min_lr": (0, 0.0), "eps": (1e-8,), "verbose": (True, False, "deprecated"),
        "eta_min": (0, 0.0), "last_epoch": (-1,), "interval": ("epoch",),
    }
)  # fmt: skip

# ---------------------------------------------------------------------------------------- task and metrics

TASKS: Mapping[str, str] = MappingProxyType(
    {
        "SemanticSegmentationTask": "segmentation",
        "ClassificationTask": "classification",
        "MultiLabelClassificationTask": "multilabel",
        "PixelwiseRegressionTask": "regression",
    }
)
SCORES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "val/mIoU": ("segmentation", "max"), "val/Multiclass_Jaccard_Index": ("segmentation", "max"),
        "val/Accuracy_Micro": ("classification", "max"), "val/Overall_Accuracy": ("classification", "max"),
        "val/Multilabel_F1_Score": ("multilabel", "max"), "val/RMSE": ("regression", "min"),
    }
)  # fmt: skip
"""What TerraTorch (1.2 and 1.0) calls the score that picks the best epoch here, by task."""
LOSSES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "segmentation": {
            "ce": "",
            "dice": "dice is a mean over images here, over the whole batch there",
            "focal": "focal loss is a mean over pixels here, divided by its own weights there",
        },
        "classification": {
            "ce": "",
            "focal": "focal loss is a mean over images here, divided by its own weights there",
        },
        "multilabel": {"bce": ""},
        "regression": {"mse": "", "mae": "", "huber": ""},
    }
)
"""Losses that both sides have, by task, and in what they differ."""

# ------------------------------------------------------------------------------------------------- data

GEOBENCH: Mapping[str, str] = MappingProxyType(
    {
        "MBeninSmallHolderCashewsNonGeoDataModule": "m-cashew-plant", "MSACropTypeNonGeoDataModule": "m-SA-crop-type",
        "MPv4gerSegNonGeoDataModule": "m-pv4ger-seg", "MChesapeakeLandcoverNonGeoDataModule": "m-chesapeake",
        "MNzCattleNonGeoDataModule": "m-nz-cattle", "MNeonTreeNonGeoDataModule": "m-NeonTree",
        "MPv4gerNonGeoDataModule": "m-pv4ger", "MForestNetNonGeoDataModule": "m-forestnet",
        "MSo2SatNonGeoDataModule": "m-so2sat", "MBigEarthNonGeoDataModule": "m-bigearthnet",
        "MEuroSATNonGeoDataModule": "m-eurosat", "MBrickKilnNonGeoDataModule": "m-brick-kiln",
        "MCashewPlantationDataModule": "m-cashew-plant", "MSACropTypeDataModule": "m-SA-crop-type",
    }
)  # fmt: skip
"""Data modules of GEO-Bench's sets; the last two are IBM/peft-geofm's."""
MISNAMED = ("m-eurosat", "m-brick-kiln")
"""Sets whose bands have wrong names in the files and in TerraTorch; see `adapteo.data._geobench_sets`."""
DATES = MappingProxyType({"t": "dates", "l": "places"})

"""What the paper compares: models with their bands, methods, decoders and datasets, as data.

Source: the 202 configurations of IBM/peft-geofm at commit a08307e, the code of arXiv 2504.17397. What they leave to
defaults of TerraTorch 1.0 is filled in: positions of Prithvi are stretched over the image (no image size is given), and
its ViT-Adapter drops the class token.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from adapteo.bands import HLS6

CLAY10 = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16", "swir22")
"""The Sentinel-2 bands that Clay was pre-trained on."""

LISTS = "paper_splits"
"""Folder beside a dataset that may hold the paper's lists (IBM/peft-geofm ``datasets_splits/<dataset>``)."""

Entry = Mapping[str, Any]
"""An entry of the registry: ``name`` and its fields."""


@dataclass(frozen=True)
class Subject:
    """A model with the bands that it gets.

    Attributes:
        key: in the names of folders and for ``--only``.
        title: as in the paper's tables.
        backbone: entry of the registry.
        bands: that it gets, None for all that it takes.
        methods: that the paper (or this file, for later models) adapts it with.
        decoder: its own decoder where the paper's linear one does not apply.
        note: what a reader of a table has to know.
    """

    key: str
    title: str
    backbone: Entry
    bands: tuple[str, ...] | None
    methods: tuple[str, ...]
    decoder: Entry | None = None
    note: str = ""


@dataclass(frozen=True)
class Benchmark:
    """A dataset as the paper uses it.

    Attributes:
        key: in the names of folders and for ``--only``.
        title: in tables.
        entry: of the registry, without ``root``.
        folder: where it is looked for under ``--data``.
        side: pixels of an image as the backbone gets it.
        batch: images per step; `batch_of` knows the exceptions.
        train: training images, for estimates of time.
        tests: the splits that count, with the titles of tables.
        draws: name of the list of the n-th draw of 10 % of the training images, "" where there are none.
    """

    key: str
    title: str
    entry: Entry
    folder: str
    side: int
    batch: int
    train: int
    tests: Mapping[str, str] = field(default_factory=lambda: {"test": "test"})
    draws: str = ""


_ALL = ("frozen", "vpt", "lora", "full")
_ADAPTER = ("frozen", "vpt", "lora", "vit_adapter", "full")
_CNN = ("frozen", "full")


_DECUR = {"name": "decur", "weights": "pretrained"}
_CLAY = {"name": "clay", "variant": "v1", "weights": "pretrained"}


def _prithvi(key: str, title: str, variant: str, note: str = "") -> Subject:
    entry = {"name": "prithvi", "variant": variant, "positions": "interpolated", "weights": "pretrained"}
    return Subject(key, title, entry, HLS6, _ADAPTER, note=note)


SUBJECTS: Mapping[str, Subject] = MappingProxyType(
    {
        subject.key: subject
        for subject in (
            Subject(
                "unet-resnet50",
                "UNet (Rand.)",
                {"name": "unet", "weights": "random"},
                HLS6,
                ("full",),
                {"name": "unet", "channels": [256, 128, 64, 32, 16], "norm": "batch", "head_kernel": 3},
            ),
            Subject(
                "vit-in21k",
                "ViT (IN-21K)",
                {"name": "timm", "model": "vit_base_patch16_224.augreg_in21k_ft_in1k", "weights": "pretrained"},
                HLS6,
                ("full",),
            ),
            Subject("decur-6", "DeCUR (6 bands)", _DECUR, HLS6, _CNN),
            Subject("decur", "DeCUR", _DECUR, None, _CNN),
            Subject("clay-v1-6", "Clay v1 (6 bands)", _CLAY, HLS6, _ALL),
            Subject("clay-v1", "Clay v1", _CLAY, CLAY10, _ALL),
            _prithvi("prithvi-1.0-100m", "Prithvi 1.0 100M", "1.0-100M"),
            _prithvi(
                "prithvi-2.0-100m",
                "Prithvi 2.0 100M",
                "2.0-100M-TL",
                "published numbers are of a model that was never released; ours of its successor 2.0-100M-TL",
            ),
            _prithvi("prithvi-2.0-300m", "Prithvi 2.0 300M", "2.0-300M"),
            _prithvi("prithvi-2.0-300m-tl", "Prithvi 2.0 300M-TL", "2.0-300M-TL"),
        )
    }
)
"""Every model of the paper, by key."""

METHODS: Mapping[str, Entry] = MappingProxyType(
    {
        "frozen": {"name": "frozen"},
        "vpt": {"name": "vpt", "prompts": 100},
        "lora": {"name": "lora", "preset": "paper"},
        "vit_adapter": {"name": "vit_adapter", "class_token": False},
        "full": {"name": "full"},
    }
)
METHOD_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "frozen": "linear probing",
        "vpt": "VPT",
        "lora": "LoRA",
        "vit_adapter": "ViT-Adapter",
        "full": "full fine-tuning",
    }
)
DECODERS: Mapping[str, Entry] = MappingProxyType(
    {
        "linear": {"name": "linear"},
        "fcn": {"name": "fcn", "channels": 512, "blocks": 4},
        "unet": {"name": "unet", "channels": [512, 256, 128, 64], "norm": "batch"},
        "upernet": {"name": "upernet", "channels": 256, "norm": "batch", "align_corners": True},
    }
)

BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        benchmark.key: benchmark
        for benchmark in (
            Benchmark(
                "sen1floods11",
                "Sen1Floods11",
                {"name": "sen1floods11"},
                "sen1floods11",
                512,
                8,
                252,
                {"test": "test", "bolivia": "Bolivia"},
                "train_subsets/flood_train_data_0.10_{}.txt",
            ),
            Benchmark(
                "burn_scars",
                "Burn Scars",
                {"name": "burn_scars", "splits": "paper"},
                "burn_scars",
                512,
                8,
                524,
                draws="train_subsets/train_data_0.10_{}.txt",
            ),
            Benchmark(
                "reben",
                "reBEN 7k",
                {"name": "reben", "splits": "paper", "pad": 128},
                "reben",
                128,
                32,
                4690,
                {"test": "test", "ood": "Austria + Ireland"},
            ),
            Benchmark(
                "m-cashew-plant",
                "m-Cashew",
                {"name": "geobench", "subset": "m-cashew-plant"},
                "geobench",
                256,
                8,
                1350,
            ),
            Benchmark(
                "m-SA-crop-type",
                "m-SA-Crop",
                {"name": "geobench", "subset": "m-SA-crop-type"},
                "geobench",
                256,
                8,
                3000,
            ),
        )
    }
)
"""Every dataset of the paper, by key."""

_SIX_BANDS = MappingProxyType({"clay-v1": "clay-v1-6", "decur": "decur-6"})


def same_bands(model: str, dataset: str) -> str:
    """Return the model that is the same on this dataset: Burn Scars has six bands, whatever a model could take."""
    return _SIX_BANDS.get(model, model) if dataset == "burn_scars" else model


def batch_of(model: str, decoder: str, dataset: str) -> int:
    """Images per step: of the dataset, halved for Clay with a larger decoder on 512 pixels, as in the paper."""
    benchmark = BENCHMARKS[dataset]
    halved = model.startswith("clay") and decoder in ("fcn", "unet", "upernet") and benchmark.side == 512
    return benchmark.batch // 2 if halved else benchmark.batch

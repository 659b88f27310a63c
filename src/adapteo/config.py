"""A run as data: about fifteen lines of YAML in, one frozen `Run` out; the dataclasses are the schema.

    flood.yaml + ["train.rate=3e-4"] ──▶ nodes with line numbers ──▶ pydantic, strict ──▶ Run(dataset, backbone, …)

Only this file knows pydantic, and only `adapteo._yaml` knows YAML.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapteo.contracts import BackboneSpec, Dataset, DecoderSpec, Method, Task
from adapteo.errors import ConfigError


@dataclass(frozen=True)
class Train:
    """How to train; the defaults are the protocol of arXiv 2504.17397 (AdamW, plateau schedule, early stop, D4).

    Attributes:
        epochs: most passes over the training split; early stopping usually ends sooner.
        batch: samples per step and device.
        accumulate: steps whose gradients are averaged before the optimiser moves.
        seed: of everything random: new weights, order of samples, augmentation.

        rate: learning rate of what the method trains in the backbone (AdamW).
        head_rate: learning rate of the decoder; null for the same as `rate`.
        weight_decay: of AdamW, on weight matrices.
        clip: largest norm of the gradient; null for no clipping.

        schedule: "plateau" halves the rate when the validation loss stalls, "cosine" falls to 0 over `epochs`,
            "constant" leaves it.
        warmup: optimiser steps over which the rate first rises linearly from 0.
        plateau_patience: epochs without a lower validation loss before "plateau" acts.
        plateau_factor: what "plateau" multiplies the rate by.
        patience: epochs without a better validation score after which training stops; null to run all `epochs`.

        head_start: fit the decoder on features of the untouched backbone first, where that has a closed or cheap form,
            so that the method starts from a linear probe.
        augment: "d4" for flips and quarter turns, "d4+crop" for random resized crops as well, "none".
        crop: side in pixels of a random training window; null for whole images.
        normalise: band statistics of "pretraining" or of the training split ("dataset").

        precision: "fp32", or "bf16" for mixed precision on hardware that has it.
        accelerator: "auto" takes the first GPU there is.
        devices: processes, one device each; more than 1 trains data-parallel.
        workers: threads that read ahead.
        tensorboard: write TensorBoard logs beside the CSV log.
    """

    epochs: int = 50
    batch: int = 8
    accumulate: int = 1
    seed: int = 0

    rate: float = 1e-4
    head_rate: float | None = None
    weight_decay: float = 0.01
    clip: float | None = None

    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    warmup: int = 0
    plateau_patience: int = 4
    plateau_factor: float = 0.5
    patience: int | None = 15

    head_start: bool = True
    augment: Literal["none", "d4", "d4+crop"] = "d4"
    crop: int | None = None
    normalise: Literal["pretraining", "dataset"] = "pretraining"

    precision: Literal["fp32", "bf16"] = "fp32"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    workers: int = 2
    tensorboard: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ConfigError: names the key, its value and the range.
        """
        for names, allowed, fits in _RANGES:
            for name in names:
                value = vars(self)[name]
                if value is not None and not fits(value):
                    raise ConfigError(f"train.{name} is {value}", allowed=[allowed])


_RANGES = (
    (("epochs", "batch", "accumulate", "devices", "patience", "crop"), "1 or more", lambda value: value >= 1),
    (("seed", "warmup", "plateau_patience", "workers", "weight_decay"), "0 or more", lambda value: value >= 0),
    (("rate", "head_rate", "clip"), "more than 0", lambda value: value > 0),
    (("plateau_factor",), "more than 0, less than 1", lambda value: 0 < value < 1),
)


@dataclass(frozen=True)
class Run:
    """Everything that decides the outcome of one training.

    Attributes:
        dataset: labelled images.
        backbone: pretrained encoder.
        method: how the backbone is adapted.
        decoder: from feature maps to the label grid.
        task: loss and metrics; the dataset's own unless the configuration names one.
        train: how to train.
        out: folder for everything that the run writes.
    """

    dataset: Dataset
    backbone: BackboneSpec
    method: Method
    decoder: DecoderSpec
    task: Task
    train: Train
    out: Path

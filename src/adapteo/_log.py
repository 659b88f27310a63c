"""The log of a run: a CSV table always, TensorBoard when asked for."""

import csv
import math
from pathlib import Path

from adapteo.errors import ConfigError
from adapteo.files import replacing


def write_log(path: Path, history: list[dict[str, float]]) -> None:
    """Write one CSV row per epoch; epoch 0 is the state before training."""
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def check_board() -> None:
    """Find out before a run whether TensorBoard is there.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "train.tensorboard needs the package tensorboard",
            fix="pip install 'adapteo[tensorboard]', or leave train.tensorboard out; log.csv is written anyway",
        ) from error


def write_board(folder: Path, row: dict[str, float]) -> None:
    """Add the row of one epoch to the TensorBoard logs in a folder; a repeated epoch replaces the earlier one."""
    from torch.utils.tensorboard import SummaryWriter

    epoch = int(row["epoch"])
    with SummaryWriter(str(folder), purge_step=epoch) as board:
        for name, value in row.items():
            if name != "epoch" and not math.isnan(value):
                board.add_scalar(name, value, epoch)

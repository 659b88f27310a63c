"""The paper's numbers, from two tables beside this file.

``paper.csv``   mIoU in per cent (mean and standard deviation over 5 seeds); minutes and epochs (means)
``rates.csv``   the learning rates that the authors' search found, from their 202 configurations
"""

import csv
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from adapteo.bench.tables import Cell

Key = tuple[str, str, str, str, str]


class Published(NamedTuple):
    """A number of the paper's.

    Attributes:
        mean, std: over 5 seeds; std is None where none is published.
        source: table or file.
    """

    mean: float
    std: float | None
    source: str


def number(table: str, cell: Cell, split: str) -> Published | None:
    """Find the number of a cell; None when it was not published, or the cell is not as in the paper.

    Args:
        table: "main", "ood" or "time".
        cell: of any seed.
        split: "test"; "bolivia" or "ood"; "minutes" or "epochs".
    """
    own = "unet" if cell.model == "unet-resnet50" else "linear"
    if cell.change or cell.metadata == "on" or cell.decoder != own:
        return None
    return _numbers().get((table, cell.model, cell.method, cell.dataset, split))


def rate(cell: Cell) -> float | None:
    """Find the learning rate that the authors used for a cell; None when there is none.

    Where a model was told date and place without a search of its own, they took the rate without.
    """
    plain = cell.searched
    name, _ = plain.changed
    if name not in ("", "draw"):
        return None
    keys = ((plain.model, plain.method, plain.decoder, plain.dataset, told) for told in (plain.metadata, "off"))
    return next((_rates()[key] for key in keys if key in _rates()), None)


@cache
def _numbers() -> dict[Key, Published]:
    found = {}
    for row in _rows("paper.csv"):
        std = float(row["std"]) if row["std"] else None
        key = (row["table"], row["model"], row["method"], row["dataset"], row["split"])
        found[key] = Published(float(row["mean"]), std, row["source"])
    return found


@cache
def _rates() -> dict[Key, float]:
    keys = ("model", "method", "decoder", "dataset", "metadata")
    found = {}
    for row in _rows("rates.csv"):
        model, method, decoder, dataset, metadata = (row[key] for key in keys)
        found[model, method, decoder, dataset, metadata] = float(row["rate"])
    return found


def _rows(name: str) -> list[dict[str, str]]:
    with files("adapteo.bench").joinpath(name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))

"""What a cell needs before it can run: data, weights, hours."""

from dataclasses import dataclass, replace
from importlib.util import find_spec

import torch

from adapteo import checkpoint
from adapteo.assembly import chosen_bands
from adapteo.bench import published
from adapteo.bench.running import one_line
from adapteo.bench.setting import Setting, data_root, run_of
from adapteo.bench.subjects import BENCHMARKS, SUBJECTS
from adapteo.bench.tables import Cell
from adapteo.config import Run
from adapteo.errors import AdaptEOError

_EPOCHS = 50
"""Guess where the paper has no number of epochs; the mean over its table is 56."""
_TENTH = 0.1


@dataclass(frozen=True)
class Needs:
    """What a cell needs.

    Attributes:
        problem: why it cannot run, "" when it can.
        hours: of one training; None where nothing is known.
    """

    problem: str = ""
    hours: float | None = None


class Checker:
    """Finds out what cells need; looks at each dataset and each model once.

    Args:
        setting: how the cells are run.
        fetch: whether weights may be fetched from the hub; otherwise only its cache is looked at.
        seconds: of a step per image, by path of a cell, where it was measured.
    """

    def __init__(self, setting: Setting, *, fetch: bool, seconds: dict[str, float] | None = None) -> None:
        self.setting, self.fetch, self.seconds = setting, fetch, seconds or {}
        self._data: dict[tuple[str, str], str] = {}
        self._weights: dict[str, str] = {}

    def check(self, cell: Cell) -> Needs:
        """Say what a cell needs."""
        try:
            run = run_of(cell, self.setting, None)
        except AdaptEOError as error:
            return Needs(one_line(error), self.hours(cell))
        data = (cell.dataset, cell.change if cell.change.startswith("draw=") else "")
        if data not in self._data:
            self._data[data] = self._data_problem(run, cell)
        if cell.model not in self._weights:
            self._weights[cell.model] = self._weights_problem(run)
        problems = (self._data[data], self._weights[cell.model], self._rate_problem(cell))
        return Needs("; ".join(filter(None, problems)), self.hours(cell))

    def hours(self, cell: Cell) -> float | None:
        """Estimate the hours of one training: from a measured step, else from the paper's minutes.

        A measured step counts for the epochs of the paper's training, or of a guess. The minutes are those of the
        paper's GPU, which is not known, and of the paper's decoder.
        """
        plain = replace(cell, change="", metadata="off", decoder=_paper_decoder(cell))
        share = _TENTH if cell.change.startswith("draw=") else 1.0
        if cell.path in self.seconds:
            epochs = published.number("time", plain, "epochs")
            images = BENCHMARKS[cell.dataset].train * share * (epochs.mean if epochs else _EPOCHS)
            return self.seconds[cell.path] * images / 3600
        minutes = published.number("time", plain, "minutes") if cell.decoder == plain.decoder else None
        return minutes.mean * share / 60 if minutes else None

    def _rate_problem(self, cell: Cell) -> str:
        rates = self.setting.options.rates
        if rates == "search" and find_spec("optuna") is None:
            return "the search for learning rates needs optuna: pip install 'adapteo[tune]'"
        if rates == "paper" and published.rate(cell) is None:
            return "the paper has no learning rate for it (use --rates search)"
        return ""

    def _data_problem(self, run: Run, cell: Cell) -> str:
        """Why the splits of a dataset cannot be read, "" when they can."""
        benchmark = BENCHMARKS[cell.dataset]
        root = data_root(benchmark, self.setting)
        if not root.is_dir() and not self.setting.options.download:
            return f"{benchmark.title}: there is no folder {root}"
        try:
            for name in ("train", "val", *benchmark.tests):
                run.dataset.read(run.dataset.split(name)[0])
        except AdaptEOError as error:
            return one_line(error)
        return ""

    def _weights_problem(self, run: Run) -> str:
        wanted = run.backbone.weights
        if wanted == checkpoint.RANDOM:
            return ""
        try:
            with torch.device("meta"):
                source = run.backbone.build(chosen_bands(run, run.dataset.bands)).weights
            if wanted != checkpoint.PRETRAINED or self.fetch or (source is not None and source.packaged):
                checkpoint.locate(wanted, source)
            elif source is not None and not checkpoint.cached(source):
                return f"no weights {source.repo}/{source.file} in the hub's cache"
        except AdaptEOError as error:
            return one_line(error)
        return ""


def _paper_decoder(cell: Cell) -> str:
    own = SUBJECTS[cell.model].decoder
    return str(own["name"]) if own else "linear"

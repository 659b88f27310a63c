"""One cell to its end: learning rate, training, tests, one file of numbers. A stop loses nothing that was finished.

<setting>/runs/<dataset>/<model>/<method>/<decoder>/seed-0/    a run's folder, see `adapteo.experiment`
                                                result.json    written last: the cell is done
"""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapteo import experiment
from adapteo.bench import costs, published
from adapteo.bench.search import search
from adapteo.bench.setting import Setting, run_of
from adapteo.bench.tables import Cell
from adapteo.checkpoint import write_json
from adapteo.config import Run
from adapteo.errors import AdaptEOError, ConfigError, DataError, Interrupted, WeightsError
from adapteo.evaluate import ALL
from adapteo.fitted import ADAPTER, RUN_FILE
from adapteo.train import STATE_FILE

RESULT_FILE, COST_FILE, _CLOCK_FILE = "result.json", "cost.json", "clock.json"
DONE, CANNOT, FAILED, WAITING = "done", "cannot run", "failed", "to do"


@dataclass(frozen=True)
class Outcome:
    """How a cell ended.

    Attributes:
        cell: which.
        state: `DONE`, `CANNOT` (what it needs is not there), `FAILED` (it ran, and an error ended it), or `WAITING`.
        reason: what is missing, or the message of the error.
        result: numbers of a cell that is done.
        cost: whether the cell's step was counted, rather than the cell trained.
    """

    cell: Cell
    state: str
    reason: str = ""
    result: Mapping[str, Any] | None = None
    cost: bool = False


def finished(cell: Cell, setting: Setting, *, cost: bool = False) -> Mapping[str, Any] | None:
    """Numbers of a cell that is done; None when it is not.

    Args:
        cell: which.
        setting: where.
        cost: of the step that `adapteo.bench.costs` counts, instead of the run.
    """
    path = cost_place(cell, setting) if cost else setting.place(cell) / RESULT_FILE
    if not path.is_file():
        return None
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def cost_place(cell: Cell, setting: Setting) -> Path:
    """File of a cell's cost, which depends on no protocol."""
    return setting.out / ("smoke" if setting.preset == "smoke" else "costs") / "costs" / cell.path / COST_FILE


def complete(cell: Cell, setting: Setting, *, cost: bool = False) -> Outcome:
    """Bring a cell to its end, or go on with one that was stopped.

    Raises:
        Interrupted: stopped by the user; what was reached is saved.
    """
    try:
        result = finished(cell, setting, cost=cost) or (_count if cost else _run)(cell, setting)
    except Interrupted:
        raise
    except (ConfigError, DataError, WeightsError) as error:
        return Outcome(cell, CANNOT, one_line(error), cost=cost)
    except AdaptEOError as error:
        return Outcome(cell, FAILED, one_line(error), cost=cost)
    return Outcome(cell, DONE, result=result, cost=cost)


def _count(cell: Cell, setting: Setting) -> Mapping[str, Any]:
    write_json(costs.count(cell, setting).as_dict(), cost_place(cell, setting))
    found = finished(cell, setting, cost=True)
    assert found is not None, "just written"
    return found


def _run(cell: Cell, setting: Setting) -> Mapping[str, Any]:
    began = time.perf_counter()
    rate = rate_of(cell, setting)
    run = run_of(cell, setting, rate)
    try:
        fitted = experiment.fit(run, resume=True)
        report = fitted.test(pictures=False, resamples=0)
    finally:
        seconds = _add_time(run.out, time.perf_counter() - began)
    facts = json.loads((run.out / RUN_FILE).read_text(encoding="utf-8"))
    scores = {split: found.row(ALL).metrics[found.monitor].value for split, found in report.tables.items()}
    probe = {split: found.row(ALL).metrics[found.monitor].value for split, found in report.baselines.items()}
    result = {
        "cell": asdict(cell),
        "protocol": setting.options.protocol,
        "rate": rate or run.method.default_rate,
        "scores": scores,
        "probe": probe,
        "seconds": seconds,
        "samples": {split: len(run.dataset.split(split)) for split in ("train", "val", *scores)},
        **{key: facts[key] for key in _FACTS},
    }
    write_json(result, run.out / RESULT_FILE)
    _tidy(run, setting)
    found = finished(cell, setting)
    assert found is not None, "just written"
    return found


_FACTS = (
    "epochs", "best_epoch", "validation", "seconds_per_step", "memory_bytes", "parameters", "normalisation", "base",
    "environment",
)  # fmt: skip


def rate_of(cell: Cell, setting: Setting) -> float | None:
    """The cell's learning rate, searched for where that is asked; None for the method's own.

    Raises:
        ConfigError: the paper has none.
    """
    if setting.preset == "smoke" or setting.options.rates == "default":
        return None
    if setting.options.rates == "search":
        return search(cell, setting)
    found = published.rate(cell)
    if found is None:
        raise ConfigError("the paper has no learning rate for it", fix="use --rates search")
    return found


def _add_time(folder: Path, seconds: float) -> float:
    """Add to the time that all attempts at a run took together."""
    path = folder / _CLOCK_FILE
    before = json.loads(path.read_text(encoding="utf-8"))["seconds"] if path.is_file() else 0.0
    if folder.is_dir():
        write_json({"seconds": before + seconds}, path)
    return float(before + seconds)


def _tidy(run: Run, setting: Setting) -> None:
    """Remove what only going on with a run needs, and the weights where they are not to be kept."""
    (run.out / STATE_FILE).unlink(missing_ok=True)
    if not setting.options.keep:
        shutil.rmtree(run.out / ADAPTER, ignore_errors=True)


def one_line(error: AdaptEOError) -> str:
    """The problem on one line; what to do, where it is no matter of data and weights, for which tables have no room."""
    told = error.problem if isinstance(error, DataError | WeightsError) else f"{error.problem} {error.fix}"
    return " ".join(told.split())

"""The search for a cell's learning rate: sixteen trainings, judged on validation only.

As in arXiv 2504.17397, with one difference: its rates end at 1e-3, which many of its searches reach; here 1e-2 is the
ceiling. `adapteo.trials` says how it is searched.

<setting>/search/<cell>/trial-00/    the trials
                        search.json  the best
"""

import json
import math
from pathlib import Path

from adapteo import experiment
from adapteo._sampler import load_optuna
from adapteo.bench.setting import Setting, run_of
from adapteo.bench.tables import Cell
from adapteo.checkpoint import write_json
from adapteo.errors import ConfigError
from adapteo.search_space import Range, Values
from adapteo.train import LOG_FILE
from adapteo.trials import HIGHEST, LOWEST, Search, course

_RATE, _SEARCH_FILE = "rate", "search.json"


def search(cell: Cell, setting: Setting) -> float:
    """Find the learning rate of a cell, or read what was found.

    Raises:
        ConfigError: Optuna is not installed.
        AdaptEOError: no trial came to an end.
        Interrupted: stopped by the user; finished trials, and the state of the one that ran, are saved.
    """
    folder = setting.search_place(cell)
    if (folder / _SEARCH_FILE).is_file():
        found = json.loads((folder / _SEARCH_FILE).read_text(encoding="utf-8"))
        if found["trials"] >= setting.options.trials:
            return float(found["rate"])
    try:
        load_optuna()
    except ConfigError as error:
        raise ConfigError(error.problem, fix=f"{error.fix}, or use --rates paper or default") from error

    def train(number: int, values: Values, place: Path) -> dict[str, float]:
        rate = values[_RATE]
        assert isinstance(rate, float), "as searched below"
        experiment.fit(run_of(cell.searched, setting, rate, place), resume=True)
        return {"value": min(loss for loss in course(place / LOG_FILE, "val_loss") if math.isfinite(loss))}

    searching = Search(folder, {_RATE: Range(LOWEST, HIGHEST)}, setting.options.trials)
    trials = searching.run(train)
    best = trials[searching.best(trials)]
    rate = float(best["values"][_RATE])
    write_json({"rate": rate, "value": best["value"], "trials": len(trials)}, folder / _SEARCH_FILE)
    return rate

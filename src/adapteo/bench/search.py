"""The search for a cell's learning rate: sixteen trainings, judged on validation only.

As in arXiv 2504.17397, with one difference: its rates end at 1e-3, which many of its searches reach; here 1e-2 is the
ceiling. Tree-structured Parzen estimator (Bergstra et al. 2011) of Optuna, on the logarithm of the rate.

<setting>/search/<cell>/trial-00/trial.json    rate, written before the training; then the value
                                 …             a run's folder, until the trial is finished
                        search.json            the best
"""

import csv
import json
import math
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

from adapteo import experiment
from adapteo.bench.setting import Setting, run_of
from adapteo.bench.tables import Cell
from adapteo.checkpoint import write_json
from adapteo.errors import AdaptEOError, ConfigError, DataError, Interrupted, WeightsError
from adapteo.fitted import CONFIG_FILE, RUN_FILE
from adapteo.train import LOG_FILE

LOWEST, HIGHEST = 1e-5, 1e-2
_TRIAL_FILE, _SEARCH_FILE = "trial.json", "search.json"
_KEPT = (_TRIAL_FILE, LOG_FILE, RUN_FILE, CONFIG_FILE)
_SEED = 2504


def search(cell: Cell, setting: Setting) -> float:
    """Find the learning rate of a cell, or read what was found.

    Each trial's rate depends on nothing but the trials before, so a stopped search goes on as if it had not been.

    Raises:
        ConfigError: Optuna is not installed.
        AdaptEOError: no trial came to an end.
        Interrupted: stopped by the user; finished trials, and the state of the one that ran, are saved.
    """
    folder = setting.search_place(cell)
    found = _read(folder / _SEARCH_FILE)
    if found is not None and found["trials"] >= setting.options.trials:
        return float(found["rate"])
    optuna = _optuna()
    trials = [_read(folder / _name(number) / _TRIAL_FILE) for number in range(setting.options.trials)]
    for number, trial in enumerate(trials):
        if trial is None or "state" not in trial:
            rate = trial["rate"] if trial else _propose(optuna, [t for t in trials[:number] if t], number)
            trials[number] = _try(cell.searched, setting, folder / _name(number), rate)
    complete = [trial for trial in trials if trial and trial["state"] == "complete"]
    if not complete:
        raise AdaptEOError(
            f"none of {len(trials)} trials came to an end; the first: {trials[0] and trials[0]['reason']}"
        )
    best = min(complete, key=lambda trial: trial["value"])
    write_json({"rate": best["rate"], "value": best["value"], "trials": len(trials)}, folder / _SEARCH_FILE)
    return float(best["rate"])


def _propose(optuna: ModuleType, before: list[dict[str, Any]], number: int) -> float:
    """Rate of the next trial, from those before it."""
    space = {"rate": optuna.distributions.FloatDistribution(LOWEST, HIGHEST, log=True)}
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=_SEED + number))
    for trial in before:
        ended = trial["state"] == "complete"
        study.add_trial(
            optuna.trial.create_trial(
                params={"rate": trial["rate"]},
                distributions=space,
                value=trial["value"] if ended else None,
                state=optuna.trial.TrialState.COMPLETE if ended else optuna.trial.TrialState.FAIL,
            )
        )
    return float(study.ask(space).params["rate"])


def _try(cell: Cell, setting: Setting, folder: Path, rate: float) -> dict[str, Any]:
    """Train with a rate, and note the lowest validation loss."""
    trial: dict[str, Any] = {"rate": rate}
    write_json(trial, folder / _TRIAL_FILE)
    try:
        experiment.fit(run_of(cell, setting, rate, folder), resume=True)
        trial |= {"value": _lowest_loss(folder / LOG_FILE), "state": "complete"}
    except (ConfigError, DataError, WeightsError, Interrupted):  # not the rate's fault
        raise
    except AdaptEOError as error:  # the loss is no number any more, or the memory too small
        trial |= {"state": "failed", "reason": " ".join(error.problem.split())}
    write_json(trial, folder / _TRIAL_FILE)
    for path in folder.iterdir():
        if path.name not in _KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return trial


def _lowest_loss(log: Path) -> float:
    with log.open(encoding="utf-8") as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file)]
    return min(loss for loss in losses if math.isfinite(loss))


def _name(number: int) -> str:
    return f"trial-{number:02d}"


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError as error:
        fix = "run: pip install 'adapteo[tune]', or use --rates paper or default"
        raise ConfigError("the search for learning rates needs optuna", fix=fix) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    module: ModuleType = optuna
    return module

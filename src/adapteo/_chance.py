"""What the linear probe would score had the windows been divided by chance: how much of a score neighbours give.

Nothing but the split differs: the same frozen features, the same fit, as many windows for training, validation and
test. (Roberts et al. 2017, doi:10.1111/ecog.02881, on why such a test is too good.)
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from adapteo.assembly import loader
from adapteo.checkpoint import write_json
from adapteo.config import Run
from adapteo.evaluate import ALL, table
from adapteo.headstart import fit_head
from adapteo.model import Model
from adapteo.scoring import score

CHANCE_FILE = "random_split.json"


@dataclass(frozen=True)
class Chance:
    """A score on a split by chance.

    Attributes:
        monitor: name of the metric.
        value, low, high: with its interval.
        windows: of train, val and test.
        fingerprint: of the data that it holds for.
    """

    monitor: str
    value: float
    low: float
    high: float
    windows: tuple[int, int, int]
    fingerprint: str


def chance_score(run: Run, bands: tuple[str, ...], model: Callable[[], Model], resamples: int) -> Chance | None:
    """Fit the decoder on a split by chance and test it there; kept in the run's folder.

    Args:
        run: with a head start.
        bands: that the model takes.
        model: makes the untouched backbone with a new decoder; asked only when there is no score yet.
        resamples: draws for the interval.

    Returns:
        None for a dataset that has no other split by chance (see `Dataset.by_chance`).
    """
    dataset = run.dataset.by_chance()
    if dataset is None:
        return None
    file, fingerprint = run.out / CHANCE_FILE, dataset.fingerprint()
    kept = _kept(file)
    if kept is not None and kept.fingerprint == fingerprint:
        return kept
    other = replace(run, dataset=dataset)
    made = model()
    train, val, test = (loader(other, part, bands) for part in ("train", "val", "test"))
    fit_head(made, run.task, (train, val), classes=dataset.classes, train=run.train, linear=run.decoder.linear)
    found = score(made, run.task, test)
    groups = [dataset.group(key) for key in found.keys]
    scores = table(run.task, found.statistics, dataset.classes, groups, split="test", resamples=resamples)
    value, low, high = scores.row(ALL).metrics[scores.monitor]
    windows = len(train.keys), len(val.keys), len(test.keys)
    chance = Chance(scores.monitor, value, low, high, windows, fingerprint)
    write_json(asdict(chance), file)
    return chance


def _kept(file: Path) -> Chance | None:
    if not file.is_file():
        return None
    saved = json.loads(file.read_text(encoding="utf-8"))
    return Chance(**{**saved, "windows": tuple(saved["windows"])})

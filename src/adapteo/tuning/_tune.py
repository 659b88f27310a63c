"""A tuning from its configuration to its table."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from adapteo import config
from adapteo._sampler import COMPLETE, load_optuna
from adapteo.checkpoint import write_json
from adapteo.config import Run
from adapteo.errors import AdaptEOError, ConfigError, DataError, Interrupted
from adapteo.evaluate import ALL
from adapteo.files import replacing, unwritable
from adapteo.fitted import RUN_FILE
from adapteo.one_pass import Chorus
from adapteo.train import LOG_FILE, STATE_FILE, Observer
from adapteo.trials import course
from adapteo.tuning._arms import PROBE, arms, budget, probe
from adapteo.tuning._screen import Reporter
from adapteo.tuning._search import Found, Place, search
from adapteo.tuning._space import parse
from adapteo.tuning._table import Row, Spread, Tuned

_RESULT_FILE, _BEST_FILE = "result.json", "best.yaml"


@dataclass(frozen=True)
class Terms:
    """What is compared and how; also the keys of a configuration's ``tune`` section.

    Attributes:
        methods: names; "lora+ssf" for two that work together, "scratch" for training from random weights; the
            configuration's own when there are none.
        search: values by key, e.g. ``method.rank: 4,8,16``; see `adapteo.tuning.parse`.
        trials: of each method's search.
        seeds: trainings of each method's best setting that are tested.
        prune: end trials that are worse than the median of the others after a fifth of the epochs. The budgets of
            methods are then equal in trials, not in epochs.
    """

    methods: tuple[str, ...] = ()
    search: Mapping[str, str] = field(default_factory=dict)
    trials: int = 16
    seeds: int = 3
    prune: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ConfigError: names the value.
        """
        for name, least in (("trials", 0), ("seeds", 1)):
            if vars(self)[name] < least:
                raise ConfigError(f"{name} is {vars(self)[name]}", allowed=[f"{least} or more"])


def tune(base: Run, terms: Terms | None = None, reporter: Reporter | None = None) -> Tuned:
    """Search each method on validation, train the best of each with several seeds, and test those once.

    Args:
        base: the run; its folder is that of the tuning.
        terms: of the comparison; by default the learning rate of the run's own method is searched.
        reporter: is told of the progress.

    Returns:
        The table, which is in the folder as well. What was finished before is read, not repeated.

    Raises:
        ConfigError: Optuna is not installed, the folder holds another tuning, or no method can be trained here.
        DataError: the data cannot be read.
        Interrupted: stopped; what is finished is kept.
    """
    terms, reporter = terms or Terms(), reporter or Reporter()
    if base.train.devices > 1:
        raise ConfigError(f"a tuning trains on one device, train.devices is {base.train.devices}", allowed=[1])
    chosen = arms(base, terms.methods, parse([f"{key}={values}" for key, values in terms.search.items()]))
    if any(budget(arm, terms.trials) for arm in chosen):
        load_optuna()
    place = Place(base.out, terms.trials, terms.prune, reporter)
    seeds = [base.train.seed + number for number in range(terms.seeds)]
    with _going_on(base.out), _alone(base.out):
        try:
            reporter.begin(sum(budget(arm, terms.trials) for arm in chosen) + len(seeds) * (len(chosen) + 1))
            found = [search(arm, place) for arm in chosen]  # all of them, before the first test
            failed = [one.error for one in found if one.error]
            if len(failed) == len(found):
                raise failed[0]
            rows = [_row(one, place, seeds) for one in (*found, Found(probe(base)))]
        finally:
            reporter.end()
        task, splits = base.task, ("test", *base.dataset.holdouts)
        best = _best(base, rows)
        tuned = Tuned(task.monitor, task.higher_is_better, splits, terms.trials, terms.seeds, tuple(rows), best)
        _write(base, found, tuned)
    return tuned


@contextmanager
def _going_on(out: Path) -> Iterator[None]:
    """Say of a tuning that was stopped how to go on with it, and not with one of its runs."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        raise Interrupted(
            f"stopped; what is finished is kept in {out}", fix="the same command goes on from there"
        ) from None


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other processes out of the folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock", timeout=0).acquire()
    except Timeout as error:
        raise ConfigError(f"another process is tuning in {out}", fix="wait for it, or choose --out") from error
    except OSError as error:
        raise unwritable(out, error) from error
    with lock:
        yield


def _row(found: Found, place: Place, seeds: Sequence[int]) -> Row:
    """Train and test the best setting of a method."""
    lost = sum(trial["state"] != COMPLETE for trial in found.trials)
    spent = sum(trial["seconds"] for trial in found.trials)
    searched = Row(found.arm.name, len(found.trials), lost, search_seconds=spent)
    if found.error is not None:
        return replace(searched, reason=one_line(found.error))
    folder = Path(found.arm.folder, "only" if found.number is None else f"best-{found.number:02d}")
    results, reason = [], ""
    _in_one_pass(found, place, {seed: place.out / folder / f"seed-{seed}" for seed in seeds})
    for seed in seeds:
        try:
            results.append(_tested(found, place, place.out / folder / f"seed-{seed}", seed))
        except (DataError, Interrupted) as error:
            if isinstance(error, Interrupted) or found.arm.name != PROBE:  # images of several sizes have no probe
                raise
            reason = one_line(error)
        except AdaptEOError as error:  # another seed diverged
            reason = one_line(error)
    searched = replace(searched, values=found.values, reason=reason)
    return _summed(searched, results, folder) if results else searched


def _in_one_pass(found: Found, place: Place, folders: Mapping[int, Path]) -> None:
    """Train all seeds together where they see the same batches (``train.order_seed``); each is tested on its own."""
    left = [folder for folder in folders.values() if not (folder / _RESULT_FILE).is_file()]
    if found.arm.base.train.order_seed is None or found.arm.name == PROBE or len(left) < 2:
        return
    runs = [found.arm.run(found.values, folder, seed) for seed, folder in folders.items() if folder in left]
    place.reporter.training(f"{found.arm.name}: best setting, {len(runs)} seeds")
    chorus = Chorus(place.reporter)
    try:
        for _ in place.fit_each(runs, [chorus.voice() for _ in runs], chorus):
            pass
    except (DataError, Interrupted):
        raise
    except AdaptEOError:  # one that cannot be trained will say so when it is to be tested
        return


def _summed(row: Row, results: Sequence[Mapping[str, Any]], folder: Path) -> Row:
    """Put the results of all seeds into a row."""

    def spread(values: Iterable[float | None]) -> Spread:
        return Spread.of([math.nan if value is None else value for value in values])

    return replace(
        row,
        seeds=len(results),
        validation=spread(result["validation"] for result in results),
        scores={split: spread(result["scores"][split] for result in results) for split in results[0]["scores"]},
        backbone=results[0]["backbone"],
        decoder=results[0]["decoder"],
        seconds=spread(result["seconds"] for result in results).mean,
        memory=max((result["memory"] for result in results if result["memory"]), default=None),
        folder=folder.as_posix(),
    )


def _tested(found: Found, place: Place, folder: Path, seed: int) -> Mapping[str, Any]:
    """Train with a seed and test, or read what was found."""
    is_probe = found.arm.name == PROBE
    place.reporter.training(f"{found.arm.name}: best setting, seed {seed}")
    path = folder / _RESULT_FILE
    if not path.is_file():
        run = found.arm.run(found.values, folder, seed)
        done = (folder / RUN_FILE).is_file()
        report = place.fit(run, Observer() if done else None).test(pictures=False, resamples=0)
        facts = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        tables = report.baselines if is_probe else report.tables
        start = facts["linear_probe"] if is_probe else {}
        result = {
            "validation": (start["metrics"] if is_probe else facts["validation"])[run.task.monitor],
            "scores": {split: table.row(ALL).metrics[table.monitor].value for split, table in tables.items()},
            "backbone": facts["parameters"]["backbone_trained"],
            "decoder": facts["parameters"]["decoder_trained"],
            "seconds": start["seconds"] if is_probe else sum(course(folder / LOG_FILE, "seconds")),
            "memory": None if is_probe else facts["memory_bytes"]["total"],
        }
        write_json(result, path)
        (folder / STATE_FILE).unlink(missing_ok=True)
    found_before: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    place.reporter.trained()
    return found_before


def _best(base: Run, rows: Sequence[Row]) -> str | None:
    """The method that is best on validation; the probe is no configuration of its own."""
    sign = -1 if base.task.higher_is_better else 1
    scored = [row for row in rows if row.seeds and row.method != PROBE and not math.isnan(row.validation.mean)]
    return min(scored, key=lambda row: sign * row.validation.mean).method if scored else None


def _write(base: Run, found: Sequence[Found], tuned: Tuned) -> None:
    """Write tables and configurations."""
    texts = {"table.csv": tuned.to_csv(), "table.json": tuned.to_json(), "table.md": tuned.to_markdown()}
    for one in found:
        if one.error is None:
            home = base.out / one.arm.folder
            texts[f"{one.arm.folder}/{_BEST_FILE}"] = config.dump(one.arm.run(one.values, home.absolute() / "best"))
            if one.arm.name == tuned.best:
                texts[_BEST_FILE] = config.dump(one.arm.run(one.values, base.out.absolute() / "best"))
    for name, text in texts.items():
        with replacing(base.out / name) as beside:
            beside.write_text(text, encoding="utf-8")


def one_line(error: AdaptEOError) -> str:
    return " ".join(error.problem.split())

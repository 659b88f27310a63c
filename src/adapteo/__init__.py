"""AdaptEO: from your own labels to a map you can trust, with few trained parameters.

    import adapteo
    run = adapteo.fit("flood.yaml", "train.epochs=20")
    run.test()
    run.predict(["scene.tif"], "map.tif")

Importing this imports no torch; the first call does. The imports are by name because every module of the package
imports this one first, and none of them may depend on what is above it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from adapteo.errors import AdaptEOError
from adapteo.registry import names

if TYPE_CHECKING:
    from adapteo.config import Run
    from adapteo.experiment import FittedRun
    from adapteo.train import Observer
    from adapteo.tuning import Tuned

__version__ = "0.1.0"
__all__ = ["AdaptEOError", "__version__", "fit", "fit_many", "load", "names", "tune"]


def fit(
    configuration: "str | Path | Mapping[str, object] | Run",
    *overrides: str,
    resume: bool = False,
    show: bool = True,
    check: bool = True,
) -> "FittedRun":
    """Train what a configuration describes.

    Args:
        configuration: a YAML file, a project folder, the same as a mapping, or a `adapteo.config.Run`.
        overrides: ``train.rate=3e-4``, ``method=lora``; later ones win.
        resume: go on where a stopped run left off.
        show: print progress on standard error.
        check: look at the scenes and labels of a `survey` first, and stop when they would spoil the result.

    Returns:
        The run at its best epoch, ready for ``test``, ``predict`` and ``merge``.

    Raises:
        ConfigError: when the configuration does not hold.
        DataError: when the images or labels do not.
        Interrupted: when stopped; the state is saved.
    """
    config, experiment = import_module("adapteo.config"), import_module("adapteo.experiment")
    if isinstance(configuration, config.Run):
        run = config.load(vars(configuration), overrides) if overrides else configuration
    else:
        run = config.load(configuration, overrides)
    observer = import_module("adapteo._screen").ScreenObserver(run.task.monitor, run.train.epochs) if show else None
    if check and not resume:
        _check(run, configuration, observer)
    fitted: FittedRun = experiment.fit(run, resume=resume, observer=observer)
    return fitted


def fit_many(
    configurations: "Sequence[str | Path | Mapping[str, object] | Run]",
    *overrides: str,
    resume: bool = False,
    show: bool = True,
) -> "list[FittedRun]":
    """Train several configurations, in one pass over the data where their batches and frozen blocks are the same.

    They may differ in decoder, rates, schedule and number of epochs, and with ``train.order_seed`` in the seed; each
    gives what it gives alone. Others are trained one after the other.

    Args:
        configurations: as of `fit`, each with a folder of its own.
        overrides: as of `fit`, for all of them.
        resume: go on where stopped runs left off; those that are finished stay.
        show: print progress on standard error.

    Returns:
        The runs, in this order.

    Raises:
        ConfigError: a configuration does not hold, or two have the same folder.
        DataError: the images or labels do not hold.
        AdaptEOError: of the first that failed, when the others have ended.
        Interrupted: when stopped; the states are saved.
    """
    config, one_pass = import_module("adapteo.config"), import_module("adapteo.one_pass")
    given = (vars(each) if isinstance(each, config.Run) else each for each in configurations)
    runs = [config.load(each, overrides) for each in given]
    observer = import_module("adapteo._screen").ScreenObserver("", 0) if show and runs else None
    fitted: list[FittedRun] = one_pass.fit_many(runs, resume=resume, observer=observer)
    return fitted


def tune(
    configuration: "str | Path | Mapping[str, object] | Run",
    *overrides: str,
    methods: Sequence[str] | None = None,
    trials: int | None = None,
    seeds: int | None = None,
    prune: bool | None = None,
    show: bool = True,
    check: bool = True,
) -> "Tuned":
    """Search the best setting of each method on validation with equal budgets, then test each once.

    Args:
        configuration: as of `fit`; its ``tune`` section has what is not given here (`adapteo.tuning.Terms`).
        overrides: as of `fit`; several values are searched: ``method.rank=4,8,16``, ``train.rate=1e-5..1e-2``. ``out``
            is the folder of the tuning, by default ``tune`` in the project, or that of the run with ``-tune``.
        methods: names; ``"lora+ssf"`` for two together, ``"scratch"`` for training from random weights; by default
            the configuration's own.
        trials: trainings of each search; 16 unless the configuration says otherwise.
        seeds: trainings of each best setting that are tested; likewise 3.
        prune: end trials early that are worse than the median of the others.
        show: print progress on standard error.
        check: as of `fit`; a tuning that goes on is not checked again.

    Returns:
        The table; it is in the folder as well, with ``best.yaml``. Called again, it goes on where it was stopped.

    Raises:
        ConfigError: something does not hold, or Optuna is not installed.
        DataError: the images or labels do not hold.
        Interrupted: when stopped; what is finished is kept.
    """
    config, tuning = import_module("adapteo.config"), import_module("adapteo.tuning")
    given = configuration if isinstance(configuration, str | Path | Mapping) else vars(configuration)
    search = tuning.searches(overrides)
    plain = [text for text in overrides if not tuning.is_search(text)]
    base, terms = config.load(given, plain), config.aside(given, "tune", tuning.Terms)
    asked = {"methods": methods and tuple(methods), "trials": trials, "seeds": seeds, "prune": prune}
    asked = {key: value for key, value in asked.items() if value is not None}
    terms = replace(terms, search={**terms.search, **search}, **asked)
    if not any(text.partition("=")[0].strip() == "out" for text in plain):
        name = "tune" if base.out.name == import_module("adapteo.project").RUN_FOLDER else f"{base.out.name}-tune"
        base = replace(base, out=base.out.with_name(name))
    reporter = tuning.ScreenReporter() if show else None
    if check and not base.out.exists():
        _check(base, configuration, reporter)
    tuned: Tuned = tuning.tune(base, terms, reporter)
    return tuned


def load(folder: str | Path) -> "FittedRun":
    """Open the folder of a finished run, or a project folder with one.

    Raises:
        ConfigError: when it is no such folder.
        WeightsError: when the adapter in it does not fit.
    """
    place = import_module("adapteo.project").run_folder(folder)
    fitted: FittedRun = import_module("adapteo.experiment").load(place)
    return fitted


def _check(run: "Run", configuration: object, observer: "Observer | None") -> None:
    """Look at the scenes and labels of a `survey`, and pass on what there is to say."""
    name_of = import_module("adapteo.config").name_of
    if name_of(run.dataset) != "survey":
        return
    backbone = {"name": name_of(run.backbone), **vars(run.backbone)}
    for note in import_module("adapteo.check").before_training(run.dataset, backbone, configuration):
        if observer is not None:
            observer.note(note)

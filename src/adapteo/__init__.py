"""AdaptEO: from your own labels to a map you can trust, with few trained parameters.

    import adapteo
    run = adapteo.fit("flood.yaml", "train.epochs=20")
    run.test()
    run.predict(["scene.tif"], "map.tif")

Importing this imports no torch; the first call does. The imports are by name because every module of the package
imports this one first, and none of them may depend on what is above it.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from adapteo.errors import AdaptEOError
from adapteo.registry import names

if TYPE_CHECKING:
    from adapteo.config import Run
    from adapteo.experiment import FittedRun

__version__ = "0.1.0"
__all__ = ["AdaptEOError", "__version__", "fit", "load", "names"]


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
    if check and not resume and config.name_of(run.dataset) == "survey":
        backbone = {"name": config.name_of(run.backbone), **vars(run.backbone)}
        for note in import_module("adapteo.check").before_training(run.dataset, backbone, configuration):
            if observer is not None:
                observer.note(note)
    fitted: FittedRun = experiment.fit(run, resume=resume, observer=observer)
    return fitted


def load(folder: str | Path) -> "FittedRun":
    """Open the folder of a finished run, or a project folder with one.

    Raises:
        ConfigError: when it is no such folder.
        WeightsError: when the adapter in it does not fit.
    """
    place = import_module("adapteo.project").run_folder(folder)
    fitted: FittedRun = import_module("adapteo.experiment").load(place)
    return fitted

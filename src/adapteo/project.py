"""A project folder: ``burn/adapteo.yaml`` says what to do, ``burn/run`` is the run of it. No torch.

adapteo init burn …  ──▶ burn/adapteo.yaml ──▶ adapteo fit burn ──▶ burn/run ──▶ adapteo test burn, predict burn
"""

import shlex
from pathlib import Path

from adapteo.errors import ConfigError

CONFIG_FILE = "adapteo.yaml"
RUN_FOLDER = "run"


def project(path: str | Path) -> tuple[Path, Path]:
    """Find the configuration that a person means, and the folder where its run goes unless it names another one.

    Args:
        path: a project folder, the ``adapteo.yaml`` in it, or any other YAML file (whose run goes to ``runs/``).

    Returns:
        The YAML file and the folder of the run. A project's own is absolute: it is the same from anywhere.

    Raises:
        ConfigError: a folder that is no project.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        config = path / CONFIG_FILE
        if not config.is_file():
            name = typed(path)
            raise ConfigError(
                f"{path} is a folder without {CONFIG_FILE}",
                fix=f"name a YAML file, or make a project: adapteo init {name} --images … --labels …",
            )
        return config, path.resolve() / RUN_FOLDER
    if path.name == CONFIG_FILE:
        return path, path.resolve().parent / RUN_FOLDER
    return path, Path("runs", path.stem)


def run_folder(path: str | Path) -> Path:
    """Find the run that a person means: of a project folder (or its ``adapteo.yaml``) the run in it, else itself.

    Raises:
        ConfigError: a project without a run.
    """
    path = Path(path).expanduser()
    home = path.parent if path.name == CONFIG_FILE and path.is_file() else path
    if not (home / CONFIG_FILE).is_file():
        return path
    if not (home / RUN_FOLDER).is_dir():
        raise ConfigError(f"the project {home} has no run yet", fix=f"adapteo fit {typed(home)}")
    return home / RUN_FOLDER


def typed(folder: Path) -> str:
    """A path as it is typed in a shell."""
    return shlex.quote(str(folder)) if any(sign in str(folder) for sign in " ;&|#()'\"`$") else str(folder)

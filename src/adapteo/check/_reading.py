"""The dataset of a configuration, without the model: `adapteo.config` builds all of a run, and needs torch for it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from adapteo import _schema, _yaml, registry
from adapteo._yaml import Document, Origin, Trail
from adapteo.contracts import Dataset
from adapteo.errors import ConfigError
from adapteo.project import project


@dataclass(frozen=True)
class Source:
    """What is checked.

    Attributes:
        name: of the configuration, for people.
        dataset: of it.
        backbone: its section ``backbone`` as plain data; empty where it has none.
        document: the configuration with the lines that things stand on; None for one that was made in Python.
    """

    name: str
    dataset: Dataset
    backbone: Mapping[str, object]
    document: Document | None = None


def read_source(path: str | Path) -> Source:
    """Read the dataset of a YAML file or project folder.

    Raises:
        ConfigError: no such file, no dataset in it, or one whose keys are wrong; names the line.
    """
    file, _ = project(path)
    document = _yaml.read(file)
    given = document.root.get("dataset")
    place = document.origin(("dataset",)).place
    name = given.get("name") if isinstance(given, dict) else given
    if not isinstance(name, str):
        raise ConfigError(
            f"{place}: the dataset has no name",
            allowed=registry.names("datasets"),
            fix="write `dataset:` with `name: survey` and its keys below",
        )
    try:
        cls = registry.load("datasets", name)
    except ConfigError as error:
        raise _schema.placed(error, document.origin(("dataset", "name")).place) from error
    if not issubclass(cls, Dataset) or not is_dataclass(cls):
        raise ConfigError(f"{place}: '{name}' cannot be the dataset", allowed=registry.names("datasets"))
    values = {key: value for key, value in given.items() if key != "name"} if isinstance(given, dict) else {}
    made = _schema.make(document, "dataset", cls, values, f"dataset '{name}'")
    backbone = document.root.get("backbone") or {}
    plain: Mapping[str, object] = {"name": backbone} if isinstance(backbone, str) else backbone
    return Source(str(path), _anchored(made, ("dataset",), document), plain, document)


def line_of(document: Document | None, trail: Trail) -> Origin | None:
    """Where a key is written, or None where it is not."""
    return document.origins.get(trail) if document else None


def _anchored(value: Any, trail: Trail, document: Document) -> Any:
    """Make paths absolute, from the folder of the file that they were written in."""
    folder = document.origin(trail).folder
    if isinstance(value, Path):
        return folder / value.expanduser()
    if not is_dataclass(value) or isinstance(value, type):
        return value
    changed: dict[str, object] = {
        f.name: _anchored(vars(value)[f.name], (*trail, f.name), document) for f in fields(value) if f.init
    }
    if isinstance(changed.get("root"), str):  # by convention a path as well
        root = document.origin((*trail, "root")).folder / Path(str(changed["root"])).expanduser()
        changed["root"] = str(root.resolve() if ".." in root.parts else root)  # messages name files as a person does
    return replace(value, **changed)

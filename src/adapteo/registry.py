"""The file system is the registry: the key is the file name, and files load when they are asked for.

A family is a folder of this package (``backbones``, ``peft``, ``decoders``, ``tasks``, ``data``). Each file in it whose
name has no leading underscore is one entry; it exports one class under the family's constant (``BACKBONE``, ``METHOD``,
``DECODER``, ``TASK``, ``DATASET``). A dotted path ``my_lab.tuner:MyTuner`` brings a user's own.
"""

import ast
import importlib
from pathlib import Path
from types import MappingProxyType

from adapteo.errors import ConfigError, closest

FAMILIES = MappingProxyType(
    {
        "backbones": "BACKBONE",
        "methods": "METHOD",
        "decoders": "DECODER",
        "tasks": "TASK",
        "datasets": "DATASET",
    }
)
_FOLDERS = MappingProxyType({"methods": "peft", "datasets": "data"})


def names(family: str) -> list[str]:
    """List the keys of a family, sorted, without importing any of its files."""
    return sorted(path.stem for path in _files(family))


def summaries(family: str) -> dict[str, str]:
    """Map each key of a family to the first line of its file's docstring, without importing it."""
    return {path.stem: _first_line(path) for path in sorted(_files(family))}


def load(family: str, name: str) -> type:
    """Import the class behind a key.

    Args:
        family: one of `FAMILIES`.
        name: a key of `names(family)`, or ``package.module:Class`` for a class of the user's own.

    Raises:
        ConfigError: when there is no such key, module or class.
    """
    if ":" in name:
        return _load_foreign(family, name)
    if name not in names(family):
        raise ConfigError(
            f"there is no {family.removesuffix('s')} '{name}'{closest(name, names(family))}",
            allowed=names(family),
            fix=f"see `adapteo list {family}`; your own goes in as package.module:Class",
        )
    module = importlib.import_module(f"adapteo.{_folder(family)}.{name}")
    cls: type = vars(module)[FAMILIES[family]]
    return cls


def _load_foreign(family: str, path: str) -> type:
    module_name, _, class_name = path.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise ConfigError(f"'{path}' is not package.module:Class", fix="write it like my_lab.tuner:MyTuner")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise ConfigError(
            f"cannot import '{module_name}' for the {family.removesuffix('s')} '{path}': {error}",
            fix="install the package, or put its folder on PYTHONPATH; try `python -c 'import " + module_name + "'`",
        ) from error
    cls = vars(module).get(class_name)
    if not isinstance(cls, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise ConfigError(f"'{module_name}' has no class '{class_name}'{closest(class_name, classes)}", allowed=classes)
    return cls


def _folder(family: str) -> str:
    return _FOLDERS.get(family, family)


def _files(family: str) -> list[Path]:
    """Files that export the family's constant; a family's folder may hold other, private or shared, files."""
    marker = FAMILIES[family]
    folder = Path(__file__).parent / _folder(family)
    candidates = (path for path in folder.glob("*.py") if not path.stem.startswith("_"))
    return [path for path in candidates if f"\n{marker} = " in path.read_text(encoding="utf-8")]


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]

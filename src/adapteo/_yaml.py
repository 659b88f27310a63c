"""YAML that remembers where everything was written; behind `adapteo.config`.

PyYAML reads YAML 1.1, where ``1e-4`` is text and ``no`` is false. Here plain scalars follow the core schema of YAML 1.2
(section 10.3.2): only ``true`` and ``false`` are booleans, ``1e-4`` is a number, ``2020-01-01`` and ``12:30`` are text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from adapteo.errors import ConfigError, closest

Data = dict[str, "Data"] | list["Data"] | str | int | float | bool | None
Trail = tuple[str, ...]

_TAG = "tag:yaml.org,2002:"
_SCALARS = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
     "-+.0123456789"),
    ("merge", r"<<", "<"),
)  # fmt: skip


class _Loader(yaml.SafeLoader):
    """Composes nodes; their values are made here, not by PyYAML."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012  # PyYAML's own class attribute, emptied


class _Dumper(yaml.SafeDumper):
    """Quotes exactly the text that `_Loader` would take for something else; writes lists of scalars in one line."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012

    def ignore_aliases(self, data: object) -> bool:
        """Write a list that occurs twice twice."""
        return True

    def represent_sequence(
        self, tag: str, sequence: Iterable[Any], flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        """Choose the style by content."""
        node = super().represent_sequence(tag, sequence, flow_style)
        node.flow_style = all(isinstance(item, yaml.ScalarNode) for item in node.value)
        return node


for _name, _pattern, _first in _SCALARS:
    for _cls in (_Loader, _Dumper):
        # PyYAML looks scalars up by their first character, the empty one under "".
        _firsts = [c if c != "\0" else "" for c in _first]
        _cls.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), _firsts)


@dataclass(frozen=True)
class Origin:
    """Where a value was written.

    Attributes:
        place: for messages, e.g. "flood.yaml, line 7".
        folder: what relative paths written there are relative to.
    """

    place: str
    folder: Path


@dataclass
class Document:
    """A configuration as plain data, with the origin of each of its parts.

    Attributes:
        name: of the file, for messages.
        root: the data; mappings have text keys.
        origins: by trail of keys and list positions; () is the whole.
    """

    name: str
    root: dict[str, Data]
    origins: dict[Trail, Origin] = field(default_factory=dict)

    def origin(self, trail: Trail) -> Origin:
        """Return the origin of the innermost part around a trail that has one."""
        while trail not in self.origins:
            trail = trail[:-1]
        return self.origins[trail]

    def put(self, trail: Trail, value: Data, origin: Origin) -> None:
        """Set a value, making mappings on the way.

        Raises:
            ConfigError: when something on the way is no mapping.
        """
        target = self.root
        for depth, key in enumerate(trail[:-1], start=1):
            inner = target.get(key)
            if inner is None:
                inner = target[key] = {}
                self.origins[trail[:depth]] = origin
            if not isinstance(inner, dict):
                raise ConfigError(f"{origin.place}: {'.'.join(trail[:depth])} is {inner!r} and has no keys")
            target = inner
        target[trail[-1]] = value
        inside = [other for other in self.origins if other[: len(trail)] == trail]
        for other in inside:
            del self.origins[other]
        self.origins[trail] = origin


def read(path: Path) -> Document:
    """Read a YAML file whose top level has keys.

    Raises:
        ConfigError: no such file, not UTF-8, not YAML, empty, or a key given twice; names the line.
    """
    document = Document(path.name, {}, {(): Origin(path.name, path.resolve().parent)})
    node = _compose(_text(path), path.name)
    if node is None:
        raise ConfigError(f"{path.name} is empty", fix="start from an example of the documentation")
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            f"{_place(path.name, node)}: expected `key: value` lines, found {_kind(node)}",
            fix="begin with `dataset:`, and write its keys indented below",
        )
    built = _Builder(document).build(node, (), ())
    if isinstance(built, dict):
        document.root = built
    return document


def value(text: str, place: str) -> Data:
    """Read the value of a ``key=value``: ``[a, b]``, ``{a: b}`` and quotes as in a file, anything else is one scalar.

    So ``images=*_S2.tif`` and ``date_format=%Y%m%d``, which a file would want quoted, need no quotes here.

    Raises:
        ConfigError: when a bracket or quote does not close.
    """
    text = text.strip()
    if text.startswith(("[", "{", "'", '"')):
        node = _compose(text, place)
        return None if node is None else _Builder(Document(place, {})).build(node, (), ())
    tags = (name for name, pattern, _ in _SCALARS if name != "merge" and re.fullmatch(pattern, text))
    return _scalar(next(tags, "str"), text)


def dump(data: Mapping[str, object]) -> str:
    """Write mappings, lists and scalars so that `read` returns them unchanged."""
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=110, allow_unicode=True
    )
    return text


class _Builder:
    """Turns nodes into data and notes the line of each."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.folder = document.origins[()].folder if document.origins else Path()

    def build(self, node: yaml.Node, trail: Trail, above: tuple[yaml.Node, ...]) -> Data:
        if any(node is outer for outer in above):
            raise ConfigError(f"{self._place(node)}: an alias that contains itself")
        if isinstance(node, yaml.MappingNode):
            return {
                key: self._noted(key_node, inner, (*trail, key), (*above, node))
                for key, key_node, inner in self._entries(node)
            }
        if isinstance(node, yaml.SequenceNode):
            items = enumerate(node.value)
            return [self._noted(item, item, (*trail, str(i)), (*above, node)) for i, item in items]
        tag = node.tag.removeprefix(_TAG)
        if tag not in ("str", *(name for name, pattern, _ in _SCALARS if re.fullmatch(pattern, node.value))):
            raise ConfigError(f"{self._place(node)}: '{node.tag}' does not fit '{node.value}'", fix="leave the tag out")
        return _scalar(tag, node.value)

    def _noted(self, written: yaml.Node, node: yaml.Node, trail: Trail, above: tuple[yaml.Node, ...]) -> Data:
        self.document.origins[trail] = Origin(self._place(written), self.folder)
        return self.build(node, trail, above)

    def _entries(self, node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Yield key, its node and the value's node; what ``<<`` merges in comes first and gives way."""
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, inner in node.value:
            if key_node.tag == _TAG + "merge":
                for source in inner.value if isinstance(inner, yaml.SequenceNode) else [inner]:
                    if not isinstance(source, yaml.MappingNode) or source is node:
                        raise ConfigError(f"{self._place(key_node)}: `<<` takes an alias of a mapping")
                    merged = {key: (k, v) for key, k, v in self._entries(source)} | merged
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{self._place(key_node)}: {_kind(key_node)} cannot be a key")
            if key_node.value in own:
                first = own[key_node.value][0].start_mark.line + 1
                raise ConfigError(
                    f"{self._place(key_node)}: key '{key_node.value}' is already in line {first}",
                    fix="keep one of them",
                )
            own[key_node.value] = (key_node, inner)
        for key, (key_node, inner) in (merged | own).items():
            yield key, key_node, inner

    def _place(self, node: yaml.Node) -> str:
        return _place(self.document.name, node)


def _scalar(tag: str, text: str) -> Data:
    """Convert a scalar that is known to match its tag."""
    match tag:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _place(name: str, node: yaml.Node) -> str:
    return f"{name}, line {node.start_mark.line + 1}"


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return f"'{node.value}'"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def _compose(text: str, name: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}, line {mark.line + 1}" if mark else name
        if "'\\t'" in str(error.problem):
            raise ConfigError(f"{place}: a tab", fix="indent with spaces; YAML allows no tabs there") from error
        hint = _hint(text.splitlines()[mark.line]) if mark and mark.line < len(text.splitlines()) else ""
        raise ConfigError(f"{place}: not YAML: {error.problem}", fix=hint) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name}, line {line}: a character that no text has (#{error.character:x})") from error
    return node


def _hint(line: str) -> str:
    """Name the usual cause of YAML that does not parse."""
    return (
        f"in `{line.strip()[:80]}`: check indentation, `key: value` with a space, quotes around text with * & ! % @ : #"
    )


def _text(path: Path) -> str:
    if path.is_dir():
        raise ConfigError(f"{path} is a folder", fix="give the YAML file in it", allowed=_yaml_files(path))
    if not path.exists():
        beside = _yaml_files(path.parent)
        raise ConfigError(
            f"{path} does not exist{closest(path.name, beside)}",
            allowed=beside,
            fix="name a YAML file, or a project folder, which `adapteo init` makes",
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})", fix="save it as UTF-8") from error


def _yaml_files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("*") if p.suffix in (".yaml", ".yml")) if folder.is_dir() else []

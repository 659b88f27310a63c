"""Write docs/reference from the code: one page per family, one for the configuration, one for the commands.

    dataclass field ──▶ | key | type | default | its lines under "Attributes:" |

Run by ``make docs``; ``--check`` only says which pages are not current. A field without documentation is an error.
"""

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from adapteo import registry
from adapteo.cli import app
from adapteo.config import Run, Train
from adapteo.contracts import DecoderSpec, Method, Task

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
_GENERATED = "<!-- written by `make docs` from the code; edit the docstrings instead -->"
_INTRODUCTIONS = {
    "backbones": "Pretrained encoders: `backbone: <name>`, or `backbone:` with `name: <name>` and the keys below.",
    "methods": "How the backbone is adapted: `method: <name>`, or `method:` with `name: <name>` and the keys below.",
    "decoders": "From feature maps to the label grid: `decoder: <name>`, or with its keys.",
    "tasks": "Loss and metrics. The dataset names its task by itself; write `task:` only to change a key.",
    "datasets": "Labelled images: `dataset:` with `name: <name>` and the keys below. More in [data](../data.md).",
}


def pages() -> dict[str, str]:
    """Text of every page by file name."""
    found = {f"{family}.md": _family_page(family) for family in registry.FAMILIES}
    found["train.md"] = _page("train", _summary(Train), _table(Train))
    found["commands.md"] = _page("Commands", "Every command answers `--help`.", *_commands())
    found["README.md"] = _index()
    return found


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([_GENERATED, f"# {title}", *(part for part in parts if part)]) + "\n"


def _index() -> str:
    top = _rows((field.name, _top_type(field.name), documented(Run)[field.name]) for field in dataclasses.fields(Run))
    links = [f"- [{family}]({family}.md): {', '.join(registry.names(family))}" for family in registry.FAMILIES]
    return _page(
        "Reference",
        "Every key that a configuration can hold, with its type, default and meaning.",
        "\n".join([*links, "- [train](train.md)", "- [commands](commands.md)"]),
        "## The top level of a configuration",
        _header("key", "what goes there", "meaning") + top,
    )


def _top_type(key: str) -> str:
    if key == "out":
        return "path; default `runs/<name of the file>`"
    family = f"{key}s"
    return f"[{family}]({family}.md)" if family in registry.FAMILIES else f"keys of [{key}]({key}.md)"


# ------------------------------------------------------------------------------------------ families


def _family_page(family: str) -> str:
    parts = [_INTRODUCTIONS[family]]
    for name, line in registry.summaries(family).items():
        cls = registry.load(family, name)
        parts += [f"## {name}", line, _summary(cls), _facts(cls), _variants(cls), _table(cls), *_nested(cls)]
    return _page(family.capitalize(), *parts)


def _facts(cls: type) -> str:
    """What a class of a family says about itself beside its keys."""
    if issubclass(cls, Method):
        merges = "merges into an ordinary checkpoint" if cls.mergeable else "cannot be merged"
        return f"Learning rate when `train.rate` is left out: {cls.default_rate:g}. The result {merges}."
    if issubclass(cls, Task):
        kind = "per pixel" if cls.dense else "per image"
        better = "highest" if cls.higher_is_better else "lowest"
        return f"Labels are {kind}. The best epoch is the one with the {better} `{cls.monitor}` on validation."
    if issubclass(cls, DecoderSpec) and cls.linear:
        return "Its head start is a convex fit (regularised, by L-BFGS)."
    return ""


def _variants(cls: type) -> str:
    """Names in the table `VARIANTS` of the file of a class, where it has one."""
    variants = vars(inspect.getmodule(cls)).get("VARIANTS", ())
    return f"`VARIANTS`: {', '.join(f'`{name}`' for name in variants)}." if variants else ""


def _nested(cls: type) -> Iterator[str]:
    """Tables of the dataclasses that are values of a key."""
    for name, hint in get_type_hints(cls).items():
        for inner in (hint, *get_args(hint)):
            if dataclasses.is_dataclass(inner) and name in documented(cls):
                yield f"### Keys of `{name}`"
                yield _summary(inner)
                yield _table(inner)


# -------------------------------------------------------------------------------------------- tables


def _table(cls: type) -> str:
    described, hints = documented(cls), get_type_hints(cls)
    own = [field for field in dataclasses.fields(cls) if field.init]
    lacking = [field.name for field in own if field.name not in described]
    if lacking:
        raise SystemExit(f"{cls.__name__}.{lacking[0]} has no line under 'Attributes:' in the class's docstring")
    if not own:
        return "No keys."
    rows = ((field.name, type_text(hints[field.name]), _default(field), described[field.name]) for field in own)
    return _header("key", "type", "default", "meaning") + _rows(rows)


def _header(*names: str) -> str:
    return f"| {' | '.join(names)} |\n|{' --- |' * len(names)}\n"


def _rows(rows: Iterator[tuple[str, ...]]) -> str:
    return "\n".join(f"| `{first}` | {' | '.join(cell.replace('|', chr(92) + '|') for cell in rest)} |"
                     for first, *rest in rows)  # fmt: skip


def documented(cls: type) -> dict[str, str]:
    """Read the section "Attributes:" of a class: name to text; ``a, b: text`` is both."""
    _, _, section = inspect.getdoc(cls).partition("Attributes:\n")
    found: dict[str, str] = {}
    for entry in re.findall(r"^    (\w[\w, ]*): (.*(?:\n        .*)*)", section, re.MULTILINE):
        text = _markdown(" ".join(entry[1].split()))
        found |= {name.strip(): text for name in entry[0].split(",")}
    return found


def _summary(cls: type) -> str:
    return _markdown(inspect.getdoc(cls).partition("Attributes:")[0].strip())


def _markdown(text: str) -> str:
    """Turn ``x`` into `x`; leave what is Markdown already."""
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def _default(field: Any) -> str:
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "required"
    value = field.default_factory() if field.default is dataclasses.MISSING else field.default
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    """Write a default as YAML would hold it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_yaml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_yaml(inner) for inner in value) + "]"
    return value or '""' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", NoneType: "null", Path: "path"}


def type_text(hint: Any) -> str:
    """Say in words what a type hint allows."""
    origin, members = get_origin(hint), get_args(hint)
    if hint in _WORDS:
        return _WORDS[hint]
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(type_text(member) for member in members))
    if origin is Literal:
        return ", ".join(f"`{_yaml(member)}`" for member in members)
    if origin is tuple:
        length = "" if members[-1] is Ellipsis else f"{len(members)} "
        return f"list of {length}{_plural(type_text(members[0]))}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"keys ({type_text(members[0])}) with {type_text(members[1])}"
    return "keys, see below" if dataclasses.is_dataclass(hint) else str(hint)


def _plural(words: str) -> str:
    return words if words == "text" else f"{words}s"


# ------------------------------------------------------------------------------------------ commands


def _commands() -> Iterator[str]:
    for name, command in _flat(typer.main.get_command(app)):
        usage = " ".join(piece for parameter in command.params if (piece := _usage(parameter)))
        yield f"## adapteo {name}"
        yield f"```sh\nadapteo {name} {usage}".rstrip() + "\n```"
        yield command.help or ""
        options = [p for p in command.params if p.help]
        if options:
            yield "\n".join(f"- `{_call(p)}`: {p.help}" for p in options)


def _flat(group: Any) -> Iterator[tuple[str, Any]]:
    """Commands by name, those of a group behind its own name."""
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from ((f"{name} {inner}", found) for inner, found in _flat(command))
        else:
            yield name, command


def _usage(parameter: Any) -> str:
    call = _call(parameter)
    return call if parameter.required else f"[{call}]"


def _call(parameter: Any) -> str:
    """Write a parameter as a person types it."""
    if parameter.param_type_name == "argument":
        return (parameter.metavar or parameter.name.upper()) + (" …" if parameter.nargs == -1 else "")
    return parameter.opts[0] if parameter.is_flag else f"{parameter.opts[0]} {parameter.name.upper()}"


# ---------------------------------------------------------------------------------------------- main


def main() -> None:
    """Write the pages, or check them."""
    stale = [name for name, text in pages().items() if not _is_current(FOLDER / name, text)]
    if "--check" in sys.argv[1:]:
        sys.exit(f"not current: {', '.join(stale)}; run `make docs`" if stale else 0)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (FOLDER / name).write_text(pages()[name], encoding="utf-8")
        print(f"wrote {FOLDER / name}")


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    main()

"""The configuration as a person reads it: what differs from the defaults, with a reason for each line."""

from collections.abc import Mapping
from dataclasses import dataclass

from adapteo import _yaml

_COLUMN = 36
"""Where comments begin, if the line is short enough."""


@dataclass(frozen=True)
class Line:
    """A key, its value and why it is there."""

    key: str
    value: object
    why: str = ""


def written(head: str, sections: Mapping[str, list[Line] | Line], notes: Mapping[str, list[str]]) -> str:
    """Write the file.

    Args:
        head: comment at the top.
        sections: top-level keys, each with a value or with keys of its own.
        notes: comments below a top-level key.
    """
    lines = [f"# {text}" for text in head.splitlines()]
    for key, content in sections.items():
        if isinstance(content, Line):
            lines.append(_line(content, ""))
        else:
            lines.append(f"{key}:")
            lines += [_line(line, "  ") for line in content]
        lines += [f"# {note}" for note in notes.get(key, [])]
    return "\n".join(lines) + "\n"


def line_of(key: str, value: object) -> str:
    """``key: value`` in one line."""
    if isinstance(value, Mapping):
        inner = ", ".join(_scalar(name, item) for name, item in value.items())
        return f"{key}: {{{inner}}}"
    return _scalar(key, list(value) if isinstance(value, tuple) else value)


def _line(line: Line, indent: str) -> str:
    text = indent + line_of(line.key, line.value)
    return f"{text:<{_COLUMN}} # {line.why}" if line.why else text


def _scalar(key: str, value: object) -> str:
    """``key: value`` in one line, quoted where YAML needs it."""
    return " ".join(part.strip() for part in _yaml.dump({key: value}).splitlines())

"""Strict checks of a section against its dataclass, and messages that say where and what instead.

The only file that knows pydantic. The dataclasses stay plain: their type hints are the schema.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from adapteo._yaml import Data, Document, Trail
from adapteo.errors import AdaptEOError, ConfigError, closest, shorten

# JSON mode is what makes strictness usable: lists become tuples and text becomes paths, but "false" is no boolean.
_STRICT = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)
_UNKNOWN, _MISSING, _CHOICE = "unexpected_keyword_argument", "missing", "literal_error"
_ALLOWED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "string_type": "text (a number or true/false as text goes in quotes)",
    "path_type": "a path",
    "tuple_type": "a list, like [a, b]",
    "list_type": "a list, like [a, b]",
    "dict_type": "keys with values",
    "mapping_type": "keys with values",
    "dataclass_type": "keys with values",
}


def make(document: Document, section: str, cls: type, given: dict[str, Data], title: str) -> Any:
    """Make a section's dataclass from plain values.

    Args:
        document: says where things were written.
        section: top-level key that the values are under.
        cls: the dataclass.
        given: its values, as YAML has them.
        title: of the section in messages, e.g. "method 'lora'".

    Raises:
        ConfigError: names the line, what is wrong there and what is allowed.
    """
    try:
        # Wrapped in a tuple because pydantic takes a configuration beside a plain dataclass only from outside it.
        (entry,) = TypeAdapter(tuple[cls], config=_STRICT).validate_json(json.dumps([given]))  # type: ignore[valid-type]
    except ValidationError as error:
        raise _explain(error, document, section, cls, title) from None
    except AdaptEOError as error:  # the entry's own checks, in __post_init__; they name the key
        named = [key for key in given if re.search(rf"\b{re.escape(key)}\b", error.problem)]
        raise placed(error, document.origin((section, *named[:1])).place) from error
    return entry


def placed(error: AdaptEOError, place: str) -> AdaptEOError:
    """Put a place before the problem of an error."""
    return type(error)(f"{place}: {error.problem}", allowed=error.allowed, fix=error.fix)


@dataclass(frozen=True)
class _Problem:
    """One complaint of pydantic: `trail` leads to it from the section, `branch` is the member of a union, if any."""

    trail: Trail
    branch: tuple[Trail, str] | None
    kind: str
    text: str
    allowed: tuple[str, ...]
    meant: str = ""


def _explain(error: ValidationError, document: Document, section: str, cls: type, title: str) -> ConfigError:
    """Say the worst of it in at most four lines: unknown keys first, then the rest in order."""
    given = document.root.get(section)
    problems = [_problem(details, given, cls, title) for details in error.errors(include_url=False)]
    problems = _without_other_branches(problems)
    unknown = [p for p in problems if p.kind == _UNKNOWN]
    meant = {p.meant for p in unknown}
    rest = [p for p in problems if p.kind != _UNKNOWN and not (p.kind == _MISSING and p.meant in meant)]
    first, *others = [(f"{document.origin((section, *p.trail)).place}: {p.text}", p.allowed) for p in (*unknown, *rest)]
    return ConfigError(first[0], allowed=first[1], fix="\n".join(shorten(text) for text, _ in others[:2]))


def _problem(details: Any, given: Data, cls: type, title: str) -> _Problem:
    """Translate one of pydantic's errors."""
    kind, loc = details["type"], [str(part) for part in details["loc"][1:]]
    name = loc.pop() if kind == _MISSING else ""
    trail, branch = _follow(given, loc)
    owner = ".".join((title.partition(" ")[0], *trail))
    if kind == _MISSING and not name.isdigit():
        return _Problem(trail, branch, kind, f"{owner if trail else title} needs '{name}'", (), name)
    if kind == _MISSING:
        return _Problem(trail, branch, kind, f"{owner} has too few items", ())
    if kind == _UNKNOWN:
        keys = _keys(cls, loc[:-1])
        hint = closest(trail[-1], keys)
        holder = owner.rpartition(".")[0] if trail[1:] else title
        meant = hint.rpartition(" '")[2].removesuffix("'?")
        return _Problem(trail, branch, kind, f"{holder} has no key '{trail[-1]}'{hint}", keys, meant)
    allowed = _ALLOWED.get(kind, details["msg"].removeprefix("Input should be ").removeprefix("Value error, "))
    shown = "empty" if details["input"] is None else shorten(repr(details["input"]), 80)
    text = f"{owner.rpartition('.')[0]} has the key {shown}" if loc[-1:] == ["[key]"] else f"{owner} is {shown}"
    return _Problem(trail, branch, kind, text, (details.get("ctx", {}).get("expected", allowed),))


def _follow(data: Data, loc: Sequence[str]) -> tuple[Trail, tuple[Trail, str] | None]:
    """Split a location of pydantic's into keys that are in the data and the first name of a union's member."""
    trail: Trail = ()
    branch = None
    for part in loc:
        if isinstance(data, dict) and part in data:
            data, trail = data[part], (*trail, part)
        elif isinstance(data, list) and part.isdigit() and int(part) < len(data):
            data, trail = data[int(part)], (*trail, part)
        elif part != "[key]":
            branch = branch or (trail, part)
    return trail, branch


def _without_other_branches(problems: list[_Problem]) -> list[_Problem]:
    """Keep, of each union, the complaints of the member that fits best, and what the others would allow there."""
    cost: dict[tuple[Trail, str], int] = {}
    for p in problems:
        if p.branch:
            # A complaint about the whole value, or about a choice in it (`by: blocks`): this member is not meant.
            whole = p.trail == p.branch[0] and p.kind not in (_UNKNOWN, _MISSING)
            cost[p.branch] = cost.get(p.branch, 0) + (1000 if p.kind == _CHOICE else 100 if whole else 1)
    best = {fork: min((b for b in cost if b[0] == fork), key=lambda b: cost[b]) for fork, _ in cost}
    kept = [p for p in problems if p.branch is None or best[p.branch[0]] == p.branch]
    return [
        p
        if p.kind in (_UNKNOWN, _MISSING)
        else replace(p, allowed=tuple(dict.fromkeys(a for q in problems if q.trail == p.trail for a in q.allowed)))
        for p in kept
    ]


def _keys(hint: Any, loc: Sequence[str]) -> tuple[str, ...]:
    """Names of the fields of the dataclass that a location leads to, from a type."""
    if is_dataclass(hint):
        inside = get_type_hints(hint).get(loc[0]) if loc else None
        return _keys(inside, loc[1:]) if loc else tuple(f.name for f in fields(hint) if f.init)
    members = [member for member in get_args(hint) if isinstance(member, type) or get_args(member)]
    chosen = [member for member in members if loc and isinstance(member, type) and member.__name__ == loc[0]]
    if chosen or (loc and get_origin(hint) not in (Union, UnionType)):  # the member's name, the item's position or key
        loc = loc[1:]
    return next((keys for member in chosen or members if (keys := _keys(member, loc))), ())

"""What an import reads, writes, and says about each line that it reads.

A value that nobody has said anything about is refused at the end, so that nothing is lost silently.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from adapteo._yaml import Data, Document, Trail
from adapteo.errors import ConfigError, shorten

Verdict = Literal["mapped", "dropped", "differs", "refused"]
PLACEHOLDER = re.compile(r"<[^<>]+>")
"""What published configurations have in the place of a path, e.g. ``<path>``."""
_UNSET = object()


@dataclass(frozen=True)
class Line:
    """What became of one line.

    Attributes:
        place: file and line, e.g. "lora.yaml, line 34"; "" for what is not written there.
        key: with dots, e.g. "model.init_args.lr".
        value: as written, shortened.
        verdict: "mapped": it is in our file, or what it says is so here; "dropped": it has no effect on results;
            "differs": it is imported, and something is computed differently; "refused".
        text: the key of ours, or the reason.
        fix: for what is refused.
    """

    place: str
    key: str
    value: str
    verdict: Verdict
    text: str
    fix: str = ""

    def __str__(self) -> str:
        number = self.place.rpartition("line ")[2]
        place = f"line {number:>3}" if self.place else " " * 8
        shown = f"{self.key}: {self.value}" if self.value else self.key
        said = f"->  {self.text}" if self.verdict == "mapped" else f"{self.verdict}: {self.text}"
        return f"{place}  {shown}  {said}"


@dataclass
class Translation:
    """One configuration on its way.

    Attributes:
        document: what is read.
        folder: that paths of the written file are relative to.
        written: what is written; keys of sections in plain data.
        lines: what is said, in the order of saying.
    """

    document: Document
    folder: Path
    written: dict[str, dict[str, Data]] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    _said: set[Trail] = field(default_factory=set)

    # ------------------------------------------------------------------------------------- reading

    def get(self, key: str, default: Data = None) -> Data:
        """Value at a key with dots, as plain data; the default when it is not there."""
        found: Data = self.document.root
        for part in key.split("."):
            if isinstance(found, dict) and part in found:
                found = found[part]
            elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
                found = found[int(part)]
            else:
                return default
        return found

    def has(self, key: str) -> bool:
        """Whether a key is there and not empty (null)."""
        return self.get(key) is not None

    def keys(self, key: str) -> list[str]:
        """Keys below a key, with dots; of a list, its positions."""
        found = self.get(key)
        if isinstance(found, dict):
            return [f"{key}.{name}" for name in found]
        return [f"{key}.{index}" for index in range(len(found))] if isinstance(found, list) else []

    def number(self, key: str, default: float) -> float:
        """A number; another type is refused."""
        found = self.get(key)
        if found is None:
            return default
        if isinstance(found, bool) or not isinstance(found, int | float):
            self.refuse(key, "is no number")
            return default
        return found

    def text(self, key: str, default: str = "") -> str:
        """Text; another type is refused."""
        found = self.get(key)
        if found is None:
            return default
        if not isinstance(found, str):
            self.refuse(key, "is no text")
            return default
        return found

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false; another type is refused."""
        found = self.get(key)
        if found is None:
            return default
        if not isinstance(found, bool):
            self.refuse(key, "is neither true nor false")
            return default
        return found

    def items(self, key: str) -> list[Data]:
        """A list; a single value counts as one of one item."""
        found = self.get(key)
        return found if isinstance(found, list) else [] if found is None else [found]

    def class_name(self, key: str) -> str:
        """Last part of the ``class_path`` of a class that a key names, or of a plain name."""
        found = self.get(key)
        path = found.get("class_path") if isinstance(found, dict) else found
        return path.rpartition(".")[2] if isinstance(path, str) else ""

    # ------------------------------------------------------------------------------------- saying

    def becomes(self, key: str, ours: str, value: object = _UNSET, *, note: str = "") -> None:
        """Write a value (that of the key, unless another is given) under a key of ours."""
        self.write(ours, self.get(key) if value is _UNSET else value)
        self._say(key, "mapped", f"{ours}{f' ({note})' if note else ''}")

    def is_so(self, key: str, text: str) -> None:
        """Say that ours does the same without a key."""
        self._say(key, "mapped", text)

    def drop(self, key: str, why: str) -> None:
        """Say that a line is of no effect."""
        self._say(key, "dropped", why)

    def differ(self, key: str, why: str) -> None:
        """Say what is computed differently."""
        self._say(key, "differs", why)

    def refuse(self, key: str, why: str, fix: str = "") -> None:
        """Refuse a line, because its meaning would change."""
        self._say(key, "refused", why, fix)

    def neutral(self, key: str, allowed: Sequence[object], why: str, fix: str = "") -> None:
        """Drop a line that has one of the values that mean nothing; refuse another value, or None for none."""
        found = self.get(key)
        if any(found == value and type(found) is type(value) for value in allowed):
            self.drop(key, "the default")
        else:
            self.refuse(key, why, fix)

    def write(self, ours: str, value: object) -> None:
        """Write without a line that it comes from."""
        section, _, name = ours.partition(".")
        self.written.setdefault(section, {})[name] = value  # type: ignore[assignment]

    def note(self, key: str, verdict: Verdict, text: str) -> None:
        """Say something about what is not written there, e.g. a default of TerraTorch."""
        self.lines.append(Line("", key, "", verdict, text))

    def silence(self, key: str) -> None:
        """Ask no more about a key and what is below it, as the reason is said already; "" for everything."""
        self._said.add(tuple(key.split(".")) if key else ())

    def forget(self, key: str) -> None:
        """Let a verdict on a key not count for what is below it."""
        self._said.discard(tuple(key.split(".")))

    def _say(self, key: str, verdict: Verdict, text: str, fix: str = "") -> None:
        trail = tuple(key.split("."))
        self._said.add(trail)
        found = self.get(key)
        shown = "" if isinstance(found, dict) else _shown(found)
        self.lines.append(Line(self.document.origin(trail).place, key, shown, verdict, text, fix))

    # -------------------------------------------------------------------------------------- at last

    def path(self, text: str) -> str:
        """A path of the read file as the written one needs it: TerraTorch starts from the folder it is called in."""
        given = Path(text).expanduser()
        if PLACEHOLDER.search(text) or given.is_absolute() or self.folder.resolve() == Path.cwd():
            return text
        return str(Path.cwd() / given)

    def finish(self) -> None:
        """Refuse what nothing was said about.

        Raises:
            ConfigError: something is refused; names up to three lines.
        """
        for key in self._leaves():
            trail = tuple(key.split("."))
            if not any(trail[: len(said)] == said for said in self._said):
                self.refuse(key, "is not known here")
        refused = [line for line in self.lines if line.verdict == "refused"]
        if not refused:
            return
        shown = [
            shorten(f"{line.place}: {line.key}: {line.text}" + (f" ({line.fix})" if line.fix else ""), 250)
            for line in refused
        ]
        more = f"; {len(refused) - 3} more lines are refused" if len(refused) > 3 else ""
        raise ConfigError("\n".join(shown[:3]), fix=f"without a line that is refused the rest can be imported{more}")

    def _leaves(self, key: str = "") -> Iterator[str]:
        found = self.get(key) if key else self.document.root
        if isinstance(found, dict) and found:
            for name in found:
                yield from self._leaves(f"{key}.{name}" if key else name)
        elif isinstance(found, list) and any(isinstance(item, dict) for item in found):
            for index in range(len(found)):
                yield from self._leaves(f"{key}.{index}")
        elif found is not None and found not in ({}, []):
            yield key


def _shown(value: Data) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        classes = [item.get("class_path", item.get("name")) for item in value if isinstance(item, dict)]
        return shorten(f"[{', '.join(map(str, classes or value))}]", 60)
    return shorten(str(value), 60)

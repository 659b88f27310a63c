"""What a check says: OK, WARN or FAIL, where, what it does to the result, and the line to change."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from adapteo.check._view import View

Level = Literal["FAIL", "WARN", "OK"]
LEVELS: tuple[Level, ...] = ("FAIL", "WARN", "OK")
SCHEMA = 1
"""Version of the JSON; grows when a key goes or changes its meaning, not when one is added."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        level: "FAIL" stops `fit`; "WARN" is to be looked at; "OK" says what was looked at and is well.
        name: of the check, which is the name of its file.
        path: the file or files meant, for people.
        problem: what was found, with figures.
        effect: what it does to the result.
        change: the line of the configuration to change, or what to do with the file.
        details: one line for each scene, class or label that it is about; for the page and the JSON.
    """

    level: Level
    name: str
    path: str
    problem: str
    effect: str = ""
    change: str = ""
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """A check.

    Attributes:
        run: looks at a survey and says what it found; one finding or more.
        survey: True when it needs a dataset of scenes and drawn labels, and means nothing for chips.
    """

    run: Callable[["View"], Iterable[Finding]]
    survey: bool = False


@dataclass(frozen=True)
class Checked:
    """What all checks said.

    Attributes:
        source: the configuration.
        findings: FAIL first, then WARN, then OK; within a level in the order of the checks' names.
        skipped: names of checks that could not run, with the reason.
        seconds: that it took.
    """

    source: str
    findings: tuple[Finding, ...]
    skipped: dict[str, str]
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether anything would spoil the result."""
        return any(finding.level == "FAIL" for finding in self.findings)

    def count(self, level: Level) -> int:
        """Number of findings of a level."""
        return sum(finding.level == level for finding in self.findings)

    def as_json(self) -> dict[str, object]:
        """The same as plain data; see docs/check.md."""
        return {
            "schema": SCHEMA,
            "source": self.source,
            "counts": {level: self.count(level) for level in LEVELS},
            "findings": [asdict(finding) | {"details": list(finding.details)} for finding in self.findings],
            "skipped": self.skipped,
            "seconds": round(self.seconds, 2),
        }


def some(names: Sequence[object], most: int = 3) -> str:
    """Name a few of many."""
    told = ", ".join(str(name) for name in names[:most])
    return f"{told} and {len(names) - most} more" if len(names) > most else told


def share(part: float, whole: float) -> str:
    """A share in per cent, with the digits that tell it from 0 and 100."""
    value = 100 * part / whole if whole else 0.0
    if 0 < value < 0.1:
        return f"{value:.2g} %"
    if 99 < value < 100:
        return f"{value:.1f} %" if value < 99.9 else "more than 99.9 %"
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.1f} %"


def number(count: int, what: str, plural: str = "") -> str:
    """A count with its noun."""
    return f"{count:,} {what if count == 1 else plural or what + 's'}"

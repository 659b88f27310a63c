"""Errors that a user can act on.

AdaptEOError            shown as at most five lines, exit code 2, no traceback without --debug
├── ConfigError         a key or value of the configuration
├── DataError           a file, a label or a split of the user's data
├── WeightsError        a checkpoint or an adapter that does not fit
└── Interrupted         stopped on purpose; the state is saved and the command to go on is in the message
"""

from collections.abc import Iterable
from difflib import get_close_matches


class AdaptEOError(Exception):
    """Something the user gave does not work.

    Args:
        problem: one line, what was given and why it does not work.
        allowed: what would work, when it is a short list.
        fix: what to change, and where.
    """

    def __init__(self, problem: str, *, allowed: Iterable[object] = (), fix: str = "") -> None:
        self.problem = problem
        self.allowed = tuple(str(item) for item in allowed)
        self.fix = fix
        lines = [problem]
        if self.allowed:
            lines.append("allowed: " + shorten(", ".join(self.allowed)))
        if fix:
            lines.append(fix)
        super().__init__("\n".join(lines))


class ConfigError(AdaptEOError):
    """A key or value of the configuration is wrong."""


class DataError(AdaptEOError):
    """A file, label or split of the user's data is wrong."""


class WeightsError(AdaptEOError):
    """A checkpoint or adapter does not fit the model it is given to."""


class Interrupted(AdaptEOError):
    """The run was stopped; its state is saved."""


def closest(given: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest allowed word, or nothing when none is close."""
    by_lower = {word.lower(): word for word in allowed}
    match = get_close_matches(given.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[match[0]]}'?" if match else ""


def shorten(text: str, limit: int = 300) -> str:
    """Cut a long line in the middle of nowhere, but say so."""
    return text if len(text) <= limit else text[: limit - 4] + " ..."

"""What a person sees in the terminal: what is wrong first, at most five lines each."""

import textwrap

from rich.console import Console
from rich.text import Text

from adapteo.check._findings import LEVELS, Checked, Finding

_STYLES = {"FAIL": "bold red", "WARN": "yellow", "OK": "green"}
_INDENT = " " * 6
_LINES = 5


def show(checked: Checked, console: Console) -> None:
    """Print what was found, and a summary."""
    for finding in checked.findings:
        first, *more = lines(finding, console.width)
        console.print(Text.assemble((first[:6], _STYLES[finding.level]), first[6:]), soft_wrap=True)
        for line in more:
            console.print(Text(line, style="bold" if line.startswith(_INDENT + "->") else ""), soft_wrap=True)
    if checked.skipped:
        console.print(Text(f"not checked: {', '.join(checked.skipped)}", style="dim"))
    counts = [(checked.count(level), level) for level in LEVELS]
    said = Text(", ").join(Text(f"{n} {level}", _STYLES[level] if n else "dim") for n, level in counts)
    console.print(Text.assemble(said, f"  in {checked.seconds:.1f} s"))


def lines(finding: Finding, width: int = 100) -> list[str]:
    """A finding as plain text: one line when it is OK, else at most five.

    What was found, where, and what it does come first; the last lines, from ``->`` on, say what to change.
    """
    place = f" ({finding.path})" if finding.path and finding.path not in finding.problem else ""
    said = f"{finding.level:<6}{finding.name}{place}: {finding.problem}"
    if finding.level == "OK":
        return [textwrap.shorten(said, width, placeholder=" …").replace("OK ", "OK    ", 1)]
    said += f": {finding.effect}" if finding.effect else ""
    change = _wrapped(f"{_INDENT}-> {finding.change}", width, _INDENT + "   ") if finding.change else []
    change = _cut(change, _LINES - 2, width)
    return _cut(_wrapped(said, width, _INDENT), _LINES - len(change), width) + change


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=indent, drop_whitespace=True, break_long_words=True)


def _cut(found: list[str], most: int, width: int) -> list[str]:
    """The first lines, and a sign that there were more."""
    if len(found) <= most:
        return found
    return [*found[: most - 1], found[most - 1][: width - 2] + " …"]

"""Runs every check on one view, and turns what cannot be read into a finding as well."""

import time
from importlib import import_module
from pathlib import Path

from adapteo.check._findings import LEVELS, Check, Checked, Finding
from adapteo.check._reading import Source, read_source
from adapteo.check._view import View
from adapteo.errors import AdaptEOError, shorten

_STOPS = "training stops here as well"


def names() -> list[str]:
    """Names of all checks, sorted, without importing any."""
    folder = Path(__file__).parent
    files = (path for path in folder.glob("*.py") if not path.stem.startswith("_"))
    return sorted(path.stem for path in files)


def run(source: str | Path | Source | View) -> Checked:
    """Check the scenes and labels of a configuration.

    Args:
        source: a YAML file or project folder; or a view that is to be looked at again, e.g. for the page.

    Raises:
        ConfigError: the configuration's dataset section cannot be read.
    """
    start = time.perf_counter()
    view = source if isinstance(source, View) else View(_source(source))
    findings: list[Finding] = []
    skipped: dict[str, str] = {}
    failures: set[str] = set()
    for name in names():
        check: Check = import_module(f"adapteo.check.{name}").CHECK
        if check.survey and view.survey is None:
            skipped[name] = "only for a `survey` dataset"
            continue
        try:
            findings += [*check.run(view)]
        except AdaptEOError as error:
            if str(error) in failures:
                skipped[name] = f"needs what could not be read: {error.problem}"
                continue
            failures.add(str(error))
            findings.append(_failed(name, error))
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    return Checked(view.name, tuple(findings), skipped, time.perf_counter() - start)


def _source(source: str | Path | Source) -> Source:
    return source if isinstance(source, Source) else read_source(source)


def _failed(name: str, error: AdaptEOError) -> Finding:
    """What could not be read, as a finding."""
    allowed = f"allowed: {', '.join(error.allowed)}" if error.allowed else ""
    change = error.fix or shorten(allowed)
    return Finding("FAIL", name, "", error.problem, _STOPS, change, (allowed,) if allowed else ())

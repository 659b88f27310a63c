"""Checks before a training: what would spoil the result stops it."""

from collections.abc import Mapping
from pathlib import Path

from adapteo import _yaml
from adapteo.check._findings import Checked, number
from adapteo.check._reading import Source
from adapteo.check._running import run
from adapteo.check._terminal import lines
from adapteo.contracts import Dataset
from adapteo.data.survey import Survey
from adapteo.errors import DataError
from adapteo.project import project


def before_training(dataset: Dataset, backbone: Mapping[str, object], written: object = None) -> tuple[str, ...]:
    """Check a survey; other datasets come with splits and labels of their own, and are not checked.

    Args:
        dataset: of the run.
        backbone: its name and fields.
        written: the YAML file or project folder, when there is one: for the lines to change.

    Returns:
        What to tell the user, one line each.

    Raises:
        DataError: something would spoil the result; names the first such thing and how many more there are.
    """
    if not isinstance(dataset, Survey):
        return ()
    document = _yaml.read(project(written)[0]) if isinstance(written, str | Path) else None
    name = str(written) if document else "configuration"
    checked = run(Source(name, dataset, backbone, document))
    if checked.failed:
        raise _stopped(checked, name if document else None)
    warned = [finding.name for finding in checked.findings if finding.level == "WARN"]
    see = f"; see `adapteo check {name}`" if document else ""
    return (f"check: {number(len(warned), 'warning')} ({', '.join(dict.fromkeys(warned))}){see}",) if warned else ()


def _stopped(checked: Checked, name: str | None) -> DataError:
    failed = [finding for finding in checked.findings if finding.level == "FAIL"]
    first = failed[0]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    problem = " ".join(line.strip() for line in lines(first, 1000)[0].split())
    see = f"see all with `adapteo check {name}`, " if name else ""
    change = f"-> {first.change}\n" if first.change else ""
    return DataError(f"{problem}{more}", fix=f"{change}{see}or train all the same with --no-check (check=False)")

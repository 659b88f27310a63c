"""The command ``adapteo bench paper``: what a table needs, its runs, and ours beside the paper's."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid

from adapteo import meter
from adapteo.bench import costs, report, smoke
from adapteo.bench.needs import Checker
from adapteo.bench.running import CANNOT, DONE, FAILED, WAITING, Outcome, finished
from adapteo.bench.setting import Setting
from adapteo.bench.tables import TABLES, Cell, cells, only
from adapteo.bench.workers import Task, here, spread
from adapteo.checkpoint import write_json
from adapteo.errors import ConfigError
from adapteo.files import replacing

COSTED = "memory"
"""The table whose cells are counted rather than trained."""
_MEASURED = "measured.json"
_WIDE = 240


@dataclass(frozen=True)
class Wanted:
    """What a call asks for.

    Attributes:
        table: of `adapteo.bench.tables.TABLES`, or "all".
        only: conditions ``key=value`` that cells have to fit.
        dry_run: only tell what is needed.
    """

    table: str
    only: tuple[str, ...] = ()
    dry_run: bool = False


def run(wanted: Wanted, setting: Setting, console: Console | None = None) -> int:
    """Carry out a call.

    Returns:
        Number of cells that failed.

    Raises:
        ConfigError: an unknown table or condition.
        Interrupted: stopped by the user; the same call goes on.
    """
    console = console or _console()
    tasks = _tasks(wanted, setting)
    if setting.preset == "smoke":
        smoke.write(setting.data)
        console.print(" ".join((smoke.__doc__ or "").split("\n\n")[1].split()) + "\n", highlight=False)
    if setting.options.measure:
        _measure(tasks, setting, console)
    if wanted.dry_run:
        _tell(tasks, setting, console)
        return 0
    outcomes = _carry_out(tasks, setting, console)
    for table in TABLES if wanted.table == "all" else [wanted.table]:
        _show(table, outcomes, setting, console)
    failed = sum(outcome.state == FAILED for outcome in outcomes.values())
    console.print(_summary(outcomes.values()), highlight=False)
    return failed


def _console() -> Console:
    """As wide as the terminal; a file takes whole lines."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)


def _tasks(wanted: Wanted, setting: Setting) -> list[Task]:
    """Cells to train, and those to count; of every table, each once."""
    trained = [] if wanted.table == COSTED else cells(wanted.table, setting.options.seeds)
    counted = cells(COSTED) if wanted.table in (COSTED, "all") else []
    chosen = set(only([*trained, *counted], wanted.only))
    return [(cell, False) for cell in trained if cell in chosen] + [(cell, True) for cell in counted if cell in chosen]


# ------------------------------------------------------------------------------------------------- run


def _carry_out(tasks: Sequence[Task], setting: Setting, console: Console) -> dict[Task, Outcome]:
    """Complete what can be; everything ends as done, cannot run, or failed."""
    checker = Checker(setting, fetch=setting.preset == "full")
    outcomes = {task: _before(task, setting, checker) for task in tasks}
    left = [task for task, outcome in outcomes.items() if outcome.state == WAITING]
    console.print(_summary(outcomes.values()), highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        shown = bar.add_task("cells", total=len(left))
        jobs = setting.options.jobs
        made = spread(_groups(left, setting), setting, jobs) if jobs else here(left, setting)
        for outcome in made:
            outcomes[outcome.cell, outcome.cost] = outcome
            bar.advance(shown)
            if setting.preset == "full" or outcome.state != DONE:
                bar.console.print(_said(outcome), highlight=False, markup=False, soft_wrap=True)
    return outcomes


def _before(task: Task, setting: Setting, checker: Checker) -> Outcome:
    """How a cell stands before anything is run."""
    cell, cost = task
    result = finished(cell, setting, cost=cost)
    if result is not None:
        return Outcome(cell, DONE, result=result, cost=cost)
    problem = "" if cost else checker.check(cell).problem
    return Outcome(cell, CANNOT if problem else WAITING, problem, cost=cost)


def _groups(tasks: Sequence[Task], setting: Setting) -> list[list[Task]]:
    """Tasks for one process each: those that share a search; in smoke runs those that share a model, drawn once."""
    groups: dict[object, list[Task]] = {}
    for cell, cost in tasks:
        key = cell.model if setting.preset == "smoke" else cell.searched
        groups.setdefault((key, cost), []).append((cell, cost))
    return sorted(groups.values(), key=len, reverse=True) if setting.preset == "smoke" else list(groups.values())


def _said(outcome: Outcome) -> str:
    scores = "" if outcome.cost or outcome.result is None else _scores(outcome.result)
    return f"{outcome.state}  {outcome.cell}  {outcome.reason}{scores}".rstrip()


def _scores(result: Mapping[str, Any]) -> str:
    return ", ".join(f"{split} {100 * value:.2f}" for split, value in result["scores"].items())


def _summary(outcomes: Iterable[Outcome]) -> str:
    states = Counter(outcome.state for outcome in outcomes)
    return f"{states.total()} cells: " + ", ".join(
        f"{states[s]} {s}" for s in (DONE, CANNOT, FAILED, WAITING) if states[s]
    )


# ------------------------------------------------------------------------------------------------ show


def _show(table: str, outcomes: Mapping[Task, Outcome], setting: Setting, console: Console) -> None:
    """Print a table, and write it as a page and as JSON."""
    cost = table == COSTED
    members = cells(table, 1 if cost else setting.options.seeds)
    mine = [outcomes[cell, cost] for cell in members if (cell, cost) in outcomes]
    if not mine:
        return
    title = f"{table}: {_about(table)}"
    if cost:
        made, words = [], report.cost_text(mine, _measured(setting))
    else:
        made = report.rows(table, mine, lambda cell: finished(cell, setting))
        words = report.text(table, made, scored=setting.preset == "full")
    console.print(words.grid(title))
    for number, note in enumerate(words.notes, start=1):
        console.print(f"\\[{number}] {note}", highlight=False, soft_wrap=True)
    console.print()
    folder = setting.folder / "tables" / table
    with replacing(folder / "table.md") as beside:
        beside.write_text(words.markdown(title), encoding="utf-8")
    content = {
        "table": table,
        "setting": asdict(setting),
        "rows": [row.as_dict() for row in made],
        "cells": [asdict(outcome) for outcome in mine],
    }
    write_json(content, folder / "results.json")


def _about(table: str) -> str:
    return (TABLES[table].__doc__ or "").partition("\n")[0].rstrip(".")


# ---------------------------------------------------------------------------------------- what is needed


def _tell(tasks: Sequence[Task], setting: Setting, console: Console) -> None:
    """Print what each group of cells needs; nothing is run or fetched."""
    checker = Checker(setting, fetch=False, seconds=_measured(setting))
    grid = Grid(box=None, pad_edge=False, header_style="dim")
    for head in ("cells", "done", "to do", "hours", ""):
        grid.add_column(head, justify="right" if head in ("done", "to do", "hours") else "left")
    reasons: dict[str, int] = {}
    total, unknown = 0.0, 0
    for (group, cost), members in _by_group(tasks).items():
        standing = [_before(task, setting, checker) for task in members]
        done = sum(outcome.state == DONE for outcome in standing)
        problem = next((outcome.reason for outcome in standing if outcome.reason), "")
        hours = None if cost else _hours(group, len(standing) - done, setting, checker)
        total, unknown = total + (hours or 0.0), unknown + (hours is None and not cost and done < len(standing))
        mark = f"\\[{reasons.setdefault(problem, len(reasons) + 1)}]" if problem else ""
        shown = "–" if hours is None else f"{hours:.1f}"
        grid.add_row(group.path, str(done), str(len(standing) - done), shown, f"{CANNOT} {mark}" if problem else "")
    console.print(grid)
    for reason, number in reasons.items():
        console.print(f"\\[{number}] {reason}", highlight=False, soft_wrap=True)
    more = f", and {unknown} groups of which nothing is known" if unknown else ""
    console.print(f"\n{len(tasks)} cells; about {total:.0f} hours for those that are not done{more}", highlight=False)


def _by_group(tasks: Sequence[Task]) -> dict[Task, list[Task]]:
    groups: dict[Task, list[Task]] = {}
    for cell, cost in tasks:
        groups.setdefault((cell.group, cost), []).append((cell, cost))
    return groups


def _hours(group: Cell, left: int, setting: Setting, checker: Checker) -> float | None:
    """Hours of the trainings of a group that are left, with those of its search."""
    each = checker.hours(group)
    searched = setting.options.rates == "search" and group == group.searched and left
    return None if each is None else each * (left + (setting.options.trials if searched else 0))


# --------------------------------------------------------------------------------------------- measured


def _measure(tasks: Sequence[Task], setting: Setting, console: Console) -> None:
    """Measure a step of each group on this machine; what was measured before is left as it is."""
    device = torch.device("cuda" if torch.cuda.is_available() and setting.options.accelerator != "cpu" else "cpu")
    path = setting.out / _MEASURED
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    environment = {key: value for key, value in meter.environment(device).items() if key != "command"}
    known = before["seconds"] if before.get("environment") == environment else {}
    for cell in dict.fromkeys(cell.group for cell, _ in tasks):
        if cell.path in known:
            continue
        try:
            known[cell.path] = costs.measure(cell, setting, device)
        except ConfigError as error:
            console.print(f"{cell.path}: {error.problem}", highlight=False, markup=False, soft_wrap=True)
            continue
        console.print(f"{cell.path}: {known[cell.path]:.3f} s per image", highlight=False)
        write_json({"environment": environment, "seconds": known}, path)


def _measured(setting: Setting) -> dict[str, float]:
    path = setting.out / _MEASURED
    if not path.is_file():
        return {}
    found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))["seconds"]
    return found

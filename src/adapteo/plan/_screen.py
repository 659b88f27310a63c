"""How a plan, and the bill that is compared with it, look on a screen."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from adapteo.plan._choices import Plan, fits
from adapteo.plan._need import Need

_GIB, _MIB = 2**30, 2**20
_PARTS = ("weights", "gradients", "optimiser", "activations", "decoder")


def render(plan: Plan, console: Console | None = None) -> None:
    """Print the table of a plan, and what to change when the run does not fit."""
    console = console or Console(soft_wrap=False)
    run, limit = plan.run, plan.limit
    height, width = plan.size
    room = "unknown" if limit.bytes is None else f"{_bytes(limit.bytes)} usable"
    console.print(
        f"{plan.samples} training images of {height} x {width}, {plan.needs[0].images} at once on each device; "
        f"memory of {limit.name}: {room}",
        highlight=False, markup=False,
    )  # fmt: skip
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for title in ("trained", *_PARTS, "peak", "GFLOP/image", "epoch", "adapter", "fits"):
        table.add_column(title, justify="right")
    for need in plan.needs:
        table.add_row(*_row(need, plan))
    console.print(table)
    notes = [f"a smaller batch with train.accumulate gives the same gradients; train.batch is now {run.train.batch}"]
    if limit.here:
        notes.append("epoch: after the first, estimated from a short measurement of this machine; reading not included")
    for note in notes:
        console.print(note, highlight=False, markup=False, style="dim")
    for line in verdict(plan):
        console.print(line, highlight=False, markup=False)


def _row(need: Need, plan: Plan) -> list[str]:
    fit = {True: "yes", False: "no", None: "?"}[fits(need, plan.limit)]
    seconds = "" if need.seconds is None else f"~{_seconds(need.seconds)}"
    parts = [_bytes(need.memory[part]) for part in _PARTS]
    gflop = f"{need.operations / 1e9:.{0 if need.operations > 1e11 else 1}f}"
    return [need.name, _count(need.trained), *parts, _bytes(need.peak), gflop, seconds, _size(need.adapter), fit]


def verdict(plan: Plan) -> list[str]:
    """Say whether the run fits, and else what to write instead."""
    if plan.fits is None:
        return ["how much memory there is cannot be found out here; name a GPU with --gpu 8GB"]
    if plan.fits:
        return ["the run fits"]
    if plan.advice is None:
        return ["the run does not fit, nor does anything that was tried; choose a smaller backbone or smaller images"]
    sections: dict[str, list[str]] = {}
    for change in plan.advice.changes:
        key, _, value = change.partition("=")
        section, _, inner = key.partition(".")
        sections.setdefault(section, []).append(f"{inner}: {value}" if inner else value)
    lines = [
        f"  {section}: {{{', '.join(items)}}}" if section == "train" else f"  {section}: {items[0]}"
        for section, items in sections.items()
    ]
    return [
        f"the run does not fit; with this it takes {_bytes(plan.advice.peak)}, and fits:",
        *lines,
        f"or on the command line: {' '.join(plan.advice.changes)}",
    ]


def bill(plan: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """What a run took beside what was planned, as lines.

    Args:
        plan: a `Need` as a dictionary.
        facts: of the run, as in ``run.json``.
    """
    memory, parameters = facts["memory_bytes"], facts["parameters"]
    trained = parameters["backbone_trained"] + parameters["decoder_trained"]
    expected = plan["parameters"]["backbone_trained"] + plan["parameters"]["decoder_trained"]
    on_gpu = memory["device_peak"] is not None
    planned = plan["peak"] if on_gpu else plan["total"]
    rows = [
        ("trained parameters", f"{expected:,}", f"{trained:,}"),
        ("peak memory of the GPU" if on_gpu else "memory", _bytes(planned), _bytes(memory["total"])),
        *(
            (f"  {part}", _bytes(_planned_part(plan, part)), _bytes(memory[part]))
            for part in ("weights", "gradients", "optimiser", "activations")
        ),
    ]
    if plan["seconds"] is not None and facts["epochs"]:
        measured = facts["steps"] * facts["seconds_per_step"] / facts["epochs"]
        rows.append(("seconds of an epoch", f"~{plan['seconds']:.3g}", f"{measured:.3g}"))
    rows.append(("adapter", _size(plan["adapter"]), _size(facts["adapter_bytes"])))
    return [f"{'':24}{'planned':>14}{'measured':>14}", *(f"{a:24}{b:>14}{c:>14}" for a, b, c in rows)]


def _planned_part(plan: Mapping[str, Any], part: str) -> int:
    parts: Mapping[str, int] = plan["memory"]
    return parts[part] + (parts["decoder"] if part == "activations" else 0)


def _bytes(number: float) -> str:
    return f"{number / _GIB:.2f} GiB" if number >= _GIB else f"{number / _MIB:.{0 if number >= 10 * _MIB else 1}f} MiB"


def _size(number: float) -> str:
    return f"{number / 1e6:.{0 if number >= 1e7 else 1}f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"


def _count(number: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.{0 if number >= 100 * size else 1}f} {unit}"
    return str(number)


def _seconds(number: float) -> str:
    if number >= 5400:
        return f"{number / 3600:.1f} h"
    return f"{number / 60:.0f} min" if number >= 90 else f"{number:.{0 if number >= 10 else 1}f} s"

"""Ours beside the paper's: means and spreads, differences, reasons; nothing is shown that was not measured."""

import io
import math

import pytest
from rich.console import Console

from adapteo.bench.report import base_of, cost_text, rows, text
from adapteo.bench.running import CANNOT, DONE, FAILED, Outcome
from adapteo.bench.tables import Cell


def of(method="lora", seed=0, model="prithvi-2.0-300m", dataset="sen1floods11", **fields):
    return Cell(model, method, "linear", dataset, seed=seed, **fields)


def done(cell, test, bolivia=0.5, minutes=3.0):
    result = {"scores": {"test": test, "bolivia": bolivia}, "seconds": 60 * minutes, "epochs": 20}
    return Outcome(cell, DONE, result=result)


OUTCOMES = [
    done(of("lora", 0), 0.90),
    done(of("lora", 1), 0.92),
    Outcome(of("lora", 2), FAILED, "the loss became nan"),
    done(of("full", 0), 0.89),
    Outcome(of("full", 1), CANNOT, "no [data]"),
]
RESULTS = {outcome.cell: outcome.result for outcome in OUTCOMES}


def found(table="main", outcomes=OUTCOMES):
    return rows(table, outcomes, RESULTS.get)


def test_means_spreads_and_differences():
    lora, full = found()
    assert lora.ours.mean == pytest.approx(91)
    assert lora.ours.std == pytest.approx(math.sqrt(2))
    assert lora.ours.seeds == 2
    assert (lora.paper.mean, lora.paper.std) == (90.04, 0.17)
    assert lora.difference == pytest.approx(0.96)
    assert lora.base == pytest.approx(2), "beside our own full fine-tuning"
    assert full.base is None
    assert math.isnan(full.ours.std)
    assert lora.states == {DONE: 2, FAILED: 1}
    assert full.reasons == ("no [data]",)


def test_splits_of_each_table():
    assert [row.split for row in found("ood")] == ["bolivia", "bolivia"]
    assert found("ood")[0].paper.mean == 87.57
    assert [row.split for row in found("few")] == ["test", "bolivia"] * 2
    minutes, epochs = found("time")[:2]
    assert (minutes.ours.mean, minutes.paper.mean, minutes.paper.std) == (3, 11.5, None)
    assert (epochs.ours.mean, epochs.paper.mean) == (20, 48.4)


def test_as_text():
    written = text("main", found(), scored=True)
    lora, full = (dict(zip(written.heads, line, strict=True)) for line in written.lines)
    assert lora["ours"] == "91.00 ± 1.41"
    assert lora["paper"] == "90.04 ± 0.17"
    assert lora["ours − paper"] == "+0.96"
    assert lora["− full fine-tuning"] == "+2.00"
    assert lora["state"] == "2 done, 1 failed [1]"
    assert full["ours"] == "89.00"
    assert full["− full fine-tuning"] == "–"
    assert written.notes == ("the loss became nan", "no [data]")


def test_scores_of_smoke_runs_are_not_shown():
    written = text("main", found(), scored=False)
    assert "ours" not in written.heads
    assert not any("91" in word for line in written.lines for word in line)


def test_nothing_measured_is_a_dash():
    (row,) = rows("main", [Outcome(of("vpt"), CANNOT, "no weights")], lambda cell: None)
    assert (row.ours, row.difference, row.base) == (None, None, None)
    line = dict(zip((written := text("main", [row], scored=True)).heads, written.lines[0], strict=True))
    assert (line["ours"], line["ours − paper"], line["state"]) == ("–", "–", "cannot run [1]")


def test_columns_appear_where_cells_differ_in_them():
    told = [done(of("full", metadata="on"), 0.9), done(of("full"), 0.8)]
    written = text("metadata", rows("metadata", told, {o.cell: o.result for o in told}.get), scored=True)
    assert "metadata" in written.heads
    assert "decoder" not in written.heads
    first = dict(zip(written.heads, written.lines[0], strict=True))
    assert (first["metadata"], first["− without metadata"]) == ("on", "+10.00")


def test_a_model_that_is_not_the_papers_says_so():
    other = [done(of(model="prithvi-2.0-100m"), 0.9)]
    written = text("main", rows("main", other, lambda cell: None), scored=True)
    assert written.lines[0][written.heads.index("paper")].endswith("[1]")
    assert "never released" in written.notes[0]


def test_what_is_compared_with_what():
    assert base_of("main", of()) == of("full")
    assert base_of("decoders", Cell("decur-6", "full", "fcn", "reben")).decoder == "linear"
    assert base_of("ranks", of(change="rank=4")) == of()
    assert base_of("metadata", of("full", metadata="on")) == of("full")
    assert base_of("main", Cell("unet-resnet50", "full", "unet", "reben")) is None


def test_markdown_and_terminal():
    written = text("main", found(), scored=True)
    page = written.markdown("main: a title")
    lines = page.splitlines()
    assert lines[0] == "### main: a title"
    assert lines[3].count("---") == len(written.heads)
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert "- [2] no [data]" in lines
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(written.grid("title"))
    assert "failed [1]" in console.export_text()


def test_costs():
    memory = {"weights": 2**30, "gradients": 0, "optimiser": 0, "activations": 2**30, "total": 2**31}
    parameters = {"backbone": 9, "backbone_trained": 1234, "decoder_trained": 7}
    lora = {"memory": memory, "operations": 5 * 10**11, "parameters": parameters}
    full = {**lora, "memory": {**memory, "total": 2**32}, "operations": 10**12}
    outcomes = [
        Outcome(of("lora"), DONE, result=lora, cost=True),
        Outcome(of("full"), DONE, result=full, cost=True),
        Outcome(of("vpt"), CANNOT, "no such method", cost=True),
    ]
    written = cost_text(outcomes, {of("lora").path: 1.5, of("full").path: 2.0})
    line = list(zip(written.heads, written.lines[0], strict=True))
    assert ("GiB", "2.00") in line
    assert ("trained", "1,234") in line
    assert [word for head, word in line if head == "% of full"] == ["50", "50", "75"]
    assert written.lines[2][-1] == "cannot run [1]"
    assert "s / image" not in cost_text(outcomes, {}).heads

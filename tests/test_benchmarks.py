"""Benchmarks run, and what they write can be read by a program: one form for all of them."""

import importlib
import json
import math
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUICK = ("lora_step", "side_step", "step_parts", "terratorch_step", "trunk_kinds")
SLOWER = (
    "data_chips", "data_wait", "feature_cache", "one_pass", "plan", "predict_memory", "predict_overhead",
    "predict_reading", "start_up",
)  # fmt: skip
CONDITIONS = {"torch", "threads", "device", "commit", "date", "options", "cores", "adapteo", "python", "system"}


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("benchmarks are not part of an installed package")
    monkeypatch.syspath_prepend(str(ROOT))


def module(name):
    return importlib.import_module(f"benchmarks.{name}")


def check(content, name):
    assert set(content) == {"benchmark", "conditions", "rows", "skipped"}
    assert content["benchmark"] == name
    assert set(content["conditions"]) >= CONDITIONS
    assert content["rows"] or content["skipped"]
    assert all(isinstance(reason, str) and "\n" not in reason for reason in content["skipped"])
    for row in content["rows"]:
        assert set(row) == {"what", "quantity", "value", "unit", "goal", "spread"}
        assert math.isfinite(row["value"])
        if row["goal"] is not None:
            (bound,) = set(row["goal"]) - {"met"}
            kept = {"at_most": row["value"] <= row["goal"].get("at_most", 0),
                    "at_least": row["value"] >= row["goal"].get("at_least", 0)}[bound]  # fmt: skip
            assert row["goal"]["met"] == kept
        if row["spread"] is not None:
            spread = row["spread"]
            assert spread["least"] <= spread["lower"] <= spread["median"] <= spread["upper"] <= spread["most"]
    named = [(row["what"], row["quantity"]) for row in content["rows"]]
    assert len(set(named)) == len(named), "each figure has one row"
    timed = [row for row in content["rows"] if "time" in row["quantity"] or row["unit"] == "s"]
    assert all(row["spread"] is not None for row in timed)


@pytest.mark.filterwarnings("ignore")  # of the peers that are imported
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOWER)])
def test_a_quick_run_writes_what_it_prints(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ADAPTEO_CACHE", str(tmp_path / "cache"))
    module(name).main(["--quick", "--json", str(tmp_path / "deep" / "found.json")])
    content = json.loads((tmp_path / "deep" / "found.json").read_text())
    check(content, name)
    assert content["conditions"]["options"]["quick"] is True
    printed = capsys.readouterr().out
    assert all(row["what"] in printed for row in content["rows"])
    assert all(reason in printed for reason in content["skipped"])


def test_figures_of_the_trunk_are_those_of_the_formulas(tmp_path):
    """Of 2.0-tiny-TL: 12 blocks of width 192, 12 D² weights each."""
    module("trunk_kinds").main(["--quick", "--json", str(tmp_path / "found.json")])
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    linears = {row["what"]: row["value"] for row in rows if row["quantity"] == "linears"}
    weights, outputs = 12 * 12 * 192**2, 12 * (4 + 4 + 1) * 192
    assert linears["fp32"] == 4 * weights
    assert linears["bf16"] == 2 * weights
    assert linears["int8"] == weights + 4 * outputs
    if "nf4" in linears:
        assert linears["nf4"] == weights // 2 + 4 * weights // 64


def test_the_spread_is_that_of_the_rounds():
    rows = module("_rows")
    spread = rows.Spread.of([3.0, 1.0, 2.0, 5.0, 4.0])
    assert spread == rows.Spread(5, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert rows.Spread.of([2.0]) == rows.Spread(1, 2.0, 2.0, 2.0, 2.0, 2.0)
    row = rows.ratio("a / b", "time", [2.0, 3.0, 8.0], [1.0, 3.0, 4.0])
    assert row.value == 2.0
    assert (row.spread.least, row.spread.median, row.spread.most) == (1.0, 2.0, 2.0)


@pytest.mark.parametrize(("least", "value", "met"), [(False, 1.0, True), (False, 1.1, False), (True, 0.9, False),
                                                     (True, 1.0, True)])  # fmt: skip
def test_goals(least, value, met):
    goal = module("_rows").Goal(1.0, least)
    assert goal.met(value) == met
    row = module("_rows").Row("it", "time", value, "ratio", goal)
    (line,) = module("_rows").goals([row])
    assert line == f"it: time {value:.4g} (goal: at {'least' if least else 'most'} 1: {'met' if met else 'not met'})"


def test_the_table_has_a_line_for_each_thing_and_a_column_for_each_figure():
    rows = module("_rows")
    plain = [
        rows.Row("a", "saved", 2**20, "B"),
        rows.Row("b", "saved", 3 * 2**20, "B"),
        rows.Row("b", "trained", 1234, ""),
    ]
    found = rows.table([*plain, rows.Row("c", "time", 1, "ratio", rows.Goal(1))])
    assert [line.split() for line in found] == [["saved", "MiB", "trained"], ["a", "1.0"], ["b", "3.0", "1,234"]]


def test_every_benchmark_can_be_named_and_strange_ones_are_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "nothing"])
    with pytest.raises(SystemExit, match="there is no benchmark 'nothing'; there are .*lora_step"):
        module("__main__").main()
    monkeypatch.setattr(sys, "argv", ["benchmarks", "lora_step", "plan", "--json", "a.json"])
    with pytest.raises(SystemExit, match="--json belongs to one benchmark"):
        module("__main__").main()


def test_peers_that_are_missing_are_told_in_a_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(module("_peers").importlib.util, "find_spec", lambda name: None)
    module("terratorch_step").main(["--quick", "--json", str(tmp_path / "found.json")])
    content = json.loads((tmp_path / "found.json").read_text())
    assert content["rows"] == []
    assert content["skipped"] == [capsys.readouterr().out.strip()]
    assert "not installed" in module("_peers").hf_peft().reason


def test_rounds_are_in_turns():
    order = []
    times = module("_counting").in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 4
    assert {name: len(each) for name, each in times.items()} == {"a": 3, "b": 3}

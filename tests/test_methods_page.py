"""docs/methods.md is what the code says, and the survey's checklist is whole."""

import importlib.util
from pathlib import Path

import pytest

from adapteo import registry
from adapteo.peft._hf_kinds import OFFERED, REFUSED

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("make_methods", ROOT / "tools/make_methods.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current(tool):
    assert tool.FILE.read_text(encoding="utf-8") == tool.page(), "run `make docs`"


def test_every_method_and_every_kind_has_a_row(tool):
    rows = [line for line in tool.page().splitlines() if line.startswith("| `")]
    listed = [line.split("`")[1] for line in rows]
    assert sorted(listed) == sorted([*registry.names("methods"), *OFFERED, *REFUSED])
    assert len({row.count(" | ") for row in rows}) == 3  # no cell broke a table


def test_every_name_of_the_survey_has_one_state_and_every_exclusion_a_reason(tool):
    entries = [(name, *state) for names in tool.survey().values() for name, state in names.items()]
    assert len(entries) > 100
    assert len({name for name, _, _ in entries}) == len(entries)
    assert all(len(value) > 10 for _, state, value in entries if state == "out")
    assert {state for _, state, _ in entries} == {"own", "hf", "out"}


def test_our_methods_are_in_the_checklist(tool):
    own = {value for names in tool.survey().values() for state, value in names.values() if state == "own"}
    assert set(registry.names("methods")) - own == {"frozen", "full", "hf", "side"}


def test_a_name_that_points_to_nothing_is_an_error(tool, tmp_path, monkeypatch):
    (tmp_path / "survey.yaml").write_text("adapters:\n  Gone: {own: gone}\n", encoding="utf-8")
    monkeypatch.setattr(tool, "SURVEY", tmp_path / "survey.yaml")
    with pytest.raises(SystemExit, match="Gone: there is no 'gone'"):
        tool.survey()


def test_check_says_whether_the_page_is_current(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "FILE", tmp_path / "methods.md")
    with pytest.raises(SystemExit, match="not current"):
        tool.main(["--check"])
    tool.main([])
    with pytest.raises(SystemExit) as caught:
        tool.main(["--check"])
    assert caught.value.code == 0
    assert "wrote" in capsys.readouterr().out

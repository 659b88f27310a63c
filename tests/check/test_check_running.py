"""All checks together: order, errors as findings, JSON, the terminal, the command."""

import json
import subprocess
import sys

import madesurvey as made
import pytest
from rich.console import Console
from typer.testing import CliRunner

from adapteo.check import Finding, lines, names, run, show
from adapteo.cli import app

LEIPZIG = """
dataset:
  name: survey
  root: {root}
  scenes: s2_leipzig*.tif
  labels: s2_leipzig_landcover_points.gpkg
  class_column: land_cover
  band_names: [b02, b03, b04, b06, b07, b08, b11, ndvi]
  sensor: sentinel2
  chip: 32
backbone: prithvi
"""


def test_every_file_is_a_check_that_says_something_of_a_healthy_survey(tmp_path):
    checked = run(made.healthy(tmp_path))
    assert not checked.failed
    assert {finding.name for finding in checked.findings} == set(names())
    assert {f.name: f.problem for f in checked.findings if f.level == "WARN"}.keys() <= {"unlabelled"}
    assert checked.skipped == {}


def test_the_worst_comes_first(tmp_path):
    checked = run(made.healthy(tmp_path, scale=None))
    order = [finding.level for finding in checked.findings]
    assert order == sorted(order, key=["FAIL", "WARN", "OK"].index)
    assert order[0] == "FAIL"


def test_what_cannot_be_read_is_a_finding_once_and_the_rest_is_named(tmp_path):
    path = made.healthy(tmp_path)
    (tmp_path / "labels.gpkg").unlink()
    checked = run(path)
    (failed,) = [finding for finding in checked.findings if finding.level == "FAIL"]
    assert "labels.gpkg" in failed.problem
    assert {"balance", "leakage", "polygons"} <= checked.skipped.keys() | {failed.name}
    assert "scale" in {finding.name for finding in checked.findings}  # needs no labels


def test_the_line_to_change_is_the_one_in_the_file(tmp_path):
    path = made.healthy(tmp_path, scale=1)
    number = path.read_text().splitlines().index("  scale: 1") + 1
    (failed,) = [finding for finding in run(path).findings if finding.level == "FAIL"]
    assert failed.change == f"burn.yaml, line {number}: `scale: 0.0001`"


def test_a_key_that_is_not_there_is_to_be_added(tmp_path):
    (failed,) = [finding for finding in run(made.healthy(tmp_path, scale=None)).findings if finding.level == "FAIL"]
    assert failed.change == "burn.yaml, line 1, below `dataset:`, add `scale: 0.0001`"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_finding_takes_at_most_five_lines(width):
    finding = Finding("WARN", "missing", "a.tif", "what was found " * 20, "what it does " * 20, "what to change " * 20)
    found = lines(finding, width)
    assert len(found) == 5
    assert max(map(len, found)) <= width
    assert any("->" in line for line in found)


def test_the_terminal_shows_every_finding_and_the_sum(tmp_path):
    checked = run(made.healthy(tmp_path, scale=None))
    console = Console(record=True, width=100, quiet=False, file=(tmp_path / "out.txt").open("w"))
    show(checked, console)
    text = console.export_text()
    console.file.close()
    assert all(f"{finding.level:<6}{finding.name}" in text for finding in checked.findings)
    assert f"1 FAIL, {checked.count('WARN')} WARN, {checked.count('OK')} OK" in text


@pytest.mark.parametrize(("scale", "code"), [(0.0001, 0), (None, 1)])
def test_the_command_ends_with_1_when_something_fails(tmp_path, scale, code):
    result = CliRunner().invoke(app, ["check", str(made.healthy(tmp_path, scale=scale)), "--json"])
    assert result.exit_code == code
    said = json.loads(result.stdout)
    assert said["schema"] == 1
    assert said["counts"]["FAIL"] == code
    assert {"level", "name", "path", "problem", "effect", "change", "details"} == said["findings"][0].keys()


def test_a_project_folder_will_do(tmp_path):
    made.healthy(tmp_path).rename(tmp_path / "adapteo.yaml")
    assert CliRunner().invoke(app, ["check", str(tmp_path)]).exit_code == 0


def test_leipzig_is_checked_in_ten_seconds_without_torch(tmp_path, shared_data):
    path = tmp_path / "leipzig.yaml"
    path.write_text(LEIPZIG.format(root=shared_data / "scenes"), encoding="utf-8")
    code = (
        "import json, sys\nfrom adapteo.check import run\n"
        f"checked = run({str(path)!r})\n"
        "print(json.dumps({'torch': 'torch' in sys.modules, **checked.as_json()}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    said = json.loads(done.stdout)
    assert not said["torch"]
    assert said["seconds"] < 10
    (failed,) = [finding for finding in said["findings"] if finding["level"] == "FAIL"]
    assert failed["name"] == "scale"
    assert failed["change"].endswith("`scale: 0.0001`")
    found = {finding["name"]: finding for finding in said["findings"]}
    assert found["missed"]["problem"] == "all 97 labels lie in a scene"

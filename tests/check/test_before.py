"""`fit` looks at a survey first."""

import json

import madesurvey as made
import pytest
import yaml
from typer.testing import CliRunner

import adapteo
from adapteo import experiment
from adapteo.cli import app
from adapteo.errors import DataError

TRAIN = {"epochs": 1, "head_start": False, "workers": 0}


@pytest.fixture
def trained(monkeypatch):
    """Configurations that got as far as training."""
    runs = []
    monkeypatch.setattr(experiment, "fit", lambda run, **_: runs.append(run))
    return runs


def whole(path):
    """The same with a method and decoder, so that it can be trained."""
    text = yaml.safe_load(path.read_text())
    rest = {"backbone": "nano", "method": "frozen", "decoder": "linear", "train": TRAIN}
    path.write_text(yaml.safe_dump(text | rest, sort_keys=False), encoding="utf-8")
    return path


def test_a_fail_stops_before_the_training_and_names_the_line(tmp_path, trained):
    path = whole(made.healthy(tmp_path, scale=1))
    number = path.read_text().splitlines().index("  scale: 1") + 1
    with pytest.raises(DataError) as caught:
        adapteo.fit(path, show=False)
    text = str(caught.value)
    assert not trained
    assert text.startswith("FAIL scale: values are")
    assert f"-> burn.yaml, line {number}: `scale: 0.0001`" in text
    assert f"adapteo check {path}" in text
    assert "--no-check" in text
    assert len(text.splitlines()) <= 5


@pytest.mark.parametrize("flag", [[], ["--no-check"]])
def test_no_check_goes_on(tmp_path, trained, flag):
    path = whole(made.healthy(tmp_path, scale=1))
    result = CliRunner().invoke(app, ["fit", str(path), *flag])
    assert result.exit_code == (0 if flag else 2), result.output
    assert len(trained) == len(flag)


def test_what_is_well_is_trained_and_warnings_are_told(tmp_path, trained, capsys):
    path = whole(made.healthy(tmp_path))
    adapteo.fit(path)
    assert len(trained) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "check: 1 warning (unlabelled); see `adapteo check" in said


def test_a_run_made_in_python_is_checked_as_well(tmp_path, trained):
    text = yaml.safe_load(whole(made.healthy(tmp_path)).read_text())
    text["dataset"] |= {"root": str(tmp_path), "scale": 1.0}
    with pytest.raises(DataError, match="FAIL scale") as caught:
        adapteo.fit(text, show=False)
    assert "set `scale: 0.0001` in the dataset section" in str(caught.value)
    adapteo.fit(text, show=False, check=False)
    assert len(trained) == 1


def test_other_datasets_are_not_checked(tmp_path, trained, monkeypatch):
    monkeypatch.setattr("adapteo.check.before_training", lambda *_: pytest.fail("asked"))
    given = {"dataset": "scenes", "backbone": "nano", "method": "frozen", "decoder": "linear", "out": str(tmp_path)}
    adapteo.fit(json.loads(json.dumps(given)), show=False)
    assert len(trained) == 1

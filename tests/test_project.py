"""Project folders: which file and which run a person means."""

import subprocess
import sys
from pathlib import Path

import pytest

import adapteo
from adapteo import config
from adapteo.errors import ConfigError
from adapteo.project import project, run_folder

GOOD = """\
dataset: {name: "test_config:Chips", root: chips}
backbone: tiny:TinySpec
method: frozen
decoder: linear
"""


@pytest.fixture(params=["burn", "Brände im Süden", "a=b"])
def home(request, tmp_path):
    folder = tmp_path / request.param
    folder.mkdir()
    (folder / "adapteo.yaml").write_text(GOOD, encoding="utf-8")
    return folder


def test_a_folder_and_its_file_are_the_same_project_from_anywhere(home, monkeypatch):
    expected = home / "run"
    monkeypatch.chdir(home.parent)
    assert project(home.name) == (Path(home.name, "adapteo.yaml"), expected)
    assert project(Path(home.name, "adapteo.yaml"))[1] == expected
    monkeypatch.chdir(home)
    assert project(".") == (Path("adapteo.yaml"), expected)
    assert project("adapteo.yaml")[1] == expected


def test_the_run_of_a_project_lies_in_it_and_the_data_beside_it(home, monkeypatch):
    monkeypatch.chdir(home.parent)
    for given in (home.name, f"{home.name}/adapteo.yaml", home):
        run = config.load(given)
        assert (run.out, run.dataset.root) == (home / "run", home / "chips")
    elsewhere = config.load(home.name, [f"out={home / 'other'}"])
    assert elsewhere.out == home / "other"


def test_a_project_may_name_another_folder_for_its_run(home):
    with (home / "adapteo.yaml").open("a", encoding="utf-8") as file:
        file.write("out: here\n")
    assert config.load(home).out == Path("here")


def test_any_other_file_keeps_its_run_under_runs(tmp_path):
    assert project(tmp_path / "flood.yaml") == (tmp_path / "flood.yaml", Path("runs/flood"))


def test_a_folder_without_configuration_is_no_project(tmp_path):
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path} is a folder without adapteo.yaml\nname a YAML file")
    assert f"adapteo init {tmp_path} " in str(caught.value)


def test_the_run_of_a_project_is_found(home):
    (home / "run").mkdir()
    assert run_folder(home) == run_folder(home / "adapteo.yaml") == home / "run"
    assert run_folder(home / "run") == home / "run"


def test_a_project_without_a_run_says_how_to_make_one(home):
    with pytest.raises(ConfigError, match="has no run yet\nadapteo fit "):
        adapteo.load(home)


def test_what_is_no_project_is_left_to_others(tmp_path):
    assert run_folder(tmp_path / "missing") == tmp_path / "missing"
    assert run_folder(tmp_path) == tmp_path


def test_no_torch():
    code = "import sys, adapteo.project; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

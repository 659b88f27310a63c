"""The file system is the registry: what lies there is there, and nothing is imported to find out."""

import subprocess
import sys
from pathlib import Path

import pytest

import adapteo
from adapteo import registry
from adapteo.contracts import BackboneSpec, Dataset, DecoderSpec, Method, Task
from adapteo.errors import ConfigError

CONTRACTS = {
    "backbones": BackboneSpec,
    "methods": Method,
    "decoders": DecoderSpec,
    "tasks": Task,
    "datasets": Dataset,
}
ENTRIES = [(family, name) for family in registry.FAMILIES for name in registry.names(family)]


def test_families_are_the_contracts():
    assert set(registry.FAMILIES) == set(CONTRACTS)


@pytest.mark.parametrize(("family", "name"), ENTRIES)
def test_every_entry_implements_its_contract_and_says_what_it_is(family, name):
    cls = registry.load(family, name)
    assert issubclass(cls, CONTRACTS[family])
    summary = registry.summaries(family)[name]
    assert 10 < len(summary) <= 120
    assert summary.endswith((".", ")"))


@pytest.mark.parametrize("family", registry.FAMILIES)
def test_names_and_summaries_agree(family):
    assert list(registry.summaries(family)) == registry.names(family) == sorted(registry.names(family))


def test_names_load_nothing():
    code = (
        "import sys; from adapteo import registry\n"
        "for f in registry.FAMILIES: registry.names(f); registry.summaries(f)\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_file_with_the_constant_is_all_that_a_new_entry_takes(tmp_path, monkeypatch):
    folder = tmp_path / "decoders"
    folder.mkdir()
    (folder / "mine.py").write_text('"""Mine: a decoder.\n\nMore about it.\n"""\n\nDECODER = int\n', encoding="utf-8")
    (folder / "_private.py").write_text("\nDECODER = int\n", encoding="utf-8")
    (folder / "shared.py").write_text('"""Used by several."""\n# DECODER = none here\n', encoding="utf-8")
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    assert registry.names("decoders") == ["mine"]
    assert registry.summaries("decoders") == {"mine": "Mine: a decoder."}


def test_an_unknown_key_gets_the_closest_and_all():
    with pytest.raises(ConfigError) as caught:
        registry.load("methods", "lorra")
    message = str(caught.value)
    assert message.startswith("there is no method 'lorra'; did you mean 'lora'?")
    assert "adapteo list methods" in message
    assert caught.value.allowed == tuple(registry.names("methods"))


@pytest.mark.parametrize("name", ["__init__", "_pyramid", "../peft/lora", ""])
def test_only_entries_are_entries(name):
    with pytest.raises(ConfigError, match="there is no decoder"):
        registry.load("decoders", name)


def test_a_class_of_the_users_own():
    assert registry.load("methods", "pathlib:Path") is Path


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("no_such_lab.tuner:MyTuner", "cannot import 'no_such_lab.tuner'"),
        ("pathlib:Paht", "'pathlib' has no class 'Paht'; did you mean 'Path'?"),
        ("pathlib:", "'pathlib' has no class ''"),
        ("os:getcwd", "'os' has no class 'getcwd'"),
        (":MyTuner", "is not package.module:Class"),
        (".tuner:MyTuner", "is not package.module:Class"),
        ("C:\\lab\\tuner.py:MyTuner", "'C' for the method"),
        ("broken_lab:MyTuner", "cannot import 'broken_lab'"),
        ("partial_lab:MyTuner", "cannot import 'partial_lab'"),
    ],
)
def test_what_is_wrong_with_a_dotted_path(path, says, tmp_path, monkeypatch):
    (tmp_path / "broken_lab.py").write_text("def :\n", encoding="utf-8")
    (tmp_path / "partial_lab.py").write_text("from pathlib import NoSuchName\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as caught:
        registry.load("methods", path)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


def test_the_package_is_marked_as_typed():
    assert (Path(adapteo.__file__).parent / "py.typed").is_file()

"""Lists of chips from a folder or the web."""

import hashlib

import pytest
from webserver import serving

from adapteo.data import _download
from adapteo.data._cache import cache_folder
from adapteo.data._lists import Lists
from adapteo.errors import DataError


def parse(entry):
    """Chips of these tests are called c1, c2, …"""
    return entry if entry.startswith("c") else None


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setattr(_download, "PAUSE", 0.0)
    with serving() as server:
        server.files = {"/lists/train_data.txt": b"c1\nc2\n", "/lists/few/a.txt": b"c2\n"}
        yield server


def problem(place, *args):
    with pytest.raises(DataError) as caught:
        place(*args)
    assert len(str(caught.value).splitlines()) <= 5
    return str(caught.value)


@pytest.mark.parametrize("name", ["flood_train_data.csv", "flood_train_data.txt", "train_data.txt", "train.txt"])
def test_names_that_lists_go_by(tmp_path, name):
    (tmp_path / name).write_text("c1,l1\n\nc2 , l2\r\nc1,l1\n")
    assert Lists(str(tmp_path)).part("train", parse) == ["c1", "c2"]


@pytest.mark.parametrize("name", ["flood_valid_data.csv", "val_data.txt", "valid.txt"])
def test_validation_has_two_names(tmp_path, name):
    (tmp_path / name).write_text("c3")
    assert Lists(str(tmp_path)).part("val", parse) == ["c3"]


def test_a_list_that_is_not_there(tmp_path):
    lists = Lists(str(tmp_path))
    assert lists.part("bolivia", parse, needed=False) is None
    text = problem(lists.part, "test", parse)
    assert f"no list of the test chips in {tmp_path}" in text
    assert "test_data.txt" in text
    assert "there is no folder" in problem(Lists(str(tmp_path / "nowhere")).part, "test", parse)


def test_a_list_of_something_else(tmp_path):
    (tmp_path / "train.txt").write_text("c1\nxyz\n")
    assert f"{tmp_path}/train.txt: 'xyz' is no chip" in problem(Lists(str(tmp_path)).part, "train", parse)
    (tmp_path / "test.txt").write_bytes(b"\xff\xfe\x00\x81")
    assert "not text" in problem(Lists(str(tmp_path)).part, "test", parse)


def test_a_training_list_by_its_own_name(tmp_path, web):
    (tmp_path / "few").mkdir()
    (tmp_path / "few/b.txt").write_text("c9")
    lists = Lists(str(tmp_path), download=True)
    assert lists.training("few/b.txt", parse) == ["c9"]
    assert lists.training(str(tmp_path / "few/b.txt"), parse) == ["c9"]
    assert lists.training(f"{web.url}/lists/few/a.txt", parse) == ["c2"]
    assert "few/none.txt" in problem(lists.training, "few/none.txt", parse)


def test_the_web_is_asked_once_and_only_when_allowed(web):
    place = f"{web.url}/lists/"
    text = problem(Lists(place).part, "train", parse)
    assert "nothing was fetched" in text
    assert "`download: true`" in text
    assert web.asked == []
    assert Lists(place, download=True).part("train", parse) == ["c1", "c2"]
    assert web.paths == ["/lists/flood_train_data.csv", "/lists/flood_train_data.txt", "/lists/train_data.txt"]
    web.asked.clear()
    assert Lists(place).part("train", parse) == ["c1", "c2"]
    assert Lists(place, download=True).training("train_data.txt", parse) == ["c1", "c2"]
    assert web.asked == []
    assert {path.name for path in (cache_folder() / "lists").rglob("*.txt")} == {"train_data.txt"}


def test_what_was_fetched_is_what_was_expected(web):
    right = {"train_data.txt": hashlib.sha256(b"c1\nc2\n").hexdigest()}
    assert Lists(f"{web.url}/lists", True, right).training("train_data.txt", parse) == ["c1", "c2"]
    wrong = {"few/a.txt": "0" * 64}
    assert "not what was expected" in problem(Lists(f"{web.url}/lists", True, wrong).training, "few/a.txt", parse)


def test_a_list_that_the_web_does_not_have(web):
    lists = Lists(f"{web.url}/lists", download=True)
    assert lists.part("bolivia", parse, needed=False) is None
    assert "no list of the test chips" in problem(lists.part, "test", parse)

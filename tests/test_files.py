import errno

import pytest

from adapteo.errors import DataError
from adapteo.files import replacing, sha256, unwritable


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with replacing(path) as beside:
        beside.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_there_survives_a_failure(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as beside:
        beside.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_files_have_the_rights_of_other_new_files(tmp_path):
    (tmp_path / "other").touch()
    with replacing(tmp_path / "a") as beside:
        beside.touch(0o600)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_folder_is_exchanged_as_a_whole(tmp_path):
    folder = tmp_path / "adapter"
    for round_ in ("first", "second"):
        with replacing(folder) as beside:
            beside.mkdir()
            (beside / round_).touch()
    assert [p.name for p in folder.iterdir()] == ["second"]
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_a_full_disk_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(DataError, match="the disk is full") as caught, replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5
    assert path.read_text() == "old"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"), replacing(tmp_path / "file" / "a.txt") as beside:
        beside.write_text("")
    assert "Permission denied" in str(unwritable(tmp_path / "a", PermissionError(errno.EACCES, "Permission denied")))


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a").startswith("ba7816bf")

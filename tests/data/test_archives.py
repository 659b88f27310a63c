"""Archives become folders, as a whole or not at all, and nothing is written outside."""

import io
import tarfile
import zipfile

import pytest

from adapteo.data._archives import untar, unzip
from adapteo.errors import DataError


def make_tar(path, members):
    with tarfile.open(path, "w:gz") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def cut(path, pieces):
    """Divide a file as ``split`` does."""
    data, parts = path.read_bytes(), []
    step = -(-len(data) // pieces)
    for i in range(pieces):
        parts.append(path.with_name(f"{path.name}a{'abcdefgh'[i]}"))
        parts[-1].write_bytes(data[i * step : (i + 1) * step])
    return parts


@pytest.mark.parametrize("inside", ["m-set/", ""])
def test_zip(tmp_path, inside):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(f"{inside}one.hdf5", b"1")
        file.writestr(f"{inside}default_partition.json", b"{}")
        file.writestr(f"__MACOSX/{inside}._one.hdf5", b"junk")
        file.writestr("../../outside.txt", b"2")
    unzip(tmp_path / "a.zip", tmp_path / "deep/m-set")
    found = {p.name: p.read_bytes() for p in (tmp_path / "deep/m-set").iterdir()}
    assert found == {"one.hdf5": b"1", "default_partition.json": b"{}", "outside.txt": b"2"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "deep"]


def test_damaged_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_STORED) as file:
        file.writestr("one.hdf5", b"x" * 1000)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[100] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match="a.zip is damaged"):
        unzip(tmp_path / "a.zip", tmp_path / "m-set")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("pieces", [1, 3])
def test_tar_in_parts(tmp_path, pieces):
    content = {"a/b/one.tif": bytes(range(256)) * 40, "a/c/two.tif": b"22", "d/three.tif": b"3"}
    parts = cut(make_tar(tmp_path / "s.tar.gz", {**content, "../evil.tif": b"!", "/evil.tif": b"!"}), pieces)
    assert untar(parts, tmp_path / "out", lambda name: "two" not in name) == 2
    assert (tmp_path / "out/a/b/one.tif").read_bytes() == content["a/b/one.tif"]
    assert not (tmp_path / "out/a/c").exists()
    assert not (tmp_path / "evil.tif").exists()


def test_tar_again(tmp_path):
    parts = [make_tar(tmp_path / "s.tar.gz", {"one.tif": b"new", "two.tif": b"two"})]
    (tmp_path / "one.tif").write_bytes(b"old")
    (tmp_path / "two.tif").write_bytes(b"incomplete")
    assert untar(parts, tmp_path, lambda name: True) == 2
    assert (tmp_path / "one.tif").read_bytes() == b"old"
    assert (tmp_path / "two.tif").read_bytes() == b"two"


def test_damaged_tar(tmp_path):
    path = make_tar(tmp_path / "s.tar.gz", {"one.tif": bytes(range(256)) * 400})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"s\.tar\.gz is damaged"):
        untar([path], tmp_path / "out", lambda name: True)

"""Fetching files: whole or not at all, on from where it stopped, and words that help when it fails."""

import hashlib
import threading

import numpy as np
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from webserver import serving

from adapteo.data import _download
from adapteo.data._download import AbsentError, fetch, fetch_all, from_hub, one_at_a_time
from adapteo.errors import DataError

CONTENT = np.random.default_rng(0).bytes(1_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setattr(_download, "PAUSE", 0.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        server.files = {"/big.bin": CONTENT, "/small.txt": b"hello"}
        yield server


@pytest.fixture
def hidden(tmp_path):
    """Names of all files in the folder that is fetched to."""
    return lambda: sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


def refused(*args, **kwargs):
    with pytest.raises(DataError) as caught:
        fetch(*args, **kwargs)
    assert len(str(caught.value).splitlines()) <= 5
    return str(caught.value)


def test_a_file_arrives_whole_and_alone(web, tmp_path, hidden):
    counts = []
    fetch(f"{web.url}/big.bin", tmp_path / "new/folder/big.bin", DIGEST, counts.append)
    assert (tmp_path / "new/folder/big.bin").read_bytes() == CONTENT
    assert sum(counts) == len(CONTENT)
    assert hidden() == ["big.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_is_taken_up_again(web, tmp_path, hidden, ranges):
    web.breaks, web.ranges = 3, ranges
    fetch(f"{web.url}/big.bin", tmp_path / "big.bin", DIGEST)
    assert (tmp_path / "big.bin").read_bytes() == CONTENT
    assert [wanted for _, wanted in web.asked] == [None, "bytes=500000-", f"bytes={750_000 if ranges else 500_000}-",
                                                   f"bytes={875_000 if ranges else 500_000}-"]  # fmt: skip
    assert hidden() == ["big.bin"]


def test_what_arrived_in_an_earlier_run_is_not_fetched_again(web, tmp_path):
    (tmp_path / ".big.bin.part").write_bytes(CONTENT[:900_000])
    fetch(f"{web.url}/big.bin", tmp_path / "big.bin", DIGEST)
    assert (tmp_path / "big.bin").read_bytes() == CONTENT
    assert web.asked == [("/big.bin", "bytes=900000-")]


def test_a_part_that_is_the_whole_file_is_kept(web, tmp_path):
    (tmp_path / ".big.bin.part").write_bytes(CONTENT)
    fetch(f"{web.url}/big.bin", tmp_path / "big.bin", DIGEST)
    assert (tmp_path / "big.bin").read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_dropped(web, tmp_path, hidden):
    (tmp_path / ".small.txt.part").write_bytes(b"something else")
    fetch(f"{web.url}/small.txt", tmp_path / "small.txt")
    assert (tmp_path / "small.txt").read_bytes() == b"hello"
    assert hidden() == ["small.txt"]


def test_it_gives_up_after_some_attempts_and_keeps_what_came(web, tmp_path, hidden):
    web.breaks = 99
    text = refused(f"{web.url}/big.bin", tmp_path / "big.bin")
    assert "broke off after" in text
    assert "it goes on where it stopped" in text
    assert len(web.asked) == _download.ATTEMPTS
    assert hidden() == [".big.bin.part"]
    web.breaks = 0
    fetch(f"{web.url}/big.bin", tmp_path / "big.bin", DIGEST)
    assert (tmp_path / "big.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(web, tmp_path, hidden):
    text = refused(f"{web.url}/big.bin", tmp_path / "big.bin", "0" * 64)
    assert f"its sha256 is {DIGEST[:16]}…, not 0000000000000000…" in text
    assert hidden() == []


def test_a_server_that_is_busy_is_asked_again(web, tmp_path):
    web.codes = [503, 429]
    fetch(f"{web.url}/small.txt", tmp_path / "small.txt")
    assert (tmp_path / "small.txt").read_bytes() == b"hello"
    web.codes = [503] * _download.ATTEMPTS
    assert "the server answers 503" in refused(f"{web.url}/small.txt", tmp_path / "again.txt")


def test_a_missing_or_forbidden_file_is_not_asked_for_twice(web, tmp_path, hidden):
    with pytest.raises(AbsentError, match="there is no http"):
        fetch(f"{web.url}/nothing", tmp_path / "nothing")
    web.codes = [403]
    assert "403" in refused(f"{web.url}/small.txt", tmp_path / "small.txt")
    assert web.paths == ["/nothing", "/small.txt"]
    assert hidden() == []


def test_a_file_of_unknown_length_arrives(web, tmp_path):
    web.length = False
    fetch(f"{web.url}/small.txt", tmp_path / "small.txt")
    assert (tmp_path / "small.txt").read_bytes() == b"hello"


def test_a_server_that_does_not_answer_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(_download, "PAUSE", 0.0)
    with serving() as gone:
        url = gone.url
    assert f"cannot fetch {url}/a: " in refused(f"{url}/a", tmp_path / "a")


def test_only_web_addresses_are_fetched(tmp_path):
    (tmp_path / "secret").write_text("x")
    assert "is not a web address" in refused(f"file://{tmp_path}/secret", tmp_path / "copy")


def test_a_full_disk_is_named(web, tmp_path, monkeypatch):
    monkeypatch.setattr("adapteo.data._download._read", lambda response: (_ for _ in ()).throw(OSError(28, "full")))
    assert "the disk is full" in refused(f"{web.url}/small.txt", tmp_path / "a")


def test_many_files_arrive_side_by_side(web, tmp_path, capsys):
    web.files = {f"/{i}": str(i).encode() for i in range(30)}
    fetch_all({f"{web.url}/{i}": tmp_path / f"{i}.txt" for i in range(30)}, "numbers")
    assert [(tmp_path / f"{i}.txt").read_text() for i in range(30)] == [str(i) for i in range(30)]
    out, err = capsys.readouterr()
    assert out == ""
    assert "fetching 30 files of numbers" in err


def test_one_missing_file_ends_it_and_keeps_the_others(web, tmp_path):
    files = {f"{web.url}/nothing": tmp_path / "nothing", f"{web.url}/small.txt": tmp_path / "small.txt"}
    with pytest.raises(AbsentError, match="/nothing"):
        fetch_all(files, "some")
    assert not (tmp_path / "nothing").exists()


def test_only_one_at_a_time(tmp_path):
    inside, most = 0, 0

    def work():
        nonlocal inside, most
        with one_at_a_time(tmp_path / "new"):
            inside += 1
            most = max(most, inside)
            threading.Event().wait(0.02)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


# ----------------------------------------------------------------------------------------------- hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Replaces the hub's download; call it with what it is to answer."""

    def answer(result):
        def download(repo, file, repo_type, revision):
            assert (repo, file, repo_type, revision) == ("who/what", "all.tar.gz", "dataset", "abc")
            if isinstance(result, Exception):
                raise result
            return str(result)

        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)

    return answer


def test_a_file_of_the_hub(tmp_path, hub):
    (tmp_path / "all.tar.gz").write_bytes(CONTENT)
    hub(tmp_path / "all.tar.gz")
    assert from_hub("who/what", "all.tar.gz", "abc", DIGEST).read_bytes() == CONTENT
    with pytest.raises(DataError, match="damaged or was changed"):
        from_hub("who/what", "all.tar.gz", "abc", "0" * 64)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LocalEntryNotFoundError("offline"), "cannot reach the Hugging Face hub for who/what/all.tar.gz"),
        (OSError("no route"), "cannot fetch who/what/all.tar.gz: no route"),
    ],
)
def test_a_hub_that_cannot_be_reached(hub, error, words):
    hub(error)
    with pytest.raises(DataError, match=words) as caught:
        from_hub("who/what", "all.tar.gz", "abc")
    assert len(str(caught.value).splitlines()) <= 5


def test_a_hub_that_refuses(hub, monkeypatch):
    refusal = HfHubHTTPError.__new__(HfHubHTTPError)
    Exception.__init__(refusal, "403 Forbidden\nmore words")
    monkeypatch.setattr(HfHubHTTPError, "__str__", lambda self: "403 Forbidden\nmore words")
    hub(refusal)
    with pytest.raises(DataError, match="refused who/what/all.tar.gz: 403 Forbidden") as caught:
        from_hub("who/what", "all.tar.gz", "abc")
    assert "more words" not in str(caught.value)

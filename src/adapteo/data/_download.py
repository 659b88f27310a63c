"""Fetch files of public datasets, when the user asks for it with `download: true`.

A file arrives in a hidden part file beside its place and is renamed when it is whole, and its checksum right where one
is known. A broken transfer goes on where it stopped, in this run or in the next.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from adapteo.errors import DataError
from adapteo.files import sha256, unwritable

ATTEMPTS = 5
"""How often a transfer is taken up again before it counts as failed."""
PAUSE = 2.0
"""Seconds before the second attempt; each further one waits twice as long."""
_TIMEOUT = 60.0  # seconds without a byte
_CHUNK = 2**18  # bytes
_AT_ONCE = 8  # small files come faster side by side
_TRY_LATER = (408, 425, 429, 500, 502, 503, 504)
_AGAIN = "check the connection and run the same command again: it goes on where it stopped"

Advance = Callable[[int], None]


class AbsentError(DataError):
    """The server says that it has no such file."""


class _BrokenError(Exception):
    """The transfer ended early; it may be taken up again."""


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process at a time fetch into a folder; the others wait, and then find the files there."""
    from filelock import FileLock

    lock = FileLock(folder / ".download.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def fetch(url: str, path: Path, digest: str = "", advance: Advance | None = None) -> None:
    """Bring a file from a web server.

    Args:
        url: http or https.
        path: where it goes; folders are made.
        digest: sha256 in hexadecimal, or "" when it is not known.
        advance: called with the number of bytes that have arrived since the last call.

    Raises:
        AbsentError: the server has no such file.
        DataError: it cannot be reached, refuses, breaks off again and again, or sends something else than expected.
    """
    if not url.startswith(("https://", "http://")):
        raise DataError(f"'{url}' is not a web address", allowed=["https://…", "http://…"])
    part = path.with_name(f".{path.name}.part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _receive(url, part, advance or (lambda count: None))
            break
        except _BrokenError as error:
            if attempt == ATTEMPTS:
                raise DataError(f"cannot fetch {url}: {error}", fix=_AGAIN) from error
            time.sleep(PAUSE * 2 ** (attempt - 1))
        except OSError as error:
            raise unwritable(path, error) from error
    if digest and (found := sha256(part)) != digest:
        part.unlink()
        raise DataError(
            f"{url} is not what was expected: its sha256 is {found[:16]}…, not {digest[:16]}…",
            fix="the file on the server has changed, or something between here and there altered it",
        )
    part.replace(path)


def fetch_all(files: Mapping[str, Path], title: str) -> None:
    """Bring many files, several side by side, with a progress bar on the screen.

    Args:
        files: where each address goes.
        title: what is fetched, for the bar.

    Raises:
        DataError: as `fetch`, of the first that fails; those that have arrived stay.
    """
    with _bar(title, len(files)) as advance, ThreadPoolExecutor(_AT_ONCE) as pool:
        jobs = [pool.submit(fetch, url, path) for url, path in files.items()]
        for job in jobs:
            job.add_done_callback(lambda _: advance(1))
        try:
            wait(jobs, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    for job in jobs:
        if not job.cancelled():
            job.result()


def from_hub(repo: str, file: str, revision: str, digest: str = "") -> Path:
    """Bring a file of a dataset repository into the Hugging Face cache and return its path there.

    Raises:
        DataError: the hub cannot be reached or refuses, or the file is damaged.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    what = f"{repo}/{file}"
    try:
        path = Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision))
    except LocalEntryNotFoundError as error:
        raise DataError(f"cannot reach the Hugging Face hub for {what}, nor is it cached", fix=_AGAIN) from error
    except HfHubHTTPError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"the Hugging Face hub refused {what}: {reason}", fix=_AGAIN) from error
    except OSError as error:
        raise DataError(f"cannot fetch {what}: {error}", fix=_AGAIN) from error
    if digest and sha256(path) != digest:
        raise DataError(f"{path} is damaged or was changed: its sha256 is not {digest[:16]}…", fix="delete it")
    return path


# ------------------------------------------------------------------------------------------ one transfer


def _receive(url: str, part: Path, advance: Advance) -> None:
    """Go on with a part file until it is whole."""
    start = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "adapteo", **({"Range": f"bytes={start}-"} if start else {})}
    with _opened(url, headers) as response:
        if response is None:  # the range begins where the file ends, so the part may be the whole of it
            return _check_whole(url, part, start)
        going_on = response.status == 206  # a server that knows no ranges sends everything
        length = response.headers.get("Content-Length")
        expected = None if length is None else int(length) + (start if going_on else 0)
        with part.open("ab" if going_on else "wb") as file:
            while chunk := _read(response):
                file.write(chunk)
                advance(len(chunk))
    size = part.stat().st_size
    if expected is not None and size != expected:
        raise _BrokenError(f"it broke off after {size:,} of {expected:,} bytes")
    return None


@contextmanager
def _opened(url: str, headers: Mapping[str, str]) -> Iterator[HTTPResponse | None]:
    """Ask for a file; None when the wanted range is empty."""
    try:
        response = urlopen(Request(url, headers=dict(headers)), timeout=_TIMEOUT)
    except HTTPError as error:
        with error:
            response = None if error.code == 416 else _refused(url, error)
    except (OSError, HTTPException) as error:  # no such host, refused, timed out
        raise _BrokenError(str(getattr(error, "reason", error)) or type(error).__name__) from error
    if response is None:
        yield None
        return
    with response:
        yield response


def _refused(url: str, error: HTTPError) -> HTTPResponse:
    if error.code in (404, 410):
        raise AbsentError(f"there is no {url}", fix="check the address") from error
    if error.code in _TRY_LATER:
        raise _BrokenError(f"the server answers {error.code} {error.reason}") from error
    raise DataError(f"the server refuses {url}: {error.code} {error.reason}", fix="check the address") from error


def _check_whole(url: str, part: Path, size: int) -> None:
    """Keep a part file that is as long as the file on the server, start again otherwise."""
    with _opened(url, {"User-Agent": "adapteo"}) as response:
        length = response.headers.get("Content-Length") if response is not None else None
    if length is None or int(length) != size:
        part.unlink()
        raise _BrokenError("what had arrived is not the beginning of the file")


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, HTTPException) as error:
        raise _BrokenError(str(error) or type(error).__name__) from error


@contextmanager
def _bar(title: str, files: int) -> Iterator[Advance]:
    """Progress on standard error, so that standard output stays for results."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    console.print(f"fetching {files:,} files of {title}", highlight=False, markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=files)
        yield lambda count: progress.advance(task, count)

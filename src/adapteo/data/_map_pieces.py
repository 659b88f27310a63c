"""The finished pieces of a map beside it, so that a prediction that was stopped goes on where it was.

.map.tif.partial/         beside the map; removed when the map is in its place
    lock                  held by the process that writes
    job.json              what is computed: a fingerprint of model, scenes and options
    00000-0.tif …         pixels of piece 0 of the first map, 00000-1.tif those of the second
    00000.json            checksums of piece 0; written last, so that a piece counts when its pixels are there
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from zlib import crc32

import numpy as np
import rasterio
from filelock import FileLock, Timeout
from rasterio.errors import RasterioIOError
from rasterio.io import DatasetReader, DatasetWriter
from rasterio.windows import Window

from adapteo.data._layout import Box, Layout, profile
from adapteo.data.gdal import allow_no_place, writing
from adapteo.errors import DataError
from adapteo.files import replacing, unwritable

_JOB, _LOCK = "job.json", "lock"
Checksums = list[tuple[int, int, int, int, int]]
"""Row and column in the map, height, width and CRC-32 of each part."""


class Pieces:
    """Takes the pixels of maps, piece by piece.

    Attributes:
        finished: pieces that are complete; the next pixels belong to the piece of this number.
        boxes: the pixels of each piece.
        note: what happened to the pieces of a process that was stopped; "" when there were none.
    """

    def __init__(self, folder: Path, name: Path, layouts: Sequence[Layout], boxes: Sequence[Box]) -> None:
        self.folder, self.boxes, self._layouts, self._name = folder, boxes, layouts, name
        self.finished, self.note = 0, ""
        while self.finished < len(boxes) and self._whole(self.finished):
            self.finished += 1
        if self.finished:
            self.note = f"{name.name}: going on after {self.finished} of {len(boxes)} finished pieces"
        self._files: list[DatasetWriter] = []
        self._checksums: list[Checksums] = []
        self._left = 0

    def write(self, values: Sequence[np.ndarray], row: int, col: int) -> None:
        """Write ``(c, h, w)`` of each map with its upper left pixel at (row, col), in the piece that is next.

        Each pixel of a piece is written once. Blocks that start and end at multiples of `TILE` are compressed once.

        Raises:
            DataError: the disk is full.
        """
        top, left, height, width = self.boxes[self.finished]
        with writing(self._name):
            if not self._files:
                self._begin(height, width)
            for file, sums, array in zip(self._files, self._checksums, values, strict=True):
                array = np.ascontiguousarray(array, dtype=file.dtypes[0])
                file.write(array, window=Window(col - left, row - top, array.shape[2], array.shape[1]))
                sums.append((row, col, array.shape[1], array.shape[2], crc32(array.data)))
            self._left -= values[0].shape[1] * values[0].shape[2]
            if not self._left:
                self._end()

    def file(self, piece: int, number: int) -> Path:
        """Pixels of a piece of a map."""
        return self.folder / f"{piece:05d}-{number}.tif"

    def checksums(self, piece: int) -> list[Checksums]:
        """Of each map."""
        found: list[Checksums] = json.loads(self._record(piece).read_text(encoding="utf-8"))
        return found

    def close(self) -> None:
        """Give up a piece that is not complete."""
        for file in self._files:
            file.close()
        self._files = []

    def _begin(self, height: int, width: int) -> None:
        self._left, self._checksums = height * width, [[] for _ in self._layouts]
        for number, layout in enumerate(self._layouts):
            options = profile(layout, width, height) | {"zlevel": 1}
            self._files.append(rasterio.open(self.file(self.finished, number), "w", **options))

    def _end(self) -> None:
        self.close()
        self._verify(self.finished, self._checksums)
        with replacing(self._record(self.finished)) as beside:
            beside.write_text(json.dumps(self._checksums), encoding="utf-8")
        self.finished += 1

    def _record(self, piece: int) -> Path:
        return self.folder / f"{piece:05d}.json"

    def _whole(self, piece: int) -> bool:
        """Whether a piece of an earlier process is complete and undamaged."""
        try:
            self._verify(piece, self.checksums(piece))
        except (OSError, ValueError, RasterioIOError):
            return False
        return True

    def _verify(self, piece: int, checksums: Sequence[Checksums]) -> None:
        """Read a piece back: GDAL does not say when closing a file fails on a full disk."""
        for number, sums in enumerate(checksums):
            with rasterio.open(self.file(piece, number)) as file:
                check(file, sums, self.boxes[piece][:2])


def check(file: DatasetReader, checksums: Checksums, corner: tuple[int, int] = (0, 0)) -> None:
    """Compare a file whose upper left pixel is at ``corner`` of the map with the checksums of what was written.

    Raises:
        RasterioIOError: they differ.
    """
    for row, col, height, width, checksum in checksums:
        window = Window(col - corner[1], row - corner[0], width, height)
        if crc32(np.ascontiguousarray(file.read(window=window)).data) != checksum:
            raise RasterioIOError("what was written cannot be read back")


@contextmanager
def open_pieces(
    path: Path, layouts: Sequence[Layout], boxes: Sequence[Box], fingerprint: str | None
) -> Iterator[Pieces]:
    """Open the work folder of a map.

    Args:
        path: the first of the maps.
        layouts: of the maps.
        boxes: pieces in the order of writing; together the whole grid.
        fingerprint: what is computed. The pieces of a stopped process with the same one are used, others are removed.
            None when it is not known: then nothing stays when the block raises.

    Raises:
        DataError: another process writes the same map; the folder cannot be written.
    """
    folder = path.with_name(f".{path.name}.partial")
    allow_no_place()
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(FileLock(folder / _LOCK).acquire(timeout=0))
            assert lock is not None
            stale = _claim(folder, fingerprint)
        except Timeout as error:
            raise DataError(
                f"another process is writing {path}", fix="wait for it, or give this map another name"
            ) from error
        except OSError as error:
            raise unwritable(path, error) from error
        pieces = Pieces(folder, path, layouts, boxes)
        if stale:
            pieces.note = f"{path.name}: removed what a stopped prediction of something else had left"
        try:
            yield pieces
        except BaseException:
            pieces.close()
            if fingerprint is None or not pieces.finished:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _claim(folder: Path, fingerprint: str | None) -> bool:
    """Make the work folder ours: what was computed with another fingerprint goes; say whether there was any."""
    job = folder / _JOB
    said = job.read_text(encoding="utf-8") if job.is_file() else ""
    stale = False
    if fingerprint is None or said != json.dumps({"fingerprint": fingerprint}):
        for file in folder.iterdir():
            if file.name != _LOCK:
                stale |= file.name.startswith("00000")
                file.unlink()
        with replacing(job) as beside:
            beside.write_text(json.dumps({"fingerprint": fingerprint}), encoding="utf-8")
    return stale

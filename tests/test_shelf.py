"""Rows on disk: found again, shared, limited, and whole whatever happens to the process that writes them."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np

from adapteo.shelf import Shelf, Shelves

ROW = 4096


def name(number):
    return hashlib.sha256(str(number).encode()).digest()[:16]


def row(number):
    return np.random.default_rng(number).integers(0, 256, ROW, np.uint8)


def rows(numbers):
    return np.stack([row(number) for number in numbers])


def shelf(folder, key="a", limit=2**30):
    return Shelf(Shelves(folder, limit), key, ROW, {"what": key})


def read(kept, names):
    return np.stack([kept.row(name) for name in names])


def fill(kept, numbers):
    return kept.add([name(n) for n in numbers], rows(numbers))


def test_rows_are_found_by_name_also_by_another_process(tmp_path):
    kept = shelf(tmp_path / "new")
    assert not kept.has(name(0))
    assert fill(kept, range(5))
    other = shelf(tmp_path / "new")
    for found in (kept, other):
        assert all(found.has(name(n)) for n in range(5))
        assert not found.has(name(5))
        assert found.knows(name(3)[:8])
        assert not found.knows(name(5)[:8])
        np.testing.assert_array_equal(read(found, [name(n) for n in (4, 0, 2)]), rows((4, 0, 2)))
    fill(other, range(3, 8))
    assert kept.has(name(7)), "what others store is seen"
    np.testing.assert_array_equal(read(kept, [name(7)]), rows([7]))
    assert len(kept) == 8, "no row twice"
    assert (tmp_path / "new" / "a.values").stat().st_size == 8 * ROW


def test_what_was_used_longest_ago_makes_room_and_the_limit_holds(tmp_path):
    limit = 20 * (ROW + 20) + 40
    for index, key in enumerate("abc"):
        assert fill(shelf(tmp_path, key, limit), range(6))
        os.utime(tmp_path / f"{key}.json", (index, index))
    old, older = shelf(tmp_path, "b", limit), tmp_path / "a.json"
    assert older.exists()
    assert old.has(name(0)), "opening it makes it the youngest"
    new = shelf(tmp_path, "d", limit)
    assert fill(new, range(4))
    assert {path.stem for path in tmp_path.glob("*.json")} == {"b", "c", "d"}
    assert Shelves(tmp_path, limit).used() <= limit
    assert fill(new, range(4, 12))
    assert {path.stem for path in tmp_path.glob("*.json")} == {"b", "d"}
    assert not fill(new, range(12, 40)), "more than the limit is refused as a whole"
    assert Shelves(tmp_path, limit).used() <= limit
    np.testing.assert_array_equal(read(new, [name(11)]), rows([11]))


def test_a_shelf_that_was_removed_is_readable_until_it_is_asked_for_more_and_then_begins_anew(tmp_path):
    limit = 7 * (ROW + 20)
    kept = shelf(tmp_path, "a", limit)
    fill(kept, range(5))
    assert kept.has(name(1))
    fill(shelf(tmp_path, "b", limit), range(5))
    assert not (tmp_path / "a.values").exists()
    held = kept.row(name(1))
    assert not kept.has(name(6))
    assert kept.row(name(1)) is None
    np.testing.assert_array_equal(held, row(1))
    assert fill(kept, [9])
    assert kept.has(name(9))
    np.testing.assert_array_equal(read(kept, [name(9)]), rows([9]))


def test_a_damaged_row_counts_as_missing_and_is_stored_again(tmp_path):
    fill(shelf(tmp_path), range(3))
    with (tmp_path / "a.values").open("r+b") as file:
        file.seek(ROW + 7)
        file.write(b"lost")
    kept = shelf(tmp_path)
    assert [kept.has(name(n)) for n in range(3)] == [True, False, True]
    fill(kept, [1])
    assert kept.has(name(1))
    np.testing.assert_array_equal(read(kept, [name(1)]), rows([1]))
    np.testing.assert_array_equal(read(shelf(tmp_path), [name(2)]), rows([2]))


def test_half_of_a_row_or_of_a_record_is_written_over(tmp_path):
    fill(shelf(tmp_path), range(2))
    for suffix, half in ((".values", ROW // 2), (".index", 11)):
        with (tmp_path / f"a{suffix}").open("ab") as file:
            file.write(b"x" * half)
    kept = shelf(tmp_path)
    assert [kept.has(name(n)) for n in range(3)] == [True, True, False]
    fill(kept, [2, 3])
    for found in (kept, shelf(tmp_path)):
        assert all(found.has(name(n)) for n in range(4))
        np.testing.assert_array_equal(read(found, [name(n) for n in range(4)]), rows(range(4)))


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import test_shelf
kept = test_shelf.shelf(Path(sys.argv[2]))
for start in range(int(sys.argv[3]), 10**6, 3):
    test_shelf.fill(kept, range(start, start + 3))
    print(start, flush=True)
"""


def test_a_kill_at_any_time_leaves_only_whole_rows(tmp_path):
    here = os.path.dirname(__file__)
    for round_, pause in enumerate((0.0, 0.013, 0.031, 0.007)):
        line = [sys.executable, "-c", WRITER, here, str(tmp_path), str(round_ * 1000)]
        writer = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        writer.stdout.readline()  # it writes
        time.sleep(pause)
        writer.send_signal(signal.SIGKILL)
        told = [int(text) for text in writer.stdout.read().split()]
        writer.stdout.close()
        writer.wait()
        kept = shelf(tmp_path)
        for start in told:
            assert kept.has(name(start + 2)), "what was reported as stored is there"
    numbers = [n for round_ in range(4) for n in range(round_ * 1000, round_ * 1000 + 999) if kept.has(name(n))]
    assert len(numbers) == len(kept) >= 12
    np.testing.assert_array_equal(read(kept, [name(n) for n in numbers]), rows(numbers))


def test_two_processes_fill_one_shelf_together(tmp_path):
    line = [sys.executable, "-c", WRITER.replace("10**6", "60"), os.path.dirname(__file__), str(tmp_path), "0"]
    writers = [subprocess.Popen(line, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    kept = shelf(tmp_path)
    assert len(kept) == 60
    assert all(kept.has(name(n)) for n in range(60))
    np.testing.assert_array_equal(read(kept, [name(n) for n in range(60)]), rows(range(60)))

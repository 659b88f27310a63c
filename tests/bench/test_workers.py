"""Processes: whatever happens in one costs one cell, and a stop loses nothing."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import crashing
import pytest

from adapteo.bench import workers
from adapteo.bench.running import DONE, FAILED, finished
from adapteo.bench.setting import options
from adapteo.bench.setting import smoke as smoke_setting
from adapteo.bench.tables import Cell
from adapteo.errors import Interrupted
from adapteo.train import Trainer

CELL = Cell("prithvi-1.0-100m", "frozen", "linear", "sen1floods11")


def seeds(*numbers):
    return [(replace(CELL, seed=number), False) for number in numbers]


@pytest.fixture
def pretended(monkeypatch):
    """Cells that print, crash or stop instead of training; see `crashing`."""
    monkeypatch.setattr(workers, "_work", crashing.work)


@pytest.fixture
def quick(tmp_path):
    return smoke_setting(tmp_path, options([]))


def test_outcomes_of_two_processes(pretended, quick):
    outcomes = list(workers.spread([seeds(1, 2), seeds(3), seeds(4)], quick, 2))
    assert sorted(outcome.cell.seed for outcome in outcomes) == [1, 2, 3, 4]
    assert {outcome.state for outcome in outcomes} == {DONE}
    order = [outcome.cell.seed for outcome in outcomes]
    assert order.index(1) < order.index(2)
    assert len({outcome.result["process"] for outcome in outcomes}) == 2


def test_an_unexpected_error_costs_one_cell(pretended, quick):
    found = {o.cell.seed: o for o in workers.spread([seeds(1, crashing.BUG, 2), seeds(3)], quick, 1)}
    assert {seed: found[seed].state for seed in found} == {1: DONE, crashing.BUG: FAILED, 2: DONE, 3: DONE}
    assert "ended with 1: RuntimeError: a bug (see " in found[crashing.BUG].reason
    assert found[1].result["process"] != found[2].result["process"], "the rest of the group went to a new process"


def test_a_killed_process_costs_one_cell(pretended, quick):
    found = {o.cell.seed: o for o in workers.spread([seeds(crashing.KILLED, 1)], quick, 1)}
    assert found[crashing.KILLED].state == FAILED
    assert f"ended with -{signal.SIGKILL.value}: it said nothing" in found[crashing.KILLED].reason
    assert found[1].state == DONE


def test_a_process_that_was_asked_to_stop_stops_all(pretended, quick):
    with pytest.raises(Interrupted, match="the same command goes on"):
        list(workers.spread([seeds(crashing.STOPPED), seeds(1)], quick, 1))


def test_a_stop_in_this_process(setting, monkeypatch):
    monkeypatch.setattr(Trainer, "_must_stop", lambda self: True)
    with pytest.raises(Interrupted, match="the same command goes on"):
        list(workers.here([(CELL, False)], setting))
    assert (setting.place(CELL) / "state.pt").is_file()


def test_nothing_to_do(quick):
    assert list(workers.spread([], quick, 2)) == []
    assert list(workers.here([], quick)) == []


def test_sigterm_in_a_training_saves_it(generated, tmp_path):
    """The whole command, real processes: the signal goes to the parent, the state of the cell is saved."""
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke/data").symlink_to(generated / "smoke/data", target_is_directory=True)
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        import crashing
        from adapteo.bench import workers
        from adapteo.bench.setting import options, smoke
        from adapteo.bench.tables import Cell
        from adapteo.errors import Interrupted

        if __name__ == "__main__":
            workers._work = crashing.work_slowly
            cell = Cell("prithvi-1.0-100m", "frozen", "linear", "sen1floods11")
            try:
                list(workers.spread([[(cell, False)]], smoke(Path(sys.argv[1]), options([])), 1))
            except Interrupted as stopped:
                print(stopped.problem)
                sys.exit(130)
        """
    )
    (tmp_path / "script.py").write_text(script)
    setting = smoke_setting(tmp_path, options([]))
    environment = {**os.environ, "PYTHONPATH": str(Path(crashing.__file__).parent), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tmp_path], env=environment, stdout=subprocess.PIPE, text=True
    )
    state = setting.place(CELL) / "state.pt"
    deadline = time.monotonic() + 120
    while not state.is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert (process.returncode, said.strip()) == (130, "stopped; what is finished is kept")
    assert state.is_file()
    assert finished(CELL, setting) is None

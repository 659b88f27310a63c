"""Processes of a run that fail or stop together, one at a time; `test_train` starts several of them."""

import threading
from dataclasses import dataclass

import pytest

from adapteo._processes import launch, stop_signals, together
from adapteo.config import Train
from adapteo.errors import AdaptEOError, ConfigError, Interrupted


@dataclass
class Process:
    """What `together` asks of Fabric."""

    world_size: int = 2
    is_global_zero: bool = True


def test_the_first_process_says_that_the_run_was_stopped_and_the_others_are_silent():
    with pytest.raises(Interrupted, match="stopped"), together(Process()):
        raise Interrupted("stopped after 3 steps")
    with pytest.raises(SystemExit) as caught, together(Process(is_global_zero=False)):
        raise Interrupted("stopped after 3 steps")
    assert caught.value.code == 130


@pytest.mark.parametrize("said", ["[gloo] Connection closed by peer", "NCCL error: remote process exited"])
def test_a_process_says_when_it_fails_because_another_one_did(said):
    with pytest.raises(AdaptEOError, match="another process of this run has failed") as caught, together(Process()):
        raise RuntimeError(said)
    assert said in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("process", "said"), [(Process(world_size=1), "Connection refused by a disk"), (Process(), "mat1 and mat2 differ")]
)
def test_other_errors_are_left_as_they_are(process, said):
    with pytest.raises(RuntimeError, match=said), together(process):
        raise RuntimeError(said)


def test_a_device_that_is_not_there_is_an_error_of_the_configuration(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"train.accelerator 'cuda' with 1 devices: ") as caught:
        launch(Train(accelerator="cuda"))
    assert len(str(caught.value).splitlines()) <= 5


def test_signals_are_left_alone_outside_the_main_thread():
    """Python lets only the main thread handle them; a run in another one goes on without."""
    seen = []

    def run():
        with stop_signals() as event:
            seen.append(event.is_set())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False]

"""What is on the screen while a run trains."""

import io

from rich.console import Console

from adapteo._screen import ScreenObserver
from adapteo.train import Observer

ROW = {"epoch": 1, "train_loss": 0.5, "val_loss": 0.25, "val_miou": 0.75, "seconds": 1.5}


def test_notes_epochs_and_a_bar_that_goes_away():
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    screen = ScreenObserver("miou", 3, console)
    screen.step(1.0)
    screen.finished()
    screen.note("before [a]")
    screen.steps(6, 2)
    screen.step(None)
    screen.step(0.123)
    assert screen.progress.tasks[0].completed == 4
    assert screen.progress.tasks[0].description == "loss 0.123"
    screen.epoch(ROW)
    screen.finished()
    text = console.file.getvalue()
    assert "before [a]" in text
    assert "epoch   1/3  train loss 0.5000  val loss 0.2500  val miou 0.7500  1.5 s" in text


def test_results_keep_standard_output():
    assert ScreenObserver("miou", 1).console.stderr


def test_a_silent_observer_takes_everything():
    observer = Observer()
    observer.note("x")
    observer.steps(1, 0)
    observer.step(None)
    observer.epoch(ROW)
    observer.finished()

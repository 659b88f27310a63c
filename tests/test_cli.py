"""The command line: what it passes on, what it shows, and with which exit code it ends."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
from typer.testing import CliRunner

import adapteo
from adapteo import cli, registry
from adapteo.errors import ConfigError, DataError, Interrupted
from adapteo.mapping import Mosaic

GOOD = """\
dataset: {name: "test_config:Chips", root: chips}
backbone: tiny:TinySpec
method: lora
decoder: linear
train: {epochs: 3}
"""


class Fitted:
    """Stands in for a fitted run and notes what is asked of it."""

    imagery = SimpleNamespace(classes=("land", "water"))
    readers: ClassVar[list] = []

    def __init__(self, folder, calls):
        self.folder, self.calls = folder, calls

    def test(self, show=False, chance=False):
        self.calls.append(("test", self.folder, show, chance))

    def predict(self, scenes, out, *, bands, sensor, scaling, probabilities, mosaic, progress, readers):
        progress.progress(1, 2)
        progress.progress(2, 2)
        progress.tell("map.tif: going on")
        if mosaic:
            self.calls.append(mosaic)
        self.readers.append(readers)
        self.calls.append(("predict", self.folder, list(scenes), out, probabilities, bands, scaling, sensor))
        return out

    def merge(self, out):
        self.calls.append(("merge", self.folder, out))
        return out


@pytest.fixture
def calls(monkeypatch):
    """Put a fake `adapteo.experiment` and `adapteo.demo` in place; return the list of calls to them."""
    made = []
    experiment = ModuleType("adapteo.experiment")
    experiment.fit = lambda run, *, resume=False, observer=None: made.append(("fit", run, resume, observer is not None))
    experiment.load = lambda folder: Fitted(folder, made)
    demo = ModuleType("adapteo.demo")
    demo.run = lambda out: made.append(("demo", out))
    for module in (experiment, demo):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


@pytest.fixture
def flood(tmp_path):
    path = tmp_path / "flood.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def run(*args):
    return CliRunner().invoke(cli.app, [str(arg) for arg in args])


# -------------------------------------------------------------------------------------- what is passed on


def test_fit(calls, flood, tmp_path):
    result = run("fit", flood, "train.rate=1e-5", "method.rank=2", "--resume", "--out", tmp_path / "a: #b")
    assert result.exit_code == 0, result.output
    ((_, fitted, resume, observed),) = calls
    assert (fitted.train.rate, fitted.method.rank, fitted.train.epochs) == (1e-5, 2, 3)
    assert (fitted.out, resume, observed) == (tmp_path / "a: #b", True, True)


def test_fit_needs_no_options(calls, flood):
    assert run("fit", flood).exit_code == 0
    ((_, fitted, resume, _),) = calls
    assert (fitted.out, resume) == (Path("runs/flood"), False)


def test_test(calls):
    assert run("test", "runs/flood").exit_code == 0
    assert run("test", "runs/flood", "--no-random").exit_code == 0
    assert calls == [("test", Path("runs/flood"), True, True), ("test", Path("runs/flood"), True, False)]


def test_predict(calls):
    result = run("predict", "runs/flood", "a.tif", "b.tif", "--out", "maps", "--probabilities")
    assert result.exit_code == 0, result.output
    assert calls == [("predict", Path("runs/flood"), ["a.tif", "b.tif"], Path("maps"), True, [], None, None)]
    assert result.stdout == "wrote maps\n"


def test_predict_with_readers(calls):
    Fitted.readers.clear()
    for given in ("auto", "4"):
        assert run("predict", "r", "a.tif", "--out", "m.tif", "--readers", given).exit_code == 0
    assert Fitted.readers == [None, 4]
    result = run("predict", "r", "a.tif", "--out", "m.tif", "--readers", "many")
    assert result.exit_code == 2
    assert "'many' is no number of readers" in result.stderr


def test_predict_a_mosaic(calls):
    options = ("--mosaic", "--crs", "EPSG:32633", "--resolution", 20, "--overlap", "last")
    result = run("predict", "r", "a.tif", "b.tif", "--out", "m.tif", *options)
    assert result.exit_code == 0, result.output
    assert calls[0] == Mosaic("EPSG:32633", 20.0, "last")
    assert "going on" in result.stderr
    result = run("predict", "r", "a.tif", "--out", "m.tif", "--crs", "EPSG:32633")
    assert result.exit_code == 2
    assert "add --mosaic" in result.stderr


def test_predict_with_polygons(calls, monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr("adapteo.polygons.polygons_of", lambda *args, **options: made.append((*args, options)))
    options = ("--polygons", "m.gpkg", "--minimum-area", 0.5, "--simplify", 1)
    result = run("predict", "r", "a.tif", "--out", "m.tif", *options)
    assert result.exit_code == 0, result.output
    assert made == [(Path("m.tif"), [Path("a.tif")], Path("m.gpkg"), {"minimum_area": 0.5, "simplify": 1.0})]
    monkeypatch.setattr(Fitted, "imagery", SimpleNamespace(classes=()))
    result = run("predict", "r", "a.tif", "--out", "m.tif", *options)
    assert (result.exit_code, len(made)) == (2, 1)
    assert "maps values" in result.stderr


def test_predict_with_named_bands_and_scale(calls):
    run(
        "predict",
        "r",
        "a.tif",
        "--out",
        "m.tif",
        "--bands",
        "blue,green red",
        "--scale",
        "1e-4",
        "--offset=-0.1",
        "--sensor=landsat8",
    )
    assert calls[0][-3:] == (["blue", "green", "red"], (1e-4, -0.1), "landsat8")


def test_merge(calls):
    result = run("merge", "runs/flood", "--out", "merged.pt")
    assert calls == [("merge", Path("runs/flood"), Path("merged.pt"))]
    assert result.stdout == "wrote merged.pt\n"


def test_demo(calls, tmp_path):
    assert run("demo", "--out", tmp_path).exit_code == 0
    assert calls == [("demo", tmp_path)]


def test_version():
    assert run("version").stdout == f"{adapteo.__version__}\n"


@pytest.mark.parametrize("family", registry.FAMILIES)
def test_list_has_a_line_for_each_entry(family):
    result = run("list", family)
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == registry.names(family)
    assert all(len(line.split()) > 1 for line in result.stdout.splitlines())


# ------------------------------------------------------------------------------------------------- errors


def _failing(error):
    def fail(*_args, **_kwargs):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (ConfigError("rank is 0", allowed=["1 or more"], fix="change it"), 2, ["error: rank is 0", "allowed: 1 or"]),
        (DataError("\n".join("123456789")), 2, ["error: 1"]),
        (Interrupted("stopped; go on with `adapteo fit flood.yaml --resume`"), 130, ["--resume"]),
        (KeyboardInterrupt(), 130, ["stopped"]),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/log.csv"), 2, ["No space", "runs/log.csv", "--out"]),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "runs"), 2, ["denied: runs", "who owns", "--out"]),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/cdrom/a"), 2, ["Read-only", "/cdrom/a", "--out"]),
        (OSError("not a GeoTIFF"), 2, ["error: not a GeoTIFF"]),
        (MemoryError(), 2, ["out of memory", "train.batch"]),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA …"), 2, ["out of memory", "train.batch"]),
        (ZeroDivisionError("one\ntwo"), 1, ["this is a bug in adapteo: ZeroDivisionError: one\n", "--debug"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_errors_are_short_and_have_their_exit_code(calls, monkeypatch, error, code, shown):
    monkeypatch.setattr(sys.modules["adapteo.experiment"], "load", _failing(error))
    result = run("test", "runs/flood")
    assert result.exit_code == code, result.output
    assert len(result.stderr.splitlines()) <= 5
    assert "Traceback" not in result.output
    for words in shown:
        assert words in result.stderr


@pytest.mark.parametrize("args", [("--debug", "test", "r"), ("test", "r", "--debug"), ("test", "--debug", "r")])
def test_debug_goes_anywhere_and_shows_the_traceback(calls, monkeypatch, args):
    monkeypatch.setattr(sys.modules["adapteo.experiment"], "load", _failing(ConfigError("rank is 0")))
    result = run(*args)
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "error: rank is 0" in result.stderr
    assert "Traceback" not in run("test", "r").stderr  # it holds for one call


def test_debug_after_two_dashes_is_an_argument(calls):
    run("test", "--", "--debug")
    assert calls == [("test", Path("--debug"), True, True)]


def test_a_mistake_in_the_file_reaches_the_screen(calls, flood):
    flood.write_text(GOOD.replace("epochs", "epoch"), encoding="utf-8")
    result = run("fit", flood)
    assert (result.exit_code, calls) == (2, [])
    assert "error: flood.yaml, line 5: train has no key 'epoch'; did you mean 'epochs'?" in result.stderr


@pytest.mark.parametrize(
    "args",
    [("fit",), ("fitt", "a"), ("list", "nothing"), ("predict", "r", "a.tif"), ("merge", "r"), ("test", "r", "s")],
)
def test_wrong_usage_is_answered_by_typer(calls, args):
    result = run(*args)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr
    assert "Traceback" not in result.output
    assert calls == []


# --------------------------------------------------------------------------------------------- public API


def test_the_public_names_are_few_and_there():
    assert set(adapteo.__all__) == {"AdaptEOError", "__version__", "fit", "fit_many", "load", "names", "tune"}
    assert set(adapteo.__all__) <= set(vars(adapteo))


def test_fit_in_python(calls, flood):
    from adapteo import config

    adapteo.fit(flood, "train.rate=0.5", show=False)
    adapteo.fit(str(flood))
    built = config.load(flood)
    adapteo.fit(built, resume=True)
    adapteo.fit(built, "method.rank=3")
    adapteo.fit(vars(built))
    runs = [call[1] for call in calls]
    assert runs[0].train.rate == 0.5
    assert runs[1] == runs[2] == runs[4] == built
    assert runs[3].method.rank == 3
    assert [call[2:] for call in calls[:3]] == [(False, False), (False, True), (True, True)]


def test_load_in_python(calls):
    assert adapteo.load("runs/flood").folder == Path("runs/flood")


# ------------------------------------------------------------------------------------------ what it costs

HEAVY = {"torch", "numpy", "rasterio", "yaml", "matplotlib", "sklearn", "lightning_fabric", "adapteo.config"}


@pytest.mark.parametrize("args", [["--help"], ["fit", "--help"], ["list", "methods"]])
def test_nothing_heavy_is_imported_before_a_command_needs_it(args):
    script = f"""
import sys
import adapteo.cli
assert "pydantic" not in sys.modules  # newer typers load it themselves where there are arguments to convert
sys.argv = ["adapteo", *{args}]
try:
    adapteo.cli.main()
except SystemExit:
    pass
print("found", *(set(sys.modules) & {HEAVY}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("found\n")


def test_a_reader_may_leave_early():
    command = [sys.executable, "-m", "adapteo", "list", "methods"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


def test_python_dash_m():
    done = subprocess.run([sys.executable, "-m", "adapteo", "version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == adapteo.__version__
    failed = subprocess.run(
        [sys.executable, "-m", "adapteo", "test", "no/such/run"], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 2, failed.stderr
    assert "Traceback" not in failed.stderr
    assert len(failed.stderr.splitlines()) <= 5

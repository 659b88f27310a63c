"""The command: every cell ends with a state, tables are written, a second call goes on, `--help` stays light."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from adapteo import cli, experiment
from adapteo.bench import paper
from adapteo.bench.paper import Wanted
from adapteo.bench.running import CANNOT, DONE
from adapteo.bench.setting import Setting, options, smoke
from adapteo.bench.tables import TABLES, cells
from adapteo.errors import AdaptEOError, ConfigError

FEW = ("model=prithvi-1.0-100m", "method=lora,full", "dataset=sen1floods11")


@pytest.fixture
def screen():
    return Console(width=240, record=True, quiet=False, file=sys.stdout)


def call(setting, screen, table, *only, dry_run=False):
    failed = paper.run(Wanted(table, only, dry_run), setting, screen)
    return failed, screen.export_text()


def results(setting, table):
    return json.loads((setting.folder / "tables" / table / "results.json").read_text())


def test_a_table_of_smoke_runs(setting, screen, monkeypatch):
    failed, said = call(setting, screen, "main", *FEW)
    assert failed == 0
    assert "2 cells: 2 to do" in said
    assert "2 cells: 2 done" in said
    assert "ours" not in said, "scores of smoke runs mean nothing"
    content = results(setting, "main")
    assert [cell["state"] for cell in content["cells"]] == [DONE, DONE]
    assert (setting.folder / "tables/main/table.md").read_text().startswith("### main: Models and methods")
    monkeypatch.setattr(experiment, "fit", pytest.fail)
    assert "2 cells: 2 done\n" in call(setting, screen, "ood", *FEW)[1], "the same runs, not made again"


def test_a_table_beside_the_papers(setting, screen):
    """As a full run would: the same results, shown with scores."""
    call(setting, screen, "main", *FEW)
    full = replace(setting, preset="full", options=replace(setting.options, seeds=1))
    for cell in cells("main"):
        if (setting.place(cell) / "result.json").is_file():
            full.place(cell).parent.mkdir(parents=True)
            setting.place(cell).rename(full.place(cell))
    failed, said = call(full, screen, "main", *FEW)
    assert failed == 0
    assert "89.33 ± 0.08" in said
    (row, _) = (found for found in results(full, "main")["rows"] if found["method"] in ("lora", "full"))
    assert row["difference"] == pytest.approx(row["ours"]["mean"] - row["paper"]["mean"])
    assert row["paper"]["source"].startswith("arXiv 2504.17397 table 4")


def test_without_data_every_cell_says_why(tmp_path, screen):
    setting = Setting(tmp_path / "data", tmp_path / "out", options=options(["rates=paper", "seeds=2", "jobs=0"]))
    failed, said = call(setting, screen, "main", "model=unet-resnet50")
    assert failed == 0
    assert "10 cells: 10 cannot run" in said
    content = results(setting, "main")
    assert {cell["state"] for cell in content["cells"]} == {CANNOT}
    assert all("data" in cell["reason"] for cell in content["cells"])
    assert len({cell["reason"] for cell in content["cells"]}) == 5


def test_what_is_needed(setting, screen):
    failed, said = call(setting, screen, "main", *FEW, dry_run=True)
    assert failed == 0
    assert "sen1floods11/prithvi-1.0-100m/lora/linear" in said
    assert "2 cells; about 0 hours" in said
    assert not (setting.folder / "runs").exists()
    searching = Setting(setting.data, setting.out, options=options([]))
    said = call(searching, screen, "main", "model=unet-resnet50", dry_run=True)[1]
    hours = (5 + 16) * (12.9 + 16.3 + 37.9 + 20.5 + 49.9) / 60
    assert f"25 cells; about {hours:.0f} hours" in said


def test_steps_that_were_measured_make_the_estimate(setting, screen):
    measuring = replace(setting, options=replace(setting.options, measure=True))
    said = call(measuring, screen, "peft_decoders", *FEW[::2], "method=frozen", "decoder=fcn", dry_run=True)[1]
    assert "s per image" in said
    assert "nothing is known" not in said
    assert "s per image" not in call(measuring, screen, "peft_decoders", *FEW[::2], "method=frozen", "decoder=fcn")[1]


def test_costs(setting, screen):
    failed, said = call(setting, screen, "memory", *FEW)
    assert failed == 0
    assert "activations" in said
    (lora, full) = results(setting, "memory")["cells"]
    assert lora["result"]["memory"]["total"] < full["result"]["memory"]["total"]


def test_a_failure_is_counted(setting, screen, monkeypatch):
    def fail(run, *, resume):
        raise (AdaptEOError if run.method.default_rate == 1e-4 else ConfigError)("wrong")

    monkeypatch.setattr(experiment, "fit", fail)
    failed, said = call(setting, screen, "main", *FEW)
    assert failed == 1
    assert "1 cannot run, 1 failed" in said
    assert [cell["reason"].strip() for cell in results(setting, "main")["cells"]] == ["wrong", "wrong"]


class TestCommand:
    def call(self, *args):
        return CliRunner().invoke(cli.app, ["bench", "paper", *map(str, args)])

    def test_a_dry_run(self, tmp_path):
        result = self.call(
            "--table", "time", "--data", tmp_path, "--out", tmp_path, "--dry-run", "--rates", "paper",
            "--only", "model=decur", "--only", "method=full", "seeds=1",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert "sen1floods11/decur/full/linear" in result.output
        assert "4 cells; about 1 hours" in result.output

    def test_failures_are_in_the_exit_code(self, tmp_path, monkeypatch):
        monkeypatch.setattr(paper, "run", lambda wanted, setting: 3)
        assert self.call("--table", "main", "--preset", "smoke", "--out", tmp_path).exit_code == 1

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["--table", "mian"], ["mian", "did you mean 'main'"]),
            (["--table", "main", "--only", "model=cley-v1"], ["did you mean 'clay-v1'"]),
            (["--table", "main", "sedes=3"], ["did you mean 'seeds'"]),
            (["--table", "main", "--rates", "guess"], ["rates", "search"]),
        ],
    )
    def test_mistakes(self, args, words, tmp_path):
        result = self.call(*args, "--out", tmp_path)
        assert result.exit_code == 2
        assert all(word in result.output for word in words)
        assert len(result.output.splitlines()) <= 5

    def test_help_needs_no_torch(self):
        code = (
            "import sys; from typer.testing import CliRunner; from adapteo import cli; "
            "r = CliRunner().invoke(cli.app, ['bench', 'paper', '--help']); "
            "assert r.exit_code == 0, r.output; assert 'peft_decoders' in r.output; assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_every_cell_of_every_table(table, generated, screen):
    """Each in its turn; runs of one table are found again by the next."""
    setting = smoke(generated, options(["jobs=0"]))
    failed, said = call(setting, screen, table)
    states = {cell["state"] for cell in results(setting, table)["cells"]}
    assert failed == 0, said
    assert states == {DONE}, said

"""Whole tunings on made-up images: on validation only, with equal budgets and shared head starts, and after a stop."""

import csv
import io
import json
import math
from dataclasses import replace
from statistics import mean, stdev

import pytest
from filelock import FileLock
from rich.console import Console
from typer.testing import CliRunner

import adapteo
from adapteo import cli, config, experiment, tuning
from adapteo.errors import AdaptEOError, ConfigError, DataError, Interrupted
from adapteo.feature_cache import FeatureLoader
from adapteo.fitted import FittedRun
from adapteo.train import Trainer
from adapteo.trials import Search
from adapteo.tuning import Row, Spread, Terms, Tuned
from tiny import TinyBackbone
from toy import BANDS, Toy, spell, write_config

pytest.importorskip("optuna")
METHODS = ("lora", "frozen", "ssf")
RANKS = {"method.rank": "1,2"}
SMALL = {"counts": (4, 2, 2, 2)}
SHORT = ("train.epochs=1", "train.augment=none", "backbone.depth=1")


class Heard(tuning.Reporter):
    def __init__(self):
        self.lines, self.total, self.done, self.ended = [], 0, 0, 0

    def begin(self, trainings):
        self.total = trainings

    def training(self, what):
        self.lines.append(what)

    def trained(self, said=""):
        self.done += 1
        self.lines += [said] if said else []

    def end(self):
        self.ended += 1


def short(folder, *overrides, **toy):
    return spell(folder, *SHORT, *overrides, **{**SMALL, **toy})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A tuning of three methods; what of the data it had seen when the first test began; the head starts it fitted."""
    out, seen, starts = tmp_path_factory.mktemp("whole") / "tune", [], []
    test, fit_head = FittedRun.test, experiment.fit_head

    def watched(self, **named):
        if not seen:
            seen.append(({*Toy.asked}, {key.split("-")[0] for key in Toy.opened}))
        return test(self, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTEO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(FittedRun, "test", watched)
        patch.setattr(experiment, "fit_head", lambda *a, **k: starts.append(1) or fit_head(*a, **k))
        Toy.asked.clear(), Toy.opened.clear()
        heard = Heard()
        run = short(out)
        found = tuning.tune(run, Terms(METHODS, RANKS, trials=2, seeds=2), heard)
    return run, found, seen, starts, heard


def results(run, row):
    paths = sorted((run.out / row.folder).glob("seed-*/result.json"))
    return [json.loads(path.read_text()) for path in paths]


def test_the_search_sees_neither_test_nor_hold_outs(whole):
    _, _, seen, _, _ = whole
    assert seen == [({"train", "val"}, {"train", "val"})]


def test_all_searches_end_before_the_first_test(whole):
    _, _, _, _, heard = whole
    trials = [line for line in heard.lines if ": trial" in line]
    assert heard.lines.index("lora: best setting, seed 0") > heard.lines.index(trials[-1])
    assert trials == [f"{method}: trial {number} of 2" for method in METHODS for number in (1, 2)]
    assert (heard.total, heard.done, heard.ended) == (3 * 2 + 4 * 2, 3 * 2 + 4 * 2, 1)


def test_every_method_has_the_same_budget(whole):
    run, found, _, _, _ = whole
    assert [(row.method, row.trials, row.seeds) for row in found.rows] == [
        ("lora", 2, 2), ("frozen", 2, 2), ("ssf", 2, 2), ("linear probe", 0, 2),
    ]  # fmt: skip
    for row in found.rows[:3]:
        trials = [json.loads(path.read_text()) for path in sorted((run.out / row.method).glob("trial-*/trial.json"))]
        assert len(trials) == 2
        assert all(("method.rank" in trial["values"]) == (row.method == "lora") for trial in trials)
        best = max(trials, key=lambda trial: (trial["value"], -trial["loss"]))
        assert row.values == best["values"]
    assert "2 trials for each method" in found.note


def test_the_first_trial_is_the_configuration_itself(whole):
    run, _, _, _, _ = whole
    first = json.loads((run.out / "lora/trial-00/trial.json").read_text())
    assert first["values"] == {"method.rank": 2, "train.rate": 1e-2}
    assert config.load(run.out / "lora/trial-00/config.yaml").train == run.train


def test_one_head_start_for_each_seed(whole):
    run, _, _, starts, _ = whole
    assert len(starts) == len(list((run.out / "starts").iterdir())) == 2


def test_rows_are_means_over_seeds_of_what_each_run_says(whole):
    run, found, _, _, _ = whole
    assert found.splits == ("test", "abroad")
    for row in found.rows:
        of = results(run, row)
        assert len(of) == 2
        assert row.validation == (mean(r["validation"] for r in of), stdev(r["validation"] for r in of))
        for split in found.splits:
            assert row.scores[split] == (mean(r["scores"][split] for r in of), stdev(r["scores"][split] for r in of))
    lora = found.rows[0]
    fitted = adapteo.load(run.out / lora.folder / "seed-1")
    assert fitted.run.train.seed == 1
    assert fitted.run.method.rank == lora.values["method.rank"]
    report = fitted.test(resamples=0, pictures=False)
    again = results(run, lora)[1]
    assert report.tables["abroad"].row().metrics["miou"].value == pytest.approx(again["scores"]["abroad"], abs=1e-9)
    probe = results(run, found.rows[-1])[1]
    assert report.baselines["test"].row().metrics["miou"].value == pytest.approx(probe["scores"]["test"], abs=1e-9)


def test_costs(whole):
    run, found, _, _, _ = whole
    lora, frozen, ssf, probe = found.rows
    method = replace(run.method, rank=lora.values["method.rank"])
    assert lora.backbone == method.parameters_formula(TinyBackbone(BANDS, depth=1))
    assert frozen.backbone == probe.backbone == 0
    assert lora.decoder == probe.decoder == frozen.decoder > 0
    assert ssf.memory > frozen.memory > 0
    assert probe.memory is None
    assert all(row.seconds > 0 for row in found.rows)
    assert all((row.search_seconds > 0) == (row is not probe) for row in found.rows)


def test_files(whole):
    run, found, _, _, _ = whole
    assert json.loads((run.out / "table.json").read_text()) == json.loads(found.to_json())
    with (run.out / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["abroad_sd"]) for row in rows] == [row.scores["abroad"].deviation for row in found.rows]
    assert (rows[-1]["memory_bytes"], rows[-1]["best"]) == ("", "")
    markdown = (run.out / "table.md").read_text().splitlines()
    assert len({line.count("|") for line in markdown[:6]}) == 1
    assert markdown[2].startswith("| lora | method.rank=")
    assert str(found.rows[0].scores["abroad"]) in markdown[2]


def test_the_best_configuration_is_ready(whole):
    run, found, _, _, _ = whole
    best = max(found.rows[:3], key=lambda row: row.validation.mean)
    assert found.best == best.method
    ready = config.load(run.out / "best.yaml")
    assert ready.train.rate == best.values["train.rate"]
    assert config.name_of(ready.method) == best.method
    assert ready.out == run.out / "best"
    assert config.load(run.out / "ssf/best.yaml").train.rate == found.rows[2].values["train.rate"]


def test_nothing_is_trained_again(whole, monkeypatch):
    run, found, _, _, _ = whole
    monkeypatch.setattr(experiment, "fit", None)
    again = tuning.tune(run, Terms(METHODS, RANKS, trials=2, seeds=2))
    assert again.to_json() == found.to_json()
    fewer = tuning.tune(run, Terms(METHODS[:1], RANKS, trials=2, seeds=1))
    assert [(row.method, row.seeds) for row in fewer.rows] == [("lora", 1), ("linear probe", 1)]
    assert math.isnan(fewer.rows[0].validation.deviation)


@pytest.mark.parametrize(
    ("overrides", "texts", "said"),
    [
        ((), {"method.rank": "1,2,4"}, "another space"),
        (("train.weight_decay=0.1",), RANKS, r"another config: weight_decay: 0.01 there, .*0.1 here"),
    ],
)
def test_another_search_does_not_go_on_in_its_place(whole, overrides, texts, said):
    run, _, _, _, _ = whole
    with pytest.raises(ConfigError, match=said) as caught:
        tuning.tune(short(run.out, *overrides), Terms(("lora",), texts, 2, 1))
    assert "--out" in str(caught.value)


def test_a_stopped_tuning_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    """Stopped in the middle of a trial, then while a head start is fitted."""
    terms = Terms(("lora",), trials=2, seeds=1)
    whole = tuning.tune(short(tmp_path / "whole"), terms)
    run, steps = short(tmp_path / "stopped"), []
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "fit_head", lambda *given, **named: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(Interrupted, match="what is finished is kept"):
            tuning.tune(run, terms)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_must_stop", lambda self: steps.append(1) or len(steps) == 3)  # two are an epoch
        with pytest.raises(Interrupted) as caught:
            tuning.tune(run, terms)
    assert str(caught.value).splitlines()[1:] == ["the same command goes on from there"]
    assert (run.out / "lora/trial-01/state.pt").is_file()
    assert not (run.out / "table.csv").exists()
    again = tuning.tune(run, terms)
    assert again.rows[0].values == whole.rows[0].values
    assert again.rows[0].scores == whole.rows[0].scores
    assert again.rows[0].validation == whole.rows[0].validation


def test_features_of_a_frozen_backbone_are_computed_once_for_all_trials(tmp_path, monkeypatch):
    computed, compute = [], FeatureLoader._computed

    def counting(self, samples):
        computed.extend(samples)
        return compute(self, samples)

    monkeypatch.setattr(FeatureLoader, "_computed", counting)
    found = tuning.tune(short(tmp_path), Terms(("frozen",), trials=3, seeds=1))
    assert found.rows[0].trials == 3
    assert len(computed) == len(set(computed)) == 4 + 2, "each training and validation image, at the head start"


def test_a_method_that_cannot_be_trained_is_a_row_with_its_reason(tmp_path, monkeypatch):
    def refused(self, backbone):
        raise ConfigError("no layer | for it here")

    monkeypatch.setattr("adapteo.peft.ssf.SSF.apply", refused)
    found = tuning.tune(short(tmp_path), Terms(("ssf", "frozen"), {}, 1, 1))
    assert (found.rows[0].reason, found.rows[0].seeds, found.best) == ("no layer | for it here", 0, "frozen")
    assert found.to_markdown().splitlines()[2].startswith("| ssf | no layer / for it here |")
    console = Console(width=72, record=True, file=io.StringIO())
    found.render(console)
    assert "  ssf: no layer | for it here\n" in console.export_text()
    with pytest.raises(ConfigError, match="no layer"):
        tuning.tune(short(tmp_path), Terms(("ssf",), {}, 1, 1))


def test_data_that_cannot_be_read_end_it(tmp_path):
    with pytest.raises(DataError, match="train-01 cannot be read"):
        tuning.tune(short(tmp_path, missing="train-01"), Terms(("ssf",), {}, 1, 1))


def test_images_of_several_sizes_have_no_probe(tmp_path):
    found = tuning.tune(short(tmp_path, "train.head_start=false", "train.batch=1", odd=True), Terms((), {}, 0, 1))
    assert [row.method for row in found.rows] == ["lora", "linear probe"]
    assert found.rows[0].seeds == 1
    assert found.rows[1].scores is None
    assert "one size" in found.rows[1].reason


def test_trials_that_are_worse_than_the_others_are_ended_when_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(Search, "hopeless", lambda self, before, scores, warmup: len(before) == 1)
    found = tuning.tune(short(tmp_path, "train.epochs=3"), Terms(("ssf",), {}, 2, 1, prune=True))
    assert (found.rows[0].trials, found.rows[0].lost) == (2, 1)
    pruned = json.loads((tmp_path / "ssf/trial-01/trial.json").read_text())
    assert pruned["state"] == "pruned"
    assert len(pruned["course"]) == 2, "after epoch 0 and 1"
    assert "2 (1 lost)" in found.to_markdown()


def test_the_loss_is_searched_for_where_it_selects(tmp_path):
    found = tuning.tune(short(tmp_path, "train.select=loss"), Terms(("ssf",), {}, 3, 1))
    trials = [json.loads(path.read_text()) for path in tmp_path.glob("ssf/trial-*/trial.json")]
    assert found.rows[0].values == min(trials, key=lambda trial: trial["value"])["values"]
    assert all(trial["value"] == min(trial["course"]) == trial["loss"] for trial in trials)


def test_without_optuna(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"adapteo\[tune\]"):
        tuning.tune(short(tmp_path), Terms(("ssf",)))
    assert not (tmp_path / "ssf").exists()


@pytest.mark.parametrize(("terms", "said"), [({"trials": -1}, "trials is -1"), ({"seeds": 0}, "seeds is 0")])
def test_terms_out_of_range(terms, said):
    with pytest.raises(ConfigError, match=said):
        Terms(**terms)


def test_one_process_at_a_time(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(ConfigError, match="another process is tuning"):
        tuning.tune(short(tmp_path), Terms((), {}, 0, 1))


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        tuning.tune(short(tmp_path / "file/tune"), Terms((), {}, 0, 1))


def test_one_device(tmp_path):
    with pytest.raises(ConfigError, match="one device"):
        tuning.tune(short(tmp_path, "train.devices=2"))


def test_by_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = short(tmp_path / "runs/flood")
    (tmp_path / "burn").mkdir()
    write_config(tmp_path / "flood.yaml", run)
    line = ["tune", "flood.yaml", "train.rate=1e-3", "--search", "method.rank=1,2", "decoder=linear,fcn"]
    done = CliRunner().invoke(cli.app, [*line, "--methods", "lora", "--trials", "2", "--seeds", "1", "--out", "burn/x"])
    assert done.exit_code == 0, done.output
    assert "linear probe" in done.stdout
    assert "2 trials for each method" in " ".join(done.stdout.split())
    assert "lora  trial 2/2" in done.stderr
    trials = [json.loads(path.read_text())["values"] for path in (tmp_path / "burn/x").glob("lora/trial-*/trial.json")]
    assert all(set(values) == {"method.rank", "decoder"} for values in trials)
    assert config.load("burn/x/best.yaml").train.rate == 1e-3
    wrong = CliRunner().invoke(cli.app, ["tune", "flood.yaml", "method.rank=2..1,5"])
    assert wrong.exit_code == 2
    assert len(wrong.stderr.splitlines()) <= 5
    assert "is no range" in wrong.stderr


def test_in_python_beside_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tuned = adapteo.tune(short(tmp_path / "a"), "train.batch=4", trials=0, seeds=1, show=False)
    assert (tmp_path / "a-tune/table.md").is_file()
    assert tuned.rows[0].folder == "lora/only"
    (tmp_path / "burn").mkdir()
    path = write_config(tmp_path / "burn/adapteo.yaml", short(tmp_path))
    path.write_text(path.read_text().rpartition("out:")[0])
    adapteo.tune(tmp_path / "burn", trials=0, seeds=1, show=False)
    assert (tmp_path / "burn/tune/table.md").is_file()


def test_a_section_of_the_configuration(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(tuning, "tune", lambda base, terms, reporter: seen.append((base, terms)))
    path = write_config(tmp_path / "flood.yaml", short(tmp_path / "flood"))
    section = "tune:\n  methods: [lora, full]\n  search:\n    method.rank: 4,8\n    decoder: linear,fcn\n  trials: 4\n"
    path.write_text(path.read_text() + section)
    adapteo.tune(path, show=False)
    adapteo.tune(path, "method.rank=1..8", "train.rate=1e-3", methods=["ssf"], trials=2, prune=True, show=False)
    searched = {"method.rank": "4,8", "decoder": "linear,fcn"}
    assert [terms for _, terms in seen] == [
        Terms(("lora", "full"), searched, trials=4),
        Terms(("ssf",), {**searched, "method.rank": "1..8", "train.rate": "1e-3"}, trials=2, prune=True),
    ]
    assert config.load(path) == short(tmp_path / "flood"), "it is no part of the run"
    path.write_text(path.read_text() + "  trails: 4\n")
    with pytest.raises(ConfigError, match=r"flood.yaml, line \d+: tune has no key 'trails'; did you mean 'trials'"):
        adapteo.tune(path, show=False)
    with pytest.raises(ConfigError, match="tune is 4"):
        adapteo.tune({**vars(short(tmp_path)), "tune": 4}, show=False)


def test_the_screen_says_each_thing_once():
    console = Console(file=io.StringIO(), width=120)
    screen = tuning.ScreenReporter(console)
    screen.begin(2)
    for number in (1, 2):
        screen.training(f"ssf: trial {number} of 2")
        for message in ("bands [that] are not read: swir", "planned\nmeasured"):
            screen.note(message)
        screen.steps(3, 0)
        screen.step(None)
        screen.trained(f"ssf  trial {number}/2  train.rate=0.1")
    screen.end()
    said = [line.strip() for line in console.file.getvalue().splitlines() if line.strip()]
    assert said == [
        "bands [that] are not read: swir",
        "ssf  trial 1/2  train.rate=0.1",
        "ssf  trial 2/2  train.rate=0.1",
    ]


class TestTable:
    def test_spread(self):
        assert str(Spread.of([0.5, 0.7])) == f"0.600 ± {stdev([0.5, 0.7]):.3f}"
        assert str(Spread.of([0.5])) == "0.500"
        assert str(Spread.of([])) == str(Spread.of([0.5, math.nan])) == ""

    def test_what_is_not_defined_is_empty(self):
        row = Row("lora", 3, values={"method.targets": ["q"], "train.rate": 0.00123}, seeds=1, scores={})
        found = Tuned("miou", True, ("test",), 3, 2, (row,), "lora")
        line = found.to_markdown().splitlines()[2]
        assert line == '| lora (1 of 2 seeds) | method.targets=["q"] train.rate=0.0012 | 3 |  |  |  |  |  |'
        assert json.loads(found.to_json())["rows"][0]["validation"] == [None, None]
        assert next(csv.DictReader(found.to_csv().splitlines()))["test"] == ""


def test_another_seed_may_diverge(tmp_path, monkeypatch):
    fit = experiment.fit

    def diverging(run, **named):
        if run.train.seed == 1:
            raise AdaptEOError("the training loss became nan")
        return fit(run, **named)

    monkeypatch.setattr(experiment, "fit", diverging)
    found = tuning.tune(short(tmp_path), Terms(("ssf",), {}, 1, 2))
    assert (found.rows[0].seeds, found.rows[0].reason) == (1, "the training loss became nan")
    assert "ssf (1 of 2 seeds)" in found.to_markdown()

"""From a YAML file in an empty folder to a map, by the command line; and what a person is told who made a mistake."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from rasterio import Affine
from typer.testing import CliRunner

import adapteo
from adapteo import cli, experiment
from adapteo.assembly import assemble
from adapteo.checkpoint import read_state, save_tensors
from adapteo.contracts import Normalisation
from adapteo.errors import ConfigError, DataError
from adapteo.train import Observer
from tiny import TinyBackbone
from toy import BANDS, CLASSES, Toy, other, spell

YAML = """\
dataset:
  name: folder
  root: chips
  index: index.csv
  class_names: [land, water, forest]
  ignore: 255
  scale: 1e-4
backbone: {name: "tiny:TinySpec", depth: 1}
method: {name: lora, rank: 2}
decoder: linear
train: {epochs: 1, batch: 2, accelerator: cpu, workers: 0}
"""


def write_tif(path, array, names=BANDS):
    profile = {"driver": "GTiff", "count": len(array), "height": array.shape[1], "width": array.shape[2]}
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500_000, 0, -10, 5_500_000)}
    with rasterio.open(path, "w", dtype=array.dtype, **profile, **place) as file:
        file.write(array)
        if len(names) == len(array):
            file.descriptions = names


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with chips and masks as GeoTIFFs, their index, a scene, and the YAML; it is the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chips").mkdir()
    toy, rows = Toy(), []
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for key in toy.split(split)[:count]:
            sample = toy.read(key)
            write_tif(tmp_path / f"chips/{key}.tif", (sample.image[0] * 1e4).round().astype(np.int16))
            mask = np.where(sample.target < 0, 255, sample.target).astype(np.uint8)
            write_tif(tmp_path / f"chips/{key}_mask.tif", mask[None], ())
            rows.append({"path": f"{key}.tif", "mask": f"{key}_mask.tif", "split": split, "region": sample.group})
    write_index(tmp_path, rows)
    scene = (Toy(side=40).read("test-00").image[0] * 1e4).round().astype(np.int16)
    write_tif(tmp_path / "scene.tif", scene)
    write_tif(tmp_path / "narrow.tif", scene[:2], BANDS[:2])
    (tmp_path / "flood.yaml").write_text(YAML)
    return tmp_path


def write_index(folder, rows):
    with (folder / "chips/index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def read_index(folder):
    with (folder / "chips/index.csv").open() as file:
        return list(csv.DictReader(file))


def run(*args):
    return CliRunner().invoke(cli.app, [str(arg) for arg in args])


def test_fit_test_predict_merge(work):
    for line in (
        "fit flood.yaml train.seed=3",
        "test runs/flood",
        "predict runs/flood scene.tif --out map.tif --probabilities",
        "merge runs/flood --out merged.safetensors",
        "fit runs/flood/config.yaml --resume",
    ):
        result = run(*line.split())
        assert result.exit_code == 0, result.output
    assert "is finished; nothing is left to do" in result.output
    facts = json.loads((work / "runs/flood/run.json").read_text())
    assert facts["parameters"]["backbone_trained"] == 2 * 2 * (4 * (32 + 32) + (32 + 128) * 2) // 2
    assert facts["parameters"]["decoder_trained"] == 32 * 3 * 16 + 3
    assert facts["dataset"]["samples"] == {"train": 4, "val": 2}
    assert facts["steps"] == 2
    assert facts["seconds_per_step"] > 0
    assert 0 <= facts["share_waiting_for_data"] <= 1
    memory = facts["memory_bytes"]
    trained = facts["parameters"]["backbone_trained"] + facts["parameters"]["decoder_trained"]
    assert memory["gradients"] == 4 * trained
    assert memory["optimiser"] >= 8 * trained
    assert memory["activations"] > 0
    assert memory["total"] == sum(memory[part] for part in ("weights", "gradients", "optimiser", "activations"))
    assert set(facts["linear_probe"]["metrics"]) == set(facts["validation"])
    assert (facts["epochs"], facts["environment"]["torch"]) == (1, torch.__version__)
    tested = json.loads((work / "runs/flood/test.json").read_text())
    assert tested["method"]["test"]["rows"][0]["images"] == 2
    assert [row["name"] for row in tested["linear_probe"]["test"]["rows"]] == ["all", "north", "south"]
    with rasterio.open(work / "map.tif") as file, rasterio.open(work / "scene.tif") as scene:
        assert (file.transform, file.crs, file.shape) == (scene.transform, scene.crs, scene.shape)
        assert set(np.unique(file.read(1))) <= {0, 1, 2}


def break_nothing_but(**changes):
    """A mistake in one row of the index."""

    def make(folder):
        rows = read_index(folder)
        rows[0].update(changes)
        write_index(folder, rows)

    return make


def label_outside(folder):
    write_tif(folder / "chips/train-00_mask.tif", np.full((1, 16, 16), 7, np.uint8), ())


def corrupt(folder):
    (folder / "chips/train-01.tif").write_bytes(b"II*\0 not an image")


def no_validation(folder):
    write_index(folder, [row for row in read_index(folder) if row["split"] != "val"])


def other_weights(folder):
    save_tensors({"something": torch.zeros(2)}, folder / "other.safetensors")


def earlier_run(folder):
    assert run("fit", "flood.yaml").exit_code == 0


def fewer_bands(folder):
    write_tif(folder / "chips/train-01.tif", np.zeros((2, 16, 16), np.int16), BANDS[:2])


MISTAKES = {
    "a mask that is not there": (break_nothing_but(mask="gone.tif"), "fit flood.yaml", "gone.tif"),
    "a label outside the classes": (label_outside, "fit flood.yaml", "train-00_mask.tif"),
    "a corrupt image": (corrupt, "fit flood.yaml", "train-01.tif"),
    "an empty split": (no_validation, "fit flood.yaml", "'val'"),
    "an unknown band": (None, "fit flood.yaml dataset.band_names=[blue,green,redd]", "did you mean 'red'"),
    "a wrong number of bands": (fewer_bands, "fit flood.yaml", "train-01.tif"),
    "bands that are too many": (None, "fit flood.yaml dataset.band_names=[blue,green,red,nir]", "4"),
    "weights that are not there": (None, "fit flood.yaml backbone.weights=nowhere.pt", "nowhere.pt"),
    "weights of another model": (other_weights, "fit flood.yaml backbone.weights=other.safetensors", "do not fit"),
    "a folder of another run": (earlier_run, "fit flood.yaml train.epochs=2", "'epochs: 1' there, 'epochs: 2' here"),
    "a folder of this run": (earlier_run, "fit flood.yaml", "adapteo test runs/flood"),
    "a misspelt method": (None, "fit flood.yaml method=lorra", "did you mean 'lora'"),
    "a scene that lacks a band": (earlier_run, "predict runs/flood narrow.tif --out map.tif", "red"),
    "no run": (None, "test runs/flod", "no adapter in runs/flod"),
    "a file where the folder is to be": (None, "fit flood.yaml --out flood.yaml", "flood.yaml"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_five_lines(work, mistake):
    make, line, told = MISTAKES[mistake]
    if make:
        make(work)
    result = run(*line.split())
    assert result.exit_code == 2, result.output
    lines = [text for text in result.output.splitlines() if not text.startswith("fitting the decoder")]
    assert len(lines) <= 5
    assert told in result.output
    assert "bug" not in result.output
    assert "Traceback" not in result.output


# ---------------------------------------------------------------------------------------------- in Python


class Listener(Observer):
    def __init__(self):
        self.notes, self.rows, self.done = [], [], []

    def note(self, message):
        self.notes.append(message)

    def steps(self, total, done):
        self.done.append((total, done))

    def epoch(self, row):
        self.rows.append(row["epoch"])

    def finished(self):
        self.done.append("finished")


def test_an_observer_hears_of_everything_and_a_finished_run_is_only_loaded(tmp_path):
    heard, again = Listener(), Listener()
    spelt = spell(tmp_path / "a")
    first = experiment.fit(spelt, observer=heard)
    assert heard.notes[0].startswith("fitting the decoder")
    assert heard.notes[1].startswith("linear probe: validation miou 0.")
    assert (heard.rows, heard.done) == ([1, 2], [(6, 0), "finished"])
    before = {path: path.stat().st_mtime_ns for path in spelt.out.rglob("*")}
    second = experiment.fit(spelt, resume=True, observer=again)
    assert (len(again.notes), again.rows) == (1, [])
    assert before == {path: path.stat().st_mtime_ns for path in spelt.out.rglob("*")}
    images = torch.rand(1, 1, 3, 16, 16) * 0.2
    assert torch.equal(first.logits(images), second.logits(images))
    with pytest.raises(ConfigError, match="which is finished"):
        experiment.fit(spelt)


@pytest.mark.parametrize(
    ("start", "kept"), [("true", "the linear probe, which is kept"), ("false", "the start, whose decoder has learned")]
)
def test_a_training_that_made_nothing_better_says_so(tmp_path, start, kept):
    heard = Listener()
    experiment.fit(spell(tmp_path, f"train.head_start={start}", "train.rate=1e-12"), observer=heard)
    assert any(note.startswith(f"no epoch was better on validation than {kept}") for note in heard.notes)


def test_a_head_start_is_fitted_once_for_runs_that_share_it(tmp_path, monkeypatch):
    fits = []
    fit_head = experiment.fit_head
    monkeypatch.setattr(experiment, "fit_head", lambda *given, **named: fits.append(1) or fit_head(*given, **named))
    alone = experiment.fit(spell(tmp_path / "alone"))
    starts = tmp_path / "starts"
    experiment.fit(spell(tmp_path / "ssf", "method=ssf", "train.epochs=1", "train.augment=none"), starts=starts)
    assert len(fits) == 2
    shared = experiment.fit(spell(tmp_path / "shared"), starts=starts)
    assert len(fits) == 2, "another method and another training start from the same"
    alone_state, shared_state = alone.model.state_dict(), shared.model.state_dict()
    assert all(torch.equal(value, shared_state[name]) for name, value in alone_state.items())
    assert "linear_probe" in json.loads((shared.folder / "run.json").read_text())
    assert (shared.folder / "probe.safetensors").is_file()
    for number, changed in enumerate(("train.seed=1", "decoder=fcn", "train.batch=3", "backbone.depth=1")):
        experiment.fit(spell(tmp_path / str(number), "train.epochs=1", changed), starts=starts)
        assert len(fits) == 3 + number, changed
    experiment.fit(spell(tmp_path / "noisy", "train.epochs=1", noise=0.1), starts=starts)
    assert len(fits) == 7, "other data"


def test_without_a_head_start(tmp_path):
    fitted = experiment.fit(spell(tmp_path / "a", "train.head_start=false", "train.epochs=1"))
    assert not (fitted.folder / "probe.safetensors").exists()
    assert "linear_probe" not in json.loads((fitted.folder / "run.json").read_text())
    assert not fitted.test(resamples=0).baselines


def test_a_state_without_a_finished_run_is_not_written_over(tmp_path):
    spelt = spell(tmp_path / "a", "train.epochs=1", "train.head_start=false")
    experiment.fit(spelt)
    (spelt.out / "run.json").unlink()
    with pytest.raises(ConfigError, match="was stopped"):
        experiment.fit(spelt)
    experiment.fit(spelt, resume=True)
    assert (spelt.out / "run.json").is_file()


def test_an_empty_validation_split(tmp_path):
    with pytest.raises(DataError, match="the split 'val' has no images"):
        experiment.fit(spell(tmp_path / "a", counts=(4, 0, 3, 3)))


def test_bands_that_the_backbone_does_not_take_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("tiny.TinySpec.accepts", lambda spec, bands: tuple(b for b in bands if b != "green"))
    heard = Listener()
    fitted = experiment.fit(spell(tmp_path / "a", "train.epochs=1", "train.normalise=dataset"), observer=heard)
    assert heard.notes[0].endswith("are not read: green")
    assert fitted.bands == ("blue", "red")
    assert len(fitted.card["normalisation"]["mean"]) == 2
    assert fitted.model.normalisation.source == "dataset"
    fitted.test(resamples=0)
    monkeypatch.setattr("tiny.TinySpec.accepts", lambda spec, bands: ())
    with pytest.raises(ConfigError, match="takes none of the dataset's bands"):
        assemble(spell(tmp_path / "b"))


def test_the_bands_that_a_run_names(tmp_path):
    fitted = experiment.fit(spell(tmp_path / "a", "train.bands=[B4, blue]", "train.epochs=1"))
    assert fitted.bands == ("red", "blue")
    assert fitted.imagery.bands == BANDS
    assert adapteo.load(fitted.folder).model.backbone.bands == ("red", "blue")
    for bands, message in (("[red, nir]", "no band 'nir'"), ("[]", "is empty"), ("[red, B4]", "more than once")):
        with pytest.raises(ConfigError, match=message):
            assemble(spell(tmp_path / "b", f"train.bands={bands}"))


def test_a_named_band_that_the_backbone_does_not_take(tmp_path, monkeypatch):
    monkeypatch.setattr("tiny.TinySpec.accepts", lambda spec, bands: tuple(b for b in bands if b != "green"))
    with pytest.raises(ConfigError, match="the backbone does not take 'green'"):
        assemble(spell(tmp_path / "a", "train.bands=[red, green]"))


def test_where_the_statistics_come_from(tmp_path, monkeypatch):
    spelt = spell(tmp_path / "a", "train.normalise=dataset")
    computed = assemble(spelt).model.normalisation
    assert computed.source == "dataset"
    published = Normalisation((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    monkeypatch.setattr("toy.Toy.published_statistics", lambda toy, bands: published)
    assert assemble(spelt).model.normalisation == replace(published, source="dataset") != computed
    given = {"B4": (0.3, 3.0), "blue": (0.1, 1.0), "green": (0.2, 2.0)}
    spelt = replace(spelt, train=replace(spelt.train, statistics=given))
    assert assemble(spelt).model.normalisation == replace(published, source="given")
    spelt = replace(spelt, train=replace(spelt.train, statistics={"blue": (0.1, 1.0)}))
    with pytest.raises(ConfigError, match="no band 'green'"):
        assemble(spelt)


def test_tensors_that_are_not_needed_are_noted(tmp_path, monkeypatch):
    spelt = spell(tmp_path / "a", "train.epochs=1", "method=frozen")
    state = TinyBackbone(BANDS).state_dict()
    save_tensors({**state, "decoder.mask_token": torch.ones(3)}, tmp_path / "base.safetensors")
    remap = TinyBackbone.remap

    def skipping(backbone, state):
        kept = {key: value for key, value in state.items() if key != "decoder.mask_token"}
        return replace(remap(backbone, kept), skipped={"decoder.mask_token": "of pre-training"})

    monkeypatch.setattr(TinyBackbone, "remap", skipping)
    spelt = replace(spelt, backbone=replace(spelt.backbone, weights=str(tmp_path / "base.safetensors")))
    heard = Listener()
    fitted = experiment.fit(spelt, observer=heard)
    assert heard.notes[0] == "1 tensors of base.safetensors are not needed (see run.json)"
    assert fitted.card["base"]["skipped"] == [["decoder.mask_token", "of pre-training"]]
    merged = read_state(fitted.merge(tmp_path / "merged.safetensors"))
    assert torch.equal(merged["decoder.mask_token"], torch.ones(3)), "it can stand in for the base"


def test_crops_of_large_chips(tmp_path):
    fitted = experiment.fit(spell(tmp_path / "a", "train.crop=8", "train.epochs=1"))
    assert fitted.card["image_size"] == [8, 8]


def test_the_five_lines_of_the_readme(tmp_path):
    spelt = spell(tmp_path / "a", "train.epochs=1", kind="classification")
    fitted = adapteo.fit(spelt, show=False)
    assert fitted.run == adapteo.load(tmp_path / "a").run
    assert fitted.run.dataset.classes == CLASSES
    changed = adapteo.fit(spelt, "train.seed=4", f"out={tmp_path / 'b'}", show=False)
    assert changed.run == other(spelt, tmp_path / "b", seed=4)

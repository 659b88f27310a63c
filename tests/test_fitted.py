"""What a trained model can do: score, map and merge, with exactly the weights that the training kept."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from rasterio import Affine
from rich.console import Console

import adapteo
from adapteo import experiment, fitted
from adapteo.assembly import assemble, loader
from adapteo.checkpoint import read_state, save_tensors
from adapteo.contracts import Batch
from adapteo.errors import ConfigError, DataError, WeightsError
from adapteo.model import predict_logits
from adapteo.scoring import score
from adapteo.train import Trainer
from tiny import TinyBackbone
from toy import BANDS, CLASSES, Toy, spell

METHODS = ("full", "frozen", "bitfit", "lora", "vpt")


def train(folder, method="lora", *keys, **toy):
    return experiment.fit(spell(folder, f"method={method}", "train.epochs=1", "train.rate=1e-3", *keys, **toy))


def images(count=2, side=16):
    return torch.rand(count, 1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 0.2


def write_scene(path, array, names=BANDS, nodata=None):
    profile = {"driver": "GTiff", "count": len(array), "height": array.shape[1], "width": array.shape[2]}
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500_000, 0, -10, 5_500_000), "nodata": nodata}
    with rasterio.open(path, "w", dtype=array.dtype, **profile, **place) as file:
        file.write(array)
        file.descriptions = names
    return path


# ---------------------------------------------------------------------------------------------------- load


@pytest.mark.parametrize("method", METHODS)
def test_a_loaded_run_gives_the_logits_of_the_training(tmp_path, monkeypatch, method):
    """Random base weights are nowhere else, and come back as well."""
    kept = {}
    keep = Trainer._validate_and_keep

    def spy(trainer, *args):
        keep(trainer, *args)
        if trainer.best.stale == 0:
            kept["logits"] = predict_logits(trainer.model, Batch(images()))

    monkeypatch.setattr(Trainer, "_validate_and_keep", spy)
    made = train(tmp_path / "a", method, "train.head_start=false")
    found = adapteo.load(tmp_path / "a")
    assert torch.equal(found.logits(images()), kept["logits"])
    assert torch.equal(made.logits(images()), kept["logits"])
    assert not found.model.training
    assert found.bands == BANDS


def test_folders_with_any_name(tmp_path):
    folder = tmp_path / "ä: \U0001f33e # [b] 'c'"
    made = train(folder)
    assert torch.equal(adapteo.load(folder).logits(images()), made.logits(images()))


def test_another_base_is_refused(tmp_path):
    for seed in (0, 1):
        torch.manual_seed(seed)
        save_tensors(TinyBackbone(BANDS).state_dict(), tmp_path / f"{seed}.safetensors")
    run = spell(tmp_path / "a", "train.epochs=1")
    weights = tmp_path / "0.safetensors"
    experiment.fit(replace(run, backbone=replace(run.backbone, weights=str(weights))))
    adapteo.load(run.out)
    (tmp_path / "1.safetensors").replace(weights)
    with pytest.raises(WeightsError, match="the adapter was trained on 0.safetensors with sha256"):
        adapteo.load(run.out)


def test_statistics_of_the_training_are_not_computed_again(tmp_path, monkeypatch):
    made = train(tmp_path / "a", "lora", "train.normalise=dataset")
    monkeypatch.setattr("adapteo.assembly.statistics", None)
    assert torch.equal(adapteo.load(tmp_path / "a").logits(images()), made.logits(images()))


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(WeightsError, match="there is no adapter in"):
        adapteo.load(tmp_path)


@pytest.mark.parametrize(
    ("accelerator", "cuda", "mps", "expected"),
    [("auto", 1, 1, "cuda"), ("auto", 0, 1, "mps"), ("auto", 0, 0, "cpu"), ("cpu", 1, 1, "cpu"), ("cuda", 0, 1, "cpu")],
)
def test_the_device_that_is_there(tmp_path, monkeypatch, accelerator, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(mps))
    run = spell(tmp_path / "a", f"train.accelerator={accelerator}")
    assert fitted.best_device(run) == torch.device(expected)


# ---------------------------------------------------------------------------------------------------- test


@pytest.mark.parametrize("kind", ["segmentation", "classification", "multilabel", "regression"])
def test_tables_pictures_and_the_linear_probe_beside(tmp_path, kind):
    made = train(tmp_path / "a", "lora", kind=kind)
    console = Console(record=True, width=120)
    report = made.test(resamples=20)
    report.render(console)
    assert console.export_text().count("linear probe: ") == 2
    task = made.run.task
    for name, count in (("test", 4), ("abroad", 3)):
        scored = score(made.model, task, loader(made.run, name, made.bands))
        expected = task.metrics(scored.statistics.sum(0), made.run.dataset.classes)
        row = report.tables[name].row()
        assert row.images == count
        assert row.metrics[task.monitor].value == pytest.approx(float(expected[task.monitor]))
        assert [r.name for r in report.tables[name].rows] == ["all", "north", "south"]
        with (made.folder / f"{name}.csv").open() as file:
            assert {r["row"] for r in csv.DictReader(file)} == {"all", "north", "south"}
        assert (made.folder / f"{name}_samples.png").stat().st_size > 1000
        assert (made.folder / f"{name}_confusion.png").exists() == (kind in ("segmentation", "classification"))
    assert (made.folder / "curves.png").stat().st_size > 1000
    written = json.loads((made.folder / "test.json").read_text())
    assert set(written) == {"method", "linear_probe"}
    assert set(written["linear_probe"]) == {"test", "abroad"}


@pytest.mark.parametrize("method", METHODS)
def test_the_probe_of_the_test_is_that_of_the_head_start(tmp_path, method):
    """On the validation split it scores what was written when it was fitted."""
    made = train(tmp_path / "a", method)
    (probe,) = made._probe()
    scored = score(probe, made.run.task, loader(made.run, "val", made.bands))
    metrics = made.run.task.metrics(scored.statistics.sum(0), CLASSES)
    written = json.loads((made.folder / "probe.json").read_text())["metrics"]
    assert {key: float(value) for key, value in metrics.items()} == pytest.approx(written, nan_ok=True)


def test_show_prints(tmp_path, capsys):
    train(tmp_path / "a", "frozen").test(show=True, resamples=0)
    assert "test: 4 images" in capsys.readouterr().out


def test_a_single_sample(tmp_path):
    report = train(tmp_path / "a", "frozen", counts=(4, 1, 1, 1)).test()
    assert report.tables["test"].row().images == 1


# ------------------------------------------------------------------------------------------------- predict


def test_a_map_is_the_models_output_and_keeps_nodata(tmp_path):
    made = train(tmp_path / "a")
    array = Toy().read("test-00").image[0].copy()
    array[:, 3:6, 9:] = -9
    scene = write_scene(tmp_path / "scene.tif", array, nodata=-9)
    missing = torch.from_numpy(np.where(array == -9, np.nan, array))[None, None]
    expected = made.logits(missing).softmax(1)[0]
    assert made.predict(scene, tmp_path / "map.tif", probabilities=True) == tmp_path / "map.tif"
    with rasterio.open(tmp_path / "map.tif") as file, rasterio.open(scene) as source:
        found, hole = file.read(1), file.nodata
        assert (file.transform, file.crs) == (source.transform, source.crs)
    assert (found[3:6, 9:] == hole).all()
    seen = np.ones_like(found, bool)
    seen[3:6, 9:] = False
    assert (found[seen] == expected.argmax(0).numpy()[seen]).all()
    with rasterio.open(tmp_path / "map_probabilities.tif") as file:
        np.testing.assert_allclose(file.read()[:, seen] / 10_000, expected.numpy()[:, seen], atol=1e-4)


def test_several_scenes_go_to_a_folder_and_bands_are_matched_by_name(tmp_path):
    made = train(tmp_path / "a", "frozen")
    array = Toy(side=40).read("test-00").image[0]
    straight = write_scene(tmp_path / "straight.tif", array)
    turned = write_scene(tmp_path / "turned.tif", array[::-1], BANDS[::-1])
    calls = []
    made.predict([straight, turned], tmp_path / "maps", progress=lambda done, total: calls.append((done, total)))
    maps = [rasterio.open(tmp_path / f"maps/{name}_map.tif") for name in ("straight", "turned")]
    assert (maps[0].read() == maps[1].read()).all()
    for file in maps:
        file.close()
    assert calls[-1][0] == calls[-1][1] > 1


def test_names_and_scale_given_by_hand(tmp_path):
    made = train(tmp_path / "a", "frozen")
    array = Toy(side=24).read("test-00").image[0]
    named = write_scene(tmp_path / "named.tif", array)
    plain = write_scene(tmp_path / "plain.tif", (array[::-1] * 1e4).round().astype(np.int16), ("", "", ""))
    made.predict(named, tmp_path / "one.tif")
    made.predict(plain, tmp_path / "two.tif", bands=("red", "green", "blue"), scaling=(1e-4, 0.0))
    with rasterio.open(tmp_path / "one.tif") as one, rasterio.open(tmp_path / "two.tif") as two:
        assert (one.read() == two.read()).mean() > 0.98, "rounding aside"
    with pytest.raises(DataError, match="3 bands per date, 2 are named; the model needs blue too"):
        made.predict(plain, tmp_path / "three.tif", bands=("red", "green"))


def test_a_map_of_values(tmp_path):
    made = train(tmp_path / "a", "frozen", kind="regression")
    array = Toy().read("test-00").image[0]
    made.predict(write_scene(tmp_path / "scene.tif", array), tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        np.testing.assert_allclose(file.read(1), made.logits(torch.from_numpy(array)[None, None])[0, 0], atol=1e-5)


def test_a_classifier_draws_no_map(tmp_path):
    made = train(tmp_path / "a", "frozen", kind="classification")
    with pytest.raises(ConfigError, match="a classification model labels whole images, it draws no map"):
        made.predict("scene.tif", tmp_path / "map.tif")


def test_dates_and_places_reach_the_backbone(tmp_path):
    made = train(tmp_path / "a", "frozen")
    seen = []
    made.model.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    made.logits(images(2), dates=np.array([[2024, 32]]), latlon=np.array([45.0, 7.0]))
    assert seen[0].dates.tolist() == [[[2024, 32]]] * 2
    assert seen[0].latlon.tolist() == [[45, 7]] * 2
    array = Toy().read("test-00").image[0]
    made.predict(write_scene(tmp_path / "scene.tif", array), tmp_path / "map.tif")
    assert seen[1].latlon[0].tolist() == pytest.approx([49.6, 9.0], abs=0.1)


def test_a_run_maps_scenes_where_its_training_data_are_not(tmp_path):
    """What a model has to know about its data is in the adapter's card."""
    chips = tmp_path / "chips"
    chips.mkdir()
    toy = Toy()
    for i, key in enumerate(toy.split("train")[:8]):
        sample = toy.read(key)
        write_scene(chips / f"{i}_image.tif", sample.image[0])
        write_scene(chips / f"{i}_mask.tif", sample.target[None].astype(np.uint8), ("mask",))
    data = {"name": "folder", "root": str(chips), "images": "*_image.tif", "masks": "*_mask.tif"}
    splits = {"by": "random", "fractions": [0.5, 0.25, 0.25]}
    made = adapteo.fit(
        {
            "dataset": {**data, "class_names": list(CLASSES), "ignore": 255, "splits": splits},
            "backbone": "tiny:TinySpec", "method": "lora", "decoder": "linear",
            "train": {"epochs": 1, "batch": 4}, "out": str(tmp_path / "run"),
        },
        show=False,
    )  # fmt: skip
    scene = write_scene(tmp_path / "scene.tif", toy.read("test-00").image[0])
    made.predict(scene, tmp_path / "here.tif")
    shutil.rmtree(chips)
    adapteo.load(tmp_path / "run").predict(scene, tmp_path / "there.tif")
    assert (tmp_path / "here.tif").read_bytes() == (tmp_path / "there.tif").read_bytes()


# --------------------------------------------------------------------------------------------------- merge


@pytest.mark.parametrize("method", ["full", "frozen", "bitfit", "lora"])
def test_a_merged_checkpoint_is_an_ordinary_one(tmp_path, method):
    made = train(tmp_path / "a", method, "train.head_start=false")
    before = made.logits(images())
    made.merge(tmp_path / "merged.safetensors")
    assert torch.equal(made.logits(images()), before), "the run itself is not changed"
    run = spell(tmp_path / "b", "method=frozen")
    model = assemble(replace(run, backbone=replace(run.backbone, weights=str(tmp_path / "merged.safetensors")))).model
    model.decoder.load_state_dict(read_state(tmp_path / "merged_decoder.safetensors"))
    torch.testing.assert_close(predict_logits(model, Batch(images())), before, atol=1e-5, rtol=1e-5)
    card = json.loads((tmp_path / "merged.json").read_text())
    assert card["merged"]
    assert card["imagery"]["classes"] == list(CLASSES)


def test_prompts_cannot_be_merged(tmp_path):
    made = train(tmp_path / "a", "vpt")
    with pytest.raises(ConfigError, match="prompts are tokens"):
        made.merge(tmp_path / "merged.safetensors")
    assert not list(tmp_path.glob("merged*"))

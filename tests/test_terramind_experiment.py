"""The TerraMind experiment: its folds keep the held-out site apart, its scores are those of the confusion matrix."""

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # experiments are no part of the package
from experiments import terramind
from experiments.terramind_scores import NAMES, ROWS, SITES, Outcome, render

from adapteo import config
from adapteo.data.folder import Folder
from adapteo.data.raster import read_raster

CHILE = "433D_629L_3_1"


@pytest.fixture(scope="module")
def fold(shared_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("terramind")
    terramind.cut_chips(shared_data / "terramind_examples", out / "data")
    weights = str(shared_data / "galileo_nano")
    return terramind.Fold(CHILE, shared_data / "terramind_examples", weights, out, epochs=1, seeds=1)


def _rows(fold, seed=0, offset="auto"):
    with (fold.out / "data" / fold.dataset(seed, offset)["index"]).open(newline="") as file:
        return list(csv.DictReader(file))


def test_chips_put_together_are_the_site_and_lie_in_its_place(fold, shared_data):
    whole = read_raster(shared_data / "terramind_examples" / "LULC" / f"{CHILE}.tif", masked=False)
    chips = [
        [read_raster(fold.out / "data" / "chips" / f"{CHILE}_{r}{c}_lulc.tif", masked=False) for c in range(4)]
        for r in range(4)
    ]
    assert np.array_equal(np.block([[chip.array[0] for chip in row] for row in chips]), whole.array[0])
    assert chips[0][0].transform == whole.transform
    assert chips[3][2].transform[2] == pytest.approx(whole.transform[2] + 2 * 56 * 10)
    assert chips[3][2].transform[5] == pytest.approx(whole.transform[5] - 3 * 56 * 10)


def test_the_held_out_site_is_tested_only_and_one_quadrant_of_each_other_validates(fold):
    for seed in (0, 1):
        rows = _rows(fold, seed)
        assert {row["region"] for row in rows if row["split"] == "test"} == {"Chile"}
        assert {row["split"] for row in rows if row["region"] == "Chile"} == {"test"}
        for place in set(SITES.values()) - {"Chile"}:
            val = [Path(r["path"]).name.split("_")[-2] for r in rows if (r["region"], r["split"]) == (place, "val")]
            assert len(val) == 4
            assert max(int(v[0]) for v in val) - min(int(v[0]) for v in val) == 1
            assert max(int(v[1]) for v in val) - min(int(v[1]) for v in val) == 1
    first, second = ({r["path"] for r in _rows(fold, seed) if r["split"] == "val"} for seed in (0, 1))
    assert not first & second


def test_only_chile_carries_the_offset_at_level_2a(fold):
    """Independent of the rule: SWIR of level 2A against level 1C, whose offset the cirrus band tells (see the docs)."""
    assert {row["region"] for row in _rows(fold) if float(row["offset"]) == -0.1} == {"Chile"}
    assert {float(row["offset"]) for row in _rows(fold)} == {0.0, -0.1}
    assert {float(row["offset"]) for row in _rows(fold, offset="none")} == {0.0}


def test_fitting_reads_nothing_of_the_held_out_site(fold, monkeypatch):
    read, original = [], Folder.read

    def spy(self, key, bands=None):
        read.append(key)
        sample = original(self, key, bands)
        return replace(sample, image=sample.image[..., :8, :8], target=sample.target[:8, :8])  # quick to train on

    class FittedError(Exception):
        pass

    def stop(*_args, **_kwargs):
        raise FittedError

    monkeypatch.setattr(Folder, "read", spy)
    monkeypatch.setattr("adapteo.fitted.FittedRun.test", stop)
    with pytest.raises(FittedError):
        fold.run(terramind.WAYS[-1], 0, 1e-3)
    assert len(set(read)) == 64
    assert not [key for key in read if CHILE in key]


def test_the_dataset_has_the_sites_classes_and_reflectance(fold):
    parts = {"backbone": "galileo", "method": "frozen", "decoder": "unet"}
    data = config.load({"dataset": fold.dataset(0, "auto"), **parts}).dataset
    assert data.classes == NAMES
    sample = data.read(data.split("test")[0])
    assert 0 <= np.median(sample.image) < 0.5
    assert set(np.unique(sample.target)) <= set(range(9))


def _outcome(way, site, matrix, offset="auto"):
    return Outcome(way, site, 0, 1e-3, offset, 0.5, matrix, 10, 1.0)


def test_scores_count_the_classes_that_occur():
    matrix = np.zeros((9, 9), int)
    matrix[0, 0], matrix[0, 1], matrix[1, 1], matrix[1, 2] = 6, 2, 3, 1
    outcome = _outcome("lora", CHILE, matrix.tolist())
    assert outcome.iou()[:2].tolist() == pytest.approx([6 / 8, 3 / 6])
    assert np.isnan(outcome.iou()[2:]).all()  # predicted once, but not there
    assert outcome.miou() == pytest.approx((6 / 8 + 3 / 6) / 2)
    assert outcome.accuracy() == pytest.approx(9 / 12)


def test_the_tables_have_a_row_for_each_way_and_a_column_for_each_place():
    matrix = np.eye(9, dtype=int).tolist()
    outcomes = [_outcome(way, site, matrix, offset) for way in ROWS for site in SITES for offset in ("auto", "none")]
    lines = render(outcomes).splitlines()
    assert lines[0].count("|") == len(SITES) + 4
    assert [line.split("|")[1].strip() for line in lines[2 : 2 + len(ROWS)]] == list(ROWS)
    assert "1.000" in lines[2]

import csv
import io
import json
import math

import pytest
import torch
from rich.console import Console

from adapteo import evaluate
from adapteo.evaluate import Scores, bootstrap, table
from adapteo.tasks.classification import Classification
from adapteo.tasks.multilabel import Multilabel
from adapteo.tasks.regression import Regression
from adapteo.tasks.segmentation import Segmentation

NAMES = ("soil", "water", "cloud")


def statistics_of(n=12, seed=0, absent=()):
    g = torch.Generator().manual_seed(seed)
    matrices = torch.randint(0, 50, (n, 3, 3), generator=g).double()
    matrices += 100 * torch.eye(3)
    for c in absent:
        matrices[:, c] = matrices[:, :, c] = 0
    return matrices.flatten(1)


def test_rows_are_sums_over_all_images_and_over_each_group():
    task, statistics = Segmentation(), statistics_of()
    groups = ["spain", "india", None] * 4
    result = table(task, statistics, NAMES, groups, split="test", resamples=20)
    assert [(row.name, row.images) for row in result.rows] == [("all", 12), ("india", 4), ("spain", 4), ("(none)", 4)]
    expected = task.metrics(statistics[1::3].sum(0), NAMES)
    found = result.row("india").metrics
    assert {name: interval.value for name, interval in found.items()} == pytest.approx(
        {name: float(value) for name, value in expected.items()}
    )
    assert torch.equal(result.row().confusion, statistics.sum(0).view(3, 3))
    with pytest.raises(KeyError):
        result.row("mars")
    assert len(table(task, statistics, NAMES, [None] * 12, resamples=0).rows) == 1


def test_draws_are_sums_of_n_images_and_repeat_with_their_seed(monkeypatch):
    n, r = 7, 50
    ones = torch.eye(n, dtype=torch.float64)
    draws = bootstrap(ones, r, seed=1)
    assert draws.shape == (r, n)
    assert torch.equal(draws.sum(1), torch.full((r,), float(n), dtype=torch.float64))
    assert torch.equal(draws, bootstrap(ones, r, seed=1))
    assert not torch.equal(draws, bootstrap(ones, r, seed=2))
    # Each image is drawn Binomial(n, 1/n) times: mean 1, variance 1 - 1/n.
    many = bootstrap(ones, 20000)
    torch.testing.assert_close(many.mean(0), torch.ones(n, dtype=torch.float64), rtol=0, atol=0.04)
    torch.testing.assert_close(many.var(0), torch.full((n,), 1 - 1 / n, dtype=torch.float64), rtol=0, atol=0.05)
    monkeypatch.setattr(evaluate, "_DRAWS_AT_ONCE", 3 * n)
    assert torch.equal(draws, bootstrap(ones, r, seed=1))


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Accuracy of 80 images, each right with probability 0.7: a 90 % interval holds 0.7 in about 90 % of the tests."""
    task = Classification()
    g = torch.Generator().manual_seed(0)
    tests, held = 150, 0
    for seed in range(tests):
        right = (torch.rand(80, generator=g) < 0.7).double()
        statistics = torch.stack([right, 1 - right, torch.zeros(80), torch.zeros(80)], dim=1)
        drawn = table(task, statistics, ("a", "b"), resamples=150, seed=seed, level=0.9)
        interval = drawn.row().metrics["accuracy"]
        assert interval.low <= interval.value <= interval.high
        held += interval.low <= 0.7 <= interval.high
    assert 0.84 < held / tests < 0.95


def test_no_interval_without_two_images_or_without_draws():
    one = table(Segmentation(), statistics_of(1), NAMES).row().metrics["miou"]
    none = table(Segmentation(), statistics_of(5), NAMES, resamples=0).row().metrics["miou"]
    for interval in (one, none):
        assert not math.isnan(interval.value)
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)


def test_draws_without_the_class_are_left_out():
    statistics = statistics_of(4, absent=(2,))
    statistics[0, 8] = 5  # clouds in one image of four
    interval = table(Segmentation(), statistics, NAMES).row().metrics["iou/cloud"]
    assert interval == (1.0, 1.0, 1.0)
    absent = table(Segmentation(), statistics_of(4, absent=(2,)), NAMES).row().metrics["iou/cloud"]
    assert all(math.isnan(x) for x in absent)


def test_worst_and_best_images_by_the_monitored_metric():
    task = Regression()
    truth = torch.zeros(4, 2, 2) + torch.arange(4.0).view(2, 2)
    statistics = task.statistics(truth.unsqueeze(1) + torch.tensor([3.0, 0.0, 1.0, 2.0]).view(4, 1, 1, 1), truth)
    statistics = torch.cat([statistics, torch.zeros(1, 6, dtype=torch.float64)])  # nothing labelled
    scores = Scores("test", ("a", "b", "c", "d", "e"), (None,) * 5, statistics)
    assert scores.ranked(task, ()) == [("a", 3.0), ("d", 2.0), ("c", 1.0), ("b", 0.0)]
    assert scores.worst(task, (), 1) == [("a", 3.0)]
    assert scores.best(task, (), 2) == [("b", 0.0), ("c", 1.0)]
    iou = Scores("test", ("x", "y"), (None,) * 2, torch.stack([100 * torch.eye(3).flatten(), torch.ones(9)]).double())
    assert [key for key, _ in iou.ranked(Segmentation(), NAMES)] == ["y", "x"]


def test_json_and_csv_hold_every_number():
    result = table(Segmentation(), statistics_of(absent=(2,)), NAMES, ["a", "b"] * 6, split="hold-out", resamples=50)
    read = json.loads(result.to_json())
    assert read["split"] == "hold-out"
    assert read["rows"][1]["metrics"]["miou"] == list(result.row("a").metrics["miou"])
    assert read["rows"][0]["metrics"]["iou/cloud"] == [None, None, None]
    assert read["rows"][0]["confusion"][0][0] == result.row().confusion[0, 0]
    lines = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert len(lines) == sum(len(row.metrics) for row in result.rows)
    water = next(line for line in lines if line["row"] == "b" and line["metric"] == "iou" and line["class"] == "water")
    assert float(water["high"]) == result.row("b").metrics["iou/water"].high
    assert next(line for line in lines if line["class"] == "cloud")["value"] == ""


def printed(result, width=80):
    out = io.StringIO()
    result.render(Console(file=out, width=width))
    return out.getvalue()


def test_printed_tables_fit_a_narrow_terminal():
    groups = ["bolivia", "spain"] * 6
    text = printed(table(Segmentation(), statistics_of(absent=(2,)), NAMES, groups, split="test", resamples=50))
    for word in ("test: 12 images", "mIoU", "95% interval", "soil", "water", "cloud", "bolivia", "spain", "–"):
        assert word in text
    assert "nan" not in text
    assert "…\n" not in text
    regression = Regression()
    statistics = regression.statistics(torch.randn(3, 1, 4, 4), torch.randn(3, 4, 4))
    text = printed(table(regression, statistics, (), split="val"))
    assert "RMSE" in text
    assert "by class" not in text
    labels = Multilabel()
    statistics = labels.statistics(torch.randn(9, 3), torch.randint(2, (9, 3)).float())
    text = printed(table(labels, statistics, NAMES))
    assert text.startswith("9 images")
    assert table(labels, statistics, NAMES, resamples=0).row().confusion is None

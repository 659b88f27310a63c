import pytest
import sklearn.metrics
import torch
import torchmetrics.functional.classification as oracle

from adapteo.tasks.multilabel import Multilabel

NAMES = ("crop", "forest", "river")
K = len(NAMES)


@pytest.fixture
def example():
    g = torch.Generator().manual_seed(7)
    target = (torch.rand(50, K, generator=g) < torch.tensor([0.2, 0.5, 0.7])).float()
    return torch.randn(50, K, generator=g) + 2 * target - 1, target


def metrics_of(task, logits, target):
    return {name: float(v) for name, v in task.metrics(task.statistics(logits, target).sum(0), NAMES).items()}


def test_metrics_equal_torchmetrics_and_scikit_learn(example):
    logits, target = example
    found = metrics_of(Multilabel(), logits, target)
    for average, key in {"macro": "f1", "micro": "f1_micro"}.items():
        expected = oracle.multilabel_f1_score(logits.sigmoid(), target.int(), num_labels=K, average=average)
        assert found[key] == pytest.approx(float(expected))
        assert found[key] == pytest.approx(sklearn.metrics.f1_score(target, logits > 0, average=average))
    expected = oracle.multilabel_accuracy(logits.sigmoid(), target.int(), num_labels=K, average="micro")
    assert found["accuracy"] == pytest.approx(float(expected))
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(target, logits > 0)
    for name, values in {"precision": precision, "recall": recall, "f1": f1}.items():
        assert [found[f"{name}/{c}"] for c in NAMES] == pytest.approx(values.tolist())


def test_unknown_labels_are_not_counted(example):
    logits, target = example
    target[:, 1] = torch.nan
    target[0, 0] = -1
    statistics = Multilabel().statistics(logits, target)
    assert statistics.sum() == 50 * K - 50 - 1
    found = metrics_of(Multilabel(), logits, target)
    assert found["f1/forest"] != found["f1/forest"]
    assert found["f1"] == pytest.approx((found["f1/crop"] + found["f1/river"]) / 2)


def test_threshold_moves_the_prediction(example):
    logits, target = example
    strict, loose = Multilabel(threshold=0.9), Multilabel(threshold=0.1)
    assert strict.predict(logits).sum() < loose.predict(logits).sum()
    assert metrics_of(strict, logits, target)["recall"] < metrics_of(loose, logits, target)["recall"]
    assert set(strict.predict(logits).unique().tolist()) == {0, 1}
    assert strict.confusion(strict.statistics(logits, target), NAMES) is None

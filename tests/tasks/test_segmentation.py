import pytest
import sklearn.metrics
import torch
import torchmetrics.functional.classification as oracle

from adapteo.contracts import IGNORE
from adapteo.tasks.segmentation import Segmentation

NAMES = ("soil", "water", "forest", "city", "snow")
K = len(NAMES)


@pytest.fixture
def example():
    g = torch.Generator().manual_seed(3)
    logits = torch.randn(4, K, 16, 12, generator=g)
    target = torch.randint(K, (4, 16, 12), generator=g)
    logits.scatter_add_(1, target[:, None], torch.full((4, 1, 16, 12), 1.5))  # better than chance
    return logits, target.masked_fill(torch.rand(4, 16, 12, generator=g) < 0.2, IGNORE)


def metrics_of(logits, target, classes=NAMES):
    task = Segmentation()
    return task.metrics(task.statistics(logits, target).sum(0), classes)


def test_statistics_are_one_confusion_matrix_per_image(example):
    logits, target = example
    statistics = Segmentation().statistics(logits, target)
    assert statistics.shape == (4, K * K)
    assert statistics.dtype == torch.float64
    for row, prediction, truth in zip(statistics, logits.argmax(1), target, strict=True):
        known = truth != IGNORE
        expected = sklearn.metrics.confusion_matrix(truth[known], prediction[known], labels=range(K))
        assert row.view(K, K).tolist() == expected.tolist()
    assert torch.equal(Segmentation().confusion(statistics, NAMES), statistics.view(4, K, K))


def test_metrics_equal_torchmetrics(example):
    logits, target = example
    found = metrics_of(logits, target)
    options = {"num_classes": K, "ignore_index": IGNORE}
    for name, function in {
        "miou": oracle.multiclass_jaccard_index,
        "f1": oracle.multiclass_f1_score,
        "precision": oracle.multiclass_precision,
        "recall": oracle.multiclass_recall,
        "mean_accuracy": oracle.multiclass_accuracy,
    }.items():
        assert float(found[name]) == pytest.approx(float(function(logits, target, average="macro", **options)))
        if name == "mean_accuracy":
            continue
        per_class = function(logits, target, average="none", **options)
        key = name.removeprefix("m")
        assert [float(found[f"{key}/{c}"]) for c in NAMES] == pytest.approx(per_class.tolist())
    micro = oracle.multiclass_accuracy(logits, target, average="micro", **options)
    assert float(found["accuracy"]) == pytest.approx(float(micro))


def test_metrics_equal_scikit_learn(example):
    logits, target = example
    known = target != IGNORE
    truth, prediction = target[known].numpy(), logits.argmax(1)[known].numpy()
    found = metrics_of(logits, target)
    assert float(found["miou"]) == pytest.approx(sklearn.metrics.jaccard_score(truth, prediction, average="macro"))
    assert float(found["f1"]) == pytest.approx(sklearn.metrics.f1_score(truth, prediction, average="macro"))
    balanced = sklearn.metrics.balanced_accuracy_score(truth, prediction)
    assert float(found["mean_accuracy"]) == pytest.approx(balanced)


def test_absent_classes_follow_torchmetrics():
    """Left out when neither in truth nor prediction; 0 when only predicted."""
    target = torch.tensor([[[0, 0, 1, 1]]])
    prediction = torch.tensor([[[0, 2, 1, 1]]])
    logits = torch.nn.functional.one_hot(prediction, K).movedim(-1, 1).float()
    found = metrics_of(logits, target)
    assert float(found["iou/soil"]) == 0.5
    assert float(found["iou/forest"]) == float(found["precision/forest"]) == float(found["recall/forest"]) == 0
    assert found["iou/city"].isnan()
    assert found["f1/snow"].isnan()
    assert float(found["miou"]) == pytest.approx(0.5)
    expected = oracle.multiclass_jaccard_index(prediction, target, num_classes=K, average="macro")
    assert float(found["miou"]) == pytest.approx(float(expected))
    assert float(found["mean_accuracy"]) == pytest.approx(0.75)  # forest does not occur


def test_nothing_labelled_is_not_a_number():
    found = metrics_of(torch.randn(2, K, 4, 4), torch.full((2, 4, 4), IGNORE))
    assert all(value.isnan() for value in found.values())


def test_metrics_work_over_any_leading_axes(example):
    task = Segmentation()
    rows = task.statistics(*example)
    many = task.metrics(rows.view(2, 2, -1), NAMES)
    one = task.metrics(rows[3], NAMES)
    for name, value in many.items():
        assert value.shape == (2, 2)
        assert torch.equal(value[1, 1], one[name])


def test_predictions_and_probabilities(example):
    logits, _ = example
    task = Segmentation()
    probabilities = task.probabilities(logits.bfloat16())
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4, 16, 12))
    assert torch.equal(task.predict(logits), task.probabilities(logits).argmax(1))
    assert task.outputs(NAMES) == K

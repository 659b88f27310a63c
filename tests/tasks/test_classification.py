import pytest
import sklearn.metrics
import torch

from adapteo.contracts import IGNORE
from adapteo.tasks.classification import Classification

NAMES = ("crop", "forest", "river", "sea")
K = len(NAMES)


@pytest.fixture
def example():
    g = torch.Generator().manual_seed(5)
    target = torch.randint(K, (60,), generator=g)
    logits = torch.randn(60, K, generator=g) + 1.5 * torch.nn.functional.one_hot(target, K)
    target[::9] = IGNORE
    return logits, target


def test_metrics_equal_scikit_learn(example):
    logits, target = example
    task = Classification()
    statistics = task.statistics(logits, target)
    assert statistics.shape == (60, K * K)
    assert statistics.sum(1).tolist() == (target != IGNORE).double().tolist()
    found = task.metrics(statistics.sum(0), NAMES)
    known = target != IGNORE
    truth, prediction = target[known].numpy(), logits.argmax(1)[known].numpy()
    assert float(found["accuracy"]) == pytest.approx(sklearn.metrics.accuracy_score(truth, prediction))
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(truth, prediction)
    for name, values in {"precision": precision, "recall": recall, "f1": f1}.items():
        assert [float(found[f"{name}/{c}"]) for c in NAMES] == pytest.approx(values.tolist())
        assert float(found[name]) == pytest.approx(values.mean())
    expected = sklearn.metrics.confusion_matrix(truth, prediction, labels=range(K))
    assert task.confusion(statistics.sum(0), NAMES).tolist() == expected.tolist()
    assert not any(name.startswith(("iou", "miou")) for name in found)
    assert task.monitor in found


def test_predictions_and_probabilities(example):
    logits, _ = example
    task = Classification()
    torch.testing.assert_close(task.probabilities(logits).sum(1), torch.ones(60))
    assert torch.equal(task.predict(logits), logits.argmax(1))
    assert not task.dense

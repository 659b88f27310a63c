import pytest
import sklearn.metrics
import torch

from adapteo.tasks.regression import Regression


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (290.0, 5.0), (1e4, 1.0), (0.0, 1e-4)])
def test_metrics_equal_scikit_learn(offset, scale):
    g = torch.Generator().manual_seed(1)
    target = offset + scale * torch.randn(5, 8, 6, generator=g)
    logits = (target + 0.3 * scale * torch.randn(5, 8, 6, generator=g) + 0.1 * scale).unsqueeze(1)
    target[:, :3] = torch.nan
    task = Regression()
    statistics = task.statistics(logits, target)
    assert statistics.shape == (5, 6)
    found = {name: float(v) for name, v in task.metrics(statistics.sum(0), ()).items()}
    known = ~target.isnan()
    truth, prediction = target[known].double().numpy(), logits[:, 0][known].double().numpy()
    assert found["rmse"] == pytest.approx(sklearn.metrics.root_mean_squared_error(truth, prediction))
    assert found["mae"] == pytest.approx(sklearn.metrics.mean_absolute_error(truth, prediction))
    assert found["r2"] == pytest.approx(sklearn.metrics.r2_score(truth, prediction), abs=1e-6)
    assert found["bias"] == pytest.approx((prediction - truth).mean())


def test_r2_is_not_defined_without_variance():
    task = Regression()
    target = torch.full((1, 4, 4), 0.1)
    found = task.metrics(task.statistics(torch.randn(1, 1, 4, 4), target)[0], ())
    assert found["r2"].isnan()
    assert found["rmse"] > 0
    nothing = task.metrics(task.statistics(torch.randn(1, 1, 4, 4), target * torch.nan)[0], ())
    assert all(value.isnan() for value in nothing.values())


def test_values_pass_unchanged():
    task = Regression()
    logits = torch.randn(2, 1, 4, 4).bfloat16()
    assert torch.equal(task.predict(logits), logits.float()[:, 0])
    assert torch.equal(task.probabilities(logits), logits.float())
    assert task.outputs(()) == 1
    assert not task.higher_is_better

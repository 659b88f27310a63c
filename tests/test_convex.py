"""The convex fit against closed forms and scikit-learn, on features as correlated as those of a backbone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import nn

from adapteo._convex import Moments, minimise


def features(n=300, d=12, seed=0):
    """Correlated features with a mean: the Hessian's eigenvalues span 8 orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=generator, dtype=torch.float64) * torch.logspace(1, -3, d)[:, None]
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ mix + torch.linspace(-5, 5, d)


def moments(x):
    return Moments(x.mean(0).double(), x.T.double() @ x.double() / len(x))


def linear(x, outputs):
    torch.manual_seed(0)
    return nn.Linear(x.shape[1], outputs, dtype=x.dtype)


def fit(head, x, criterion, strength, most=500):
    """Fit on two halves, as the head start does on chunks; returns iterations and evaluations."""
    evaluations = []

    def loss():
        evaluations.append(1)
        total = torch.zeros((), dtype=x.dtype)
        for rows in torch.arange(len(x)).chunk(2):
            part = criterion(head(x[rows]), rows) / len(x)
            part.backward()
            total += part.detach()
        return total

    return minimise(head, loss, moments(x), strength, most), len(evaluations)


def test_squared_errors_are_ridge_regression_within_a_few_iterations():
    x = features()
    y = x @ torch.linspace(1, 3, 12, dtype=torch.float64) + 7 + torch.randn(300, dtype=torch.float64)
    head, strength = linear(x, 1), 1e-4
    iterations, _ = fit(head, x, lambda logits, rows: (logits[:, 0] - y[rows]).square().sum(), strength)
    scale = x.square().mean(0).sqrt()
    design = torch.cat([x / scale, torch.ones(300, 1)], 1)
    penalty = torch.diag(torch.tensor([strength / 2] * 12 + [0])) * 300
    solution = torch.linalg.solve(design.T @ design + penalty, design.T @ y)
    torch.testing.assert_close(head.weight[0].detach() * scale, solution[:-1], rtol=1e-6, atol=1e-6)
    assert head.bias.item() == pytest.approx(solution[-1].item(), rel=1e-6)
    assert iterations <= 10, "the Hessian is constant, and the coordinates turn it into the identity"


@pytest.mark.parametrize(("strength", "most"), [(1e-1, 60), (1e-3, 60), (1e-6, 250)])
def test_cross_entropy_is_logistic_regression(strength, most):
    x = features()
    y = (x @ features(4).T + 40 * torch.randn(300, 4, generator=torch.Generator().manual_seed(1))).argmax(1)
    head = linear(x, 4)
    iterations, _ = fit(head, x, lambda logits, rows: F.cross_entropy(logits, y[rows], reduction="sum"), strength)
    scale = x.square().mean(0).sqrt()
    peer = LogisticRegression(C=1 / (strength * 300), tol=1e-12, max_iter=1000, solver="newton-cg").fit(x / scale, y)
    ours = (head.weight.detach() * scale).numpy()
    np.testing.assert_allclose(ours, peer.coef_, atol=1e-5 * np.abs(peer.coef_).max())
    np.testing.assert_allclose(head(x).softmax(1).detach().numpy(), peer.predict_proba(x / scale), atol=1e-6)
    assert iterations < most


def transposed(x, dtype=torch.float64):
    """Images of one row of features, whose blocks of 2 x 2 pixels share their offset."""
    torch.manual_seed(0)
    head = nn.ConvTranspose2d(x.shape[1], 3, 2, 2, dtype=dtype)
    target = torch.randint(3, (1, 2, 2 * len(x)), generator=torch.Generator().manual_seed(2))
    maps = x.to(dtype).T[None, :, None]

    def loss():
        value = F.cross_entropy(head(maps), target)
        value.backward()
        return value.detach()

    return head, loss


def test_the_minimum_of_a_transposed_convolution_has_no_gradient_and_does_not_depend_on_the_start():
    x, strength = features(), 1e-3
    scale = x.square().mean(0).sqrt()
    found = []
    for factor in (0.0, 1.0):
        head, loss = transposed(x)
        with torch.no_grad():
            head.weight *= factor
        minimise(head, loss, moments(x), strength, 500)
        assert head.weight.grad is None
        loss()
        pull = strength * head.weight * (scale**2)[:, None, None, None]
        assert ((head.weight.grad + pull) / scale[:, None, None, None]).abs().max() < 1e-7
        assert head.bias.grad.abs().max() < 1e-7
        found.append(head.weight.detach() * scale[:, None, None, None])
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)


def test_it_stops_at_the_given_number_of_iterations():
    head, loss = transposed(features())
    assert minimise(head, loss, moments(features()), 1e-6, 3) == 3


def test_float32_comes_close():
    """For devices that have nothing else."""
    x = features()
    results = []
    for dtype in (torch.float64, torch.float32):
        head, loss = transposed(x, dtype)
        minimise(head, loss, moments(x), 1e-3, 500)
        results.append(F.conv_transpose2d(x.to(dtype).T[None, :, None], head.weight, head.bias, 2).softmax(1).double())
    torch.testing.assert_close(*results, rtol=0, atol=1e-3)


def test_a_loss_that_does_not_bend():
    """Absolute errors: the best offset is the median."""
    x = torch.zeros(101, 2, dtype=torch.float64)
    y = torch.linspace(0, 10, 101, dtype=torch.float64) ** 2
    head = linear(x, 1)
    fit(head, x, lambda logits, rows: (logits[:, 0] - y[rows]).abs().sum(), 1e-3)
    assert head.bias.item() == pytest.approx(25.0, abs=0.5)


def test_more_channels_than_samples_and_a_channel_that_is_empty():
    x = torch.cat([features(10, 30), torch.zeros(10, 1, dtype=torch.float64)], 1)
    y = torch.arange(10) % 2
    head = linear(x, 2)
    fit(head, x, lambda logits, rows: F.cross_entropy(logits, y[rows], reduction="sum"), 1e-6)
    assert torch.equal(head(x).argmax(1), y)
    assert head.weight.isfinite().all()

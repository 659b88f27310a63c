"""The head start against scikit-learn and against closed forms; what it reads, picks and leaves behind."""

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from adapteo import experiment, headstart
from adapteo.assembly import assemble, loader
from adapteo.decoders.linear import Linear
from adapteo.errors import DataError
from adapteo.headstart import fit_head, store_features
from adapteo.model import Model, features
from tiny import TinyStages
from toy import Toy, other, spell


def parts(tmp_path, *keys, **toy):
    """Model, run and the two loaders of a head start."""
    run = spell(tmp_path / "a", *keys, **toy)
    assembled = assemble(run)
    loaders = tuple(loader(run, name, assembled.bands) for name in ("train", "val"))
    return run, assembled.model, loaders


def fit(run, model, loaders):
    return fit_head(model, run.task, loaders, classes=run.dataset.classes, train=run.train, linear=run.decoder.linear)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(("strength", "count"), [(1e-1, 1), (1e-3, 1), (1e-3, 2), (1e-5, 1)])
def test_classification_is_the_logistic_regression_of_scikit_learn(tmp_path, monkeypatch, threads, strength, count):
    threads(count)
    monkeypatch.setattr(headstart, "STRENGTHS", (strength,))
    run, model, loaders = parts(tmp_path, kind="classification", counts=(40, 20, 4, 3), noise=0.1)
    stored = [store_features(model, data, dense=False) for data in loaders]
    train, val = (s.maps[-1][:, :, 0, 0].astype(np.float64) for s in stored)
    found = fit(run, model, loaders)
    scale = np.sqrt(np.square(train).mean(0))
    peer = LogisticRegression(C=1 / (strength * len(train)), max_iter=10_000, tol=1e-10, solver="newton-cg")
    peer.fit(train / scale, stored[0].target.numpy())
    ours = model.decoder.head.weight.detach().double().numpy() * scale
    np.testing.assert_allclose(ours, peer.coef_, atol=1e-4 * np.abs(peer.coef_).max())
    with torch.no_grad():
        logits = model.decoder([torch.from_numpy(val).float()[:, :, None, None]], (16, 16))
    np.testing.assert_allclose(logits.softmax(1).numpy(), peer.predict_proba(val / scale), atol=1e-4)
    assert found.metrics["accuracy"] == pytest.approx(peer.score(val / scale, stored[1].target.numpy()))
    assert (found.strength, list(found.tried)) == (strength, [f"{strength:g}"])


@pytest.mark.parametrize("count", [1, 2])
def test_dense_regression_is_ridge_regression(tmp_path, monkeypatch, threads, count):
    """Each of the 4 x 4 pixels of a patch has weights of its own and all share one offset."""
    threads(count)
    strength = 1e-2
    monkeypatch.setattr(headstart, "STRENGTHS", (strength,))
    run, model, loaders = parts(tmp_path, kind="regression", counts=(12, 4, 3, 3))
    stored = store_features(model, loaders[0], dense=True)
    features = stored.maps[-1].astype(np.float64)
    n, d, h, w = features.shape
    scale = np.sqrt(np.square(features).mean((0, 2, 3)))
    tokens = (features / scale[:, None, None]).transpose(0, 2, 3, 1).reshape(-1, d)
    blocks = stored.target.numpy().astype(np.float64).reshape(n, h, 4, w, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 16)
    known = ~np.isnan(blocks)
    design = np.array([[*np.kron(np.eye(16)[pixel], tokens[token]), 1] for token, pixel in np.argwhere(known)])
    truth = blocks[known]
    penalty = np.diag([strength / 2] * (16 * d) + [0]) * len(truth)
    solution = np.linalg.solve(design.T @ design + penalty, design.T @ truth)
    fit(run, model, loaders)
    head = model.decoder.head
    ours = head.weight[:, 0].detach().double().numpy() * scale[:, None, None]
    np.testing.assert_allclose(ours.reshape(d, 16).T, solution[:-1].reshape(16, d), atol=1e-5)
    assert float(head.bias.detach()) == pytest.approx(solution[-1], abs=1e-5)


@pytest.mark.parametrize("kind", ["segmentation", "multilabel"])
def test_the_strength_is_the_best_on_validation(tmp_path, kind):
    run, model, loaders = parts(tmp_path, kind=kind, counts=(12, 8, 3, 3))
    found = fit(run, model, loaders)
    scores = {float(key): value for key, value in found.tried.items()}
    assert scores[found.strength] == max(scores.values()) == pytest.approx(found.metrics[run.task.monitor])
    assert list(scores) == sorted(scores, reverse=True), "from strong to weak"
    assert found.iterations > 0
    assert found.seconds > 0
    assert all(parameter.grad is None for parameter in model.parameters()), "nothing is left for the first step"


def test_it_improves_a_unet_and_keeps_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr(headstart, "_MAX_EPOCHS", 6)
    run, model, loaders = parts(tmp_path, "decoder=unet")
    losses = []
    validate = headstart._Fit.validate

    def spy(self):
        metrics, loss = validate(self)
        losses.append(loss)
        return metrics, loss

    monkeypatch.setattr(headstart._Fit, "validate", spy)
    backbone = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    found = fit(run, model, loaders)
    *tried, final = losses
    assert final == pytest.approx(min(tried), rel=1e-6)
    assert found.strength is None
    assert found.iterations == 1 + tried.index(min(tried))
    assert min(tried) < tried[0]
    assert all(torch.equal(value, backbone[key]) for key, value in model.backbone.state_dict().items())


def test_it_stops_when_the_validation_loss_has_stalled(tmp_path, monkeypatch):
    monkeypatch.setattr(headstart, "_RATE", 30.0)
    monkeypatch.setattr(headstart, "_PATIENCE", 3)
    run, model, loaders = parts(tmp_path, "decoder=unet")
    before = {key: value.clone() for key, value in model.decoder.state_dict().items()}
    calls = []
    monkeypatch.setattr(headstart._Fit, "validate", lambda self: calls.append(1) or ({"miou": 0.0}, float(len(calls))))
    found = fit(run, model, loaders)
    assert found.iterations == 1
    assert len(calls) == 1 + 4 + 1
    assert any(not torch.equal(value, before[key]) for key, value in model.decoder.state_dict().items())


@pytest.mark.parametrize(
    ("fields", "read"), [({}, 1), ({"stride": 4}, 0), ({"stride": 16}, 1), ({"stride": 4, "upsampling": 2}, 0)]
)
def test_a_linear_decoder_is_fitted_on_the_map_that_it_reads(tmp_path, monkeypatch, fields, read):
    """At the optimum the gradient is zero, in terms of features of root mean square 1; the other map is not stored."""
    strength = 1e-2
    monkeypatch.setattr(headstart, "STRENGTHS", (strength,))
    run, _, loaders = parts(tmp_path)
    torch.manual_seed(0)
    backbone = TinyStages(run.dataset.bands)
    decoder = Linear(**fields).build(features(backbone), 3, dense=True)
    model = Model(backbone, decoder, backbone.normalisation)
    stored = store_features(model, loaders[0], dense=True)
    assert [m.shape for m in stored.maps] == [(6, 8 * (read == 0), 4, 4), (6, 16 * (read == 1), 2, 2)]
    fit(run, model, loaders)
    maps = [torch.from_numpy(m) for m in stored.maps]
    scale = maps[read].square().mean((0, 2, 3)).clamp(min=1e-12).sqrt()
    maps[read] /= scale[:, None, None]
    with torch.no_grad():
        decoder.head.weight *= scale.view(-1, 1, 1, 1)
    loss = run.task.loss(decoder(maps, stored.size), stored.target, run.task.weight(stored.target))
    start = run.task.loss(0 * decoder(maps, stored.size), stored.target, run.task.weight(stored.target))
    (loss + strength / 2 * decoder.head.weight.square().sum()).backward()
    assert float(loss.detach()) < 0.9 * float(start.detach())
    assert max(float(p.grad.abs().max()) for p in decoder.parameters()) < 1e-4


def test_a_linear_decoder_that_is_too_large_is_trained_like_the_others(tmp_path, monkeypatch):
    run = spell(tmp_path / "a", "train.epochs=1")
    channels, outputs, pixels = 32, 3, 4 * 4
    monkeypatch.setattr("adapteo.headstart.LARGEST_CONVEX", channels * channels * outputs * pixels)
    experiment.fit(run)
    facts = json.loads((run.out / experiment.PROBE_FACTS).read_text())
    assert facts["strength"] is not None
    monkeypatch.setattr("adapteo.headstart.LARGEST_CONVEX", channels * channels * outputs * pixels - 1)
    experiment.fit(other(run, tmp_path / "b"))
    facts = json.loads((tmp_path / "b" / experiment.PROBE_FACTS).read_text())
    assert facts["strength"] is None
    assert facts["metrics"]["miou"] > 0.5


def test_a_decoder_of_one_map_stores_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(headstart, "_MAX_EPOCHS", 2)
    run, model, loaders = parts(tmp_path, "decoder={name: fcn, channels: 8}")
    assert [m.shape[1] for m in store_features(model, loaders[0], dense=True).maps] == [0, 32]
    assert fit(run, model, loaders).iterations > 0


def test_large_features_go_to_a_file(tmp_path, monkeypatch):
    run, model, loaders = parts(tmp_path)
    small = fit(run, model, loaders)
    small_head = model.decoder.head.weight.detach().clone()
    monkeypatch.setattr(headstart, "_IN_MEMORY", 0)
    run, model, loaders = parts(tmp_path)
    assert isinstance(store_features(model, loaders[0], dense=True).maps[-1], np.memmap)
    large = fit(run, model, loaders)
    assert torch.equal(small_head, model.decoder.head.weight)
    assert small.metrics == large.metrics


def test_what_is_read_and_asked_for_is_training_and_validation_only(tmp_path):
    Toy.asked.clear()
    Toy.opened.clear()
    experiment.fit(spell(tmp_path / "a", "train.normalise=dataset"))
    assert set(Toy.asked) == {"train", "val"}
    assert {key.partition("-")[0] for key in Toy.opened} == {"train", "val"}


def test_images_of_several_sizes(tmp_path):
    """Batches of 3 are of full size, of 1 may be not."""
    run, model, loaders = parts(tmp_path, "train.batch=1", odd=True)
    with pytest.raises(DataError, match=r"'train-01' has 8 x 16 pixels, the images before it 16 x 16") as caught:
        fit(run, model, loaders)
    assert "train.head_start=false" in str(caught.value)

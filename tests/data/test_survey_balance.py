"""Windows that are seen more or less often."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from adapteo.contracts import Dataset, Sample
from adapteo.data._survey_balance import CAP, seen_shares, window_weights
from adapteo.data.loader import Loader, Reading
from adapteo.feature_cache import FeatureLoader


def pure(*numbers):
    """Windows of one class each, with 50 labelled pixels."""
    return np.concatenate([np.tile(np.eye(len(numbers), dtype=int)[k] * 50, (n, 1)) for k, n in enumerate(numbers)])


def test_windows_of_one_class_each_are_balanced_exactly():
    counts = pure(60, 30, 10)
    weights = window_weights(counts, np.zeros(100), "classes")
    assert weights.mean() == pytest.approx(1)
    np.testing.assert_allclose(seen_shares(counts, weights), 1 / 3)
    np.testing.assert_allclose(seen_shares(counts, np.ones(100)), [0.6, 0.3, 0.1])


def test_mixed_windows_come_nearer_to_equal_shares():
    counts = np.random.default_rng(0).multinomial(200, [0.9, 0.08, 0.02], 100) * np.array([1, 1, 0])
    counts[:10, 2] = 100
    before, after = (seen_shares(counts, w) for w in (np.ones(100), window_weights(counts, np.zeros(100), "classes")))
    assert after[2] > 2 * before[2]
    assert np.abs(after - 1 / 3).sum() < np.abs(before - 1 / 3).sum()


def test_every_scene_is_seen_equally_often():
    scenes = np.repeat([4, 7, 9], [70, 20, 10])
    weights = window_weights(pure(50, 50), scenes, "scenes")
    np.testing.assert_allclose([weights[scenes == s].sum() for s in (4, 7, 9)], 100 / 3)
    np.testing.assert_allclose(weights[scenes == 7], weights[70])


def test_both_balances_classes_within_the_share_of_a_scene():
    scenes = np.array([0] * 50 + [1] * 40 + [0] * 10)  # class 1 is seen in scene 0 only
    counts = pure(90, 10)
    weights = window_weights(counts, scenes, "both")
    np.testing.assert_allclose([weights[scenes == s].sum() for s in (0, 1)], 50)
    ratio = weights[-1] / weights[0]
    assert ratio == pytest.approx(9)


def test_no_window_is_seen_too_often():
    weights = window_weights(pure(997, 3), np.zeros(1000), "classes")
    assert weights.max() == pytest.approx(CAP)
    assert weights.mean() == pytest.approx(1)
    np.testing.assert_allclose(weights[:997], (1000 - 3 * CAP) / 997)


def test_a_class_without_labels_does_no_harm():
    counts = np.column_stack([pure(60, 40), np.zeros(100, int)])
    np.testing.assert_allclose(seen_shares(counts, window_weights(counts, np.zeros(100), "classes")), [0.5, 0.5, 0])


# -------------------------------------------------------------------------------------------- loader


class Numbers(Dataset):
    """A sample for each key, whose only pixel is the key."""

    bands, classes, task = ("red",), ("a",), "segmentation"

    def split(self, name):
        return ()

    def read(self, key, bands=None):
        return Sample(key, np.full((1, 1, 1, 1), float(key), np.float32), np.zeros((1, 1), np.int64))

    def fingerprint(self):
        return ""


WEIGHTS = np.array([0.0, 0.3, 1.0, 1.0, 1.5, 2.2, *[0.75] * 4, 1.0])


def loader(shuffle=3, weights=WEIGHTS, **more):
    keys = [str(i) for i in range(len(WEIGHTS))]
    return Loader(Numbers(), keys, 4, shuffle=shuffle, weights=weights, reading=Reading(0), **more)


def seen(made, epoch, start=0):
    return [batch.keys for batch in made.epoch(epoch, start)]


def test_each_sample_is_seen_as_often_as_its_weight_says():
    made, expected = loader(), WEIGHTS / WEIGHTS.mean()
    total = Counter()
    for epoch in range(400):
        once = Counter(made.order(epoch).tolist())
        assert sum(once.values()) == len(WEIGHTS)
        assert all(np.floor(expected[i]) <= once[i] <= np.ceil(expected[i]) for i in range(len(WEIGHTS)))
        total += once
    np.testing.assert_allclose([total[i] / 400 for i in range(len(WEIGHTS))], expected, atol=0.08)
    assert total[0] == 0


def test_the_order_depends_on_seed_and_epoch_only_and_can_be_entered_anywhere():
    assert seen(loader(), 5) == seen(loader(), 5)
    assert seen(loader(), 5) != seen(loader(), 6)
    assert seen(loader(), 5) != seen(loader(shuffle=4), 5)
    assert seen(loader(), 5, start=2) == seen(loader(), 5)[2:]


def test_processes_divide_the_same_batches():
    whole = seen(loader(), 2)
    shares = [seen(loader(part=(rank, 2)), 2) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(batch) for batch in whole if len(batch) > 1]


def test_equal_weights_see_everything_once_and_none_keep_the_order_of_before():
    assert sorted(loader(weights=np.full(11, 0.2)).order(0).tolist()) == list(range(11))
    np.testing.assert_array_equal(loader(weights=None).order(1), np.random.default_rng([3, 1]).permutation(11))


@pytest.mark.parametrize("weights", [np.ones(3), -np.ones(11), np.zeros(11), np.full(11, np.nan)])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        loader(weights=weights)
    with pytest.raises(ValueError, match="seed"):
        loader(shuffle=None)


def test_a_loader_of_stored_features_keeps_the_order():
    nothing_stored = SimpleNamespace(shelves=lambda *given: [], size=(1, 1))
    made = FeatureLoader(loader(), nothing_stored, None)
    for epoch in range(3):
        np.testing.assert_array_equal(made.order(epoch), loader().order(epoch))

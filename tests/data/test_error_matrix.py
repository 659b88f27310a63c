"""Estimates against the paper's worked example, and against samples that are drawn again and again."""

import numpy as np
import pytest

from adapteo.data.error_matrix import assess

# Olofsson et al. 2014 (doi:10.1016/j.rse.2014.02.015), section 5: 640 samples in four strata (deforestation, forest
# gain, stable forest, stable non-forest), of a map of 10 million Landsat pixels of 30 m.
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])


def test_worked_example_of_the_paper():
    found = assess(COUNTS, PIXELS * 0.09)
    assert COUNTS.sum() == 640
    assert round(found.overall.value, 2) == 0.95
    assert round(found.overall.half, 2) == 0.02
    assert [round(v.value, 2) for v in found.users] == [0.88, 0.73, 0.93, 0.96]
    assert [round(v.half, 2) for v in found.users] == [0.07, 0.10, 0.04, 0.02]
    assert [round(v.value, 2) for v in found.producers] == [0.75, 0.85, 0.93, 0.96]
    assert [round(v.value) for v in found.areas] == [21158, 11686, 285770, 581386]
    assert [round(v.half) for v in found.areas] == [6158, 3756, 15510, 16282]
    assert round(assess(COUNTS, PIXELS).areas[0].value) == 235086
    assert found.proportions.sum() == pytest.approx(1)


def test_errors_of_producers_accuracy_are_those_of_the_formula():
    """Equation (7), written out with loops."""
    found = assess(COUNTS, PIXELS)
    rows = COUNTS.sum(1)
    for j in range(4):
        truth = sum(PIXELS[i] * COUNTS[i, j] / rows[i] for i in range(4))
        user = COUNTS[j, j] / rows[j]
        producer = PIXELS[j] * user / truth
        others = sum(
            PIXELS[i] ** 2 * COUNTS[i, j] / rows[i] * (1 - COUNTS[i, j] / rows[i]) / (rows[i] - 1)
            for i in range(4)
            if i != j
        )
        own = PIXELS[j] ** 2 * (1 - producer) ** 2 * user * (1 - user) / (rows[j] - 1)
        assert found.producers[j].error == pytest.approx(np.sqrt((own + producer**2 * others) / truth**2))


def draw(rng, truth, mapped, sizes):
    """Error matrix of samples: ``sizes`` by class of the map, or one number over the whole map."""
    if np.ndim(sizes):
        chosen = np.concatenate([rng.choice(np.flatnonzero(mapped == i), n) for i, n in enumerate(sizes)])
    else:
        chosen = rng.integers(0, len(truth), sizes)
    return np.bincount(3 * mapped[chosen] + truth[chosen], minlength=9).reshape(3, 3)


@pytest.mark.parametrize("sizes", [(40, 60, 50), 150])
def test_estimates_are_unbiased_and_their_errors_are_those_of_repeated_samples(sizes):
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 50_000, p=[0.1, 0.3, 0.6])
    mapped = np.where(rng.random(50_000) < 0.8, truth, rng.choice(3, 50_000))
    area = np.bincount(mapped)
    found = [assess(draw(rng, truth, mapped, sizes), area, random=not np.ndim(sizes)) for _ in range(1500)]
    for quantity, expected in (
        ("areas", np.bincount(truth)),
        ("users", np.bincount(mapped[truth == mapped]) / area),
        ("producers", np.bincount(mapped[truth == mapped]) / np.bincount(truth)),
    ):
        values = np.array([[v.value for v in getattr(f, quantity)] for f in found])
        errors = np.array([[v.error for v in getattr(f, quantity)] for f in found])
        noise = 4 * values.std(0) / np.sqrt(len(found))
        bias = 0.02 * expected if quantity == "producers" else 0  # a ratio
        assert (np.abs(values.mean(0) - expected) < noise + bias).all(), quantity
        np.testing.assert_allclose(np.sqrt((errors**2).mean(0)), values.std(0), rtol=0.1, err_msg=quantity)
    overall = np.array([f.overall.value for f in found])
    assert overall.mean() == pytest.approx((truth == mapped).mean(), abs=4 * overall.std() / np.sqrt(len(found)))
    assert np.sqrt(np.mean([f.overall.error**2 for f in found])) == pytest.approx(overall.std(), rel=0.1)


def test_simple_random_samples_have_the_second_term_of_cochran():
    found, plain = assess(COUNTS, PIXELS, random=True), assess(COUNTS, PIXELS)
    weight, n = PIXELS / PIXELS.sum(), COUNTS.sum()
    rows = COUNTS.sum(1)
    share = COUNTS[:, 0] / rows
    s2 = rows / (rows - 1) * share * (1 - share)
    variance = (weight * s2).sum() / n + ((1 - weight) * s2).sum() / n**2
    assert found.areas[0].error == pytest.approx(np.sqrt(variance) * PIXELS.sum())
    assert found.areas[0].value == plain.areas[0].value
    assert found.users == plain.users


def test_a_class_without_samples_is_left_out():
    counts = COUNTS.copy()
    counts[1] = 0
    found = assess(counts, PIXELS)
    assert sum(v.value for v in found.areas) == pytest.approx(PIXELS.sum() - PIXELS[1])
    assert np.isnan(found.users[1].value)
    assert np.isfinite(found.overall.error)


def test_one_sample_gives_no_interval():
    counts = COUNTS.copy()
    counts[1] = [0, 1, 0, 0]
    found = assess(counts, PIXELS)
    assert np.isnan(found.users[1].error)
    assert np.isnan(found.areas[1].error)
    assert np.isfinite(found.users[0].error)


def test_a_class_that_is_not_mapped_has_an_area():
    counts = np.array([[8, 2], [0, 0]])
    found = assess(counts, np.array([100.0, 0.0]))
    assert [v.value for v in found.areas] == pytest.approx([80, 20])
    assert found.producers[1].value == 0
    assert np.isnan(found.users[1].value)
    assert np.isfinite(found.areas[1].error)


def test_no_sample_at_all():
    found = assess(np.zeros((2, 2)), np.array([1.0, 2.0]))
    assert np.isnan(found.overall.value)
    assert all(np.isnan(v.value) for v in (*found.areas, *found.users, *found.producers))

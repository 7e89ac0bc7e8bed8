import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from featstore.errors import HeadError
from featstore.stats.intervals import bootstrap, bootstrap_scores, percentile_interval, wilson_interval
from featstore.stats.metrics import macro_f1


@pytest.mark.parametrize(("correct", "n"), [(95, 100), (0, 10), (10, 10), (1, 2), (999, 1000)])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_intervals_are_those_of_scipy(correct, n, confidence):
    expected = binomtest(correct, n).proportion_ci(confidence_level=confidence, method="wilson")

    assert wilson_interval(correct, n, confidence) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize(("correct", "n"), [(1, 0), (-1, 10), (11, 10)])
def test_impossible_counts_are_refused(correct, n):
    with pytest.raises(HeadError, match="correct"):
        wilson_interval(correct, n)


def test_the_bootstrap_of_a_fraction_spreads_as_the_binomial_does():
    draws = bootstrap(np.array([[1, 1], [0, 1]]), np.array([30, 70]), lambda sums: sums[:, 0] / sums[:, 1])

    assert draws.shape == (2000,)
    assert draws.mean() == pytest.approx(0.3, abs=0.005)
    assert draws.std() == pytest.approx(np.sqrt(0.3 * 0.7 / 100), rel=0.06)


def test_the_same_seed_gives_the_same_draws_and_another_one_others():
    def draws(seed):
        return bootstrap(np.eye(2), np.array([3, 4]), lambda sums: sums[:, 0], seed=seed).tolist()

    assert draws(1) == draws(1) != draws(2)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_a_draw_holds_whole_units(images):
    """Every draw's counts are those of some units: with one unit, those of all images."""
    units, true, predicted = map(np.array, zip(*images, strict=True))
    one = np.zeros_like(units)
    expected = [
        np.bincount(true[true == predicted], minlength=3),
        np.bincount(true, minlength=3),
        np.bincount(predicted, minlength=3),
    ]

    def same(*counts):
        return np.all([found == wanted for found, wanted in zip(counts, expected, strict=True)], axis=(0, 2))

    assert bootstrap_scores(one, true, predicted, 3, same, replicates=5).all()
    sizes = np.unique(units, return_counts=True)[1]
    drawn = bootstrap_scores(
        units, true, predicted, 3, lambda _, n_true, __: n_true.sum(axis=1), replicates=20
    )
    assert sizes.min() * len(sizes) <= drawn.min()
    assert drawn.max() <= sizes.max() * len(sizes)


def test_the_interval_of_macro_f1_is_that_of_resampling_image_by_image():
    random = np.random.default_rng(3)
    true = random.integers(0, 4, 300)
    predicted = np.where(random.random(300) < 0.7, true, random.integers(0, 4, 300))
    fast = percentile_interval(bootstrap_scores(np.arange(300), true, predicted, 4, macro_f1))
    slow = []
    for _ in range(2000):
        rows = random.integers(0, 300, 300)
        right = true[rows][true[rows] == predicted[rows]]
        counts = (np.bincount(values, minlength=4) for values in (right, true[rows], predicted[rows]))
        slow.append(macro_f1(*counts))

    assert fast == pytest.approx(percentile_interval(np.array(slow)), abs=0.01)

import numpy as np
import pytest

from featstore.duplicates.likeness import fit_likeness
from featstore.errors import DuplicatesError


def hashes_of(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32), np.uint8)


def test_vectors_have_unit_length(make_scenes):
    X, _ = make_scenes()
    vectors = fit_likeness(X, hashes_of(len(X))).vectors(X)
    np.testing.assert_allclose((vectors**2).sum(axis=1), 1, atol=1e-5)


def test_the_reference_does_not_depend_on_the_order_of_the_rows(make_scenes):
    X, _ = make_scenes(1500)
    hashes, order = hashes_of(len(X)), np.random.default_rng(1).permutation(len(X))
    straight, shuffled = fit_likeness(X, hashes), fit_likeness(X[order], hashes[order])
    np.testing.assert_array_equal(straight.mean, shuffled.mean)
    np.testing.assert_allclose(straight.vectors(X), shuffled.vectors(X), atol=1e-5)


def test_images_of_one_class_are_not_alike_though_their_plain_cosine_is_high(make_scenes):
    X, y = make_scenes()
    plain = X / np.linalg.norm(X, axis=1, keepdims=True)
    same_class = np.triu(y[:, None] == y, 1)
    vectors = fit_likeness(X, hashes_of(len(X))).vectors(X)
    assert (plain @ plain.T)[same_class].min() > 0.5
    assert (vectors @ vectors.T)[same_class].max() < 0.5


def test_copies_are_alike_even_where_they_are_a_third_of_the_table(make_scenes, make_nearly):
    X, _ = make_scenes()
    X = np.concatenate([X, make_nearly(np.repeat(X[:1], 150, axis=0), noise=0.3)])
    vectors = fit_likeness(X, hashes_of(len(X))).vectors(X)[300:]
    assert (vectors @ vectors.T).min() > 0.75


def test_a_direction_of_ten_times_the_mean_variance_is_halved_in_variance():
    # Pairs along 20 axes: a variance of 10 along the first, and a mean of 1 over all.
    variances = np.r_[10.0, np.full(19, 10 / 19)]
    half = np.diag(np.sqrt(variances * 39 / 2))
    X = np.concatenate([half, -half]).astype(np.float32)
    likeness = fit_likeness(X, hashes_of(len(X)))
    [first] = np.flatnonzero(np.abs(likeness.directions[0]) > 0.9)
    assert likeness.damping[first] == pytest.approx(1 - np.sqrt(1 / 2), abs=1e-3)


def test_features_that_do_not_vary_are_all_alike():
    X = np.full((5, 8), 0.3, np.float32)
    vectors = fit_likeness(X, hashes_of(5)).vectors(X)
    np.testing.assert_allclose(vectors @ vectors.T, 1)


def test_half_precision_is_compared_in_single(make_scenes):
    X, _ = make_scenes()
    half = X.astype(np.float16)
    told, exact = fit_likeness(half, hashes_of(300)), fit_likeness(half.astype(np.float32), hashes_of(300))
    np.testing.assert_array_equal(told.vectors(half), exact.vectors(half.astype(np.float32)))


def test_features_that_are_not_finite_are_refused(make_scenes):
    X, _ = make_scenes()
    X[7, 3] = np.nan
    with pytest.raises(DuplicatesError, match="1 of 300 rows"):
        fit_likeness(X, hashes_of(300))

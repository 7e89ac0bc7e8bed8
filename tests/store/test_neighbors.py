import numpy as np
import pytest

from featstore.errors import SearchError
from featstore.store.tables.neighbors import unit_vectors


@pytest.fixture
def filled(store, fill, make_catalog, make_hashes):
    """Thirty images in three segments, in another order than the store's."""
    fill(store, n=10, n_segments=3)
    order = np.random.default_rng(0).permutation(30)
    store.write_catalog(make_catalog(30, content_hash=make_hashes(30)[order]))
    return store


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("featstore.store.tables.neighbors._BLOCK_BYTES", 3 * 4 * 4)
    monkeypatch.setattr("featstore.store.tables.neighbors._QUERIES", 4)


def brute(X, queries, k):
    X, queries = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (X, queries))
    cosines = queries.astype(np.float64) @ X.astype(np.float64).T
    rows = np.argsort(-cosines, axis=1)[:, :k]
    return rows, np.take_along_axis(cosines, rows, axis=1)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("k", [1, 7, 29])
def test_the_nearest_rows_are_those_of_a_plain_search(filled, small_blocks, monkeypatch, threads, k):
    monkeypatch.setattr("featstore.store.tables.neighbors._n_cores", lambda: threads)
    table = filled.table()
    queries = np.random.default_rng(1).normal(size=(9, 4))
    found = table.neighbors(queries, k=k)
    rows, cosines = brute(np.array(table.X), queries, k)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.similarity, cosines, atol=1e-6)


def test_selected_rows_find_themselves_alone(filled, small_blocks):
    table = filled.table().select([7, 3, 22])
    found = table.neighbors(table.X, k=1)
    assert found.rows[:, 0].tolist() == [0, 1, 2]
    assert found.similarity[:, 0] == pytest.approx(1)


def test_more_neighbours_than_rows_are_all_rows(filled):
    found = filled.table().neighbors(np.ones((2, 4)), k=100)
    assert found.rows.shape == found.similarity.shape == (2, 30)
    assert sorted(found.rows[0].tolist()) == list(range(30))


def test_no_queries_have_no_neighbours(filled):
    assert filled.table().neighbors(np.empty((0, 4)), k=3).rows.shape == (0, 3)


def test_of_joined_spaces_each_counts_the_same(store, fill, make_catalog, make_hashes):
    spaces = [fill(store).name, fill(store, architecture="other").name]
    store.write_catalog(make_catalog())
    table = store.table(space=spaces)
    first, second = table.X[:, :4], table.X[:, 4:]
    queries = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    # However long a part of a query is.
    found = table.neighbors(queries * np.repeat([1000, 1], 4), k=10)
    expected = sum(
        unit_vectors(part).astype(np.float64) @ unit_vectors(rows).T / 2
        for part, rows in ((queries[:, :4], first), (queries[:, 4:], second))
    )
    np.testing.assert_allclose(found.similarity, -np.sort(-expected, axis=1), atol=1e-6)


def test_views_are_rows_of_their_own(store, make_spec, make_hashes, make_catalog):
    space = store.create_space(make_spec(), feature_dim=4)
    X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    space.append(X, np.repeat(make_hashes(3), 2, axis=0), np.tile(np.arange(2, dtype=np.uint16), 3))
    store.write_catalog(make_catalog(3))
    table = store.table()
    assert table.neighbors(X, k=1).rows[::2, 0].tolist() == [0, 1, 2]
    assert table.with_views(2).neighbors(X, k=1).rows[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_features_without_a_direction_are_like_nothing(store, make_spec, make_hashes, make_catalog):
    X = np.array([[0, 0, 0, 0], [1, 0, 0, 0]], np.float32)
    store.create_space(make_spec(), feature_dim=4).append(X, make_hashes(2))
    store.write_catalog(make_catalog(2))
    found = store.table().neighbors(X, k=2)
    assert found.similarity.tolist() == [[0, 0], [1, 0]]


def test_very_large_and_very_small_queries(filled):
    table = filled.table()
    X = np.array(table.X[:3], np.float64)
    for factor in (1e-30, 1e30):
        assert table.neighbors(X * factor, k=1).rows[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("X", "k", "says"),
    [
        (np.ones(4), 1, r"shape \(n_queries, 4\), the table's features; found float64 of shape \(4,\)"),
        (np.ones((1, 5)), 1, r"found float64 of shape \(1, 5\)"),
        ([["a"] * 4], 1, "found <U1"),
        ([[1, 2, 3, np.nan]], 1, "must be finite"),
        (np.ones((1, 4)), 0, "at least 1; found 0"),
        (np.ones((1, 4)), True, "at least 1; found True"),
    ],
)
def test_what_cannot_be_searched_for(filled, X, k, says):
    with pytest.raises(SearchError, match=says):
        filled.table().neighbors(X, k=k)

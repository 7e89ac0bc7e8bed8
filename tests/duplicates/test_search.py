import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from featstore.duplicates import search
from featstore.duplicates.likeness import fit_likeness


@pytest.fixture(params=[(2048, 128 * 2**20), (64, 1), (50, 200_000)], ids=["one tile", "tiny", "stretches"])
def tiles(request, monkeypatch):
    monkeypatch.setattr(search, "_TILE_ROWS", request.param[0])
    monkeypatch.setattr(search, "_HELD_BYTES", request.param[1])


@pytest.fixture
def data(make_scenes, make_nearly):
    X, _ = make_scenes(260)
    X = np.concatenate([X, make_nearly(X[::5]), make_nearly(X[::10], seed=2), X[:3]])
    X = X[np.random.default_rng(5).permutation(len(X))]
    hashes = np.random.default_rng(0).integers(0, 256, (len(X), 32), np.uint8)
    likeness = fit_likeness(X, hashes)
    vectors = likeness.vectors(X)
    return X, likeness, np.triu(vectors @ vectors.T, 1)


def test_the_pairs_are_those_of_the_whole_matrix(tiles, data):
    X, likeness, whole = data
    found = search.close_pairs(X, np.arange(len(X)), likeness, threshold=0.75, max_pairs=1000)
    close = whole >= 0.75
    assert 0 < found.n_pairs == close.sum() == len(found.first)
    assert {*zip(found.first.tolist(), found.second.tolist(), strict=True)} == {
        *zip(*(axis.tolist() for axis in np.nonzero(close)), strict=True)
    }
    np.testing.assert_allclose(found.similarity, np.sort(whole[close])[::-1], atol=1e-5)
    np.testing.assert_allclose(
        found.best, np.where(close | close.T, whole + whole.T, 0).max(axis=1), atol=1e-5
    )
    _, expected = connected_components(close, directed=False)
    np.testing.assert_array_equal(
        found.components[:, None] == found.components, expected[:, None] == expected
    )


@pytest.mark.parametrize("max_pairs", [0, 1, 20])
def test_only_the_closest_pairs_are_kept_and_the_components_are_complete(tiles, data, max_pairs):
    X, likeness, _ = data
    whole = search.close_pairs(X, np.arange(len(X)), likeness, threshold=0.75, max_pairs=1000)
    cut = search.close_pairs(X, np.arange(len(X)), likeness, threshold=0.75, max_pairs=max_pairs)
    np.testing.assert_allclose(cut.similarity, whole.similarity[:max_pairs], atol=1e-6)
    assert cut.n_pairs == whole.n_pairs
    np.testing.assert_array_equal(cut.components, whole.components)


def test_chosen_rows_are_numbered_anew(tiles, data):
    X, likeness, whole = data
    rows = np.flatnonzero(np.arange(len(X)) % 3)
    found = search.close_pairs(X, rows, likeness, threshold=0.75, max_pairs=1000)
    np.testing.assert_allclose(whole[rows[found.first], rows[found.second]], found.similarity, atol=1e-5)
    assert found.n_pairs == (whole[np.ix_(rows, rows)] >= 0.75).sum()


def test_progress_counts_every_pair(tiles, data):
    X, likeness, _ = data
    seen = []
    search.close_pairs(
        X,
        np.arange(len(X)),
        likeness,
        threshold=0.75,
        max_pairs=9,
        progress=lambda *told: seen.append(told),
    )
    total = len(X) * (len(X) - 1) // 2
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_memory_map_is_searched_in_blocks_and_never_gathered_whole(tiles, data, monkeypatch):
    X, likeness, _ = data
    sizes = []

    class Rows:
        shape = X.shape

        def __getitem__(self, key):
            sizes.append(len(X[key]))
            return X[key]

    search.close_pairs(Rows(), np.arange(len(X)), likeness, threshold=0.75, max_pairs=9)
    assert max(sizes) <= search._TILE_ROWS


def test_the_best_match_is_that_of_the_whole_matrix(tiles, data):
    X, likeness, whole = data
    rows, others = np.arange(0, len(X), 2), np.arange(1, len(X), 2)
    among = (whole + whole.T)[np.ix_(rows, others)]
    best, which = search.nearest_others(X, rows, others, likeness)
    np.testing.assert_allclose(best, among.max(axis=1), atol=1e-5)
    np.testing.assert_allclose(among[np.arange(len(rows)), np.searchsorted(others, which)], best, atol=1e-5)


def test_an_image_is_not_its_own_best_match_and_no_copy_of_it_is(tiles, data):
    X, likeness, whole = data
    rows = np.arange(len(X))
    contents = rows // 2
    among = whole + whole.T
    among[contents[:, None] == contents] = -1
    best, which = search.nearest_others(X, rows, rows, likeness, contents=contents)
    np.testing.assert_allclose(best, among.max(axis=1), atol=1e-5)
    assert (contents[which] != contents).all()
    best, which = search.nearest_others(X, rows[:2], rows[:2], likeness, contents=contents)
    assert (best.tolist(), which.tolist()) == ([-1, -1], [-1, -1])


def test_a_great_many_pairs_take_bounded_room(make_nearly, make_scenes):
    X, _ = make_scenes(40)
    X = np.concatenate([X, make_nearly(np.repeat(X[:1], 2500, axis=0), noise=0.05)])
    hashes = np.random.default_rng(0).integers(0, 256, (len(X), 32), np.uint8)
    found = search.close_pairs(X, np.arange(len(X)), fit_likeness(X, hashes), threshold=0.75, max_pairs=100)
    assert found.n_pairs == 2501 * 2500 // 2
    assert len(found.first) == 100
    assert (found.components[40:] == 0).all()
    assert len(np.unique(found.components)) == 40

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featstore.store.segments.keys import KeyIndex


def zeros(n):
    return np.zeros(n, np.uint16)


def reference(hashes, views, wanted, wanted_views):
    first = {}
    for row, key in enumerate(zip(map(bytes, hashes), views.tolist(), strict=True)):
        first.setdefault(key, row)
    keys = zip(map(bytes, wanted), wanted_views.tolist(), strict=True)
    return [first.get(key, -1) for key in keys]


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 2)), max_size=20), max_size=6
    )
)
def test_finds_the_first_row_of_each_key_however_they_collide(parts):
    index = KeyIndex()
    all_keys = [(0, 0, 0), *(key for part in parts for key in part)]
    # Only four prefixes of 32 bits among all hashes, so that most keys share theirs with others.
    told = np.zeros((len(all_keys), 32), np.uint8)
    told[:, 0] = [key[1] for key in all_keys]
    told[:, 31] = [key[0] for key in all_keys]
    told_views = np.array([key[2] for key in all_keys], np.uint16)
    stop = 1
    for part in parts:
        start, stop = stop, stop + len(part)
        index.extend(told[start:stop], told_views[start:stop])
        expected = reference(told[1:stop], told_views[1:stop], told, told_views)
        assert index.find(told, told_views).tolist() == expected
        assert [
            index.find_one(content.tobytes(), view)
            for content, view in zip(told, told_views.tolist(), strict=True)
        ] == expected
        rows = reference(told[1:stop], told_views[1:stop], told[1:stop], told_views[1:stop])
        assert index.is_first().tolist() == [row == number for number, row in enumerate(rows)]


def test_finds_among_many_rows_added_in_many_steps():
    hashes = np.random.default_rng(0).integers(0, 256, (200_000, 32), np.uint8)
    index = KeyIndex()
    for start in range(0, 100_000, 10_000):
        index.extend(hashes[start : start + 10_000], zeros(10_000))
        assert index.find(hashes[start : start + 1], 0).tolist() == [start]
    found = index.find(hashes, 0)
    np.testing.assert_array_equal(found[:100_000], np.arange(100_000))
    assert (found[100_000:] == -1).all()


def test_a_thousand_keys_with_one_prefix_are_distinguished():
    hashes = np.zeros((1000, 32), np.uint8)
    hashes[:, 8:10] = np.arange(1000, dtype="<u2").view(np.uint8).reshape(-1, 2)
    index = KeyIndex()
    index.extend(hashes, zeros(1000))
    np.testing.assert_array_equal(index.find(hashes[::-1], 0), np.arange(1000)[::-1])


def test_views_of_one_hash_are_rows_of_their_own():
    hashes = np.repeat(np.arange(32, dtype=np.uint8).reshape(1, 32), 3, axis=0)
    index = KeyIndex()
    index.extend(hashes, np.array([2, 0, 65535], np.uint16))
    assert [int(index.find(hashes[:1], view)[0]) for view in (0, 1, 2, 65535)] == [1, -1, 0, 2]
    assert [index.find_one(hashes[0].tobytes(), view) for view in (0, 1, 2, 65535)] == [1, -1, 0, 2]


@pytest.mark.parametrize("n", [0, 5])
def test_an_empty_index_finds_nothing(n):
    assert KeyIndex().find(np.zeros((n, 32), np.uint8), 0).tolist() == [-1] * n

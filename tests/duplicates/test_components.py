import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featstore.duplicates.components import Components


@given(
    n=st.integers(1, 12),
    batches=st.lists(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=6), max_size=4),
)
def test_two_things_share_a_label_where_a_chain_of_edges_joins_them(n, batches):
    batches = [[(a, b) for a, b in batch if a < n and b < n] for batch in batches]
    found = Components(n)
    reach = np.eye(n, dtype=bool)
    for batch in batches:
        found.join([a for a, _ in batch], [b for _, b in batch])
        for a, b in batch:
            reach[a, b] = reach[b, a] = True
    for _ in range(n):
        reach = reach @ reach
    np.testing.assert_array_equal(found.labels[:, None] == found.labels, reach)
    np.testing.assert_array_equal(found.labels, reach.argmax(axis=1))

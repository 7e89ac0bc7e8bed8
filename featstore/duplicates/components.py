"""Connected components that grow edge by edge, in memory that does not depend on the number of edges."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Components"]


class Components:
    """Which of n things hang together by the edges told so far.

    Parameters
    ----------
    n : int

    Attributes
    ----------
    labels : ndarray of shape (n,), int64
        For each thing the smallest number in its component.

    Examples
    --------
    >>> found = Components(5)
    >>> found.join([4, 1], [1, 3])
    >>> found.labels.tolist()
    [0, 1, 2, 1, 1]
    """

    def __init__(self, n: int) -> None:
        self.labels: NDArray[np.int64] = np.arange(n, dtype=np.int64)

    def join(self, first: NDArray[np.int64] | list[int], second: NDArray[np.int64] | list[int]) -> None:
        """Add the edges between ``first[k]`` and ``second[k]``."""
        a, b = self.labels[np.asarray(first, np.int64)], self.labels[np.asarray(second, np.int64)]
        new = a != b
        if not new.any():
            return
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        a, b = a[new], b[new]
        # Only the components that the edges touch take part, so that few edges cost little among many things.
        place = np.zeros(len(self.labels), np.int64)
        place[a] = place[b] = 1
        touched = np.flatnonzero(place)
        place[touched] = np.arange(len(touched))
        graph = coo_array(
            (np.ones(len(a), np.float32), (place[a], place[b])), shape=(len(touched), len(touched))
        )
        _, component = connected_components(graph, directed=False)
        smallest = np.full(int(component.max()) + 1, len(self.labels), np.int64)
        np.minimum.at(smallest, component, touched)
        roots = np.arange(len(self.labels))
        roots[touched] = smallest[component]
        self.labels = roots[self.labels]

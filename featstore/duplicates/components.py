"""Incremental connected components, in memory independent of the number of edges."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Components"]


class Components:
    """Connected components of n nodes; ``labels`` holds the smallest node of each node's component."""

    def __init__(self, n: int) -> None:
        self.labels: NDArray[np.int64] = np.arange(n, dtype=np.int64)  # (n,)

    def join(self, first: NDArray[np.int64] | list[int], second: NDArray[np.int64] | list[int]) -> None:
        """Add the edges between ``first[k]`` and ``second[k]``."""
        a, b = self.labels[np.asarray(first, np.int64)], self.labels[np.asarray(second, np.int64)]
        new = a != b
        if not new.any():
            return
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        a, b = a[new], b[new]
        # Only components that the edges touch take part: few edges among many nodes are cheap.
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

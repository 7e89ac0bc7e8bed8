"""Classes in a hierarchy: their ancestors, and how probable these are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.stats.intervals import scored

__all__ = ["Hierarchy", "are_parents", "level_scores"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Hierarchy:
    """Classes and their ancestors; several may have no parent."""

    chains: list[list[str]]  # of each class: from its first ancestor to itself
    nodes: list[str]
    depths: NDArray[np.intp]  # (n_nodes,): number of ancestors
    members: NDArray[np.bool_]  # (n_nodes, n_classes): whether a class is, or lies below, a node

    @classmethod
    def of(cls, classes: Sequence[str], parents: Mapping[str, str]) -> Self:
        """Return the hierarchy of some classes; raise HeadError if a name is an ancestor of itself."""
        chains = [_chain(label, parents) for label in classes]
        depths = {name: depth for chain in chains for depth, name in enumerate(chain)}
        nodes = sorted(depths)
        places = {name: at for at, name in enumerate(nodes)}
        members = np.zeros((len(nodes), len(chains)), np.bool_)
        for number, chain in enumerate(chains):
            members[[places[name] for name in chain], number] = True
        of_nodes = np.array([depths[name] for name in nodes], np.intp)
        return cls(chains=chains, nodes=nodes, depths=of_nodes, members=members)

    def deepest(self, row: NDArray[Any], least: float) -> tuple[str, float] | None:
        """Return the deepest node whose classes are together so probable, the likeliest of several."""
        together = self.members @ np.asarray(row, np.float64)
        # Probabilities of float32 may have a sum that is a little below 1.
        enough = np.flatnonzero(together >= least - 1e-6)
        if not len(enough):
            return None
        best = enough[np.lexsort((together[enough], self.depths[enough]))[-1]]
        return self.nodes[best], min(float(together[best]), 1.0)


def level_scores(
    classes: Sequence[str],
    parents: Mapping[str, str],
    labels: NDArray[np.str_],
    probabilities: NDArray[np.float64],
) -> list[dict[str, Any]]:
    """Return the accuracy at each level, the topmost first; none without parents.

    Below its own level a class stands for itself. An image gets the node with the largest sum of
    probabilities.
    """
    if not parents:
        return []
    chains = Hierarchy.of(classes, parents).chains
    true = np.searchsorted(np.asarray(classes), labels)
    found = []
    for level in range(max(map(len, chains))):
        names, node_of = np.unique([chain[: level + 1][-1] for chain in chains], return_inverse=True)
        sums = np.zeros((len(labels), len(names)))
        np.add.at(sums.T, node_of, probabilities.T)
        n_right = int((sums.argmax(axis=1) == node_of[true]).sum())
        found.append({"level": level + 1, "classes": len(names), **scored(n_right, len(labels))})
    return found


def are_parents(parents: Any, classes: Sequence[Any]) -> bool:
    """Return whether values from a file are parents of names, and none is an ancestor of itself."""
    if parents == {}:
        return True
    if not isinstance(parents, dict):
        return False
    if not all(isinstance(name, str) and name for name in (*parents, *parents.values(), *classes)):
        return False
    try:
        Hierarchy.of(list(classes), parents)
    except HeadError:
        return False
    return True


def _chain(label: str, parents: Mapping[str, str]) -> list[str]:
    chain = [label]
    while (parent := parents.get(chain[-1])) is not None:
        if parent in chain:
            raise HeadError(f"{parent!r} is an ancestor of itself: {', '.join([*chain, parent])}")
        chain.append(parent)
    return chain[::-1]

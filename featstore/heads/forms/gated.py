"""Gated form: old and new classes, with a gate that decides between them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm, row_lengths
from featstore.heads.forms.network import NetworkForm

__all__ = ["N_NEIGHBORS", "GatedForm", "evidence", "neighbor_cosine", "unit_rows"]

N_NEIGHBORS = 3
"""Number of nearest neighbours whose cosines are averaged."""

# Maximum number of extensions: each head contains the one before it.
_DEEPEST = 16

_ARRAYS = ("members", "neighbors", "offset", "old_neighbors", "temperatures", "weights")


@dataclass(frozen=True, kw_only=True, eq=False)
class GatedForm:
    """Scores of an extended head: two classifiers and a gate between them.

    With the old head's scores ``z``, the new classifier's ``v``, and temperatures ``T`` of each, an image
    with features ``x`` has the scores::

        z_j / T_old                                              for an old class j
        log softmax(v / T_new)_k + max(z) / T_old + gate(x)      for a new class k
        gate(x) = weights . (near_new(x), max z, near_old(x)) + offset

    where ``near_new`` and ``near_old`` are the mean cosine of ``x`` to its 3 nearest rows of two banks of
    training features: where the gate is 0, the new classes together are as likely as the likeliest old class.
    Old classes keep their scores, so that a gated head may be the old head of another. A class that is both
    old and new has the larger of its two scores. With ``old_columns``, the old head and the gate see those
    columns of the features, and the new classifier all.
    """

    old: "LinearForm | GatedForm | KernelForm | NetworkForm"
    new: LinearForm | KernelForm | NetworkForm  # of a single class, coef may be a zero row
    temperatures: NDArray[np.float64]  # (2,): of the old and the new scores
    weights: NDArray[np.float64]  # (3,)
    offset: NDArray[np.float64]  # ()
    neighbors: NDArray[np.float32]  # (n_rows, old.feature_dim): bank of unit rows
    old_neighbors: NDArray[np.float32]  # (n_rows, old.feature_dim): may be empty
    members: NDArray[np.int64]  # (n_classes, n_members): each class's columns in (old, new); -1 for none
    old_columns: NDArray[np.int64] | None = None  # (old.feature_dim,): None for all features

    def __post_init__(self) -> None:
        own = {name: getattr(self, name) for name in _ARRAYS}
        shapes = {name: array.shape for name, array in own.items()}
        dim = self.old.feature_dim
        banks = all(
            bank.ndim == 2 and bank.shape[1] == dim and bank.dtype == np.float32
            for bank in (self.neighbors, self.old_neighbors)
        )
        small = {name: shapes[name] for name in ("temperatures", "weights", "offset")}
        if (
            not banks
            or not len(self.neighbors)
            or (self.old_columns is None and self.new.feature_dim != dim)
            or small != {"temperatures": (2,), "weights": (3,), "offset": ()}
            or self.members.ndim != 2
        ):
            raise HeadError(f"the arrays of a gated classifier have inconsistent shapes: {shapes}")
        numbers = [own[name] for name in small]
        if any(array.dtype != np.float64 for array in numbers) or self.members.dtype != np.int64:
            raise HeadError(
                "the arrays of a gated classifier must be float64, its banks float32, members int64"
            )
        if not all(np.isfinite(own[name]).all() for name in _ARRAYS) or not (self.temperatures > 0).all():
            raise HeadError("the arrays of a gated classifier must be finite, and its temperatures above 0")
        n_columns = self.old.n_classes + self.new.n_classes
        if self.members.size == 0 or self.members.min() < -1 or self.members.max() >= n_columns:
            raise HeadError(f"the members of a gated classifier must be below {n_columns}")
        if self.members[:, 0].min() < 0:
            raise HeadError("a class of a gated classifier has no column")
        self._check_old_columns()

    def _check_old_columns(self) -> None:
        at = self.old_columns
        if at is None:
            return
        if at.dtype != np.int64 or at.shape != (self.old.feature_dim,):
            raise HeadError(
                f"the old columns of a gated classifier must be {self.old.feature_dim:,} int64 numbers; "
                f"found {at.dtype} of shape {at.shape}"
            )
        if at.min() < 0 or at.max() >= self.new.feature_dim or len(np.unique(at)) < len(at):
            raise HeadError(
                f"the old columns of a gated classifier must be different and below {self.new.feature_dim:,}"
            )

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.members)

    @property
    def feature_dim(self) -> int:
        """Number of features of an image."""
        return self.new.feature_dim

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, those of the classifiers prefixed with ``old.`` and ``new.``."""
        inside = {"old": self.old.arrays(), "new": self.new.arrays()}
        return {
            **{name: getattr(self, name) for name in _ARRAYS},
            **({} if self.old_columns is None else {"old_columns": self.old_columns}),
            **{f"{side}.{name}": array for side, arrays in inside.items() for name, array in arrays.items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], *, depth: int = 1) -> Self:
        """Create a form from the output of :meth:`arrays`."""
        if depth > _DEEPEST:
            raise HeadError(f"a head that was extended more than {_DEEPEST} times cannot be read")
        sides: dict[str, dict[str, NDArray[Any]]] = {"old": {}, "new": {}, "": {}}
        for name, array in arrays.items():
            side, dot, rest = name.partition(".")
            if dot and side not in ("old", "new"):
                raise HeadError(f"a gated classifier has no array {name!r}")
            sides[side if dot else ""][rest if dot else name] = array
        if set(sides[""]) - {"old_columns"} != {*_ARRAYS}:
            raise HeadError(f"unexpected arrays of a gated classifier: {', '.join(sorted(sides['']))}")
        is_gated = "weights" in sides["old"]
        old = cls.from_arrays(sides["old"], depth=depth + 1) if is_gated else _plain_form(sides["old"])
        return cls(old=old, new=_plain_form(sides["new"]), **sides[""])

    @property
    def is_plain(self) -> bool:
        """Whether it consists of linear classifiers of the same features, as readers up to 0.5 know it."""
        is_old_plain = (
            self.old.is_plain if isinstance(self.old, GatedForm) else isinstance(self.old, LinearForm)
        )
        return self.old_columns is None and isinstance(self.new, LinearForm) and is_old_plain

    @property
    def has_kernel(self) -> bool:
        """Whether a classifier in it is a kernel head's."""
        inside = isinstance(self.old, GatedForm) and self.old.has_kernel
        return inside or isinstance(self.old, KernelForm) or isinstance(self.new, KernelForm)

    def old_features(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return the columns that the old head and the gate see."""
        return X if self.old_columns is None else X[:, self.old_columns]

    def with_classes(self, at: NDArray[np.intp]) -> Self:
        """Return the form of some classes, in the given order, with unchanged scores."""
        return replace(self, members=self.members[at])

    def gate(self, X: NDArray[Any], old_scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log odds of all new classes against the likeliest old one, of what that sees."""
        return np.asarray(
            evidence(X, old_scores, self.neighbors, self.old_neighbors) @ self.weights + self.offset
        )

    def sides(self, X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the scores of the old and of the new classes, before classes in both take the larger."""
        seen = self.old_features(X)
        old = self.old.scores(seen)
        gate = self.gate(seen, old)
        old = old / self.temperatures[0]
        new = self.new.scores(X) / self.temperatures[1]
        return old, new + (gate + old.max(axis=1) - _log_sum(new))[:, np.newaxis]

    def scores(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return scores of shape (n, n_classes), whose softmax are the probabilities."""
        columns = np.concatenate(self.sides(X), axis=1)
        best = columns[:, self.members[:, 0]]
        for member in self.members.T[1:]:
            at = np.flatnonzero(member >= 0)
            best[:, at] = np.maximum(best[:, at], columns[:, member[at]])
        return best


def _plain_form(arrays: Mapping[str, NDArray[Any]]) -> LinearForm | KernelForm | NetworkForm:
    """Create the form that has such arrays."""
    for kind, name in ((KernelForm, "rows"), (NetworkForm, "hidden_coef")):
        if name in arrays:
            return kind.from_arrays(arrays)
    return LinearForm.from_arrays(arrays)


def evidence(
    X: NDArray[Any],
    old_scores: NDArray[np.float64],
    neighbors: NDArray[np.float32],
    old_neighbors: NDArray[np.float32],
    *,
    own: tuple[NDArray[np.intp] | None, NDArray[np.intp] | None] = (None, None),
) -> NDArray[np.float64]:
    """Return the gate's inputs, float64 of shape (n, 3): near_new, the largest old score, and near_old."""
    # Banks hold rows of unit length. For images that are in a bank, `own` gives their rows there, which are
    # skipped.
    rows = unit_rows(X)
    near, near_old = (
        neighbor_cosine(rows, bank, own=at) for bank, at in zip((neighbors, old_neighbors), own, strict=True)
    )
    return np.stack([near, old_scores.max(axis=1), near_old], axis=1)


def neighbor_cosine(
    rows: NDArray[np.float32], bank: NDArray[np.float32], *, own: NDArray[np.intp] | None = None
) -> NDArray[np.float64]:
    """Return the mean cosine of unit rows to their 3 nearest in a bank; 0 if it has none."""
    # `own` gives each row's own position in the bank, which is skipped.
    n_others = len(bank) - (own is not None)
    count = min(N_NEIGHBORS, n_others)
    if count < 1:
        return np.zeros(len(rows))
    near = np.empty(len(rows))
    step = max(1, 2**24 // len(bank))
    for start in range(0, len(rows), step):
        cosines = rows[start : start + step] @ bank.T
        if own is not None:
            cosines[np.arange(len(cosines)), own[start : start + step]] = -np.inf
        nearest = np.partition(cosines, -count, axis=1)[:, -count:]
        near[start : start + step] = nearest.mean(axis=1, dtype=np.float64)
    return near


def unit_rows(X: NDArray[Any]) -> NDArray[np.float32]:
    """Normalise rows to unit length, float32; zero rows stay unchanged."""
    rows = np.asarray(X, np.float64)
    return np.asarray(rows / row_lengths(rows), np.float32)


def _log_sum(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log-sum-exp of each row."""
    # Not scipy.special.logsumexp, whose last bits differ: saved heads would score otherwise.
    largest = scores.max(axis=1)
    return np.asarray(largest + np.log(np.exp(scores - largest[:, np.newaxis]).sum(axis=1)))

"""Folds and hold-outs assigned by a hash, as scikit-learn cross-validators."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SplitError
from featstore.splits.keys import (
    RANGE,
    checked_fraction,
    checked_hashes,
    draws,
    label_key,
    rows_as_bytes,
    salt_bytes,
)
from featstore.splits.strata import class_codes, fill_folds

__all__ = ["HashHoldout", "HashKFold", "fold_numbers"]


@dataclass(frozen=True)
class HashKFold:
    """K folds assigned by a hash, as a scikit-learn cross-validator.

    Rows with the same entry in ``groups`` are always in one fold, and a row's fold stays the same when others
    are added. The fold is ``u mod n_splits``, where ``u`` is bytes 8 to 15 of the digest defined in
    :mod:`featstore.splits`, as a big-endian unsigned integer.

    Parameters
    ----------
    n_splits : int
        Number of folds, at least 2.
    salt : str
        Any text; another salt gives other folds. In nested searches give the inner one another salt:
        with the outer salt, and numbers of folds that share a factor, inner folds come out uneven.
    stratify : bool
        Whether a class whose images are all in one fold has one image (or group) moved to the next fold, so
        that every training part contains the class. Other classes, and indivisible ones, stay unchanged.

    Raises
    ------
    SplitError
        ``n_splits`` is below 2.

    Examples
    --------
    >>> groups = ["fen", "fen", "forest", "dune", "dune", "swamp"]
    >>> for train, test in HashKFold(2).split(range(6), groups=groups):
    ...     print(train, test)
    [2 5] [0 1 3 4]
    [0 1 3 4] [2 5]
    """

    n_splits: int = 5
    salt: str = field(default="", kw_only=True)
    stratify: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.n_splits, bool) or not isinstance(self.n_splits, int) or self.n_splits < 2:
            raise SplitError(f"n_splits must be an integer of at least 2; found {self.n_splits!r}")
        salt_bytes(self.salt)
        if not isinstance(self.stratify, bool):
            raise SplitError(f"stratify must be True or False; found {self.stratify!r}")

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds; the arguments are ignored, as in scikit-learn."""
        return self.n_splits

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield the row numbers of train and test for each fold.

        Parameters
        ----------
        X : array_like of length n
            Only its length is used.
        y : array_like of n labels, optional
            Required to stratify, otherwise ignored.
        groups : array_like
            Groups to keep together: ``table.content_hash`` (n hexadecimal str), content hashes, uint8 of
            shape (n, 32), or n labels of any kind, such as the names of patients or sites.

        Returns
        -------
        iterator of (ndarray of int, ndarray of int)

        Raises
        ------
        SplitError
            Groups, or labels to stratify by, are missing or empty; or a fold would be empty.
        """
        folds = fold_numbers(self, X, y, groups)
        sizes = np.bincount(folds, minlength=self.n_splits)
        if not sizes.all():
            raise SplitError(
                f"{int((sizes == 0).sum())} of {self.n_splits} folds would be empty with {len(folds)} rows; "
                "use fewer folds, or another salt if these rows are the training part of another fold"
            )
        return (
            (np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(self.n_splits)
        )


@dataclass(frozen=True, kw_only=True)
class HashHoldout:
    """A single hold-out assigned by a hash, as a scikit-learn cross-validator.

    A row is in the test part if ``u < floor(test * 2**64)``, with ``u`` as in :class:`HashKFold`.

    Parameters
    ----------
    test : float
        Fraction of the test part, in (0, 1).
    salt : str
        Any text; another salt gives another hold-out.

    Raises
    ------
    SplitError
        ``test`` is not a fraction.

    Examples
    --------
    >>> [(train, test)] = HashHoldout(test=0.5).split(range(4), groups=["fen", "fen", "forest", "moor"])
    >>> train, test
    (array([0, 1, 3]), array([2]))
    """

    test: float = 0.2
    salt: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "test", checked_fraction("test", self.test))
        if not self.test:
            raise SplitError("test must be a fraction above 0 and below 1; found 0")
        salt_bytes(self.salt)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return 1; the arguments are ignored, as in scikit-learn."""
        return 1

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield the row numbers of train and test, once.

        Parameters, return value and errors are those of :meth:`HashKFold.split`.
        """
        drawn = draws(_group_keys(X, groups), salt=self.salt, first_byte=8)
        held_out = drawn < np.uint64(int(self.test * RANGE))
        if not held_out.any() or held_out.all():
            part = "train" if held_out.any() else "test"
            raise SplitError(
                f"{part} would be empty with {len(drawn)} rows and test={self.test}; "
                "use another fraction or salt"
            )
        return iter([(np.flatnonzero(~held_out), np.flatnonzero(held_out))])


def fold_numbers(folds: HashKFold, X: Any, y: Any, groups: Any) -> NDArray[np.intp]:
    """Return each row's fold, int of shape (n,); folds may be empty."""
    drawn = draws(_group_keys(X, groups), salt=folds.salt, first_byte=8)
    numbers = (drawn % np.uint64(folds.n_splits)).astype(np.intp)
    if not folds.stratify:
        return numbers
    if y is None or len(y) != len(numbers):
        raise SplitError(f"stratified folds need y, a label for each of the {len(numbers)} rows")
    return fill_folds(numbers, drawn, class_codes(np.asarray(y).astype(np.str_))[1], folds.n_splits)


def _group_keys(X: Any, groups: Any) -> Iterable[bytes]:
    """Return a key for each row's group; content hashes become their bytes, in either form."""
    if groups is None:
        raise SplitError(
            "no groups were given; pass groups=table.content_hash, "
            "so that copies of an image stay in one fold"
        )
    entries = np.asarray(groups)
    n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
    if entries.ndim == 0 or len(entries) != n_rows:
        raise SplitError(
            f"groups must have one entry for each of the {n_rows} rows; found shape {entries.shape}"
        )
    if entries.ndim > 1:
        return rows_as_bytes(checked_hashes(entries))
    names = [str(entry) if entry is not None else "" for entry in entries.tolist()]
    if n_missing := names.count(""):
        raise SplitError(
            f"{n_missing} of {n_rows} rows have no group; pass "
            'groups=np.where(table.groups == "", table.content_hash, table.groups)'
        )
    return [label_key(name) for name in names]

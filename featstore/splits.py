"""Splits decided by a hash: the same on every machine, and the same when images are added.

The formula, which no version may change. For a row with the key ``key`` (bytes) under the salt ``salt``::

    digest = SHA-256(salt in UTF-8 + key)                 (FIPS 180-4)
    u      = the digest's bytes 0 to 7 as a big-endian unsigned integer, in [0, 2**64)
    t      = floor(test * 2**64)
    v      = t + floor(validation * 2**64)
    split  = "test" if u < t, else "validation" if u < v, else "train"

``test`` and ``validation`` are IEEE 754 doubles; scaling one by a power of two is exact, so that ``t`` and
``v`` are the same integers everywhere. The key depends on what the rule goes by:

- ``"content"``: the 32 bytes of the content hash itself;
- ``"group"``: ``b"group:"`` and the group's text; a row without a group falls back to its content hash;
- ``"filename"``: ``b"filename:"`` and the last part of the path.

Text becomes bytes as UTF-8, in which the surrogate escapes of names that are not UTF-8 stand for their own
bytes (PEP 383).

The cross-validators use the digest's bytes 8 to 15 instead: folds drawn inside a training split are as even
as folds drawn from everything. Choosing splits by a hash follows TensorFlow's ``retrain.py`` (2016), which
hashed the file's name.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SplitError

__all__ = ["SPLITS", "HashHoldout", "HashKFold", "SplitRule", "assign_splits"]

SPLITS = ("train", "validation", "test")

_RULES = ("content", "group", "filename")
_RANGE = 2**64
_HASH_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How images are dealt into train, validation and test.

    Parameters
    ----------
    by : {"content", "group", "filename"}
        What decides: the image's content hash, its group, or its file's name. Rows that agree in it are
        always in one split.
    test, validation : float
        The fraction of all that each gets, in [0, 1), together below 1. Zero leaves the split empty.
    salt : str
        Any text; another salt deals anew.

    Raises
    ------
    SplitError
        A field has a value that it cannot have.

    Examples
    --------
    >>> SplitRule(test=0.2)
    SplitRule(by='content', test=0.2, validation=0.1, salt='')
    """

    by: str = "content"
    test: float = 0.1
    validation: float = 0.1
    salt: str = ""

    def __post_init__(self) -> None:
        if self.by not in _RULES:
            raise SplitError(f"a split goes by one of {', '.join(_RULES)}; found {self.by!r}")
        for name in ("test", "validation"):
            object.__setattr__(self, name, _checked_fraction(name, getattr(self, name)))
        if self.test + self.validation >= 1:
            raise SplitError(
                f"test and validation together must leave something for train; found test={self.test} and "
                f"validation={self.validation}"
            )
        _salt_bytes(self.salt)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a rule from :meth:`to_dict`.

        Raises
        ------
        SplitError
            A field is unknown or has a value that it cannot have.
        """
        known = {entry.name for entry in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise SplitError(
                f"a split rule has the fields {', '.join(sorted(known))}; found {', '.join(unknown)}"
            )
        return cls(**data)

    def _thresholds(self) -> tuple[int, int]:
        """Return the two integers ``t`` and ``v`` of the formula."""
        test = int(self.test * _RANGE)
        return test, test + int(self.validation * _RANGE)


def assign_splits(
    rule: SplitRule,
    *,
    content_hash: NDArray[np.uint8],
    groups: Sequence[str | None] | NDArray[np.str_] | None = None,
    paths: Sequence[str] | NDArray[np.str_] | None = None,
    given: Sequence[str | None] | NDArray[np.str_] | None = None,
) -> NDArray[np.str_]:
    """Say for each row whether it belongs to train, validation or test.

    A row's split depends on that row alone: not on the order, nor on which other rows there are. The formula
    stands at the top of this module.

    Parameters
    ----------
    rule : SplitRule
    content_hash : ndarray of shape (n, 32), uint8
    groups : sequence of n str or None, optional
        Needed where the rule goes by group. None and ``""`` both mean that the row has none.
    paths : sequence of n str, optional
        Needed where the rule goes by file name.
    given : sequence of n str or None, optional
        Splits that the user has fixed; each wins over the rule. None and ``""`` leave the row to the rule.

    Returns
    -------
    ndarray of shape (n,), str
        ``"train"``, ``"validation"`` or ``"test"``.

    Raises
    ------
    SplitError
        What the rule goes by is missing, lengths differ, or ``given`` holds another word.

    Examples
    --------
    >>> hashes = np.arange(96, dtype=np.uint8).reshape(3, 32)
    >>> assign_splits(SplitRule(test=0.3), content_hash=hashes).tolist()
    ['validation', 'train', 'train']
    """
    hashes = _checked_hashes(content_hash)
    for name, column in (("groups", groups), ("paths", paths), ("given", given)):
        if column is not None and len(column) != len(hashes):
            raise SplitError(
                f"{name} must have one entry for each of the {len(hashes)} rows; found {len(column)}"
            )
    test, validation = rule._thresholds()
    draws = _draws(_keys(rule.by, hashes, groups, paths), salt=rule.salt, first_byte=0)
    splits = np.full(len(hashes), "train", dtype="<U10")
    splits[draws < np.uint64(validation)] = "validation"
    splits[draws < np.uint64(test)] = "test"
    if given is not None:
        fixed = np.array([entry or "" for entry in given], dtype=np.str_)
        if unknown := sorted(set(fixed.tolist()) - {"", *SPLITS}):
            raise SplitError(
                f"a given split is one of {', '.join(SPLITS)}; found {', '.join(map(repr, unknown))}"
            )
        splits = np.where(fixed == "", splits, fixed).astype("<U10")
    return splits


@dataclass(frozen=True)
class HashKFold:
    """K folds decided by a hash, as a scikit-learn cross-validator.

    Rows with the same entry in ``groups`` are always in one fold, and a row's fold stays the same when others
    are added. The fold is ``u mod n_splits``, where ``u`` is bytes 8 to 15 of the digest that the module's
    docstring defines, as a big-endian unsigned integer.

    Parameters
    ----------
    n_splits : int
        Number of folds, at least 2.
    salt : str
        Any text; another salt deals anew. Give one of its own to the inner of two nested searches: with the
        outer's salt and a number of folds that shares a factor with the outer's, inner folds come out uneven.

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

    def __post_init__(self) -> None:
        if isinstance(self.n_splits, bool) or not isinstance(self.n_splits, int) or self.n_splits < 2:
            raise SplitError(f"n_splits is a whole number of folds, at least 2; found {self.n_splits!r}")
        _salt_bytes(self.salt)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds; the arguments are there for scikit-learn and not looked at."""
        return self.n_splits

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield the row numbers of train and test, once for each fold.

        Parameters
        ----------
        X : array_like of length n
            Only its length is looked at.
        y : ignored
        groups : array_like
            What must stay together: ``table.content_hash`` (n hexadecimal str), the hashes' bytes of shape
            (n, 32), or n labels of any kind, such as the names of patients or sites.

        Returns
        -------
        iterator of (ndarray of int, ndarray of int)

        Raises
        ------
        SplitError
            There are no groups, one is empty, or a fold is.
        """
        folds = _draws(_group_keys(X, groups), salt=self.salt, first_byte=8) % np.uint64(self.n_splits)
        sizes = np.bincount(folds.astype(np.intp), minlength=self.n_splits)
        if not sizes.all():
            raise SplitError(
                f"{int((sizes == 0).sum())} of {self.n_splits} folds would be empty with {len(folds)} rows; "
                "use fewer folds, or another salt where these rows are themselves a fold's training part"
            )
        return (
            (np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(self.n_splits)
        )


@dataclass(frozen=True, kw_only=True)
class HashHoldout:
    """One test part decided by a hash, as a scikit-learn cross-validator with a single split.

    A row is in the test part where ``u < floor(test * 2**64)``, with ``u`` as in :class:`HashKFold`.

    Parameters
    ----------
    test : float
        The fraction that the test part gets, in (0, 1).
    salt : str
        Any text; another salt deals anew.

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
        object.__setattr__(self, "test", _checked_fraction("test", self.test))
        if not self.test:
            raise SplitError("test is the fraction that is held out, above 0 and below 1; found 0")
        _salt_bytes(self.salt)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return 1; the arguments are there for scikit-learn and not looked at."""
        return 1

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield the row numbers of train and test, once.

        Parameters, returns and errors are those of :meth:`HashKFold.split`.
        """
        draws = _draws(_group_keys(X, groups), salt=self.salt, first_byte=8)
        held_out = draws < np.uint64(int(self.test * _RANGE))
        if not held_out.any() or held_out.all():
            part = "train" if held_out.any() else "test"
            raise SplitError(
                f"{part} would be empty with {len(draws)} rows and test={self.test}; "
                "use another fraction or salt"
            )
        return iter([(np.flatnonzero(~held_out), np.flatnonzero(held_out))])


def _checked_fraction(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating) or not 0 <= value < 1:
        raise SplitError(f"{name} is a fraction, at least 0 and below 1; found {value!r}")
    return float(value)


def _salt_bytes(salt: object) -> bytes:
    if not isinstance(salt, str):
        raise SplitError(f"a salt is a text; found {salt!r}")
    try:
        return salt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SplitError(f"a salt is a text that has a form in UTF-8; found {salt!r}") from error


def _checked_hashes(content_hash: Any) -> NDArray[np.uint8]:
    hashes = np.asarray(content_hash)
    if hashes.dtype != np.uint8 or hashes.ndim != 2 or hashes.shape[1] != _HASH_BYTES:
        raise SplitError(
            f"content hashes are uint8 of shape (n, {_HASH_BYTES}); "
            f"found {hashes.dtype} of shape {hashes.shape}"
        )
    return hashes


def _rows_as_bytes(hashes: NDArray[np.uint8]) -> list[bytes]:
    data = hashes.tobytes()
    return [data[at : at + _HASH_BYTES] for at in range(0, len(data), _HASH_BYTES)]


def _text_bytes(text: str) -> bytes:
    # Not os.fsencode: its bytes depend on the machine's locale.
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _keys(
    by: str,
    hashes: NDArray[np.uint8],
    groups: Sequence[str | None] | NDArray[np.str_] | None,
    paths: Sequence[str] | NDArray[np.str_] | None,
) -> list[bytes]:
    if by == "filename":
        if paths is None:
            raise SplitError("a split by file name needs the paths; found none")
        return [b"filename:" + _text_bytes(os.path.basename(path)) for path in paths]
    keys = _rows_as_bytes(hashes)
    if by == "group":
        if groups is None:
            raise SplitError("a split by group needs the groups; found none")
        if keys and not any(groups):
            raise SplitError(
                'a split by group needs groups, and no image has one; give them in the column "group" of a '
                "CSV, note near-duplicates with featstore duplicates --write-groups, or split by content"
            )
        keys = [
            b"group:" + _text_bytes(name) if name else key for name, key in zip(groups, keys, strict=True)
        ]
    return keys


def _group_keys(X: Any, groups: Any) -> list[bytes]:
    """Return the keys for ``groups``: hashes give their bytes, whichever way they are written."""
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
        return _rows_as_bytes(_checked_hashes(entries))
    names = [str(entry) if entry is not None else "" for entry in entries.tolist()]
    if n_missing := names.count(""):
        raise SplitError(
            f"{n_missing} of {n_rows} rows have no group; pass "
            'groups=np.where(table.groups == "", table.content_hash, table.groups)'
        )
    return [_label_key(name) for name in names]


def _label_key(name: str) -> bytes:
    if len(name) == 2 * _HASH_BYTES:
        try:
            key = bytes.fromhex(name)
        except ValueError:
            key = b""
        if len(key) == _HASH_BYTES:
            return key
    return b"group:" + _text_bytes(name)


def _draws(keys: Sequence[bytes], *, salt: str, first_byte: int) -> NDArray[np.uint64]:
    """Return eight bytes of each key's digest as integers in [0, 2**64), uint64 of shape (n,)."""
    prefix = _salt_bytes(salt)
    sha256 = hashlib.sha256
    digests = b"".join([sha256(prefix + key).digest() for key in keys])
    words = np.frombuffer(digests, dtype=">u8").reshape(len(keys), 4)
    return words[:, first_byte // 8].astype(np.uint64)

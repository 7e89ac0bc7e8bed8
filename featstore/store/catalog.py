"""Catalogs: the images of a source with their labels, groups, given splits and content hashes."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.class_names import normalised_name
from featstore.errors import StoreError
from featstore.splits import SPLITS
from featstore.store.keys import HASH_BYTES

__all__ = [
    "ATTRIBUTES",
    "MAX_TEXT_BYTES",
    "NUMBERS",
    "OPTIONAL_ATTRIBUTE",
    "OPTIONAL_NUMBERS",
    "OPTIONAL_TEXTS",
    "TEXTS",
    "Catalog",
    "checked_name",
    "encoded_text",
]


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
TEXTS = {"path": "paths", "label": "labels", "group": "groups", "split": "splits", "reason": "reasons"}
# Columns that files may lack: older versions neither write nor miss them.
OPTIONAL_TEXTS = {"near_group": "near_groups"}
NUMBERS = {
    "content_hash": ("content_hash", "u1"),
    "size": ("sizes", "<i8"),
    "mtime_ns": ("mtimes_ns", "<i8"),
}
OPTIONAL_NUMBERS = {"ctime_ns": ("ctimes_ns", "<i8"), "inode": ("inodes", "<i8")}
ATTRIBUTES = ("name", "root", "location")
OPTIONAL_ATTRIBUTE = "moved_from"
MAX_TEXT_BYTES = 2**16


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalog:
    """The images of one source and their metadata; row i of each column is one image.

    Parameters
    ----------
    name : str
        Letters, digits, ``.``, ``_`` and ``-``, at most 100, beginning with a letter or digit.
    root : str
        Absolute folder from which relative paths start.
    location : str
        Absolute path of the source: the folder or the CSV.
    paths : sequence of n str
        Relative to ``root`` with ``/``, or absolute. Names that are not UTF-8 carry surrogate escapes.
    labels, groups : sequence of n str or None
        The empty text means None. Labels are held in Unicode's form NFC.
    splits : sequence of n str or None
        Splits that the user has fixed: ``"train"``, ``"validation"`` or ``"test"``.
    content_hash : ndarray of shape (n, 32), uint8
        Zeros where the file could not be read.
    sizes, mtimes_ns : ndarray of shape (n,), int64
        Size in bytes and modification time in ns since 1970 of the file when it was hashed; -1 where unknown.
    reasons : sequence of n str or None
        Why the image could not be used; None where it could.
    near_groups : sequence of n str or None, optional
        Groups of near-duplicates that were found; the user's own stay in ``groups``.
    moved_from : str, optional
        The location before, of a source that was found again elsewhere; empty for all others.
    ctimes_ns, inodes : ndarray of shape (n,), int64, optional
        The rest of the file's :class:`~featstore.io.stamps.FileStamp` when it was hashed; -1 where unknown.

    Raises
    ------
    StoreError
        Lengths differ, or a value is one that it cannot have.
    """

    name: str
    root: str
    location: str
    paths: Sequence[str]
    labels: Sequence[str | None]
    groups: Sequence[str | None]
    splits: Sequence[str | None]
    content_hash: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    mtimes_ns: NDArray[np.int64]
    reasons: Sequence[str | None]
    near_groups: Sequence[str | None] = ()
    moved_from: str = ""
    ctimes_ns: NDArray[np.int64] | None = None
    inodes: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        checked_name(self.name, "catalog")
        for field in ("root", "location", OPTIONAL_ATTRIBUTE):
            encoded_text(getattr(self, field), field)
        n_images = len(self.paths)
        object.__setattr__(self, "near_groups", tuple(self.near_groups) or (None,) * n_images)
        for field in (TEXTS | OPTIONAL_TEXTS).values():
            values = tuple(getattr(self, field))
            if "" in values:
                values = tuple(value or None for value in values)
            if field == "labels":
                values = _normalised(values)
            if len(values) != n_images:
                raise StoreError(
                    f"{field} must have one entry for each of {n_images} paths; found {len(values)}"
                )
            object.__setattr__(self, field, values)
        if None in self.paths:
            raise StoreError(f"image {self.paths.index(None)} has no path")
        if unknown := set(self.splits) - {None, *SPLITS}:
            raise StoreError(
                f"a split must be one of {', '.join(SPLITS)}; found {', '.join(map(repr, unknown))}"
            )
        for field, kind in (NUMBERS | OPTIONAL_NUMBERS).values():
            given = getattr(self, field)
            column = np.array(np.full(n_images, -1) if given is None else given, dtype=np.dtype(kind))
            wanted = (n_images, HASH_BYTES) if field == "content_hash" else (n_images,)
            if column.shape != wanted:
                raise StoreError(f"{field} must have the shape {wanted}; found {column.shape}")
            column.flags.writeable = False
            object.__setattr__(self, field, column)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Whether each image has a content hash and no failure reason; bool of shape (n,)."""
        fine = np.fromiter((reason is None for reason in self.reasons), np.bool_, count=len(self))
        return fine & self.content_hash.any(axis=1)

    def absolute_paths(self) -> list[str]:
        """Return the paths, joined to the root where they are relative."""
        root = os.path.join(self.root, "")
        return [path if path.startswith("/") else os.path.join(root, path) for path in self.paths]

    def stamps(self) -> list[tuple[int, int, int, int]]:
        """Return each file's :class:`~featstore.io.stamps.FileStamp`, as far as it is known."""
        columns = (self.sizes, self.mtimes_ns, self.ctimes_ns, self.inodes)
        return list(zip(*(np.asarray(column).tolist() for column in columns), strict=True))

    def near_group_by_content(self) -> dict[bytes, str]:
        """Return the near-duplicate group of each content hash that is in one."""
        named = zip(self.content_hash, self.near_groups, strict=True) if any(self.near_groups) else ()
        return {content.tobytes(): name for content, name in named if name}

    def equals(self, other: "Catalog") -> bool:
        """Return whether the other catalog has the same name, source, images and entries."""
        texts = (*ATTRIBUTES, OPTIONAL_ATTRIBUTE, *(TEXTS | OPTIONAL_TEXTS).values())
        return all(getattr(self, field) == getattr(other, field) for field in texts) and all(
            np.array_equal(getattr(self, field), getattr(other, field))
            for field, _ in (NUMBERS | OPTIONAL_NUMBERS).values()
        )


def _normalised(labels: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """Return labels in Unicode's form NFC."""
    forms = {label: label and normalised_name(label) for label in set(labels)}
    if all(label == form for label, form in forms.items()):
        return labels
    return tuple(forms[label] for label in labels)


def checked_name(name: str, kind: str) -> str:
    """Return a name of a ``kind`` (catalog, head), or raise StoreError if it is not a safe file name."""
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"{name!r} cannot be the name of a {kind}: a name has 1 to 100 letters, digits, '.', '_' "
            "and '-', and begins with a letter or digit"
        )
    return name


def encoded_text(text: str, what: str) -> bytes:
    """Return a text in UTF-8, or raise StoreError if a catalog cannot hold it."""
    try:
        encoded = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise StoreError(f"the {what} {text!r} cannot be written in UTF-8") from error
    if b"\0" in encoded or len(encoded) > MAX_TEXT_BYTES - 1:
        raise StoreError(
            f"the {what} {text[:80]!r} holds a zero byte or has over {MAX_TEXT_BYTES - 1:,} bytes"
        )
    return encoded

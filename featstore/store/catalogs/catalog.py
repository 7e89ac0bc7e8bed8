"""Catalogs: the images of a source with their labels, groups, given splits and content hashes."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.class_names import normalised_name
from featstore.errors import StoreError
from featstore.io.long_arrays import are_all, are_equal, as_read_only, blocks_of, forget_pages, long_zeros
from featstore.io.texts import CodedTexts, PlainTexts, Texts, distinct_texts
from featstore.io.urls import joined
from featstore.splits import SPLITS
from featstore.store.segments.keys import HASH_BYTES

__all__ = [
    "ATTRIBUTES",
    "DIGEST",
    "MAX_TEXT_BYTES",
    "NUMBERS",
    "OPTIONAL_ATTRIBUTES",
    "OPTIONAL_FLOATS",
    "OPTIONAL_NUMBERS",
    "OPTIONAL_TEXTS",
    "TEXTS",
    "Catalog",
    "checked_name",
    "checked_texts",
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
# Columns of catalogs that hold more than a label; without them the file is as before.
OPTIONAL_FLOATS = {"weight": "weights", "target": "targets"}
ATTRIBUTES = ("name", "root", "location")
OPTIONAL_ATTRIBUTES = ("moved_from", "label_separator", "target_name", "unread")
DIGEST = "digest"  # an attribute that says what the others do, and that older versions neither write nor read
MAX_TEXT_BYTES = 2**16


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalog:
    """The images of one source and their metadata; row i of each column is one image.

    Raises StoreError if lengths differ, or a value is one that it cannot have.
    """

    name: str
    root: str  # absolute folder from which relative paths start
    location: str  # absolute path of the source
    paths: Sequence[Any]  # str: relative to root with /, or absolute, with surrogate escapes
    labels: Sequence[str | None]  # in Unicode's form NFC; the empty text means None
    groups: Sequence[str | None]
    splits: Sequence[str | None]  # that the user has fixed
    content_hash: NDArray[np.uint8]  # (n, 32): zeros where the file could not be read
    sizes: NDArray[np.int64]  # (n,): when the file was hashed; -1 where unknown
    mtimes_ns: NDArray[np.int64]
    reasons: Sequence[str | None]  # why an image could not be used
    near_groups: Sequence[str | None] = ()  # of near-duplicates that were found
    moved_from: str = ""  # the location before, of a source that was found again elsewhere
    ctimes_ns: NDArray[np.int64] | None = None
    inodes: NDArray[np.int64] | None = None
    digest: str = dataclasses.field(default="", init=False)  # that its file has, if nothing was replaced
    label_separator: str = ""  # between the labels of an image that may have several
    weights: NDArray[np.float64] | None = None  # in a fit, above 0; NaN where nothing is said
    target_name: str = ""  # of the number that images have instead of a label
    targets: NDArray[np.float64] | None = None  # NaN where it is not known
    unread: str = ""  # the number of images that the source has besides, where extraction was interrupted

    def __post_init__(self) -> None:
        checked_name(self.name, "catalog")
        for field in ("root", "location", *OPTIONAL_ATTRIBUTES):
            encoded_text(getattr(self, field), field)
        n_images = len(self.paths)
        if not len(self.near_groups):
            object.__setattr__(self, "near_groups", CodedTexts.without_any(n_images))
        for field in (TEXTS | OPTIONAL_TEXTS).values():
            values = getattr(self, field)
            if not isinstance(values, Texts):
                values = tuple(value or None for value in values)
            if field == "labels":
                values = _normalised(values)
            if len(values) != n_images:
                raise StoreError(
                    f"{field} must have one entry for each of {n_images} paths; found {len(values)}"
                )
            object.__setattr__(self, field, values)
        if (lacking := _first_without(self.paths)) is not None:
            raise StoreError(f"image {lacking} has no path")
        if unknown := distinct_texts(self.splits) - {None, *SPLITS}:
            raise StoreError(
                f"a split must be one of {', '.join(SPLITS)}; found {', '.join(map(repr, unknown))}"
            )
        for field, kind in (NUMBERS | OPTIONAL_NUMBERS).values():
            given = getattr(self, field)
            column = _own(_filled(n_images, -1, kind) if given is None else given, np.dtype(kind))
            wanted = (n_images, HASH_BYTES) if field == "content_hash" else (n_images,)
            if column.shape != wanted:
                raise StoreError(f"{field} must have the shape {wanted}; found {column.shape}")
            object.__setattr__(self, field, column)
        for field in OPTIONAL_FLOATS.values():
            given = getattr(self, field)
            numbers = _own(_filled(n_images, np.nan, "f8") if given is None else given, np.dtype(np.float64))
            if numbers.shape != (n_images,) or not are_all(numbers, lambda some: ~np.isinf(some)):
                raise StoreError(f"{field} must be finite numbers of shape ({n_images},), or NaN for none")
            object.__setattr__(self, field, numbers)
        if not are_all(np.asarray(self.weights), lambda some: ~(some <= 0)):
            raise StoreError("weights must be above 0")
        if self.unread and not self.unread.isdecimal():
            raise StoreError(f"a number of unread images consists of digits; found {self.unread!r}")
        if not self.target_name and not are_all(np.asarray(self.targets), np.isnan):
            raise StoreError("there are numbers to predict, and no name of them")

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Whether each image has a content hash and no failure reason; bool of shape (n,)."""
        reasons = self.reasons
        usable: NDArray[np.bool_] = long_zeros(len(self), (), np.bool_)
        for block in blocks_of(len(self)):
            if isinstance(reasons, CodedTexts):
                fine = reasons.codes[block] == 0
            else:
                fine = np.array([reason is None for reason in reasons[block]], np.bool_)
            usable[block] = fine & self.content_hash[block].any(axis=1)
            forget_pages(self.content_hash)
        return usable

    def absolute_paths(self) -> list[str]:
        """Return the paths, joined to the root where they are relative."""
        return [joined(self.root, path) for path in self.paths]

    def stamps(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return some files' :class:`~featstore.io.stamps.FileStamp`, as far as known, of shape (n, 4)."""
        columns = (self.sizes, self.mtimes_ns, self.ctimes_ns, self.inodes)
        return np.stack([np.asarray(column)[rows] for column in columns], axis=1)

    def encoded_paths(self, block: slice) -> list[bytes]:
        """Return some paths in UTF-8."""
        if isinstance(self.paths, Texts):
            return self.paths.encoded(block.start, block.stop)
        return [path.encode("utf-8", "surrogateescape") for path in self.paths[block]]

    def forget_pages(self) -> None:
        """Give the memory of columns that are in files back to the system."""
        for field in (TEXTS | OPTIONAL_TEXTS).values():
            if isinstance(texts := getattr(self, field), Texts):
                texts.forget_pages()
        for field, _ in (NUMBERS | OPTIONAL_NUMBERS).values():
            forget_pages(getattr(self, field))
        for field in OPTIONAL_FLOATS.values():
            forget_pages(getattr(self, field))

    def near_group_by_content(self) -> dict[bytes, str]:
        """Return the near-duplicate group of each content hash that is in one."""
        has_some = distinct_texts(self.near_groups) - {None}
        named = zip(self.content_hash, self.near_groups, strict=True) if has_some else ()
        return {content.tobytes(): name for content, name in named if name}

    def take(self, rows: NDArray[np.int64]) -> "Catalog":
        """Return the catalog of some of its images."""
        numbers = {field for field, _ in (NUMBERS | OPTIONAL_NUMBERS).values()} | {*OPTIONAL_FLOATS.values()}
        changes: dict[str, Any] = {field: np.asarray(getattr(self, field))[rows] for field in numbers}
        for field in (TEXTS | OPTIONAL_TEXTS).values():
            column = (*getattr(self, field),)
            changes[field] = [column[row] for row in rows.tolist()]
        return replace(self, **changes)

    def equals(self, other: "Catalog") -> bool:
        """Return whether the other catalog has the same name, source, images and entries."""
        texts = (*ATTRIBUTES, *OPTIONAL_ATTRIBUTES, *(TEXTS | OPTIONAL_TEXTS).values())
        return (
            all(getattr(self, field) == getattr(other, field) for field in texts)
            and all(
                are_equal(getattr(self, field), getattr(other, field))
                for field, _ in (NUMBERS | OPTIONAL_NUMBERS).values()
            )
            and all(
                are_equal(getattr(self, field), getattr(other, field)) for field in OPTIONAL_FLOATS.values()
            )
        )


def _first_without(paths: Sequence[str | None]) -> int | None:
    """Return the first image without a path, if there is one."""
    if isinstance(paths, PlainTexts):
        empty = (block.start + np.flatnonzero(paths.lengths(block) == 0) for block in blocks_of(len(paths)))
        return next((int(rows[0]) for rows in empty if len(rows)), None)
    return paths.index(None) if None in paths else None


def _filled(n_rows: int, value: float, kind: str) -> NDArray[Any]:
    """Return a read-only column of one number."""
    column = long_zeros(n_rows, (), kind)
    for block in blocks_of(n_rows):
        column[block] = value
        forget_pages(column)
    return as_read_only(column)


def _own(given: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a read-only array: the given one, if it is such, else a copy."""
    if isinstance(given, np.ndarray) and given.dtype == dtype and not given.flags.writeable:
        return given
    return as_read_only(np.array(given, dtype=dtype))


def _normalised(labels: Sequence[str | None]) -> Sequence[str | None]:
    """Return labels in Unicode's form NFC."""
    if isinstance(labels, CodedTexts):
        return labels.mapped(normalised_name)
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
    return checked_texts([encoded], what)[0]


def checked_texts(encoded: list[bytes], what: str) -> list[bytes]:
    """Return texts in UTF-8, or raise StoreError if a catalog cannot hold one of them."""
    if b"\0" in b"".join(encoded) or max(map(len, encoded), default=0) >= MAX_TEXT_BYTES:
        text = next(text for text in encoded if b"\0" in text or len(text) >= MAX_TEXT_BYTES)
        raise StoreError(
            f"the {what} {text.decode('utf-8', 'surrogateescape')[:80]!r} holds a zero byte or has over "
            f"{MAX_TEXT_BYTES - 1:,} bytes"
        )
    return encoded

"""Records of a source's images, made before any of them is opened."""

import math
import operator
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from featstore.class_names import look_alike_warning, normalised_name
from featstore.errors import SourceError
from featstore.io.stamps import UNKNOWN, FileStamp
from featstore.label_sets import split_labels
from featstore.messages import listed

if TYPE_CHECKING:
    from featstore.io.long_arrays import LongArray
    from featstore.io.texts import CodedTexts, PlainTexts

__all__ = ["ImageRecord", "Records", "Source", "checked_split", "split_of_word"]

_BLOCK_ROWS = 2**12

_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRecord:
    """One image file of a source, known by name and ``stat`` only."""

    path: str  # relative to the source's root, or absolute; with surrogate escapes
    label: str | None = None  # in Unicode's form NFC
    group: str | None = None  # what it must share a split with
    split: str | None = None
    weight: float | None = None
    target: float | None = None
    stamp: FileStamp


class RecordColumns(NamedTuple):
    """The fields of records, each as a column."""

    paths: "PlainTexts"
    labels: "CodedTexts"
    groups: "PlainTexts"
    splits: "CodedTexts"
    weights: "LongArray"  # float64 of shape (n,): NaN for none
    targets: "LongArray"
    stamps: "LongArray"  # int64 of shape (n, 4)


class Records(Sequence[ImageRecord]):
    """Records in columns, of which long ones are in files: millions take little memory."""

    def __init__(self, records: Iterable[ImageRecord] = ()) -> None:
        self._columns: RecordColumns | None = None
        self._n_in_columns = 0
        self._recent: list[ImageRecord] = []  # not in the columns yet
        self._block: tuple[int, list[ImageRecord]] = (-1, [])
        for record in records:
            self.append(record)

    def append(self, record: ImageRecord) -> None:
        """Add a record at the end."""
        self._recent.append(record)
        if len(self._recent) == _BLOCK_ROWS:
            self._move_recent()

    def by_path(self) -> "Records":
        """Return the records in the order of their paths' bytes: these, if they are."""
        last = b""
        paths = self.columns.paths
        for start in range(0, len(paths), _BLOCK_ROWS):
            some = [last, *paths.encoded(start, min(start + _BLOCK_ROWS, len(paths)))]
            if any(map(operator.gt, some, some[1:])):
                return Records(sorted(self, key=lambda record: os.fsencode(record.path)))
            last = some[-1]
        return self

    @property
    def lack_stamps(self) -> bool:
        """Whether some are still to be looked up."""
        stamps = self.columns.stamps.rows
        starts = range(0, len(stamps), _BLOCK_ROWS)
        return any((stamps[start : start + _BLOCK_ROWS] == UNKNOWN).all(axis=1).any() for start in starts)

    def without(self, rows: Container[int]) -> "Records":
        """Return all records but those of some rows."""
        return Records(record for row, record in enumerate(self) if row not in rows)

    @property
    def columns(self) -> RecordColumns:
        """The records as columns."""
        self._move_recent()
        assert self._columns is not None
        return self._columns

    def __len__(self) -> int:
        return self._n_in_columns + len(self._recent)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[row] for row in range(len(self))[at]]
        row = range(len(self))[at]
        if (recent := row - self._n_in_columns) >= 0:
            return self._recent[recent]
        number, place = divmod(row, _BLOCK_ROWS)
        if self._block[0] != number:
            self._block = (number, self._made(number * _BLOCK_ROWS))
        return self._block[1][place]

    def __iter__(self) -> Iterator[ImageRecord]:
        for start in range(0, self._n_in_columns, _BLOCK_ROWS):
            yield from self._made(start)
        self.forget_pages()
        yield from self._recent

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self[:])

    def forget_pages(self) -> None:
        """Give memory back to the system."""
        for column in self._columns or ():
            column.forget_pages()

    def _made(self, start: int) -> list[ImageRecord]:
        """Return the records of a block."""
        columns, stop = self._columns, min(start + _BLOCK_ROWS, self._n_in_columns)
        assert columns is not None
        return [
            ImageRecord(
                path=path or "",
                label=label,
                group=group,
                split=split,
                weight=None if weight != weight else weight,
                target=None if target != target else target,
                stamp=FileStamp(*stamp),
            )
            for path, label, group, split, weight, target, stamp in zip(
                columns.paths.block(start, stop),
                columns.labels.block(start, stop),
                columns.groups.block(start, stop),
                columns.splits.block(start, stop),
                columns.weights.rows[start:stop].tolist(),
                columns.targets.rows[start:stop].tolist(),
                columns.stamps.rows[start:stop].tolist(),
                strict=True,
            )
        ]

    def _move_recent(self) -> None:
        if self._columns is None:
            self._columns = _no_columns()
        some, self._recent = self._recent, []
        if not some:
            return
        self._block = (-1, [])
        self._n_in_columns += len(some)
        columns = self._columns
        columns.paths.extend([record.path.encode("utf-8", "surrogateescape") for record in some])
        columns.labels.extend([record.label for record in some])
        columns.groups.extend([(record.group or "").encode("utf-8", "surrogateescape") for record in some])
        columns.splits.extend([record.split for record in some])
        columns.weights.extend([math.nan if record.weight is None else record.weight for record in some])
        columns.targets.extend([math.nan if record.target is None else record.target for record in some])
        columns.stamps.extend([record.stamp for record in some])


def _no_columns() -> RecordColumns:
    # What is listed without need of columns does without NumPy.
    from featstore.io.long_arrays import LongArray
    from featstore.io.texts import CodedTexts, PlainTexts

    return RecordColumns(
        paths=PlainTexts(),
        labels=CodedTexts(),
        groups=PlainTexts(),
        splits=CodedTexts(),
        weights=LongArray("<f8"),
        targets=LongArray("<f8"),
        stamps=LongArray("<i8", (len(UNKNOWN),)),
    )


@dataclass(frozen=True, kw_only=True)
class Source:
    """All images of a folder or a list."""

    name: str  # of its catalog, by default
    root: str  # that relative paths start from
    location: str  # what the user named
    records: Records  # never empty; other sequences are made such
    failures: list[tuple[str, str]]  # path and reason of what is no regular file
    ignored: int  # files that are no images
    ignored_endings: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    empty_folders: Sequence[str] = ()  # that would be classes
    unused_columns: Sequence[str] = ()
    label_separator: str = ""  # between the labels of an image that may have several
    target: str = ""  # the column of the number that images have instead of a label

    def __post_init__(self) -> None:
        given: Iterable[ImageRecord] = self.records
        if not isinstance(given, Records):
            object.__setattr__(self, "records", Records(given))

    @property
    def unlabelled(self) -> int:
        """Number of images without a label, or a number, beside others."""
        if self.target:
            n_none = sum(record.target is None for record in self.records)
        else:
            n_none = self.label_counts().get(None, 0)
        return 0 if n_none == len(self.records) else n_none

    def label_counts(self) -> dict[str | None, int]:
        """Count the images of each label, None for those without one, in the order in which they come."""
        return self.records.columns.labels.counts()

    def doubts(self) -> list[str]:
        """Return warnings on likely mistakes: similar classes, unused columns."""
        labels = {label for label in self.label_counts() if label}
        if self.label_separator:
            labels = {name for label in labels for name in split_labels(label, self.label_separator)}
        sentences = [look_alike_warning(labels)]
        if self.unused_columns:
            unused = listed([*map(repr, self.unused_columns)])
            used = f"path, {self.target or 'label'}, group and split"
            sentences.append(f"columns that are not used: {unused}; {used} are")
            if not self.target and not labels:
                sentences.append(
                    "no image has a label: label_column (--label-column) names the column that labels are in"
                )
        sentences += [
            f"{len(folders)} folders are the class {label!r}: their names differ only in Unicode form"
            for label, folders in self._forms().items()
        ]
        return [sentence for sentence in sentences if sentence]

    def _forms(self) -> dict[str, set[str]]:
        """Return the folders, from the root, of each class that has several in one place."""
        forms: dict[tuple[str, str], set[str]] = {}
        if all(label.isascii() for label in self.label_counts() if label):
            return {}
        for record in self.records:
            if record.label and not record.label.isascii() and not record.path.isascii():
                above, *names = "", *record.path.split("/")[:-1]
                for name in names:
                    if normalised_name(name) == record.label:
                        forms.setdefault((above, record.label), set()).add(name)
                        break
                    above = f"{above}{name}/"
        return {label: names for (_, label), names in sorted(forms.items()) if len(names) > 1}

    def given_splits(self) -> dict[str, int]:
        """Count the images given to ``"train"``, ``"validation"``, ``"test"``, and to none as ``"rule"``."""
        counts = self.records.columns.splits.counts()
        return {split or "rule": counts.get(split, 0) for split in ("train", "validation", "test", None)}


def split_of_word(word: str) -> str | None:
    """Return the split that a word means, in any case, or None."""
    return _SPLIT_WORDS.get(word.lower())


def checked_split(word: str | None, *, where: str) -> str | None:
    """Return the split that a word in a list means, None for no word; raise SourceError for another."""
    split = None if word is None else split_of_word(word)
    if word is not None and split is None:
        raise SourceError(
            f"{where}: split is train, validation (val, valid, dev) or test, or empty to leave it to the "
            f"rule; found {word!r}"
        )
    return split

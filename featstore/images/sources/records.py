"""Records of a source's images, made before any of them is opened."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from featstore.class_names import look_alike_warning, normalised_name
from featstore.errors import SourceError
from featstore.io.stamps import FileStamp
from featstore.label_sets import split_labels
from featstore.messages import listed

__all__ = ["ImageRecord", "Source", "checked_split", "split_of_word"]


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


@dataclass(frozen=True, kw_only=True)
class Source:
    """All images of a folder or a list."""

    name: str  # of its catalog, by default
    root: str  # that relative paths start from
    location: str  # what the user named
    records: list[ImageRecord]  # never empty
    failures: list[tuple[str, str]]  # path and reason of what is no regular file
    ignored: int  # files that are no images
    ignored_endings: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    empty_folders: Sequence[str] = ()  # that would be classes
    unused_columns: Sequence[str] = ()
    label_separator: str = ""  # between the labels of an image that may have several
    target: str = ""  # the column of the number that images have instead of a label

    @property
    def unlabelled(self) -> int:
        """Number of images without a label, or a number, beside others."""
        name = "target" if self.target else "label"
        n_none = sum(getattr(record, name) is None for record in self.records)
        return 0 if n_none == len(self.records) else n_none

    def doubts(self) -> list[str]:
        """Return warnings on likely mistakes: similar classes, unused columns."""
        labels = {record.label for record in self.records if record.label}
        if self.label_separator:
            labels = {name for label in labels for name in split_labels(label, self.label_separator)}
        sentences = [look_alike_warning(labels)]
        if self.unused_columns:
            unused = listed([*map(repr, self.unused_columns)])
            used = f"path, {self.target or 'label'}, group and split"
            sentences.append(f"columns that are not used: {unused}; {used} are")
        sentences += [
            f"{len(folders)} folders are the class {label!r}: their names differ only in Unicode form"
            for label, folders in self._forms().items()
        ]
        return [sentence for sentence in sentences if sentence]

    def _forms(self) -> dict[str, set[str]]:
        """Return the folders, from the root, of each class that has several in one place."""
        forms: dict[tuple[str, str], set[str]] = {}
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
        counts = Counter(record.split for record in self.records)
        return {split or "rule": counts[split] for split in ("train", "validation", "test", None)}


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

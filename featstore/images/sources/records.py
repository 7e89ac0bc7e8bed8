"""Records of a source's images, made before any of them is opened."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from featstore.class_names import look_alike_warning, normalised_name
from featstore.errors import SourceError
from featstore.io.stamps import FileStamp

__all__ = ["ImageRecord", "Source", "checked_split", "split_of_word"]

_SHOWN = 8

_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRecord:
    """One image file of a source, known by name and ``stat`` only.

    Parameters
    ----------
    path : str
        Relative to the source's root, with ``"/"`` between folders; absolute where a CSV says so. Names that
        are not UTF-8 are held with surrogate escapes, as :func:`os.fsdecode` gives them.
    label : str, optional
        Its class, in Unicode's form NFC.
    group : str, optional
        What it must share a split with: a patient, a plant, a video.
    split : {"train", "validation", "test"}, optional
        The split that the user gave it.
    stamp : FileStamp
        The file's size, times and inode.
    """

    path: str
    label: str | None = None
    group: str | None = None
    split: str | None = None
    stamp: FileStamp


@dataclass(frozen=True, kw_only=True)
class Source:
    """All images of a folder or a list.

    Parameters
    ----------
    name : str
        The default name of its catalog: letters, digits, ``.``, ``_`` and ``-``, beginning with a letter or
        a digit.
    root : str
        Absolute folder that relative paths start from.
    location : str
        Absolute path that the user named: the folder or the CSV.
    records : list of ImageRecord
        Sorted by path for a folder; in the file's order for a CSV. Never empty.
    failures : list of (path, reason)
        What is listed but cannot be opened as a regular file: missing files, dangling links, pipes, sockets,
        devices and folders that cannot be read. None of these was opened.
    ignored : int
        How many files were passed over because they are no images, by their names or their first bytes.
        Hidden files are not counted.
    ignored_endings : mapping of str to int
        How many of these have each ending, in lower case, the most frequent first; ``""`` for none.
    skipped : mapping of str to int
        How many folders of each name were not looked into, and how many files of what other kind, because
        they are hidden or other programs keep what is their own there.
    empty_folders : sequence of str
        Folders that would be classes and hold no image.
    unused_columns : sequence of str
        Unused columns of a CSV.
    """

    name: str
    root: str
    location: str
    records: list[ImageRecord]
    failures: list[tuple[str, str]]
    ignored: int
    ignored_endings: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    empty_folders: Sequence[str] = ()
    unused_columns: Sequence[str] = ()

    @property
    def unlabelled(self) -> int:
        """Number of unlabelled images beside class folders."""
        n_none = sum(record.label is None for record in self.records)
        return 0 if n_none == len(self.records) else n_none

    def doubts(self) -> list[str]:
        """Return warnings on likely mistakes: similar classes, unused columns."""
        sentences = [look_alike_warning({record.label for record in self.records if record.label})]
        if self.unused_columns:
            unused = ", ".join(map(repr, self.unused_columns[:_SHOWN]))
            more = f" and {len(self.unused_columns) - _SHOWN} more" * (len(self.unused_columns) > _SHOWN)
            sentences.append(f"columns that are not used: {unused}{more}; path, label, group and split are")
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

"""What a source says about its images, before any of them is opened."""

from collections import Counter
from dataclasses import dataclass

from featstore.stamps import FileStamp

__all__ = ["IMAGE_SUFFIXES", "ImageRecord", "Source", "is_image_name", "split_of_word"]

IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib"),
        *(".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm"),
        *(".avif", ".heic", ".heif", ".jp2", ".j2k", ".jpx", ".tga", ".dds"),
    )
)
"""The endings, in lower case, by which a file in a folder is taken for an image."""

_ENDINGS = frozenset(suffix[1:] for suffix in IMAGE_SUFFIXES)

_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRecord:
    """One image file of a source, as found by its name and ``stat``; it has not been opened.

    Parameters
    ----------
    path : str
        Relative to the source's root, with ``"/"`` between folders; absolute where a CSV says so. Names that
        are not UTF-8 are held with surrogate escapes, as :func:`os.fsdecode` gives them.
    label : str, optional
        Its class.
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
    """All images of a folder or a CSV list.

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
        How many files were passed over because their names are not those of images. Hidden files are not
        counted.
    """

    name: str
    root: str
    location: str
    records: list[ImageRecord]
    failures: list[tuple[str, str]]
    ignored: int

    def given_splits(self) -> dict[str, int]:
        """Count the images given to ``"train"``, ``"validation"``, ``"test"``, and to none as ``"rule"``."""
        counts = Counter(record.split for record in self.records)
        return {split or "rule": counts[split] for split in ("train", "validation", "test", None)}


def is_image_name(name: str) -> bool:
    """Tell by its ending, in any case, whether a file is taken for an image.

    Parameters
    ----------
    name : str
        The file's name, without its folder.

    Examples
    --------
    >>> is_image_name("rose.JPG"), is_image_name("rose.txt"), is_image_name(".jpg")
    (True, False, False)
    """
    stem, _, ending = name.rpartition(".")
    return bool(stem) and ending.lower() in _ENDINGS


def split_of_word(word: str) -> str | None:
    """Return the split that a word means, in any case; None if it means none.

    Examples
    --------
    >>> split_of_word("Val"), split_of_word("training"), split_of_word("trainer")
    ('validation', 'train', None)
    """
    return _SPLIT_WORDS.get(word.lower())

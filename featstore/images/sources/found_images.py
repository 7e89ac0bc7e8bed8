"""Images that a path given for prediction stands for."""

import glob
import os
from dataclasses import dataclass, field

from featstore.images.sources.opening import open_source

__all__ = ["FoundImages", "find_images"]


@dataclass(frozen=True, kw_only=True)
class FoundImages:
    """The images that a path stands for, and what else a folder contains.

    Attributes
    ----------
    paths : list of str
    ignored : int
        Files of a folder that are not images.
    ignored_endings, skipped : dict of str to int
        Those files by their ending, and hidden files and folders of other programs by their name.
    """

    paths: list[str]
    ignored: int = 0
    ignored_endings: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)


def find_images(path: str) -> FoundImages:
    """Return the images in a folder, the files that match a pattern, or the path itself.

    Parameters
    ----------
    path : str
        A folder, a pattern such as ``"photos/**/*.jpg"``, or a file; a file whose name looks like a pattern
        is that file, and a pattern without matches is returned as it is.

    Returns
    -------
    FoundImages

    Examples
    --------
    >>> from featstore.images import find_images
    >>> find_images("no-such-photo.jpg").paths
    ['no-such-photo.jpg']
    """
    if os.path.isdir(path):
        source = open_source(path)
        names = [record.path for record in source.records] + [name for name, _ in source.failures]
        return FoundImages(
            paths=[os.path.join(path, name) for name in names],
            ignored=source.ignored,
            ignored_endings=dict(source.ignored_endings),
            skipped=dict(source.skipped),
        )
    if glob.has_magic(path) and not os.path.lexists(path):
        matches = sorted(match for match in glob.glob(path, recursive=True) if not os.path.isdir(match))
        return FoundImages(paths=matches or [path])
    return FoundImages(paths=[path])

"""Images that a path given to ``predict`` stands for: a file, a folder, an archive, a pattern, a URL."""

import glob
import os
from dataclasses import dataclass, field

from featstore.images.sources.containers.kinds import kind_of
from featstore.images.sources.image_names import is_image_name
from featstore.images.sources.opening import open_source
from featstore.io.remote.opening import is_on_the_web
from featstore.io.urls import is_url, joined, last_name

__all__ = ["FoundImages", "find_images"]


@dataclass(frozen=True, kw_only=True)
class FoundImages:
    """The images that a path stands for, and how many other files a folder contains."""

    paths: list[str]
    ignored: int = 0
    ignored_endings: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)


def find_images(path: str) -> FoundImages:
    """Return the images in a folder or a file of many, below a prefix, of a pattern, or the path itself.

    Parameters
    ----------
    path : str
        A folder, a pattern such as ``"photos/**/*.jpg"``, or a file; a file whose name looks like a pattern
        is that file, and a pattern without matches is returned as it is. An archive or a shard stands for
        its images, named ``"photos.zip::cat/1.jpg"``. Or the URL of an image,
        or of a prefix of an object store, which does not end as an image's name does.

    Returns
    -------
    FoundImages

    Examples
    --------
    >>> from featstore.images import find_images
    >>> find_images("no-such-photo.jpg").paths
    ['no-such-photo.jpg']
    """
    if is_url(path):
        is_one = is_on_the_web(path) or is_image_name(last_name(path))
        return FoundImages(paths=[path]) if is_one else _in_source(path, path)
    if os.path.isdir(path):
        return _in_source(path, path)
    if kind_of(path) is not None and os.path.isfile(path):
        return _in_source(path, os.path.dirname(path))
    if glob.has_magic(path) and not os.path.lexists(path):
        matches = sorted(match for match in glob.glob(path, recursive=True) if not os.path.isdir(match))
        paths = [found for match in matches for found in _in_match(match)]
        return FoundImages(paths=paths or [path])
    return FoundImages(paths=[path])


def _in_match(path: str) -> list[str]:
    return [path] if kind_of(path) is None else _in_source(path, os.path.dirname(path)).paths


def _in_source(path: str, root: str) -> FoundImages:
    source = open_source(path)
    names = [record.path for record in source.records] + [name for name, _ in source.failures]
    return FoundImages(
        paths=[joined(root, name) for name in names],
        ignored=source.ignored,
        ignored_endings=dict(source.ignored_endings),
        skipped=dict(source.skipped),
    )

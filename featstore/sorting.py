"""Images sorted by their predicted class: copied or linked into folders, or drawn on contact sheets."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import quote

from featstore.errors import ImageError, OutputError
from featstore.hashing import content_hash
from featstore.images import contact_sheet, save_sheet
from featstore.images.reading import read_image
from featstore.io.atomic import failure_reason, make_folders, replacing
from featstore.io.new_folder import new_folder
from featstore.io.outputs import check_destination
from featstore.io.stamps import MEMBER_MARK

__all__ = ["ClassFolders", "check_new_folder", "class_file_name", "write_sheets"]

# Ten lines of ten.
_ON_A_SHEET = 100


class ClassFolders:
    """A folder with a folder for each class, into which images are copied; none is moved or overwritten.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    link : bool
        Make symbolic links instead of copies.

    Attributes
    ----------
    n_added, n_there : int
        Images that were added, and that were there already.

    Raises
    ------
    OutputError
        The folder is a file, or lies in a store.

    Examples
    --------
    >>> import os, tempfile
    >>> from featstore.images import write_digits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     n_images = write_digits(f"{folder}/digits", n_images=10)
    ...     sorted_images = ClassFolders(f"{folder}/sorted")
    ...     added = sorted_images.add(f"{folder}/digits/7/0007.png", "seven")
    ...     os.path.relpath(added, folder), sorted_images.n_added
    ('sorted/seven/0007.png', 1)
    """

    def __init__(self, folder: str | os.PathLike[str], *, link: bool = False) -> None:
        check_destination(folder)
        self.folder = os.path.abspath(os.fspath(folder))
        self._link = link
        self.n_added = self.n_there = 0
        if os.path.lexists(self.folder) and not os.path.isdir(self.folder):
            raise OutputError(f"{self.folder} is a file; name a folder for the classes")

    def add(self, path: str, label: str) -> str:
        """Copy or link an image into the folder of a class, and return its place there.

        A file of this name and other content stays as it is: the new one gets the beginning of its content
        hash added to its name.

        Parameters
        ----------
        path : str
            A file, or an image in an archive.
        label : str

        Returns
        -------
        str
            Where it is now.

        Raises
        ------
        OutputError
            The image cannot be read, written or linked.
        """
        if self._link and not os.path.isfile(path):
            raise OutputError(f"{path} is not a separate file that could be linked; copy it, without --link")
        try:
            data = read_image(path)
        except ImageError as error:
            raise OutputError(f"{path} was labelled, and can no longer be read: {error}") from error
        folder = os.path.join(self.folder, class_file_name(label))
        stem, ending = os.path.splitext(os.path.basename(path.rpartition(MEMBER_MARK)[2]))
        digest = content_hash(data).hex()
        try:
            make_folders(folder)
            for name in (stem, f"{stem}-{digest[:8]}", f"{stem}-{digest}"):
                target = os.path.join(folder, name + ending)
                if not os.path.lexists(target):
                    self._write(path, data, target)
                    self.n_added += 1
                    return target
                if _holds(target, data):
                    self.n_there += 1
                    return target
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"cannot write {path} into {folder}: {failure_reason(error)}") from error
        raise OutputError(f"{target} is there with other content than its name says; move it away")

    def _write(self, path: str, data: bytes, target: str) -> None:
        if self._link:
            os.symlink(os.path.abspath(path), target)
            return
        with replacing(target, create_only=True) as temporary:
            with open(temporary, "xb") as file:
                file.write(data)
            # As cp -p does; an image in an archive has no time.
            with suppress(OSError):
                status = os.stat(path)
                os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))


def _holds(target: str, data: bytes) -> bool:
    """Return whether a file, or what a link leads to, has this content."""
    try:
        return read_image(target) == data
    except ImageError:
        return False


def class_file_name(label: str) -> str:
    """Return a class's name for a file or folder: escapes such as ``%2F`` for what such names cannot hold."""
    name = "".join(
        letter
        if letter.isprintable() and letter not in '%/\\:*?"<>|'
        else quote(letter, safe="", errors="surrogateescape")
        for letter in label
    )
    return f"%2E{name[1:]}" if name.startswith(".") else name


def check_new_folder(folder: str | os.PathLike[str]) -> str:
    """Raise OutputError if a folder is there and not empty, lies in a store, or has no parent."""
    check_destination(folder)
    place = os.path.abspath(os.fspath(folder))
    if not os.path.isdir(os.path.dirname(place)):
        raise OutputError(f"there is no folder {os.path.dirname(place)} to make {place} in")
    if os.path.lexists(place) and not (os.path.isdir(place) and not os.listdir(place)):
        raise OutputError(f"{place} exists and is not an empty folder; name a new one")
    return place


def write_sheets(
    folder: str | os.PathLike[str], images: Mapping[str, Sequence[tuple[str, float | None]]]
) -> list[str]:
    """Draw images on contact sheets by class, the most probable first.

    Parameters
    ----------
    folder : path
        New or empty; made whole or not at all.
    images : mapping of str to sequence of (str, float or None)
        The path and probability of each image of a class.

    Returns
    -------
    list of str
        The sheets' names, ``CLASS-001.png`` and so on, with at most 100 images each.

    Raises
    ------
    OutputError
        The folder is not empty, lies in a store, or cannot be written.
    """
    place, names = check_new_folder(folder), []
    with new_folder(place, overwrite=False, error_class=OutputError) as made:
        for label, found in images.items():
            ranked = sorted(found, key=lambda image: -(image[1] or 0))
            for number, start in enumerate(range(0, len(ranked), _ON_A_SHEET), 1):
                some = ranked[start : start + _ON_A_SHEET]
                pictures = [(path, f"{p or 0:.3f} {os.path.basename(path)}") for path, p in some]
                title = f"{label}: {start + 1:,} to {start + len(some):,} of {len(ranked):,}"
                names.append(f"{class_file_name(label)}-{number:03}.png")
                save_sheet(contact_sheet([(title, pictures)]), os.path.join(made, names[-1]))
    return names

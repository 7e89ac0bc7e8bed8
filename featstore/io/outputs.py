"""Where results may be written outside of stores: one rule for every file that a caller names."""

import os
from collections.abc import Iterable
from contextlib import suppress

from featstore.errors import OutputError

__all__ = ["check_head_output", "check_output", "check_outside_stores", "store_of"]

_MARK, _HEAD = "featstore.json", ".head"


def check_output(
    path: str | os.PathLike[str], *, overwrite: bool = False, inputs: Iterable[str | os.PathLike[str]] = ()
) -> str:
    """Refuse a file that results must not be written to, before there are results.

    Parameters
    ----------
    path : path_like
        The file to be.
    overwrite : bool
        Whether a file that is there may be replaced.
    inputs : iterable of path_like
        What the results are made of, such as images: never replaced, whatever ``overwrite`` says.

    Returns
    -------
    str
        Its absolute path.

    Raises
    ------
    OutputError
        There is a file and ``overwrite`` is False, or it is one of the inputs; the path is that of a folder
        or lies in a store; or the folder that it is to be in does not exist.

    Examples
    --------
    >>> check_output(__file__)
    Traceback (most recent call last):
    featstore.errors.OutputError: ... exists; name another file, or replace it with --force (overwrite=True)
    """
    target = os.path.abspath(os.fspath(path))
    if os.path.isdir(target):
        raise OutputError(f"{target} is a folder; name the file to write")
    if not os.path.isdir(os.path.dirname(target)):
        raise OutputError(f"there is no folder {os.path.dirname(target)} to write {target} into")
    check_outside_stores(target)
    if not os.path.lexists(target):
        return target
    if (taken := _same_file(target, inputs, follow=overwrite)) is not None:
        raise OutputError(f"{target} is an input ({taken}), which is never written over; name another file")
    if not overwrite:
        raise OutputError(f"{target} exists; name another file, or replace it with --force (overwrite=True)")
    return target


def check_head_output(
    path: str | os.PathLike[str], *, overwrite: bool = False, inputs: Iterable[str | os.PathLike[str]] = ()
) -> str:
    """Refuse a file that a head must not be saved to: as any other, but that a store's heads are replaced.

    Parameters, result and errors are those of :func:`check_output`.
    """
    target = os.path.abspath(os.fspath(path))
    folder, name = os.path.split(target)
    home, heads = os.path.split(os.path.realpath(folder))
    is_named = name.endswith(_HEAD) and not os.path.isdir(target)
    if heads == "heads" and is_named and os.path.lexists(os.path.join(home, _MARK)):
        return target
    return check_output(target, overwrite=overwrite, inputs=inputs)


def check_outside_stores(path: str | os.PathLike[str]) -> None:
    """Refuse a path in a store, whose files featstore alone writes.

    Raises
    ------
    OutputError
    """
    if (store := store_of(path)) is not None:
        raise OutputError(
            f"{os.path.abspath(os.fspath(path))} lies in the store {store}, into which nothing else is "
            "written; name a place outside of it"
        )


def store_of(path: str | os.PathLike[str]) -> str | None:
    """Return the store that a path lies in, or is; None where it is in none."""
    place = os.path.realpath(os.fspath(path))
    while not os.path.lexists(os.path.join(place, _MARK)):
        above = os.path.dirname(place)
        if above == place:
            return None
        place = above
    return place


def _same_file(target: str, inputs: Iterable[str | os.PathLike[str]], *, follow: bool) -> str | None:
    """Return the input that a file is: one of its name or, where links are followed, one that leads to it."""
    names = {os.path.basename(place).casefold() for place in (target, os.path.realpath(target))}
    for given in inputs:
        is_near = os.path.basename(given).casefold() in names or (follow and os.path.islink(given))
        # What cannot be looked at is no input that could be read.
        with suppress(OSError):
            if is_near and os.path.samefile(given, target):
                return os.fspath(given)
    return None

"""Checks of output paths: never overwrite inputs, never write into a store."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress

from featstore.class_names import normalised_name
from featstore.errors import OutputError
from featstore.io.atomic import failure_reason
from featstore.io.stamps import MEMBER_MARK
from featstore.io.storage.opening import absolute_place, file_exists, storage_of
from featstore.io.urls import is_url

__all__ = ["check_destination", "check_head_output", "check_output", "is_store", "store_of"]

_MARK, _HEAD = "featstore.json", ".head"


def check_output(
    path: str | os.PathLike[str], *, overwrite: bool = False, inputs: Iterable[str | os.PathLike[str]] = ()
) -> str:
    """Raise OutputError if results must not be written to a path."""
    _refuse_url(path)
    target = os.path.abspath(os.fspath(path))
    if os.path.isdir(target):
        raise OutputError(f"{target} is a folder; name the file to write")
    if not os.path.isdir(os.path.dirname(target)):
        raise OutputError(f"there is no folder {os.path.dirname(target)} to write {target} into")
    check_destination(target)
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
    """Check a head's output path; heads in a store may be replaced."""
    target = absolute_place(path)
    folder, name = os.path.split(target)
    if is_url(target):
        return _checked_object(target, folder, overwrite=overwrite)
    home, heads = os.path.split(os.path.realpath(folder))
    is_named = name.endswith(_HEAD) and not os.path.isdir(target)
    if heads == "heads" and is_named and is_store(home):
        _check_writable(target)
        return target
    return check_output(target, overwrite=overwrite, inputs=inputs)


def check_destination(path: str | os.PathLike[str]) -> None:
    """Raise OutputError if a path lies in a store, is a URL, or cannot be written."""
    _refuse_url(path)
    if (store := store_of(path)) is not None:
        raise OutputError(
            f"{os.path.abspath(os.fspath(path))} lies in the store {store}, into which nothing else is "
            "written; name a place outside of it"
        )
    _check_writable(os.path.abspath(os.fspath(path)))


def _refuse_url(path: str | os.PathLike[str]) -> None:
    if is_url(os.fspath(path)):
        raise OutputError(
            f"{os.fspath(path)} is a URL; only heads are written to buckets: name a file or folder"
        )


def _check_writable(target: str) -> None:
    folder = target if os.path.isdir(target) else os.path.dirname(target)
    try:
        storage_of(folder).check_writable(folder)
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {failure_reason(error)}; name a place that can be written"
        ) from error


def store_of(path: str | os.PathLike[str]) -> str | None:
    """Return the store that contains a path (or is it), or None."""
    place = os.path.realpath(os.fspath(path))
    while not is_store(place):
        above = os.path.dirname(place)
        if above == place:
            return None
        place = above
    return place


def is_store(folder: str) -> bool:
    """Return whether a folder, or the URL of one, is a store, by the file that marks one."""
    return file_exists(os.path.join(folder, _MARK))


def _checked_object(target: str, folder: str, *, overwrite: bool) -> str:
    """Check the URL of a head: in a bucket it lies among the heads of a store, or in none."""
    if not target.endswith(_HEAD):
        raise OutputError(f"{target} does not end as a head's name does: name it NAME{_HEAD}")
    home, heads = os.path.split(folder)
    if heads == "heads" and is_store(home):
        return target
    above = folder
    while above.count("/") > 2:
        if is_store(above):
            raise OutputError(
                f"{target} lies in the store {above}, into which nothing else is written; name "
                f"{above}/heads/NAME{_HEAD}, or a place outside of it"
            )
        above = os.path.dirname(above)
    if not overwrite and file_exists(target):
        raise OutputError(f"{target} exists; name another, or replace it with --force (overwrite=True)")
    return target


def _same_file(target: str, inputs: Iterable[str | os.PathLike[str]], *, follow: bool) -> str | None:
    """Return the input that is the same file, by name or through links, or None."""
    names = {_folded(place) for place in (target, os.path.realpath(target))}
    for given in _files(inputs):
        is_near = _folded(given) in names or (follow and os.path.islink(given))
        # What cannot be looked at is no input that could be read.
        with suppress(OSError):
            if is_near and os.path.samefile(given, target):
                return given
    return None


def _files(inputs: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """Yield inputs, and the files that hold those within larger ones."""
    holders = set()
    for given in [os.fspath(one) for one in inputs]:
        yield given
        at = given.find(MEMBER_MARK)
        while at > 0:
            if (holder := given[:at]) not in holders:
                holders.add(holder)
                yield holder
            at = given.find(MEMBER_MARK, at + 1)


def _folded(path: str | os.PathLike[str]) -> str:
    """Return a file's name as the file systems compare it that know neither case nor Unicode forms."""
    return normalised_name(normalised_name(os.path.basename(os.fspath(path))).casefold())

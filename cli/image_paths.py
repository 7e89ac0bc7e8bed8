"""The images that a command line names: files, folders, patterns, and paths on standard input."""

import os
import queue
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import BinaryIO, TypeAlias

import click

from .printing import left_out, note

__all__ = ["STDIN", "ImagePaths"]

STDIN = "-"

_READ_BYTES = 2**16
# Maximum number of waiting paths: an endless list is not held in memory.
_PATHS_AHEAD = 1000
# If no path arrives for this long, the results of those that have arrived are printed.
_PAUSE_SECONDS = 0.2

_Paths: TypeAlias = "queue.Queue[str | OSError | None]"


class ImagePaths:
    """The images to classify, in groups of which each can be predicted before the next is known.

    Attributes
    ----------
    groups : iterable of iterable of str
    total : int or None
        Their number, if known in advance.
    n_ignored : int
        Files of folders that are not images, as far as the groups have been read.
    """

    def __init__(self, images: Sequence[str], *, is_null: bool) -> None:
        self.n_ignored = 0
        self.groups: Iterable[Iterable[str]]
        if STDIN in images:
            self.total: int | None = None
            self.groups = chain.from_iterable(
                _paths_on_stdin(is_null) if image == STDIN else [self._paths(image)] for image in images
            )
        else:
            paths = [path for image in images for path in self._paths(image)]
            self.total, self.groups = len(paths), [paths]

    def _paths(self, image: str) -> list[str]:
        from featstore.images import find_images

        found = find_images(image)
        self.n_ignored += found.ignored
        for line in left_out(found.ignored_endings, found.skipped):
            note(f"{image}: {line}")
        return found.paths


def _paths_on_stdin(is_null: bool) -> Iterator[Iterator[str]]:
    """Yield the paths on standard input in runs; a run ends when no more paths arrive for a moment.

    They are read in a thread, so that a program that writes some paths and waits for the results gets them.
    """
    if sys.stdin is None:
        raise click.UsageError("standard input is closed, and - reads paths from it")
    # A thread blocked in a buffered reader would keep the interpreter from shutting down.
    stream: BinaryIO = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    end = b"\0" if is_null else b"\n"
    paths: _Paths = queue.Queue(_PATHS_AHEAD)
    threading.Thread(target=_read_paths, args=(stream, end, paths), daemon=True).start()
    while (first := paths.get()) is not None:
        yield _until_pause(first, paths)


def _until_pause(first: str | OSError, paths: "_Paths") -> Iterator[str]:
    path: str | OSError | None = first
    while path is not None:
        if isinstance(path, OSError):
            raise path
        yield path
        try:
            path = paths.get(timeout=_PAUSE_SECONDS)
        except queue.Empty:
            return
    paths.put(None)


def _read_paths(stream: BinaryIO, end: bytes, paths: "_Paths") -> None:
    """Put each path, or the error, into the queue, and None at the end."""
    rest = b""
    try:
        while data := stream.read(_READ_BYTES):
            *whole, rest = (rest + data).split(end)
            for path in whole:
                _put_path(path, end, paths)
        _put_path(rest, end, paths)
    except OSError as error:
        paths.put(error)
    finally:
        paths.put(None)


def _put_path(path: bytes, end: bytes, paths: "_Paths") -> None:
    if end == b"\n":
        path = path.removesuffix(b"\r")
    if path:
        paths.put(os.fsdecode(path))

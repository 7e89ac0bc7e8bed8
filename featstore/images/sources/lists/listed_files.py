"""Resolution of paths in lists, however they are written."""

import os
import posixpath
import re
import stat
from collections.abc import Iterator
from urllib.parse import unquote

from featstore.class_names import normalised_name
from featstore.errors import ImageError
from featstore.images.sources.containers.kinds import member_status
from featstore.images.sources.folders import unusable_reason
from featstore.images.sources.image_names import is_image_name
from featstore.io.stamps import MEMBER_MARK, UNKNOWN, FileStamp
from featstore.io.urls import ADDRESS, FILE_URL, is_url

__all__ = ["ListedFiles", "normalised_path", "readings"]

_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


class ListedFiles:
    """Finds the files of a list; relative paths start from ``root``."""

    def __init__(self, root: str) -> None:
        # Absolute paths survive the joining: the prefix is used for relative ones only.
        self.root = root
        self._prefix = root if root.endswith(os.sep) else root + os.sep
        self._is_remote = is_url(root)
        self._names: dict[str, dict[str, list[str]]] = {}

    def look_up(self, text: str) -> tuple[str, FileStamp | str]:
        """Return a file's path and stamp, UNKNOWN of a URL, or the reason why it is no file to be read."""
        if is_url(url := text.strip()):
            return url, UNKNOWN
        if self._is_remote:
            return posixpath.normpath(text.strip() or text), UNKNOWN
        try:
            path, status = self._find(text)
        except ImageError as error:
            return normalised_path(text.strip() or text), str(error)
        return path, FileStamp.of(status) if stat.S_ISREG(status.st_mode) else unusable_reason(status)

    def _find(self, text: str) -> tuple[str, os.stat_result]:
        """Return a file's path on the disk and its ``stat`` result."""
        # A path is taken literally; if no such file exists: without surrounding blanks, with slashes for
        # backslashes, in another Unicode form, or with an image's extension, if exactly one file fits.
        path = normalised_path(text)
        try:
            return path, os.stat(self._absolute(path))
        except OSError as error:
            reason = unusable_reason(error)
        if MEMBER_MARK in path and (status := _status_within(self._absolute(path))) is not None:
            return path, status
        others = [normalised_path(reading) for reading in readings(text)[1:]]
        for other in others:
            try:
                return other, os.stat(self._absolute(other))
            except OSError:
                continue
        if ADDRESS.match(text.strip()) and not FILE_URL.match(text.strip()):
            raise ImageError("the address of a file on another machine; give its path here")
        for other in (path, *others):
            fitting = [like for like in self._like(other) if os.path.exists(self._absolute(like))]
            if len(fitting) > 1:
                raise ImageError(f"fits {len(fitting)} files, {fitting[0]!r} and {fitting[1]!r}")
            if fitting:
                return fitting[0], os.stat(self._absolute(fitting[0]))
        if _DRIVE.match(text.strip()):
            reason += ", which is a path of Windows; paths relative to the list fit every system"
        raise ImageError(reason)

    def _absolute(self, path: str) -> str:
        return path if os.path.isabs(path) else self._prefix + path

    def _like(self, path: str) -> Iterator[str]:
        """Yield the files whose paths differ by Unicode form, or lack an image's extension."""
        start, *parts = ("/", *path[1:].split("/")) if path.startswith("/") else ("", *path.split("/"))
        *folders, last = parts
        found = [start]
        for part in folders:
            found = [
                f"{above}{name}/"
                for above in found
                for name in self._forms(above, part)
                if os.path.isdir(self._absolute(above + name))
            ]
        for above in found:
            same = [above + name for name in self._forms(above, last)]
            yield from same or [above + name for name in self._with_ending(above, last)]

    def _forms(self, above: str, name: str) -> list[str]:
        if name.isascii():
            return [name] if os.path.lexists(self._absolute(above + name)) else []
        return self._listed(above).get(normalised_name(name), [])

    def _with_ending(self, above: str, stem: str) -> list[str]:
        return [
            name for name in self._listed(above).get(normalised_name(stem) + ".", []) if is_image_name(name)
        ]

    def _listed(self, above: str) -> dict[str, list[str]]:
        """Return the names in a folder by their normalised forms, with and without extension."""
        if above not in self._names:
            names = self._names.setdefault(above, {})
            try:
                listed = os.listdir(self._absolute(above) or ".")
            except OSError:
                listed = []
            for name in sorted(listed, key=os.fsencode):
                names.setdefault(normalised_name(name), []).append(name)
                if dot := name.rfind(".") + 1:
                    names.setdefault(normalised_name(name[:dot]), []).append(name)
        return self._names[above]


def _status_within(path: str) -> os.stat_result | None:
    """Return the status of the container that holds an image, None if there is no such container."""
    try:
        return member_status(path)
    except OSError as error:
        raise ImageError(unusable_reason(error)) from error


def readings(text: str) -> list[str]:
    """Return the possible meanings of a path in a list, the literal one first."""
    candidates = [text]
    stripped = text.strip()
    if match := FILE_URL.match(stripped):
        stripped = unquote(stripped[match.end() :], errors="surrogateescape")
    if stripped != text and stripped:
        candidates.append(stripped)
    if "\\" in stripped and os.sep == "/":
        candidates.append(stripped.replace("\\", "/"))
    return candidates


def normalised_path(path: str) -> str:
    """Return a path as :func:`os.path.normpath` does, with slashes; a URL stays as it is."""
    # Only these can be changed by normpath, which costs more than the rest of the row.
    if "//" in path or "/." in path or path[:1] == "." or path[-1:] == "/" or os.sep != "/":
        if ADDRESS.match(path):
            return path
        path = os.path.normpath(path)
        if path.startswith("//"):
            path = path[1:]
        if os.sep != "/":
            path = path.replace(os.sep, "/")
    return path

"""Resolution of paths in lists, however they are written."""

import os
import re
import stat
from collections.abc import Iterator
from urllib.parse import unquote

from featstore.class_names import normalised_name
from featstore.errors import ImageError
from featstore.images.sources.folders import unusable_reason
from featstore.images.sources.image_names import is_image_name

__all__ = ["ListedFiles", "normalised_path", "readings"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_FILE_URL = re.compile(r"file://(?:localhost)?(?=/)", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


class ListedFiles:
    """Finds the files of a list; relative paths start from ``root``."""

    def __init__(self, root: str) -> None:
        # Absolute paths survive the joining: the prefix is used for relative ones only.
        self._prefix = root if root.endswith(os.sep) else root + os.sep
        self._names: dict[str, dict[str, list[str]]] = {}

    def look_up(self, text: str) -> tuple[str, os.stat_result | str]:
        """Return a file's path and ``stat`` result, or the reason why it is no regular file to be read."""
        try:
            path, status = self._find(text)
        except ImageError as error:
            return normalised_path(text.strip() or text), str(error)
        return path, status if stat.S_ISREG(status.st_mode) else unusable_reason(status)

    def _find(self, text: str) -> tuple[str, os.stat_result]:
        """Return a file's path on the disk and its ``stat`` result."""
        # A path is taken literally; if no such file exists: without surrounding blanks, with slashes for
        # backslashes, in another Unicode form, or with an image's extension, if exactly one file fits.
        path = normalised_path(text)
        try:
            return path, os.stat(self._absolute(path))
        except OSError as error:
            reason = unusable_reason(error)
        others = [normalised_path(reading) for reading in readings(text)[1:]]
        for other in others:
            try:
                return other, os.stat(self._absolute(other))
            except OSError:
                continue
        if _URL.match(text.strip()) and not _FILE_URL.match(text.strip()):
            raise ImageError("an address, not a file; download the images, and list the files")
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


def readings(text: str) -> list[str]:
    """Return the possible meanings of a path in a list, the literal one first."""
    candidates = [text]
    stripped = text.strip()
    if match := _FILE_URL.match(stripped):
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
        if _URL.match(path):
            return path
        path = os.path.normpath(path)
        if path.startswith("//"):
            path = path[1:]
        if os.sep != "/":
            path = path.replace(os.sep, "/")
    return path

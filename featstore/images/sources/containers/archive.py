"""Archives of files: which members are images, and what the files beside them say."""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from featstore.class_names import normalised_name
from featstore.images.sources.containers.member import Container, Member
from featstore.images.sources.image_names import (
    begins_as_image,
    is_image_name,
    is_of_another_program,
    may_hold_image,
)
from featstore.images.sources.lists.column_names import LABEL_WORDS

__all__ = ["LABEL_ENDINGS", "ArchiveEntry", "clean_name", "list_archive"]

LABEL_ENDINGS = (".cls", ".json", ".txt")
"""Of files that give the class of the image beside them in a WebDataset, the first one that is there."""

_MAX_LABEL_CHARACTERS = 2000


class ArchiveEntry(NamedTuple):
    """A file in an archive."""

    name: str
    place: Any
    problem: str | None = None
    text: bytes | None = None  # its content, if it may give a label


def list_archive(entries: Iterable[ArchiveEntry], *, read_head: Callable[[Any], bytes]) -> Container:
    """List the images of an archive; ``read_head`` returns the first bytes of a file."""
    container = Container()
    named: list[tuple[str, Member]] = []
    texts: dict[str, bytes] = {}
    n_nameless = 0
    for entry in entries:
        name = clean_name(entry.name)
        if not name:
            n_nameless += 1
        elif _is_image(name, entry, container, read_head):
            named.append((name, Member(entry.place, path=name, problem=entry.problem)))
        elif entry.text is not None:
            texts[name] = entry.text
    if texts:
        used: set[str] = set()
        named = [(name, member._replace(label=_label(name, texts, used))) for name, member in named]
        container.others.update(os.path.splitext(name)[1].lower() for name in texts if name not in used)
    container.add(named)
    if n_nameless:
        many = f"{n_nameless:,} members" if n_nameless > 1 else "a member"
        container.failures.append(("", f"{many} without a name"))
    return container


def clean_name(name: str) -> str:
    """Return a member's name without ``./`` and leading slashes, with backslashes as slashes."""
    if "\\" in name and "/" not in name:
        name = name.replace("\\", "/")
    if name[:1] in "./" or "//" in name or "/./" in name:
        name = "/".join(part for part in name.split("/") if part not in ("", "."))
    return name


def _is_image(
    name: str, entry: ArchiveEntry, container: Container, read_head: Callable[[Any], bytes]
) -> bool:
    """Return whether a member is an image; count it where it is not."""
    *folders, last = name.split("/")
    for folder in folders:
        if (folder[0] == "." and folder != "..") or is_of_another_program(folder):
            container.skipped[folder] += 1
            return False
    if last[:1] == ".":
        if last.startswith("._"):
            container.skipped["._*"] += 1
        elif is_image_name(last):
            container.skipped["hidden images"] += 1
        return False
    if is_image_name(last):
        return True
    if entry.text is not None:
        return False
    if may_hold_image(last) and entry.problem is None and begins_as_image(read_head(entry.place)):
        return True
    container.others[os.path.splitext(last)[1].lower()] += 1
    return False


def _label(name: str, texts: dict[str, bytes], used: set[str]) -> str | int | None:
    """Return what the files beside an image say of its class, and note them."""
    stem = os.path.splitext(name)[0]
    folder, _, last = name.rpartition("/")
    # WebDataset's key of a sample ends at the first dot.
    key = f"{folder}/{last.partition('.')[0]}" if folder else last.partition(".")[0]
    found = None
    for beside in (at + ending for ending in LABEL_ENDINGS for at in (stem, key)):
        if (text := texts.get(beside)) is not None:
            used.add(beside)
            if found is None:
                found = _parsed(text, is_json=beside.endswith(".json"))
    return found


def _parsed(text: bytes, *, is_json: bool) -> str | int | None:
    try:
        content = text.decode()
        value = json.loads(content) if is_json else content.strip()
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        named = {str(key).lower(): found for key, found in value.items()}
        # A name says more than a number.
        found = [_checked(named.get(word)) for word in (*LABEL_WORDS, "cls")]
        return min(
            (one for one in found if one is not None), key=lambda one: isinstance(one, int), default=None
        )
    return _checked(value)


def _checked(value: Any) -> str | int | None:
    """Return a class's name or number, None for anything else."""
    if isinstance(value, str):
        value = normalised_name(value.strip())
        if value.isascii() and value.isdigit() and len(value) < 10:
            return int(value)
        return value if 0 < len(value) <= _MAX_LABEL_CHARACTERS and value.isprintable() else None
    is_number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9
    return value if is_number else None

"""Sources of images within larger files: TFRecord shards, and archives of tar and zip."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from featstore.class_names import normalised_name
from featstore.errors import ImageError, SourceError
from featstore.images.sources.containers.kinds import kind_of, list_container
from featstore.images.sources.containers.member import NO_COLUMNS, ColumnError, Columns, Member
from featstore.images.sources.folders import split_by_folders, unusable_reason
from featstore.images.sources.image_names import is_of_another_program
from featstore.images.sources.records import ImageRecord, Records, Source, split_of_word
from featstore.io.outputs import is_store
from featstore.io.stamps import MEMBER_MARK

__all__ = ["catalog_stem", "containers_in", "open_containers"]

_OF = re.compile(r"-\d+-of-\d+")
_ENDING = re.compile(r"\.(tfrecords?|tar|tar\.(gz|bz2|xz|zst)|tgz|zip|parquet)$", re.IGNORECASE)
_NUMBER = re.compile(r"[-_.]?\d+$")
# TF-Slim writes "0:daisy", TensorFlow Datasets one name a line.
_NUMBERED = re.compile(r"(\d+)\s*:\s*(.*)")
_LABEL_FILES = ("labels.txt", "label.labels.txt", "classes.txt", "classnames.txt")


def containers_in(folder: str) -> list[str]:
    """Return the containers of a folder, sorted; where it has none itself, those below it."""
    found = []
    for above, folders, names in os.walk(folder):
        found += [os.path.join(above, name) for name in names if name[0] != "." and kind_of(name) is not None]
        if above == folder and found:
            break
        folders[:] = [
            name
            for name in folders
            if name[0] != "." and not is_of_another_program(name) and not is_store(os.path.join(above, name))
        ]
    return sorted(found, key=os.fsencode)


def catalog_stem(paths: Sequence[str]) -> str:
    """Return the name of some containers without their numbers and endings."""
    stems = {_stem(path) for path in paths}
    if len(paths) > 1:
        stems = {_NUMBER.sub("", stem) for stem in stems}
    return stems.pop() if len(stems) == 1 else os.path.basename(os.path.dirname(paths[0]))


def open_containers(
    paths: Sequence[str], *, root: str, location: str, name: str, columns: Columns = NO_COLUMNS
) -> Source:
    """List the images of containers of one kind, in the order of their names, without decoding them."""
    _check_kinds(paths, location)
    names_of_classes = _class_names(os.path.dirname(paths[0]))
    relative = {path: os.path.relpath(path, root).replace(os.sep, "/") for path in paths}
    failures: list[tuple[str, str]] = []
    splits = _splits([relative[path] for path in paths])
    # As their containers name them and as they lie in these: none is held, of which there may be thousands.
    records, inner = Records(), Records()
    keys: set[str] = set()
    others: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    wrong_column = ""
    for path in paths:
        try:
            container, stamp = list_container(path, columns)
        except (OSError, ImageError) as error:
            if isinstance(error, ColumnError):
                wrong_column = wrong_column or f"{path!r}: {error}"
            reason = unusable_reason(error) if isinstance(error, OSError) else str(error)
            failures.append((relative[path], reason))
            continue
        keys |= container.keys
        for member_name, one in container.members.items():
            label = _label(one, names_of_classes)
            full = f"{relative[path]}{MEMBER_MARK}{member_name}"
            split = splits.get(relative[path])
            records.append(ImageRecord(path=full, label=label, split=split, stamp=stamp))
            inner.append(ImageRecord(path=one.path, stamp=stamp))
        for member, reason in container.failures:
            failures.append((f"{relative[path]}{'' if member is None else MEMBER_MARK + member}", reason))
        others += container.others
        skipped += container.skipped
    records = _with_folders(records, inner)
    if not records:
        if wrong_column:
            raise SourceError(wrong_column)
        raise SourceError(_no_image(location, paths, failures, keys, others))
    return Source(
        name=name,
        root=root,
        location=location,
        records=records,
        failures=failures,
        ignored=others.total(),
        ignored_endings=dict(others.most_common()),
        skipped=dict(sorted(skipped.items())),
    )


def _with_folders(records: Records, inner: Records) -> Records:
    """Return records with the labels and splits that the folders in their containers give."""
    paths = inner.columns.paths
    n_above = _n_common_folders(paths)
    below = Records()
    for record, path in zip(records, paths, strict=True):
        parts = (path or "").split("/")[n_above:]
        label = normalised_name(parts[0]) if len(parts) > 1 else None
        below.append(ImageRecord(path="/".join(parts), label=label, stamp=record.stamp))
    return Records(
        replace(record, label=record.label or found.label, split=record.split or found.split)
        for record, found in zip(records, split_by_folders(below), strict=True)
    )


def _n_common_folders(paths: Sequence[str | None]) -> int:
    """Return how many folders all paths lead through above their class folders."""
    if not paths:
        return 0
    first = min(path or "" for path in paths)
    last = max(path or "" for path in paths)
    same = next(
        (at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first)
    )
    n_common = first.count("/", 0, same)
    # Images of one class only keep its folder.
    return max(0, n_common - all((path or "").count("/") == n_common for path in paths))


def _label(member: Member, names: dict[int, str]) -> str | None:
    if isinstance(member.label, int):
        return names.get(member.label, str(member.label))
    return member.label


def _splits(paths: Sequence[str]) -> dict[str, str]:
    """Return the containers' splits if their names, or their folders', say train and another one."""
    found = {}
    for path in paths:
        folder = os.path.dirname(path)
        words = {split_of_word(word) for word in re.split(r"[-_./]", f"{folder}/{_stem(path)}")} - {None}
        if len(words) != 1:
            return {}
        found[path] = words.pop() or ""
    return found if {"train"} < set(found.values()) else {}


def _stem(path: str) -> str:
    return _ENDING.sub("", _OF.sub("", os.path.basename(path)))


def _class_names(folder: str) -> dict[int, str]:
    """Return the names of class numbers that a labels.txt beside the containers gives."""
    for name in _LABEL_FILES:
        try:
            with open(os.path.join(folder, name), encoding="utf-8-sig") as file:
                lines = [line.strip() for line in file if line.strip()]
        except (OSError, UnicodeDecodeError):
            continue
        numbered = [_NUMBERED.fullmatch(line) for line in lines]
        if all(numbered):
            return {int(match[1]): normalised_name(match[2]) for match in numbered if match}
        return {number: normalised_name(line) for number, line in enumerate(lines)}
    return {}


def _check_kinds(paths: Sequence[str], location: str) -> None:
    counts = Counter(kind.name for kind in map(kind_of, paths) if kind is not None)
    if len(counts) > 1:
        found = " and ".join(f"{number:,} {name}" for name, number in counts.items())
        raise SourceError(
            f"{location!r} holds {found}; give those of one kind, by their names or a pattern such as '*.tar'"
        )


def _no_image(
    location: str,
    paths: Sequence[str],
    failures: list[tuple[str, str]],
    keys: set[str],
    others: Counter[str],
) -> str:
    found = f"; the first failure is {failures[0][0]!r}: {failures[0][1]}" if failures else "; they are empty"
    if others:
        endings = ", ".join(repr(ending[:20])[1:-1] or "no ending" for ending, _ in others.most_common(5))
        found = f"; they hold {others.total():,} other files ({endings})" + (found if failures else "")
    if keys:
        found = f"; their records have {', '.join(repr(key[:40]) for key in sorted(keys)[:8])}"
    kind = kind_of(paths[0])
    name, expected = ("containers", "images") if kind is None else (kind.name, kind.expected)
    where = f"{len(paths)} {name} of {location!r}" if len(paths) > 1 else f"{name[:-1]} {paths[0]!r}"
    return f"no image in the {where}{found}. Expected {expected}"

"""TFRecord sources: shards of encoded images as the Inception scripts, TF-Slim and TFDS write them."""

import os
import re
from collections.abc import Sequence

from featstore.class_names import normalised_name
from featstore.errors import SourceError
from featstore.images.sources.folders import unusable_reason
from featstore.images.sources.records import ImageRecord, Source, split_of_word
from featstore.images.sources.tfrecord_shard import Example, Shard, read_shard
from featstore.io.stamps import MEMBER_MARK, FileStamp
from featstore.io.tfrecord import TFRecordError

__all__ = ["is_tfrecord_name", "open_tfrecords", "tfrecords_in"]

_OF = re.compile(r"-\d+-of-\d+")
_SHARD = re.compile(r".*\.tfrecords?|.*-\d{5,}-of-\d{5,}(\.tfrecords?)?", re.IGNORECASE)
# TF-Slim writes "0:daisy", TensorFlow Datasets one name a line.
_NUMBERED = re.compile(r"(\d+)\s*:\s*(.*)")
_LABEL_FILES = ("labels.txt", "label.labels.txt")


def is_tfrecord_name(name: str) -> bool:
    """Return whether a file's name is that of a TFRecord shard."""
    return _SHARD.fullmatch(name) is not None


def tfrecords_in(folder: str) -> list[str]:
    """Return the names of a folder's shards, sorted."""
    return sorted(name for name in os.listdir(folder) if is_tfrecord_name(name) and name[0] != ".")


def open_tfrecords(paths: Sequence[str], *, location: str, name: str) -> Source:
    """List the images of shards, in the order of their names, without decoding them."""
    root = os.path.dirname(paths[0])
    names_of_classes = _class_names(root)
    splits = _splits(paths)
    records: list[ImageRecord] = []
    failures: list[tuple[str, str]] = []
    keys: set[str] = set()
    for path in paths:
        relative = os.path.relpath(path, root).replace(os.sep, "/")
        try:
            # Taken before the shard is read, so that a change meanwhile shows in the next run.
            stamp = FileStamp.of(os.stat(path))
            shard = read_shard(path, stamp)
        except (OSError, TFRecordError) as error:
            reason = unusable_reason(error) if isinstance(error, OSError) else str(error)
            failures.append((relative, reason))
            continue
        keys |= shard.keys
        records += _records(shard, relative, splits.get(path), stamp, names_of_classes)
        failures += [(f"{relative}{MEMBER_MARK}{record}", reason) for record, reason in shard.failures]
    if not records:
        raise SourceError(_no_image(location, paths, failures, keys))
    return Source(name=name, root=root, location=location, records=records, failures=failures, ignored=0)


def catalog_stem(shard: str) -> str:
    """Return a shard's name without its number and ending."""
    return _OF.sub("", re.sub(r"\.tfrecords?", "", os.path.basename(shard), flags=re.IGNORECASE))


def _records(
    shard: Shard, path: str, split: str | None, stamp: FileStamp, names: dict[int, str]
) -> list[ImageRecord]:
    return [
        ImageRecord(path=f"{path}{MEMBER_MARK}{name}", label=_label(example, names), split=split, stamp=stamp)
        for name, example in shard.examples.items()
    ]


def _label(example: Example, names: dict[int, str]) -> str | None:
    if example.text is not None or example.class_number is None:
        return example.text
    return names.get(example.class_number, str(example.class_number))


def _splits(paths: Sequence[str]) -> dict[str, str]:
    """Return the shards' splits if their names say train and another one."""
    found = {}
    for path in paths:
        words = {split_of_word(word) for word in re.split(r"[-_.]", catalog_stem(path))} - {None}
        if len(words) != 1:
            return {}
        found[path] = words.pop() or ""
    return found if {"train"} < set(found.values()) else {}


def _class_names(folder: str) -> dict[int, str]:
    """Return the names of class numbers that a labels.txt beside the shards gives."""
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


def _no_image(location: str, paths: Sequence[str], failures: list[tuple[str, str]], keys: set[str]) -> str:
    found = f"; the first failure is {failures[0][0]!r}: {failures[0][1]}" if failures else "; they are empty"
    if keys:
        found = f"; their records have {', '.join(repr(key[:40]) for key in sorted(keys)[:8])}"
    return (
        f"no image in the {len(paths)} TFRecord shards of {location!r}{found}. Expected the encoded images "
        "as image/encoded, as the Inception scripts write them"
    )

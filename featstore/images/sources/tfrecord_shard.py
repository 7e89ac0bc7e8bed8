"""One TFRecord shard of encoded images: what its records say, and the bytes of one image."""

import mmap
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from featstore.class_names import normalised_name
from featstore.errors import ImageError
from featstore.io.stamps import MEMBER_MARK, FileStamp
from featstore.io.tfrecord import Span, TFRecordError, check_record, iter_spans, parse_example

__all__ = ["Shard", "read_from_tfrecord", "read_shard"]

# As the Inception scripts and TF-Slim name them, and as TensorFlow Datasets does.
_IMAGE_KEYS = ("image/encoded", "image")
_CLASS_KEYS = ("image/class/label", "label")
_TEXT_KEY = "image/class/text"
_NAME_KEYS = ("image/filename", "file_name", "filename")
_KEYS = frozenset((*_IMAGE_KEYS, *_CLASS_KEYS, _TEXT_KEY, *_NAME_KEYS))

_NAME = re.compile(r"[^\x00-\x1f]+")
_MAX_TEXT_BYTES = 2000
_GZIP = b"\x1f\x8b"
_CACHED_SHARDS = 64
_MAX_RECORD_BYTES = 2**30


class Example(NamedTuple):
    """Where the image of one record is, and its class.

    Attributes
    ----------
    record : tuple of (int, int)
        Begin and end of the record's data in the file.
    image : tuple of (int, int)
        Begin and end of the encoded image in the file.
    class_number : int or None
    text : str or None
        Name of the class.
    """

    record: Span
    image: Span
    class_number: int | None
    text: str | None


@dataclass(kw_only=True)
class Shard:
    """Content of a shard.

    Attributes
    ----------
    examples : dict of str to Example
        By name: the image's file name, or the record's number where it has none or another has the same.
    failures : list of (name, reason)
        Records without an image, and where the shard cannot be read any further.
    keys : set of str
        Names of the features of the records without an image.
    """

    examples: dict[str, Example] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)


@lru_cache(maxsize=_CACHED_SHARDS)
def read_shard(path: str, stamp: FileStamp) -> Shard:
    """Locate the images of a shard; only the pages around them are read, and the data's checksums later."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return Shard()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as buffer:
            if buffer[:2] == _GZIP:
                raise TFRecordError(
                    "compressed by gzip, which cannot be read from within; write the shards uncompressed, as "
                    "tf.io.TFRecordWriter does by default"
                )
            return _located(buffer)


def read_from_tfrecord(path: str) -> bytes | None:
    """Return the bytes of an image named ``SHARD::NAME``, or None if no such shard is a file."""
    at = path.find(MEMBER_MARK)
    while at > 0:
        shard, name = path[:at], path[at + len(MEMBER_MARK) :]
        if os.path.isfile(shard):
            return _read_image(shard, name)
        at = path.find(MEMBER_MARK, at + 1)
    return None


def _read_image(path: str, name: str) -> bytes:
    with open(path, "rb") as file:
        stamp = FileStamp.of(os.fstat(file.fileno()))
        try:
            example = read_shard(path, stamp).examples.get(name)
        except TFRecordError as error:
            raise ImageError(str(error)) from error
        if example is None:
            raise ImageError(f"the shard has no image {name!r}")
        begin, end = example.record
        if end - begin > _MAX_RECORD_BYTES:
            raise ImageError(f"the record has {end - begin:,} bytes; one may have {_MAX_RECORD_BYTES:,}")
        file.seek(begin)
        data, crc = file.read(end - begin), file.read(4)
    try:
        check_record(data, crc)
    except TFRecordError as error:
        raise ImageError(str(error)) from error
    return data[example.image[0] - begin : example.image[1] - begin]


def _located(buffer: memoryview) -> Shard:
    shard = Shard()
    named: list[tuple[str, Example]] = []
    number = -1
    try:
        for number, span in enumerate(iter_spans(buffer)):
            try:
                features, keys = parse_example(buffer, span, _KEYS)
            except TFRecordError as error:
                shard.failures.append((str(number), str(error)))
                continue
            image = _first_span(features, _IMAGE_KEYS)
            if image is None:
                shard.keys.update(keys)
                shard.failures.append((str(number), "the record has no image/encoded"))
                continue
            named.append(
                (_text(buffer, _first_span(features, _NAME_KEYS)), _example(buffer, features, span, image))
            )
    except TFRecordError as error:
        shard.failures.append((str(number + 1), f"{error}; the {number + 1:,} records before it are used"))
    uses = Counter(name for name, _ in named)
    for at, (name, example) in enumerate(named):
        is_usable = uses[name] == 1 and _NAME.fullmatch(name) and ".." not in name.split("/")
        shard.examples[name if is_usable else f"{at:06d}"] = example
    return shard


def _example(buffer: memoryview, features: Mapping[str, Span | int], span: Span, image: Span) -> Example:
    numbers = (features.get(key) for key in _CLASS_KEYS)
    text = normalised_name(_text(buffer, _first_span(features, (_TEXT_KEY,))).strip())
    return Example(
        record=span,
        image=image,
        class_number=next((number for number in numbers if isinstance(number, int)), None),
        text=text or None,
    )


def _first_span(features: Mapping[str, Span | int], keys: tuple[str, ...]) -> Span | None:
    spans = (features.get(key) for key in keys)
    return next((span for span in spans if isinstance(span, tuple)), None)


def _text(buffer: memoryview, span: Span | None) -> str:
    if span is None or span[1] - span[0] > _MAX_TEXT_BYTES:
        return ""
    return bytes(buffer[slice(*span)]).decode("utf-8", "surrogateescape")

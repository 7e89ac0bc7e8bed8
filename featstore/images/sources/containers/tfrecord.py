"""TFRecord shards of encoded images, as the Inception scripts, TF-Slim and TFDS write them."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from featstore.class_names import normalised_name
from featstore.errors import ImageError
from featstore.images.sources.containers.listings import listed_once
from featstore.images.sources.containers.member import (
    CACHED_CONTAINERS,
    MAX_IMAGE_BYTES,
    Container,
    Member,
    mapped,
    read_at,
)
from featstore.io.archives.tfrecord import Span, TFRecordError, check_record, iter_spans, parse_example
from featstore.io.stamps import FileStamp

__all__ = ["is_tfrecord_name", "list_tfrecord", "read_from_tfrecord"]

_SHARD = re.compile(r".*\.tfrecords?|.*-\d{5,}-of-\d{5,}(\.tfrecords?)?", re.IGNORECASE)
# As the Inception scripts and TF-Slim name them, and as TensorFlow Datasets does.
_IMAGE_KEYS = ("image/encoded", "image")
_CLASS_KEYS = ("image/class/label", "label")
_TEXT_KEY = "image/class/text"
_NAME_KEYS = ("image/filename", "file_name", "filename")
_KEYS = frozenset((*_IMAGE_KEYS, *_CLASS_KEYS, _TEXT_KEY, *_NAME_KEYS))

_MAX_TEXT_BYTES = 2000
_GZIP = b"\x1f\x8b"


class Place(NamedTuple):
    """Where one record's data is in a shard, and the encoded image in it."""

    record: Span
    image: Span


def is_tfrecord_name(name: str) -> bool:
    """Return whether a file's name is that of a TFRecord shard."""
    return _SHARD.fullmatch(name) is not None


@lru_cache(maxsize=CACHED_CONTAINERS)
def list_tfrecord(path: str, stamp: FileStamp) -> Container:
    """Locate the images of a shard; only the pages around them are read, and the data's checksums later."""
    return listed_once(path, stamp, lambda: _listed_now(path), place_of=_place_of)


def _place_of(values: list[Any]) -> Place:
    (begin, end), (first, last) = values
    return Place((int(begin), int(end)), (int(first), int(last)))


def _listed_now(path: str) -> Container:
    with mapped(path) as buffer:
        if buffer[:2] == _GZIP:
            raise ImageError(
                "compressed by gzip, which cannot be read from within; write the shards uncompressed, as "
                "tf.io.TFRecordWriter does by default"
            )
        return _located(buffer)


def read_from_tfrecord(file: int, place: Place) -> bytes:
    """Return the bytes of an image in an open shard, after checking its record's checksum."""
    begin, end = place.record
    if end - begin > MAX_IMAGE_BYTES:
        raise ImageError(f"the record has {end - begin:,} bytes; one may have {MAX_IMAGE_BYTES:,}")
    data = read_at(file, begin, end - begin)
    try:
        check_record(data, read_at(file, end, 4))
    except TFRecordError as error:
        raise ImageError(str(error)) from error
    return data[place.image[0] - begin : place.image[1] - begin]


def _located(buffer: memoryview) -> Container:
    shard = Container()
    named: list[tuple[str, Member]] = []
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
            member = Member(Place(span, image), _label(buffer, features))
            named.append((_text(buffer, _first_span(features, _NAME_KEYS)), member))
    except TFRecordError as error:
        shard.failures.append((str(number + 1), f"{error}; the {number + 1:,} records before it are used"))
    shard.add(named)
    return shard


def _label(buffer: memoryview, features: Mapping[str, Span | int]) -> str | int | None:
    text = normalised_name(_text(buffer, _first_span(features, (_TEXT_KEY,))).strip())
    numbers = (features.get(key) for key in _CLASS_KEYS)
    return text or next((number for number in numbers if isinstance(number, int)), None)


def _first_span(features: Mapping[str, Span | int], keys: tuple[str, ...]) -> Span | None:
    spans = (features.get(key) for key in keys)
    return next((span for span in spans if isinstance(span, tuple)), None)


def _text(buffer: memoryview, span: Span | None) -> str:
    if span is None or span[1] - span[0] > _MAX_TEXT_BYTES:
        return ""
    return bytes(buffer[slice(*span)]).decode("utf-8", "surrogateescape")

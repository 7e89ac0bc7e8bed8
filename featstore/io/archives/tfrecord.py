"""TFRecord files: framing with checksums, and the tf.train.Example messages in them, without TensorFlow.

The framing is described in TensorFlow's ``tensorflow/core/lib/io/record_writer.h``, the message in its
``tensorflow/core/example/example.proto``. Byte strings are located, not copied: of a shard that is mapped
into memory, only the pages around them are read.
"""

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import BinaryIO

import google_crc32c

__all__ = ["TFRecordError", "check_record", "encode_example", "iter_spans", "parse_example", "write_record"]

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEADER_BYTES = _LENGTH.size + _CRC.size
_MASK_DELTA = 0xA282EAD8

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_BYTES, _INTEGERS = 1, 3
_NO_EXAMPLE = "the record is no tf.train.Example"

Span = tuple[int, int]
"""Begin and end of some bytes in a buffer."""


class TFRecordError(ValueError):
    """Bytes are not those of a TFRecord file or of a tf.train.Example."""


def iter_spans(buffer: memoryview) -> Iterator[Span]:
    """Yield where the data of each record is, after checking its length's checksum."""
    at, end = 0, len(buffer)
    while at < end:
        header = bytes(buffer[at : at + _HEADER_BYTES])
        if len(header) < _HEADER_BYTES:
            raise TFRecordError("cut short within a record's header")
        (length,) = _LENGTH.unpack_from(header)
        if _CRC.unpack_from(header, _LENGTH.size) != (_masked_crc(header[: _LENGTH.size]),):
            raise TFRecordError("a record's length does not agree with its checksum")
        begin = at + _HEADER_BYTES
        at = begin + length + _CRC.size
        if at > end:
            raise TFRecordError(f"cut short: a record of {length:,} bytes ends behind the file")
        yield begin, begin + length


def check_record(data: bytes, crc: bytes) -> None:
    """Raise TFRecordError if a record's data does not agree with the four bytes behind it."""
    if len(crc) < _CRC.size or _CRC.unpack(crc) != (_masked_crc(data),):
        raise TFRecordError("the record's data does not agree with its checksum")


def write_record(file: BinaryIO, data: bytes) -> None:
    """Append a record to a TFRecord file."""
    length = _LENGTH.pack(len(data))
    file.write(length + _CRC.pack(_masked_crc(length)))
    file.write(data)
    file.write(_CRC.pack(_masked_crc(data)))


def parse_example(
    buffer: memoryview, span: Span, keys: Collection[str]
) -> tuple[dict[str, Span | int], list[str]]:
    """Return the first value of some features of an Example, byte strings as spans, and the names of all."""
    features: dict[str, Span | int] = {}
    names = []
    for number, found in _fields(buffer, *span):
        for _, entry in _fields(buffer, *_as_span(found)) if number == 1 else ():
            parts = dict(_fields(buffer, *_as_span(entry)))
            name = bytes(buffer[slice(*_as_span(parts.get(1, 0)))]).decode("utf-8", "surrogateescape")
            names.append(name)
            if name in keys and 2 in parts:
                value = _first_value(buffer, _as_span(parts[2]))
                if value is not None:
                    features[name] = value
    return features, names


def encode_example(features: Mapping[str, Sequence[bytes] | Sequence[int] | Sequence[float]]) -> bytes:
    """Return a serialized tf.train.Example, with its features in the order of their names."""
    return _delimited(
        1,
        b"".join(
            _delimited(1, _delimited(1, name.encode()) + _delimited(2, _encode_values(values)))
            for name, values in sorted(features.items())
        ),
    )


def _masked_crc(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _first_value(buffer: memoryview, span: Span) -> Span | int | None:
    """Return a Feature's first byte string or integer, or None if it has neither."""
    for kind, found in _fields(buffer, *span):
        begin, end = _as_span(found)
        if begin == end or kind not in (_BYTES, _INTEGERS):
            continue
        tag, at = _varint(buffer, begin, end)
        if kind == _BYTES or tag & 7 == _LENGTH_DELIMITED:
            length, at = _varint(buffer, at, end)
            if tag & 7 != _LENGTH_DELIMITED or at + length > end:
                raise TFRecordError(_NO_EXAMPLE)
            if kind == _BYTES:
                return at, at + length
        if at < end:
            number, _ = _varint(buffer, at, end)
            return number - (1 << 64) * (number >> 63 & 1)
    return None


def _as_span(found: Span | int) -> Span:
    if isinstance(found, int):
        raise TFRecordError(_NO_EXAMPLE)
    return found


def _fields(buffer: memoryview, at: int, end: int) -> list[tuple[int, Span | int]]:
    """Return number and value of each field of a protocol buffer: an integer, or where its bytes are."""
    fields: list[tuple[int, Span | int]] = []
    while at < end:
        tag, at = _varint(buffer, at, end)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(buffer, at, end)
            fields.append((tag >> 3, value))
            continue
        if kind == _LENGTH_DELIMITED:
            length, at = _varint(buffer, at, end)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise TFRecordError(_NO_EXAMPLE)
        if at + length > end:
            raise TFRecordError(_NO_EXAMPLE)
        fields.append((tag >> 3, (at, at + length)))
        at += length
    return fields


def _varint(buffer: memoryview, at: int, end: int) -> tuple[int, int]:
    if at < end and (value := buffer[at]) < 128:
        return value, at + 1
    value = shift = 0
    while at < end and shift < 64:
        byte = buffer[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise TFRecordError(_NO_EXAMPLE)


def _encode_values(values: Sequence[bytes] | Sequence[int] | Sequence[float]) -> bytes:
    if values and isinstance(values[0], bytes):
        return _delimited(1, b"".join(_delimited(1, value) for value in values if isinstance(value, bytes)))
    if values and isinstance(values[0], float):
        return _delimited(2, _delimited(1, struct.pack(f"<{len(values)}f", *values)))
    integers = [value for value in values if isinstance(value, int)]
    return _delimited(3, _delimited(1, b"".join(_encode_varint(value % (1 << 64)) for value in integers)))


def _delimited(number: int, data: bytes) -> bytes:
    return _encode_varint(number << 3 | _LENGTH_DELIMITED) + _encode_varint(len(data)) + data


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)

"""The names of the files that hold an ONNX model's weights, read without running anything of it."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

__all__ = ["external_files"]

# The messages that lead to tensors, as onnx.proto numbers their fields: of each message, field to message.
_MESSAGES: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_NESTED = 64

_Content: TypeAlias = Any  # an mmap


def external_files(content: _Content) -> list[str]:
    """Return the names of the files that a model's weights are in beside it, sorted."""
    names = {
        _location(content, start, end) for start, end in _entries(content, "model", 0, len(content), depth=0)
    }
    return sorted(name for name in names if name is not None)


def _entries(
    content: _Content, message: str, start: int, end: int, *, depth: int
) -> Iterator[tuple[int, int]]:
    if depth > _MOST_NESTED:
        raise ValueError("its graphs are nested too deep")
    for field, at, stop in _fields(content, start, end):
        inner = _MESSAGES[message].get(field)
        if inner == "entry":
            yield at, stop
        elif inner is not None:
            yield from _entries(content, inner, at, stop, depth=depth + 1)


def _location(content: _Content, start: int, end: int) -> str | None:
    """Return the value of an entry whose key is ``location``."""
    entry = {field: bytes(content[at:stop]) for field, at, stop in _fields(content, start, end)}
    if entry.get(_KEY) != b"location":
        return None
    return entry.get(_VALUE, b"").decode("utf-8")


def _fields(content: _Content, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of the fields of a message that have a length."""
    # https://protobuf.dev/programming-guides/encoding
    while start < end:
        tag, start = _varint(content, start)
        kind = tag & 7
        length = 0
        if kind == _BYTES:
            length, start = _varint(content, start)
            if start + length > end:
                raise ValueError("a part of it ends behind the whole")
            yield tag >> 3, start, start + length
        elif kind == _VARINT:
            _, start = _varint(content, start)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"it has a field of the unknown kind {kind}")
        start += length


def _varint(content: _Content, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("it has a number that is too long")

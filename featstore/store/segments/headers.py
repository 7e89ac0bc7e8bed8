"""Opening of segments as featstore writes them, without HDF5, which takes over a millisecond for each.

What is not laid out in just this way, such as a file of other software, is left to HDF5. The numbers are
those of the HDF5 file format specification, version 3.0.
"""

import struct
from collections.abc import Iterator

import numpy as np
from h5py import h5t

from featstore.io.hdf5.frame import FRAME, is_frame_whole
from featstore.io.hdf5.opening import FILE_TYPES
from featstore.io.hdf5.raw import RawFile, raw_parts
from featstore.io.storage.parts import Parts
from featstore.store.segments.segment import (
    FILE_DTYPES,
    FORMAT,
    FORMAT_VERSION,
    LATEST_NS,
    Segment,
    column_shapes,
)

__all__ = ["open_plain_segment"]

_SUPERBLOCK = b"\x89HDF\r\n\x1a\n\x02\x08\x08"
_MAX_CHUNKS = 32
_MAX_CHUNK_BYTES = 2**18
# What the flags of a header say: times are in it, limits for attributes are, messages are numbered.
_TIMES, _LIMITS, _NUMBERED = 0x20, 0x10, 0x04
_DATASPACE, _DATATYPE, _LINK, _LAYOUT, _ATTRIBUTE, _CONTINUATION = 1, 3, 6, 8, 12, 16
# Padding, fill values, and how links and attributes are kept. There are no others in a plain segment.
_PASSED_OVER = {0, 2, 5, 10, 21}
_SCALAR = b"\x02\0\0\0"
_INTEGER = h5t.STD_I64LE.encode()[2:]
_KINDS = {kind.encode()[2:]: name for name, kind in FILE_TYPES.items()}


def open_plain_segment(path: str, *, expected_fingerprint: str) -> Segment | None:
    """Open a segment as featstore writes it; None for all else, and where anything is amiss."""
    try:
        with raw_parts(path) as raw:
            segment = _segment(path, raw, expected_fingerprint)
            if segment.frame is None or max(end for _, end in segment.extents) > raw.n_bytes:
                return None
            is_whole = is_frame_whole(raw, segment.frame, segment.extents)
            return segment if is_whole and raw.error is None else None
    except (IndexError, KeyError, OSError, ValueError, struct.error):
        return None


def _segment(path: str, raw: RawFile | Parts, fingerprint: str) -> Segment:
    beginning = _read(raw, 0, 48)
    base, _, end, root = struct.unpack_from("<4Q", beginning, 12)
    if not beginning.startswith(_SUPERBLOCK) or base or end != raw.n_bytes:
        raise ValueError("its superblock is another")
    attributes, columns, offsets = {}, {}, {}
    for kind, body in _messages(raw, root):
        if kind == _ATTRIBUTE:
            name, value = _attribute(body)
            attributes[name] = value
        elif kind == _LINK:
            name, address = _link(body)
            columns[name], offsets[name] = _dataset(raw, address)
    stored_as, (n_rows, feature_dim) = columns["features"]
    created_ns = attributes["created_ns"]
    wanted = column_shapes(n_rows, feature_dim, stored_as) | {FRAME: ("<u4", (1,))}
    if (
        (attributes["format"], attributes["format_version"]) != (FORMAT.encode(), FORMAT_VERSION)
        or attributes["fingerprint"] != fingerprint.encode()
        or columns != wanted
        or min(n_rows, feature_dim) < 1
        or stored_as not in FILE_DTYPES.values()
        or not isinstance(created_ns, int)
        or not 0 <= created_ns <= LATEST_NS
    ):
        raise ValueError("it is not a segment of this space")
    *starts, frame = map(offsets.__getitem__, wanted)
    return Segment(
        path=path,
        fingerprint=fingerprint,
        n_rows=n_rows,
        feature_dim=feature_dim,
        dtype=np.dtype(stored_as),
        created_ns=created_ns,
        offsets=tuple(starts),
        frame=frame,
    )


def _read(raw: RawFile | Parts, start: int, n_bytes: int, mark: bytes = b"") -> bytes:
    raw.seek(start)
    found = raw.read(min(n_bytes, _MAX_CHUNK_BYTES))
    if not found.startswith(mark):
        raise ValueError(f"there is no {mark!r} at byte {start:,}")
    return found


def _messages(raw: RawFile | Parts, address: int) -> Iterator[tuple[int, bytes]]:
    """Yield the messages of an object header (version 2) that describe something."""
    head = _read(raw, address, 512, b"OHDR\x02")
    flags = head[5]
    start = 6 + 16 * bool(flags & _TIMES) + 4 * bool(flags & _LIMITS)
    end = start + (1 << (flags & 3))
    n_bytes = int.from_bytes(head[start:end], "little")
    step = 6 if flags & _NUMBERED else 4
    chunks = [head[end : end + n_bytes] if end + n_bytes <= 512 else _read(raw, address + end, n_bytes)]
    for chunk in chunks:
        at = 0
        while at + step <= len(chunk):
            kind, n_bytes = struct.unpack_from("<BH", chunk, at)
            body = chunk[at + step : at + step + n_bytes]
            at += step + n_bytes
            if kind == _CONTINUATION and len(chunks) < _MAX_CHUNKS:
                # The frame's checksum covers what that of HDF5, at the chunk's end, does.
                where, length = struct.unpack("<2Q", body)
                chunks.append(_read(raw, where, length, b"OCHK")[4:-4])
            elif kind in (_DATASPACE, _DATATYPE, _LINK, _LAYOUT, _ATTRIBUTE):
                yield kind, body
            elif kind not in _PASSED_OVER:
                raise ValueError(f"featstore writes no messages of type {kind}")


def _attribute(body: bytes) -> tuple[str, bytes | int]:
    """Return name and value of an attribute (version 3): a text of fixed length or an integer."""
    first, second, third = struct.unpack_from("<3H", body, 2)
    start = 9 + first + second
    name, kind = body[9 : 9 + first].rstrip(b"\0").decode(), body[9 + first : start]
    value = body[start + third :]
    if body[:2] == b"\x03\0" and body[start : start + third] == _SCALAR:
        if kind == _INTEGER:
            return name, struct.unpack("<q", value)[0]
        if kind == b"\x13\x01\0\0" + struct.pack("<I", len(value)):
            return name, value
    raise ValueError(f"the attribute {name!r} is not of its kind")


def _link(body: bytes) -> tuple[str, int]:
    """Return name and address of a hard link (version 1)."""
    if body[:2] != b"\x01\0":
        raise ValueError("the link is another")
    end = 3 + body[2]
    return body[3:end].decode(), struct.unpack("<Q", body[end:])[0]


def _dataset(raw: RawFile | Parts, address: int) -> tuple[tuple[str, tuple[int, ...]], int]:
    """Return type, shape and offset of a contiguous dataset (layout of version 3, class 1)."""
    found = dict(_messages(raw, address))
    space = found[_DATASPACE]
    version, layout, offset, _ = struct.unpack("<2B2Q", found[_LAYOUT])
    if (space[0], version, layout) != (2, 3, 1):
        raise ValueError("the dataset is not contiguous")
    return (_KINDS[found[_DATATYPE]], struct.unpack_from(f"<{space[1]}Q", space, 4)), offset

"""Segments: sealed HDF5 files of rows, memory-mapped, with a checksum for each row.

``docs/FORMAT.md`` describes the file byte for byte.
"""

import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.spec import BackboneSpec
from featstore.errors import DamagedError, StoreError, StoreNotFoundError
from featstore.hashing import canonical_json, fingerprint
from featstore.io.atomic import failure_reason
from featstore.io.hdf5.frame import is_frame_whole, lay_out_frame, locate_frame, seal_frame
from featstore.io.hdf5.opening import create_hdf5, create_plain, locate, open_hdf5, read_attribute
from featstore.io.hdf5.raw import damaged
from featstore.io.long_arrays import blocks_of
from featstore.io.manifest import check_version
from featstore.io.mapping import map_array
from featstore.io.storage.opening import storage_of
from featstore.io.storage.parts import Parts
from featstore.store.segments.keys import HASH_BYTES
from featstore.store.segments.rows import KEY_BYTES, FeatureArray, Rows, damaged_rows, row_checksums

__all__ = [
    "FILE_DTYPES",
    "FORMAT",
    "FORMAT_VERSION",
    "LATEST_NS",
    "FeatureArray",
    "Rows",
    "Segment",
    "SegmentWriter",
    "column_shapes",
    "damaged_rows",
    "open_segment",
    "read_description",
    "row_checksums",
    "segment_writer",
]

FORMAT_VERSION = 1
FILE_DTYPES = {"float32": "<f4", "float16": "<f2"}
BLOCK_BYTES = 4 * 2**20

FORMAT = "featstore-segment"
# In the year 2116. Readers take no later time; rows that come after it get the same.
LATEST_NS = 2**62 - 1
# HDF5 keeps an attribute within the 64 KiB of an object header's message.
_MAX_PROVENANCE_BYTES = 60_000
# A multiple of every item size, so that mapped arrays are aligned, and of a cache line.
_ALIGNMENT = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A sealed file and the offsets of its columns."""

    path: str
    fingerprint: str  # of the backbone's specification
    n_rows: int
    feature_dim: int
    dtype: np.dtype[Any]  # little-endian float32 or float16
    created_ns: int  # since 1970; where segments were folded, of the first
    offsets: tuple[int, ...]  # of features, content hashes, views and checksums
    frame: int | None = None  # where the checksum of all the rest begins; None up to 0.2

    @property
    def name(self) -> str:
        """The file's name."""
        return os.path.basename(self.path)

    @property
    def n_bytes(self) -> int:
        """Size of the rows on disk, keys and checksums included."""
        return self.n_rows * (self.feature_dim * self.dtype.itemsize + KEY_BYTES + 4)

    def features(self) -> FeatureArray:
        """Return the features as a read-only memory map of shape (n_rows, feature_dim)."""
        with self._reading():
            features: FeatureArray = self._mapped(0)
            return features

    def keys(self) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        """Read all content hashes, uint8 of shape (n_rows, 32), and views, uint16 of shape (n_rows,)."""
        with self._reading(), storage_of(self.path).open_parts(self.path) as file:
            return self._column(file, 1, 0, self.n_rows), self._column(file, 2, 0, self.n_rows)

    def key_blocks(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint16]]]:
        """Read the same in order, some rows at a time: those of a large segment take gigabytes."""
        with self._reading(), storage_of(self.path).open_parts(self.path) as file:
            for block in blocks_of(self.n_rows):
                hashes, views = (self._column(file, number, block.start, block.stop) for number in (1, 2))
                yield hashes, views

    def blocks(self) -> Iterator[Rows]:
        """Read all rows in order, about 4 MiB at a time."""
        step = max(1, BLOCK_BYTES * self.n_rows // self.n_bytes)
        with self._reading(), self._opened() as file:
            for start in range(0, self.n_rows, step):
                features, *keys = (
                    self._column(file, number, start, min(start + step, self.n_rows)) for number in range(4)
                )
                yield Rows(features=features, content_hash=keys[0], view=keys[1], checksum=keys[2])

    def check_rows(self, numbers: NDArray[np.int64]) -> None:
        """Raise DamagedError if some rows do not match their checksums; ignore a removed file."""
        step = max(1, BLOCK_BYTES * self.n_rows // self.n_bytes)
        n_wrong = 0
        try:
            with self._reading():
                columns = [self._mapped(number) for number in range(4)]
        except StoreNotFoundError:
            return
        for start in range(0, len(numbers), step):
            features, *keys = (column[numbers[start : start + step]] for column in columns)
            rows = Rows(features=features, content_hash=keys[0], view=keys[1], checksum=keys[2])
            n_wrong += len(damaged_rows(rows))
        if n_wrong:
            raise DamagedError(
                f"{n_wrong:,} of the {len(numbers):,} rows requested from {self.path} do not agree with "
                "their checksums, and none was used; featstore verify --repair sets the file aside, keeps "
                "its good rows and lists what to extract again"
            )

    def damaged_row_numbers(self) -> list[int]:
        """Return the numbers of the rows that do not match their checksums."""
        wrong: list[int] = []
        start = 0
        for rows in self.blocks():
            wrong.extend((damaged_rows(rows) + start).tolist())
            start += len(rows.view)
        return wrong

    def is_frame_whole(self) -> bool:
        """Return whether all but the rows is as written; True for files without that checksum."""
        with self._reading(), self._opened() as file:
            return self.frame is None or is_frame_whole(file, self.frame, self.extents)

    def fetch(self) -> None:
        """Copy the whole file to this machine, if it is on another one and has not been removed there."""
        with suppress(FileNotFoundError):
            self._opened().close()

    def _opened(self) -> BinaryIO:
        return storage_of(self.path).open(self.path, is_sealed=True)

    @property
    def extents(self) -> list[tuple[int, int]]:
        """Start and end of each column, in bytes from the file's start."""
        return [
            (start, start + self.n_rows * math.prod(width) * dtype.itemsize)
            for start, (dtype, width) in zip(self.offsets, self._kinds, strict=True)
        ]

    def _column(self, file: BinaryIO | Parts, number: int, start: int, stop: int) -> NDArray[Any]:
        """Read rows of column ``number``: features, hashes, views, checksums."""
        dtype, width = self._kinds[number]
        column = np.empty((stop - start, *width), dtype)
        file.seek(self.offsets[number] + start * column[:1].nbytes)
        if file.readinto(column.data.cast("B")) != column.nbytes:  # type: ignore[union-attr]
            raise damaged(self.path, "it has been cut short")
        if isinstance(file, Parts) and file.error is not None:
            raise file.error
        return column

    def _mapped(self, number: int) -> Any:
        """Map all rows of column ``number``."""
        dtype, width = self._kinds[number]
        return map_array(self.path, dtype, self.offsets[number], (self.n_rows, *width))

    @property
    def _kinds(self) -> tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]:
        """Dtype and further axes of the features, hashes, views and checksums."""
        return (
            (self.dtype, (self.feature_dim,)),
            (np.dtype("u1"), (HASH_BYTES,)),
            (np.dtype("<u2"), ()),
            (np.dtype("<u4"), ()),
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except FileNotFoundError as error:
            raise StoreNotFoundError(f"{self.path} has been removed") from error
        except OSError as error:
            raise StoreError(f"cannot read {self.path}: {failure_reason(error)}") from error


def open_segment(path: str, *, expected_fingerprint: str, any_time: bool = False) -> Segment:
    """Open a sealed file and check kind, version, dtypes, shapes and extents, but no row checksums."""
    # any_time accepts a created_ns beyond the last valid one, to rescue the rows.
    with open_hdf5(path, in_parts=True) as (file_id, raw):
        file_bytes = raw.n_bytes
        _check_format(path, file_id)
        if (found := read_attribute(file_id, "fingerprint", bytes)) != expected_fingerprint.encode():
            raise ValueError(f"it belongs to the fingerprint {found[:12]!r}, not {expected_fingerprint[:12]}")
        links = file_id.links
        shape, dtype, offset = locate(links, file_id, "features", list(FILE_DTYPES.values()), file_bytes)
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(
                f"/features has the shape {shape}; it must be (rows, feature_dim), at least 1 each"
            )
        n_rows, feature_dim = shape
        offsets = [offset]
        for name, (kind, wanted) in column_shapes(n_rows, feature_dim, dtype.str).items():
            if name != "features":
                shape, _, offset = locate(links, file_id, name, [kind], file_bytes)
                offsets.append(offset)
            if shape != wanted:
                raise ValueError(f"/{name} has the shape {shape}; with these features it must be {wanted}")
        created_ns = read_attribute(file_id, "created_ns", int)
        if created_ns > LATEST_NS and any_time:
            created_ns = LATEST_NS
        if not 0 <= created_ns <= LATEST_NS:
            raise ValueError(f"created_ns is {created_ns}; it must be from 0 to {LATEST_NS}")
        return Segment(
            path=path,
            fingerprint=expected_fingerprint,
            n_rows=n_rows,
            feature_dim=feature_dim,
            dtype=dtype,
            created_ns=created_ns,
            offsets=tuple(offsets),
            frame=locate_frame(links, file_id, file_bytes),
        )


def read_description(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the backbone's specification and the provenance, as JSON values."""
    with open_hdf5(path, in_parts=True) as (file_id, _):
        _check_format(path, file_id)
        spec, provenance = (
            json.loads(read_attribute(file_id, name, bytes)) for name in ("spec", "provenance")
        )
        if not isinstance(spec, dict) or not isinstance(provenance, dict):
            raise TypeError("its specification and provenance must be JSON objects")
        if fingerprint(spec).encode() != read_attribute(file_id, "fingerprint", bytes):
            raise ValueError("its specification does not have its fingerprint")
        return spec, provenance


class SegmentWriter:
    """Writes a new segment block by block; created by :func:`segment_writer`."""

    def __init__(self, file: BinaryIO, segment: Segment) -> None:
        self.segment = segment
        self._file = file
        self._n_written = 0

    def write(self, rows: Rows) -> None:
        """Append rows; their features must be finite and of the segment's dtype."""
        if self._n_written + len(rows.view) > self.segment.n_rows:
            raise ValueError(f"the segment was laid out for {self.segment.n_rows} rows")
        columns = (rows.features, rows.content_hash, rows.view, rows.checksum)
        for column, offset in zip(columns, self.segment.offsets, strict=True):
            data = np.ascontiguousarray(column, column.dtype.newbyteorder("<"))
            self._file.seek(offset + self._n_written * data[:1].nbytes)
            self._file.write(data.view(np.uint8).data)
        self._n_written += len(rows.view)

    def finish(self) -> None:
        """Write the checksum of everything but the rows, and flush."""
        if self._n_written != self.segment.n_rows:
            raise ValueError(
                f"the segment was laid out for {self.segment.n_rows} rows; {self._n_written} came"
            )
        if self.segment.frame is not None:
            seal_frame(self._file, self.segment.frame, self.segment.extents)
        self._file.flush()


@contextmanager
def segment_writer(
    folder: str,
    spec: BackboneSpec,
    *,
    n_rows: int,
    feature_dim: int,
    created_ns: int,
    provenance: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Iterator[SegmentWriter]:
    """Yield the writer of a segment of exactly ``n_rows``, sealed if the block succeeds."""
    # Under a name that is given, a segment that is there by then stays.
    target = os.path.join(folder, name or f"{secrets.token_hex(16)}.h5")
    attributes: dict[str, str | int] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "spec": canonical_json(spec.to_dict()),
        "fingerprint": spec.fingerprint,
        "provenance": _provenance_text(provenance),
        "created_ns": created_ns,
    }

    def verify(temporary: str) -> None:
        _check_sealed(temporary, writer.segment, attributes)

    replacing = storage_of(target).replacing
    with replacing(target, verify=verify, expected=None, create_only=name is not None) as temporary:
        columns = column_shapes(n_rows, feature_dim, FILE_DTYPES[spec.dtype])
        offsets, frame = _lay_out(temporary, columns, attributes)
        with open(temporary, "rb+") as file:
            writer = SegmentWriter(
                file,
                Segment(
                    path=target,
                    fingerprint=spec.fingerprint,
                    n_rows=n_rows,
                    feature_dim=feature_dim,
                    dtype=np.dtype(FILE_DTYPES[spec.dtype]),
                    created_ns=created_ns,
                    offsets=offsets,
                    frame=frame,
                ),
            )
            yield writer
            writer.finish()


def _check_sealed(path: str, segment: Segment, attributes: Mapping[str, str | int]) -> None:
    """Check a written file against its intended segment, and its rows against their checksums."""
    if open_segment(path, expected_fingerprint=segment.fingerprint) != replace(segment, path=path):
        raise ValueError("its layout differs from what was written")
    if list(map(canonical_json, read_description(path))) != [attributes["spec"], attributes["provenance"]]:
        raise ValueError("its description differs from what was written")
    found = replace(segment, path=path)
    if not found.is_frame_whole() or found.damaged_row_numbers():
        raise ValueError("it does not agree with its checksums")


def _check_format(path: str, file_id: Any) -> None:
    if read_attribute(file_id, "format", bytes) != FORMAT.encode():
        raise ValueError("it is an HDF5 file, but not a segment of featstore")
    check_version(path, read_attribute(file_id, "format_version", int), FORMAT_VERSION)


def column_shapes(n_rows: int, feature_dim: int, kind: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of each column, in the order of ``Segment.offsets``."""
    return {
        "features": (kind, (n_rows, feature_dim)),
        "content_hash": ("u1", (n_rows, HASH_BYTES)),
        "view": ("<u2", (n_rows,)),
        "checksum": ("<u4", (n_rows,)),
    }


def _lay_out(
    path: str, columns: Mapping[str, tuple[str, tuple[int, ...]]], attributes: Mapping[str, str | int]
) -> tuple[tuple[int, ...], int]:
    """Create the file and allocate columns and frame checksum; return their offsets."""
    with create_hdf5(path, alignment=_ALIGNMENT) as file:
        for name, value in attributes.items():
            file.attrs[name] = np.bytes_(value.encode("ascii")) if isinstance(value, str) else np.int64(value)
        offsets = tuple(create_plain(file, name, kind, shape) for name, (kind, shape) in columns.items())
        return offsets, lay_out_frame(file)


def _provenance_text(provenance: Mapping[str, Any] | None) -> str:
    try:
        text = canonical_json(provenance or {})
    except (TypeError, ValueError) as error:
        raise StoreError(f"provenance must consist of JSON values: {error}") from error
    if len(text) > _MAX_PROVENANCE_BYTES:
        raise StoreError(f"provenance may have {_MAX_PROVENANCE_BYTES:,} bytes as JSON; found {len(text):,}")
    return text

"""Parquet files of images, as Hugging Face's datasets writes them."""

import json
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from featstore.class_names import normalised_name
from featstore.errors import ImageError, first_line
from featstore.extras import check_extra
from featstore.images.sources.containers.archive import clean_name
from featstore.images.sources.containers.listings import listed_once
from featstore.images.sources.containers.member import (
    CACHED_CONTAINERS,
    MAX_IMAGE_BYTES,
    NO_COLUMNS,
    ColumnError,
    Columns,
    Container,
    Member,
)
from featstore.images.sources.lists.column_names import IMAGE_WORDS, LABEL_WORDS
from featstore.io.stamps import FileStamp

__all__ = ["COLUMN_MARK", "list_parquet", "read_from_parquet"]

COLUMN_MARK = "="
"""Between a column that was asked for and an image's value there: names say how they are found again."""

_OPEN_FILES = 4
# Images are asked for nearly in order: some batches back are as far as threads are apart.
_BATCH_ROWS = 32
_RECENT_BATCHES = 4


class Place(NamedTuple):
    """Where an image is: a file as it was at one time, the column, the row group and the row in that."""

    path: str
    stamp: FileStamp
    column: str
    group: int
    row: int


@lru_cache(maxsize=CACHED_CONTAINERS)
def list_parquet(path: str, stamp: FileStamp, asked: Columns = NO_COLUMNS) -> Container:
    """List the rows of a file; of these, only labels and names are read."""
    return listed_once(path, stamp, lambda: _listed_now(path, stamp, asked), place_of=_place_of, asked=asked)


def _place_of(values: list[Any]) -> Place:
    path, stamp, *place = values
    return Place(path, FileStamp(*stamp), *place)


def _listed_now(path: str, stamp: FileStamp, asked: Columns) -> Container:
    container = Container()
    with _failures_as_ours(), _open(path) as file:
        schema = file.schema_arrow
        features = _features(schema.metadata or {})
        image = _image_column(schema, features)
        if image is None:
            container.keys.update(schema.names)
            return container
        label = _label_column(schema, features) if asked.label is None else _asked(schema, asked.label)
        naming = None if asked.path is None else _asked(schema, asked.path)
        is_struct = f"{image}.bytes" in _leaves(schema)
        has_names = naming is None and f"{image}.path" in _leaves(schema)
        columns = [column for column in (label, naming, f"{image}.path" if has_names else None) if column]
        classes = _classes(features.get(label)) if label else ()
        named: list[tuple[str, Member]] = []
        for group in range(file.num_row_groups):
            n_rows = file.metadata.row_group(group).num_rows
            table = file.read_row_group(group, columns=columns, use_threads=False)
            labels = table.column(label).to_pylist() if label else [None] * n_rows
            names = [""] * n_rows
            if has_names:
                names = [row and row.get("path") for row in table.column(image).to_pylist()]
            elif naming is not None:
                values = table.column(naming).to_pylist()
                names = ["" if value is None else f"{naming}{COLUMN_MARK}{value}" for value in values]
            for row, (name, value) in enumerate(zip(names, labels, strict=True)):
                place = Place(path, stamp, f"{image}.bytes" if is_struct else image, group, row)
                named.append((clean_name(name or ""), Member(place, _label(value, classes))))
    container.add(named)
    return container


def read_from_parquet(_file: int, place: Place) -> bytes:
    """Return the bytes of an image."""
    with _failures_as_ours():
        data = _images(place.path, place.stamp, place.column).image(place.group, place.row)
    if data is None:
        raise ImageError("the row holds no bytes of an image")
    if len(data) > MAX_IMAGE_BYTES:
        raise ImageError(f"the image has {len(data):,} bytes; one may have {MAX_IMAGE_BYTES:,}")
    return data


class _Images:
    """The images of a file: the next ones are at hand, earlier ones take reading their row group again."""

    def __init__(self, path: str, column: str) -> None:
        self._file = _open(path)
        self._column = column
        self._lock = threading.Lock()
        self._batches: Iterator[Any] = iter(())
        self._group, self._next = -1, 0
        self._recent: deque[tuple[int, int, Any]] = deque(maxlen=_RECENT_BATCHES)

    def image(self, group: int, row: int) -> bytes | None:
        """Return the bytes of an image, None if the row has none."""
        with self._lock:
            start, values = self._batch(group, row)
        value = values[row - start]
        return value.as_buffer().to_pybytes() if value.is_valid else None

    def _batch(self, group: int, row: int) -> tuple[int, Any]:
        """Return the batch that a row is in, and its first row."""
        for its_group, start, values in self._recent:
            if its_group == group and start <= row < start + len(values):
                return start, values
        if group != self._group or row < self._next:
            self._batches = self._file.iter_batches(
                _BATCH_ROWS, row_groups=[group], columns=[self._column], use_threads=False
            )
            self._group, self._next = group, 0
        for batch in self._batches:
            start, self._next = self._next, self._next + len(batch)
            values = batch.column(0)
            if self._column.endswith(".bytes") and hasattr(values, "field"):
                values = values.field("bytes")
            self._recent.append((group, start, values))
            if row < self._next:
                return start, values
        raise ImageError("the file ends before the row does")


@lru_cache(maxsize=_OPEN_FILES)
def _images(path: str, stamp: FileStamp, column: str) -> _Images:
    return _Images(path, column)


class _failures_as_ours:  # noqa: N801
    """Turns what pyarrow raises over a file into an ImageError, except that the file is not there."""

    def __enter__(self) -> None:
        _parquet()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        import pyarrow as pa

        if isinstance(error, ImageError) or (isinstance(error, OSError) and error.errno):
            return
        if isinstance(error, pa.ArrowException | OSError | ValueError | MemoryError):
            words = "".join(letter if letter.isprintable() else "?" for letter in first_line(error))
            raise ImageError(f"no whole Parquet file: {words}") from error


def _parquet() -> Any:
    check_extra("parquet", "a Parquet file", "pyarrow")
    from pyarrow import parquet

    return parquet


def _open(path: str) -> Any:
    return _parquet().ParquetFile(path, buffer_size=2**20, page_checksum_verification=True)


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, dict[str, Any]]:
    """Return what Hugging Face's datasets says of the columns."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _leaves(schema: Any) -> dict[str, Any]:
    """Return the types of columns, and of the fields of those that are structs, by name."""
    import pyarrow as pa

    leaves = {}
    for column in schema:
        leaves[column.name] = column.type
        if pa.types.is_struct(column.type):
            leaves |= {f"{column.name}.{field.name}": field.type for field in column.type}
    return leaves


def _image_column(schema: Any, features: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the name of the column of images."""
    import pyarrow as pa

    def holds_bytes(kind: Any) -> bool:
        return kind is not None and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    leaves = _leaves(schema)
    structs = [name for name in schema.names if holds_bytes(leaves.get(f"{name}.bytes"))]
    plain = [
        name
        for name in schema.names
        if holds_bytes(leaves[name])
        and (name.lower() in IMAGE_WORDS or features.get(name, {}).get("_type") == "Image")
    ]
    found = structs or plain
    if len(found) > 1:
        found = [name for name in found if name.lower() in IMAGE_WORDS] or found
    if len(found) > 1:
        raise ImageError(f"each row has several images: {_listed(found)}; keep the column of one")
    return found[0] if found else None


def _label_column(schema: Any, features: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the name of the column of classes, None if there is none."""
    import pyarrow as pa

    words = (*LABEL_WORDS, "labels")
    found = [name for name in schema.names if name.lower() in words]
    found = [name for name in found if name == "label"] or found
    found = found or [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    if len(found) > 1:
        raise ImageError(f"each of {_listed(found)} may be the label; keep one of these columns")
    if found and pa.types.is_nested(schema.field(found[0]).type):
        raise ImageError(f"the column {found[0]!r} holds several values for each image, which has one label")
    return found[0] if found else None


def _asked(schema: Any, name: str) -> str:
    """Return the column of plain values that has a name, in any case."""
    import pyarrow as pa

    found: list[str] = [known for known in schema.names if known.lower() == name.strip().lower()]
    if not found:
        raise ColumnError(f"there is no column {name!r}; found {_listed(schema.names)}")
    kind = schema.field(found[0]).type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise ColumnError(
            f"the column {found[0]!r} holds {kind}, not a text or number for each image; found "
            f"{_listed(schema.names)}"
        )
    return found[0]


def _classes(feature: Mapping[str, Any] | None) -> Sequence[str]:
    names = (feature or {}).get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return [normalised_name(name.strip()) for name in names]


def _label(value: Any, classes: Sequence[str]) -> str | int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        # Hugging Face writes -1 for images without a class.
        if value < 0:
            return None
        return (classes[value] or None) if value < len(classes) else value
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return normalised_name(str(value).strip()) or None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:40]) for name in names[:5])

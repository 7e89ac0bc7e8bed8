"""Export of a space and a catalog as TFRecord shards, laid out as Inception's build_image_data.py does."""

import json
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from featstore.errors import ImageError, OutputError
from featstore.hashing import content_hash
from featstore.images.formats import format_name, open_image
from featstore.images.reading import default_workers, map_ahead, read_image
from featstore.images.sources.containers.tfrecord import is_tfrecord_name
from featstore.io.archives.tfrecord import (
    TFRecordError,
    check_record,
    encode_example,
    iter_spans,
    write_record,
)
from featstore.io.new_folder import files_below, new_folder
from featstore.io.outputs import check_destination
from featstore.splits import SPLITS, SplitRule
from featstore.store.packing.contents import described, rows_at_once
from featstore.store.tables.table import FeatureTable

__all__ = ["pack_tfrecord"]

FORMAT_VERSION = 1
LABELS, DESCRIPTION = "labels.txt", "featstore-pack.json"
_BACKGROUND = "background"
_AHEAD = 64

Progress = Callable[[int, int], Any]


def pack_tfrecord(
    path: str | os.PathLike[str],
    table: FeatureTable,
    *,
    n_shards: int,
    rule: SplitRule | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write a table's images, labels and features as TFRecord shards; see :meth:`FeatureStore.pack`."""
    target = _checked(path, overwrite=overwrite)
    splits = table.splits(rule)
    largest = max((int((splits == split).sum()) for split in SPLITS), default=0)
    size = max(1, -(-largest // n_shards))
    # 0 is kept for the background, as the Inception scripts have it.
    numbers = {label: number for number, label in enumerate(table.classes.tolist(), 1)}
    step = rows_at_once(table.feature_dim * np.dtype(np.float32).itemsize)
    n_done = 0
    with new_folder(target, overwrite=overwrite, error_class=OutputError) as folder:
        for split in SPLITS:
            rows = np.flatnonzero(splits == split)
            # By content: as good as a shuffle, and the same on every machine.
            rows = rows[np.lexsort(table.content_hash_bytes[rows].T[::-1])]
            parts = np.array_split(rows, -(-len(rows) // size)) if len(rows) else []
            for number, part in enumerate(parts):
                shard = os.path.join(folder, f"{split}-{number:05d}-of-{len(parts):05d}")
                with open(shard, "xb") as file:
                    for start in range(0, len(part), step):
                        for data in _examples(table.select(part[start : start + step]), numbers):
                            write_record(file, data)
                            n_done += 1
                            if progress is not None:
                                progress(n_done, len(table))
                try:
                    _check(shard, len(part))
                except ValueError as error:
                    raise OutputError(
                        f"cannot write {target}: read back, {shard} is damaged ({error})"
                    ) from error
        _describe(folder, table, numbers)
    return n_done


def _checked(path: str | os.PathLike[str], *, overwrite: bool) -> str:
    check_destination(path)
    target = os.path.abspath(os.fspath(path))
    if not os.path.isdir(os.path.dirname(target)):
        raise OutputError(f"there is no folder {os.path.dirname(target)} to write {target} into")
    if not os.path.lexists(target) or (os.path.isdir(target) and not os.listdir(target)):
        return target
    files = files_below(target) if os.path.isdir(target) else [os.path.basename(target)]
    others = [name for name in files if name not in (LABELS, DESCRIPTION) and not is_tfrecord_name(name)]
    if others or DESCRIPTION not in files:
        held = f"holds {others[0]}, which is no part of" if others else "is not"
        nothing_else = ", and --force replaces nothing else" if overwrite else ""
        raise OutputError(f"{target} {held} shards that pack wrote{nothing_else}; name another folder")
    if not overwrite:
        raise OutputError(
            f"{target} exists; name another folder, or replace it with --force (overwrite=True)"
        )
    return target


def _examples(table: FeatureTable, numbers: Mapping[str, int]) -> Iterator[bytes]:
    """Yield the serialized example of each row."""
    features, hashes = np.asarray(table.X, np.float32), table.content_hash_bytes
    paths, names = table.paths.tolist(), table.relative_paths

    def read(row: int) -> bytes:
        data = read_image(paths[row])
        if content_hash(data) != hashes[row].tobytes():
            raise ImageError("the file has changed since its features were extracted")
        return data

    def try_read(row: int) -> bytes | ImageError:
        try:
            return read(row)
        except ImageError as error:
            return error

    found = map_ahead(try_read, range(len(table)), workers=default_workers(), ahead=_AHEAD)
    for row, data in enumerate(found):
        if isinstance(data, ImageError):
            raise OutputError(
                f"{paths[row]}: {data}; nothing was written. Shards hold the images themselves: extract "
                "their source again, which finds moved and changed images, or pack the features alone (h5)"
            ) from data
        label, group = str(table.label_texts[row]), str(table.groups[row])
        width, height = open_image(data).size
        yield encode_example(
            {
                "image/encoded": [data],
                "image/format": [(format_name(data) or "").encode()],
                "image/filename": [names[row].encode("utf-8", "surrogateescape")],
                "image/height": [height],
                "image/width": [width],
                "image/class/label": [numbers.get(label, 0)],
                **({"image/class/text": [label.encode("utf-8", "surrogateescape")]} if label else {}),
                **({"image/group": [group.encode("utf-8", "surrogateescape")]} if group else {}),
                "image/content_hash": [hashes[row].tobytes()],
                "features": features[row].tolist(),
            }
        )


def _check(shard: str, n_records: int) -> None:
    """Read a shard back: its framing and every checksum."""
    n_found = 0
    with (
        open(shard, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as buffer,
    ):
        for begin, end in iter_spans(buffer):
            check_record(bytes(buffer[begin:end]), bytes(buffer[end : end + 4]))
            n_found += 1
    if n_found != n_records:
        raise TFRecordError(f"it has {n_found} records instead of {n_records}")


def _describe(folder: str, table: FeatureTable, numbers: Mapping[str, int]) -> None:
    lines = [f"{number}:{label}" for label, number in {_BACKGROUND: 0, **numbers}.items()]
    description = described(table, version=FORMAT_VERSION)
    for name, text in ((LABELS, "\n".join(lines)), (DESCRIPTION, json.dumps(description, indent=2))):
        with open(os.path.join(folder, name), "x", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text + "\n")

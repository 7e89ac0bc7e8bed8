"""The readers of what users bring: pictures, lists, lists of splits, shards and archives."""

import contextlib
import functools
import io
import json
import os
import pathlib
import tarfile
import tempfile
import zipfile
from unittest import mock

import numpy as np
from fuzz.target import Target

import corpus
from featstore.errors import ImageError, SourceError
from featstore.hashing import content_hash
from featstore.images import ViewRecipe, formats
from featstore.images.decode import RESIZE_RULES, decode_views
from featstore.images.reading import read_image
from featstore.images.sources.opening import Source, open_source
from featstore.io.archives.tfrecord import TFRecordError, encode_example, iter_spans, write_record

# Larger pictures are refused, so that a run takes milliseconds.
_MAX_PIXELS = 2**18
_MAX_TEXT_BYTES = 8192
_RECIPE = ViewRecipe(flip=True, random_crop=1000, random_scale=1000, random_brightness=100)
_PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
_KEPT: list[object] = []


def _run_decode(data: bytes) -> None:
    rule = RESIZE_RULES[len(data) % len(RESIZE_RULES)]
    recipe = _RECIPE if len(data) % 2 else None
    try:
        with mock.patch.object(formats, "MAX_PIXELS", _MAX_PIXELS):
            seen = decode_views(
                data,
                size_px=(10, 14),
                resize=rule,
                recipe=recipe,
                content_hash=content_hash(data),
                views=range(3 if recipe else 1),
            )
    except ImageError as error:
        reason = str(error)
        if not reason.isprintable() or not 0 < len(reason) < 200 or "object at" in reason:
            raise AssertionError(f"no reason for people: {reason!r}") from error
        raise
    assert {pixels.shape for pixels in seen} == {(10, 14, 3)}, seen
    assert {pixels.dtype for pixels in seen} == {np.dtype(np.uint8)}, seen


def _run_csv(data: bytes) -> None:
    _check_list(_source("fuzzed.csv" if len(data) % 2 else "fuzzed.tsv", data))


def _check_list(source: Source) -> None:
    paths = [record.path for record in source.records] + [path for path, _ in source.failures]
    assert len(set(paths)) == len(paths), "a path is there twice"
    for record in source.records:
        assert os.path.isfile(os.path.join(source.root, record.path)), record
        assert record.split in (None, "train", "validation", "test"), record
    texts = [text for record in source.records for text in (record.label, record.group)]
    for text in (*paths, *filter(None, texts)):
        assert "\0" not in text, text
        assert len(os.fsencode(text)) <= _MAX_TEXT_BYTES, "a text that no catalog of many rows can keep"
    assert all(text is None or text.strip() == text != "" for text in texts), texts


def _run_split_list(data: bytes) -> None:
    source = _source("fuzzed.txt", data)
    given = source.given_splits()
    assert given["test"] + given["rule"] == len(source.records), given
    assert given["test"] <= sum(bool(line.strip()) for line in data.splitlines()), given


def _run_shard(data: bytes) -> None:
    source = _source("fuzzed.tfrecord", data)
    for record in source.records:
        assert record.label is None or record.label.strip() == record.label != "", record
        with contextlib.suppress(ImageError):
            assert read_image(os.path.join(source.root, record.path)) in data


def _run_archive(name: str, data: bytes, *, most: int = 1032) -> None:
    source = _source(name, data)
    paths = [record.path for record in source.records] + [path for path, _ in source.failures]
    assert len(set(paths)) == len(paths), "a member is there twice"
    n_bytes = 0
    for record in source.records:
        assert len(record.path) < _MAX_TEXT_BYTES, "a name that no catalog of many rows can keep"
        assert ".." not in record.path.partition("::")[2].split("/"), record
        assert record.label is None or record.label.strip() == record.label != "", record
        with contextlib.suppress(ImageError):
            n_bytes += len(read_image(os.path.join(source.root, record.path)))
    assert n_bytes <= most * len(data), "a bomb"


def _mended_tar(changed: bytes, seed: bytes) -> bytes:
    """Make the checksums of headers that a seed has right again."""
    mended = bytearray(changed)
    for at in range(0, len(seed), 512):
        if seed[at + 257 : at + 262] == b"ustar":
            mended[at + 148 : at + 156] = b"        "
            mended[at + 148 : at + 156] = b"%06o\0 " % sum(mended[at : at + 512])
    return bytes(mended)


def _mended_shard(changed: bytes, seed: bytes) -> bytes:
    """Make the checksums of a changed shard's data right; lengths are as they are."""
    mended = bytearray(changed)
    with contextlib.suppress(TFRecordError):
        for begin, end in iter_spans(memoryview(changed)):
            framed = io.BytesIO()
            write_record(framed, changed[begin:end])
            mended[end : end + 4] = framed.getvalue()[-4:]
    return bytes(mended)


def _source(name: str, data: bytes) -> Source:
    path = os.path.join(_folder(), name)
    pathlib.Path(path).write_bytes(data)
    try:
        if name.endswith(".txt"):
            return open_source(os.path.join(_folder(), "photos"), test_list=path)
        return open_source(path)
    except SourceError as error:
        if not str(error).isprintable():
            raise AssertionError(f"no reason for people: {str(error)!r}") from error
        raise


@functools.cache
def _folder() -> str:
    folder = tempfile.TemporaryDirectory(prefix="featstore-fuzz-")
    _KEPT.append(folder)
    for name in ("a.jpg", "b.jpg", "sub/c.png", os.fsdecode(b"sub/\xe9.png")):
        path = pathlib.Path(folder.name, "photos", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked at")
    return folder.name


def _pictures() -> list[bytes]:
    turned = [data for name, (data, _) in corpus.IMAGES.items() if "turned" in name or "broken EXIF" in name]
    return [*corpus.VALID.values(), *turned]


def _lists() -> list[bytes]:
    # A list of an odd number of bytes is one of commas, and of an even number one of tabs.
    lists = (
        (",", "path\nphotos/a.jpg\n"),
        (",", "path,label\nphotos/a.jpg,roses\nphotos/b.jpg,tulips\nphotos/gone.jpg,\n"),
        (",", "path,label,group,split\r\nphotos/a.jpg,roses,1,train\r\nphotos/sub/c.png,tulips,2,val\r\n"),
        (",", '\ufeffpath,label\r"photos/a.jpg","a ""quoted"", label\nof two lines"\r'),
        (",", "path,label\nphotos/../photos/./a.jpg,🌹\nphotos/sub/\udce9.png,x\n/dev/null,y\n"),
        (",", f"path,label\nphotos/a.jpg,{'x' * 1990}\n"),
        ("\t", "path\tsplit\nphotos/a.jpg\ttest\n"),
        (
            ",",
            'sep=;\r\n"path" ; "class"\r\n"photos\\a.jpg" ; "x"\r\n;\r\nfile://x//b.jpg;y\r\nphotos/b;z\r\n',
        ),
    )
    written = [(mark, text.encode("utf-8", "surrogateescape")) for mark, text in lists]
    # Of an even number of bytes; the commas are found by the header.
    written += [("\t", lists[2][1].encode("utf-16")), ("\t", lists[1][1].encode("utf-16-le"))]
    return [data if len(data) % 2 == (mark == ",") else data + b"\n" for mark, data in written]


def _split_lists() -> list[bytes]:
    return [b"a\n", b"a.jpg\nsub/c\n", b"sub/\xe9\r\n\r\nb\r\n", b"\xef\xbb\xbf./a\r  b.jpg ", b"a\na.jpg\n"]


def _shards() -> list[bytes]:
    features = {
        "image/encoded": [b"\xff\xd8 a picture"],
        "image/filename": [b"roses/1.jpg"],
        "image/class/label": [3, -1],
        "image/class/text": ["Märzrose".encode()],
        "image/bbox": [0.5, 1.0],
    }
    shards = []
    for examples in ([features], [features, {"image": [b"GIF8"], "label": [0]}, {"tokens": [7]}]):
        file = io.BytesIO()
        for example in examples:
            write_record(file, encode_example(example))
        shards.append(file.getvalue())
    return shards


def _tars() -> list[bytes]:
    names = ["a.jpg", "cat/b.png", f"{'long/' * 60}c.jpg", "Märzrose/d", "e.jpg"]
    beside = {"a.cls": b"3", "cat/b.json": b'{"label": "cat", "x": [1]}', "e.txt": b"rose"}
    found = []
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=form) as archive:
            for name, data in {**dict.fromkeys(names, _PNG), **beside}.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
            link = tarfile.TarInfo("link.jpg")
            link.type, link.linkname = tarfile.LNKTYPE, "a.jpg"
            archive.addfile(link)
        found.append(file.getvalue()[: -(-file.tell() // 512) * 512])
    return found


def _zips() -> list[bytes]:
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for name in ("data/cat/a.jpg", "data/dog/b.png", "data/Märzrose/c", "data/x.txt", "data/d/"):
                archive.writestr(zipfile.ZipInfo(name), _PNG, method)
        found.append(file.getvalue())
    return found


def _parquets() -> list[bytes]:
    import pyarrow as pa
    from pyarrow import parquet

    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["daisy", "rose"]}}
    images = [{"bytes": _PNG, "path": name} for name in ("a.jpg", "b.png", None, "../c")]
    table = pa.table({"image": images, "label": [0, 1, -1, None]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    found = []
    for compression in ("none", "snappy", "zstd"):
        file = io.BytesIO()
        parquet.write_table(table, file, row_group_size=3, compression=compression)
        found.append(file.getvalue())
    return found


def _json_lines() -> list[bytes]:
    rows = [
        {"file_name": "photos/a.jpg", "label": "rose", "group": 1, "split": "val"},
        {"file_name": "photos/b.jpg", "label": 3.0, "note": [None]},
        {"file_name": "gone", "label": None},
    ]
    return [b"\n".join(json.dumps(row).encode() for row in rows), json.dumps(rows[0]).encode()]


def _annotations() -> list[bytes]:
    names = ("photos/a.jpg", "photos/b", "gone.jpg")
    content = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "annotations": [{"image_id": number, "category_id": 7} for number in (0, 0, 1)],
        "categories": [{"id": 7, "name": "rose"}, {"id": "8", "name": "tulip"}],
    }
    return [json.dumps(content).encode()]


TARGETS = (
    Target(name="decode", run=_run_decode, seeds=_pictures),
    Target(name="csv", run=_run_csv, seeds=_lists),
    Target(name="tfrecord", run=_run_shard, seeds=_shards, mend=_mended_shard),
    Target(name="tar", run=functools.partial(_run_archive, "fuzzed.tar"), seeds=_tars, mend=_mended_tar),
    Target(name="zip", run=functools.partial(_run_archive, "fuzzed.zip"), seeds=_zips),
    # Row groups may share pages, which are read as often.
    Target(
        name="parquet", run=functools.partial(_run_archive, "fuzzed.parquet", most=10**6), seeds=_parquets
    ),
    Target(name="json-lines", run=lambda data: _check_list(_source("fuzzed.jsonl", data)), seeds=_json_lines),
    Target(
        name="coco",
        run=lambda data: _check_list(_source("fuzzed.json", data)),
        seeds=_annotations,
        is_json=True,
    ),
    Target(name="split-list", run=_run_split_list, seeds=_split_lists),
)

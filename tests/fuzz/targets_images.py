"""The readers of what users bring: pictures, CSV lists and lists of splits."""

import contextlib
import functools
import io
import os
import pathlib
import tempfile
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
from featstore.io.tfrecord import TFRecordError, encode_example, iter_spans, write_record

# Larger pictures are refused, so that a run takes milliseconds.
_MAX_PIXELS = 2**18
_MAX_TEXT_BYTES = 8192
_RECIPE = ViewRecipe(flip=True, random_crop=1000, random_scale=1000, random_brightness=100)
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
    source = _source("fuzzed.csv" if len(data) % 2 else "fuzzed.tsv", data)
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
            'sep=;\r\n"path" ; "class"\r\n"photos\\a.jpg" ; "x"\r\n;\r\nhttps://x//b.jpg;y\r\nphotos/b;z\r\n',
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


TARGETS = (
    Target(name="decode", run=_run_decode, seeds=_pictures),
    Target(name="csv", run=_run_csv, seeds=_lists),
    Target(name="tfrecord", run=_run_shard, seeds=_shards, mend=_mended_shard),
    Target(name="split-list", run=_run_split_list, seeds=_split_lists),
)
